//! Calls about the runner itself: register, verify, unregister, renew the token.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, Method};
use jiff::Timestamp;
use runner_core::secret::Secret;
use runner_core::source::{SourceError, SourceErrorKind};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::client::{Client, Content, Credential, RUNNER_TOKEN, Request};
use crate::info::Info;
use crate::retry::Endpoint;
use crate::settings::{GitLabSettings, SettingsError};
use crate::token::is_created_runner_token;
use crate::url::ApiBase;

const PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");
/// Longest answer to any of these calls.
const ANSWER_LIMIT: usize = 64 << 10;

/// GitLab's interface for one runner, beside its jobs.
///
/// Every call fails with [`SourceErrorKind::Forbidden`] when GitLab refuses the token, and with
/// another kind when it did not answer or not usefully.
pub struct RunnerApi {
    settings: GitLabSettings,
    base: ApiBase,
    client: Client,
    info: Info,
}

/// What a runner registered with a registration token is like. GitLab has deprecated these tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Registration {
    /// Name that GitLab shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Note that GitLab shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Tags, separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_list: String,
    /// Takes jobs without tags. True when there are no tags.
    pub run_untagged: bool,
    /// Stays with its project.
    pub locked: bool,
    /// `not_protected` or `ref_protected`; empty: GitLab's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    /// Longest time of a job, in seconds; 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_timeout: u64,
    /// Takes no jobs yet.
    pub paused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A runner as GitLab knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisteredRunner {
    /// Its number; 0 when GitLab did not say.
    pub id: u64,
    /// Its authentication token; empty when GitLab did not say.
    pub token: Secret,
    /// When the token expires; `None`: never.
    pub expires: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IdentityBody {
    id: Option<u64>,
    token: Option<Secret>,
    token_expires_at: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    registration: Option<&'a Registration>,
    token: &'a Secret,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a Info>,
}

/// Which runner gets a new token, and who asks for it.
#[derive(Clone, Copy, Debug)]
pub enum ResetBy<'a> {
    /// The runner itself, with the token it has.
    Runner,
    /// A person's access token, for the runner of this number.
    Person {
        /// The access token.
        token: &'a Secret,
        /// The runner's number.
        id: u64,
    },
}

