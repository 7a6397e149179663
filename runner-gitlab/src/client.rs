//! The HTTP client: one request with its retries, nothing about what an answer means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, header};
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use runner_core::causes::causes;
use runner_core::secret::Secret;
use runner_core::source::{SourceError, SourceErrorKind};
use rustls::crypto::CryptoProvider;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::calls::{ApiCall, CallObserver};
use crate::retry::{self, Endpoint, Next};
use crate::settings::{GitLabSettings, RetrySettings, SettingsError, Timeouts};
use crate::tls::{Stamps, TlsFiles, TlsMaterial};
use crate::token::hex;
use crate::url::ApiBase;

/// The header of a runner's token.
pub(crate) const RUNNER_TOKEN: HeaderName = HeaderName::from_static("runner-token");
/// The header of a job's token.
pub(crate) const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// As much of an answer's body as can matter when the body is not what was asked for.
const SMALL_BODY: usize = 64 << 10;

/// How a request is authenticated.
pub(crate) struct Credential<'a> {
    pub(crate) header: HeaderName,
    pub(crate) token: &'a Secret,
}

/// What a request carries.
pub(crate) enum Content<'a> {
    /// JSON, serialised once and sent the same in every try.
    Json(Bytes),
    /// A piece of trace, made anew from the same memory for every try.
    Trace(&'a crate::trace::Piece),
}

/// One call.
pub(crate) struct Request<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) method: Method,
    pub(crate) url: String,
    /// `None`: the token is in the body only.
    pub(crate) credential: Option<Credential<'a>>,
    pub(crate) content: Content<'a>,
    /// The answer's body is read up to this size and expected to be JSON. `None`: it says nothing.
    pub(crate) answer_limit: Option<usize>,
}

/// A connection pool with the certificates of the moment.
pub(crate) struct Client {
    user_agent: HeaderValue,
    files: TlsFiles,
    timeouts: Timeouts,
    retry: RetrySettings,
    max_age: Option<Duration>,
    provider: Arc<CryptoProvider>,
    observer: Arc<dyn CallObserver>,
    current: Mutex<Pool>,
}

struct Pool {
    http: reqwest::Client,
    made: Instant,
    stamps: Stamps,
    tls: Arc<TlsMaterial>,
}

impl Client {
    pub(crate) fn new(settings: &GitLabSettings, base: &ApiBase) -> Result<Self, SettingsError> {
        let provider = CryptoProvider::get_default().ok_or(SettingsError::NoCryptoProvider)?;
        let files = TlsFiles::resolve(&settings.tls, base.host());
        let user_agent = HeaderValue::from_str(&settings.release.user_agent())
            .map_err(|_| SettingsError::UserAgent)?;
        let pool = Pool::open(&files, &settings.timeouts, settings.connection_max_age)
            .map_err(|error| SettingsError::Client(error.into()))?;
        Ok(Self {
            user_agent,
            files,
            timeouts: settings.timeouts,
            retry: settings.retry,
            max_age: settings.connection_max_age.filter(|age| !age.is_zero()),
            provider: Arc::clone(provider),
            observer: Arc::clone(&settings.observer),
            current: Mutex::new(pool),
        })
    }

    /// The certificates in use, for those who talk to GitLab on a job's behalf.
    pub(crate) fn tls(&self) -> Arc<TlsMaterial> {
        Arc::clone(&self.current.lock().tls)
    }

    /// The pool of the moment: a new one when the certificate files have changed or the old one has
    /// its age. Requests in flight keep theirs.
    fn http(&self) -> reqwest::Client {
        let stamps = self.files.stamps();
        let mut current = self.current.lock();
        let too_old = self.max_age.is_some_and(|age| current.made.elapsed() >= age);
        if too_old || current.stamps != stamps {
            match Pool::open(&self.files, &self.timeouts, self.max_age) {
                Ok(pool) => *current = pool,
                // The old one still works; the next request tries again.
                Err(error) => {
                    tracing::error!(error = causes(&error), "the HTTP client could not be renewed")
                }
            }
        }
        current.http.clone()
    }