impl fmt::Debug for RunnerApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RunnerApi").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl RunnerApi {
    /// For the runner of these settings. Nothing is sent yet. For
    /// [`register`](RunnerApi::register) the token is the registration token.
    ///
    /// # Errors
    /// When the settings cannot work, or no rustls crypto provider is installed.
    pub fn new(settings: GitLabSettings) -> Result<Self, SettingsError> {
        let base = ApiBase::parse(&settings.url)?;
        let client = Client::new(&settings, &base)?;
        let info = Info::of(&settings);
        Ok(Self { settings, base, client, info })
    }

    /// Whether GitLab knows the runner.
    ///
    /// The call carries everything that is said about this manager: GitLab remembers it from the
    /// first call it sees, for most of an hour, and would else believe that jobs cannot be cancelled
    /// gracefully here.
    ///
    /// # Errors
    /// See [`RunnerApi`].
    pub async fn verify(&self) -> Result<RegisteredRunner, SourceError> {
        let body = Body {
            registration: None,
            token: &self.settings.token,
            system_id: Some(&self.settings.system_id),
            info: Some(&self.info),
        };
        let url = self.base.runners("/verify");
        let answer = self.call(Endpoint::Verify, Method::POST, url, Some(&body), 200).await?;
        // Servers of old answer in plain text.
        Ok(identity(&answer).unwrap_or_default())
    }

    /// Registers a runner.
    ///
    /// # Errors
    /// See [`RunnerApi`].
    pub async fn register(
        &self,
        registration: &Registration,
    ) -> Result<RegisteredRunner, SourceError> {
        let body = Body {
            registration: Some(registration),
            token: &self.settings.token,
            system_id: Some(&self.settings.system_id),
            info: Some(&self.info),
        };
        let url = self.base.runners("");
        let answer = self.call(Endpoint::Register, Method::POST, url, Some(&body), 201).await?;
        needed(&answer, "the registration")
    }

    /// Takes this manager (token `glrt-…`), or the whole runner (any other token), off GitLab's list.
    ///
    /// # Errors
    /// See [`RunnerApi`].
    pub async fn unregister(&self) -> Result<(), SourceError> {
        let managers = is_created_runner_token(self.settings.token.expose());
        let body = Body {
            registration: None,
            token: &self.settings.token,
            system_id: managers.then_some(&*self.settings.system_id),
            info: None,
        };
        let url = self.base.runners(if managers { "/managers" } else { "" });
        self.call(Endpoint::Unregister, Method::DELETE, url, Some(&body), 204).await?;
        Ok(())
    }

    /// Asks for a new token; the old one is void as soon as GitLab answers.
    ///
    /// # Errors
    /// See [`RunnerApi`].
    pub async fn reset_token(&self, by: ResetBy<'_>) -> Result<RegisteredRunner, SourceError> {
        let (url, credential, body) = match by {
            ResetBy::Runner => {
                let url = self.base.runners("/reset_authentication_token");
                let body = Body {
                    registration: None,
                    token: &self.settings.token,
                    system_id: None,
                    info: None,
                };
                (url, None, json(&body))
            }
            ResetBy::Person { token, id } => {
                let url = self.base.runners(&format!("/{id}/reset_authentication_token"));
                (
                    url,
                    Some(Credential { header: PRIVATE_TOKEN, token }),
                    Bytes::from_static(b"null"),
                )
            }
        };
        let answer = self
            .client
            .send(Request {
                endpoint: Endpoint::ResetToken,
                method: Method::POST,
                url,
                credential,
                content: Content::Json(body),
                answer_limit: Some(ANSWER_LIMIT),
            })
            .await?;
        expect(&answer, 201, "the request for a new token")?;
        needed(&answer, "the request for a new token")
    }

    async fn call(
        &self,
        endpoint: Endpoint,
        method: Method,
        url: String,
        body: Option<&Body<'_>>,
        good: u16,
    ) -> Result<Answer, SourceError> {
        let credential = Credential { header: RUNNER_TOKEN, token: &self.settings.token };
        let answer = self
            .client
            .send(Request {
                endpoint,
                method,
                url,
                credential: Some(credential),
                content: Content::Json(body.map(json).unwrap_or_default()),
                answer_limit: (good != 204).then_some(ANSWER_LIMIT),
            })
            .await?;
        let asked = match endpoint {
            Endpoint::Register => "the registration",
            Endpoint::Verify => "the verification",
            _ => "the unregistration",
        };
        expect(&answer, good, asked)?;
        Ok(answer)
    }
}

fn json(body: &Body<'_>) -> Bytes {
    // Structs of strings, numbers and flags always have a JSON form.
    Bytes::from(serde_json::to_vec(body).unwrap_or_default())
}

fn expect(answer: &Answer, good: u16, asked: &str) -> Result<(), SourceError> {
    match answer.status {
        status if status == good => Ok(()),
        403 => Err(answer.error(SourceErrorKind::Forbidden, asked)),
        _ => Err(answer.error(SourceErrorKind::Unavailable, asked)),
    }
}

fn identity(answer: &Answer) -> Option<RegisteredRunner> {
    if !answer.is_json() {
        return None;
    }
    let body: IdentityBody = serde_json::from_slice(&answer.body).ok()?;
    Some(RegisteredRunner {
        id: body.id.unwrap_or(0),
        token: body.token.unwrap_or_default(),
        expires: body.token_expires_at.and_then(|text| text.parse().ok()),
    })
}

fn needed(answer: &Answer, asked: &str) -> Result<RegisteredRunner, SourceError> {
    identity(answer).filter(|identity| !identity.token.is_empty()).ok_or_else(|| {
        SourceError::new(
            SourceErrorKind::Protocol,
            format!("GitLab's answer to {asked} holds no token"),
        )
    })
}