    /// Sends a request and, as far as [`retry`] says so, sends it again.
    ///
    /// Dropping the future ends it at once, also in the middle of a wait.
    ///
    /// # Errors
    /// When there is no answer. An answer is never an error here, whatever its status is.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Answer, SourceError> {
        let began = Instant::now();
        let mut attempts = 1;
        let result = self.tries(&request, &mut attempts).await;
        let status = result.as_ref().ok().map(|answer| answer.status);
        self.observer.call(&ApiCall {
            endpoint: request.endpoint.into(),
            method: request.method.as_str(),
            status,
            took: began.elapsed(),
            attempts,
        });
        result.map(|answer| Answer { attempts, ..answer })
    }

    async fn tries(
        &self,
        request: &Request<'_>,
        attempts: &mut u32,
    ) -> Result<Answer, SourceError> {
        let request_id = self.random_id();
        loop {
            let attempt = *attempts;
            let mut answer = self.attempt(request, &request_id).await?;
            let next = retry::next(
                request.endpoint,
                &self.retry,
                attempt,
                answer.status,
                &answer.headers,
                SystemTime::now(),
                self.jitter(),
            );
            match next {
                Next::Stands { retry_after } => {
                    answer.retry_after = retry_after;
                    return Ok(answer);
                }
                Next::Again(wait) => {
                    tracing::debug!(
                        status = answer.status, attempt, ?wait, request_id = answer.request_id,
                        endpoint = ?request.endpoint, "GitLab says not now; trying again"
                    );
                    tokio::time::sleep(wait).await;
                    *attempts += 1;
                }
            }
        }
    }

    async fn attempt(&self, request: &Request<'_>, id: &str) -> Result<Answer, SourceError> {
        let timeout = match request.endpoint {
            Endpoint::RequestJob => self.timeouts.poll,
            _ => self.timeouts.update,
        };
        let mut builder = self
            .http()
            .request(request.method.clone(), &request.url)
            .timeout(timeout)
            .header(header::USER_AGENT, &self.user_agent)
            .header(REQUEST_ID, id);
        if let Some(credential) = &request.credential {
            let mut token = HeaderValue::from_str(credential.token.expose()).map_err(|_| {
                SourceError::new(SourceErrorKind::Protocol, "the token cannot be sent in a header")
            })?;
            token.set_sensitive(true);
            builder = builder.header(&credential.header, token);
        }
        if request.answer_limit.is_some() {
            builder = builder.header(ACCEPT, "application/json");
        }
        builder = match &request.content {
            Content::Json(body) => {
                builder.header(CONTENT_TYPE, "application/json").body(body.clone())
            }
            Content::Trace(piece) => builder
                .header(CONTENT_TYPE, "text/plain")
                .header(CONTENT_RANGE, piece.content_range())
                // With the length known the body is not sent in HTTP chunks, which Workhorse and
                // some proxies would buffer.
                .header(CONTENT_LENGTH, piece.length)
                .body(reqwest::Body::wrap_stream(piece.stream())),
        };
        let failed = |error: reqwest::Error| unreachable_gitlab(request.endpoint, error);
        let mut response = builder.send().await.map_err(failed)?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            request_id: id.to_owned(),
            ..Answer::default()
        };
        if let Some(theirs) = answer.header("X-Request-Id").filter(|theirs| !theirs.is_empty()) {
            answer.request_id = theirs.to_owned();
        }
        // What the body says decides only where one was asked for and granted.
        let wanted = request.answer_limit.filter(|_| matches!(answer.status, 200 | 201));
        match read_body(&mut response, wanted.unwrap_or(SMALL_BODY)).await {
            Ok((body, truncated)) => (answer.body, answer.truncated) = (body, truncated),
            Err(error) if wanted.is_some() => return Err(failed(error)),
            Err(error) => tracing::debug!(%error, "the rest of an answer was lost; ignored"),
        }
        Ok(answer)
    }

    /// A version 4 UUID without dashes.
    fn random_id(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        hex(&bytes)
    }

    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }

    /// Ids and jitter need no secrecy, so a failing source of randomness is no failure of the call.
    fn fill(&self, bytes: &mut [u8]) {
        if self.provider.secure_random.fill(bytes).is_err() {
            tracing::debug!("the system gave no random bytes");
        }
    }
}

impl Pool {
    fn open(
        files: &TlsFiles,
        timeouts: &Timeouts,
        max_age: Option<Duration>,
    ) -> Result<Self, reqwest::Error> {
        let stamps = files.stamps();
        let tls = Arc::new(files.load());
        let idle = Duration::from_secs(90);
        let builder = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            // A peer that vanished without a word is noticed within about two minutes, in the long
            // poll too, where silence is normal.
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_keepalive_interval(Duration::from_secs(30))
            .tcp_keepalive_retries(3)
            .tcp_nodelay(true)
            .pool_idle_timeout(max_age.filter(|age| !age.is_zero()).map_or(idle, |a| a.min(idle)))
            .pool_max_idle_per_host(2)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .redirect(redirects())
            .referer(false);
        let http = tls.apply(builder).build()?;
        Ok(Self { http, made: Instant::now(), stamps, tls })
    }
}

/// Follows only redirects that keep method and body (307, 308) and stay on the same host, because
/// the tokens travel in headers and bodies that no client strips by itself. GitLab Runner follows all
/// and hands the tokens on. Moving from http to https is allowed.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let keeps_method = matches!(attempt.status().as_u16(), 307 | 308);
        let same_place = attempt.previous().first().is_some_and(|first| {
            let next = attempt.url();
            let upgraded = first.scheme() == "http" && next.scheme() == "https";
            first.origin() == next.origin() || (upgraded && first.host() == next.host())
        });
        if keeps_method && same_place && attempt.previous().len() <= 10 {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

/// Reads up to `limit` bytes; says whether there was more.
async fn read_body(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<(Bytes, bool), reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body.freeze(), true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), false))
}

fn unreachable_gitlab(endpoint: Endpoint, error: reqwest::Error) -> SourceError {
    let what = match endpoint {
        Endpoint::RequestJob => "asking for a job",
        Endpoint::AcceptJob => "accepting a job",
        Endpoint::UpdateJob => "saying that a job still runs",
        Endpoint::PatchTrace => "sending a piece of trace",
        Endpoint::FinishJob => "reporting a verdict",
        Endpoint::Register => "registering the runner",
        Endpoint::Verify => "verifying the runner",
        Endpoint::Unregister => "unregistering the runner",
        Endpoint::ResetToken => "renewing the runner's token",
    };
    let how = if error.is_timeout() {
        "GitLab did not answer in time"
    } else if error.is_connect() {
        "GitLab cannot be reached"
    } else {
        "the connection to GitLab failed"
    };
    // The address is in the settings and may name a job; the cause says the rest.
    SourceError::new(SourceErrorKind::Unavailable, format!("{how} while {what}"))
        .caused_by(error.without_url())
}
