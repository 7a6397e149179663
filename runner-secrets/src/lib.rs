//! Values of job variables from the services that hold them.
//!
//! ```text
//!   SecretRequest ── provider ──► vault | gitlab | gcp | azure | aws ── HTTP ──► value
//! ```
//!
//! ```
//! use runner_secrets::{Secrets, SecretsSettings};
//!
//! # fn main() -> Result<(), runner_secrets::SetupError> {
//! # let _ = rustls::crypto::ring::default_provider().install_default();
//! let settings = SecretsSettings::default().with_aws_environment(|name| std::env::var(name).ok());
//! let secrets = Secrets::new(settings)?;
//! // runner.secrets = Some(Arc::new(secrets));
//! # drop(secrets);
//! # Ok(())
//! # }
//! ```
//!
//! There are no features.
//!
//! Owns: what a request of each provider looks like, the conversation with the service, and which
//! kind of failure an answer is. Does not own: when secrets are asked for and what becomes of them
//! (the manager, in `runner-core`). It runs in the manager only: no token for such a service enters
//! a pod.
//!
//! The providers' own client libraries are left out on purpose: what is needed of each is one or two
//! requests, and together they would outweigh the rest of the program.

mod aws;
mod azure;
mod gcp;
mod gitlab;
mod http;
mod request;
mod vault;

pub use aws::AwsCredentials;

use async_trait::async_trait;
use runner_core::job::SecretRequest;
use runner_core::planner::VariableSet;
use runner_core::secret::Secret;
use runner_core::secrets::{SecretStore, SecretStoreError};

use self::http::Http;
use self::request::{Provider, parse};

/// Where services are that have one address for everybody, and what the manager itself may use.
#[derive(Clone, Debug)]
pub struct SecretsSettings {
    /// Google's token exchange. Default: `https://sts.googleapis.com`.
    pub google_sts: String,
    /// Google's Secret Manager. Default: `https://secretmanager.googleapis.com`.
    pub google_secrets: String,
    /// Azure's sign-in. Default: `https://login.microsoftonline.com`.
    pub azure_login: String,
    /// AWS's token service; `{region}` is replaced. Default: `https://sts.{region}.amazonaws.com`.
    pub aws_sts: String,
    /// AWS's Secrets Manager; `{region}` is replaced.
    /// Default: `https://secretsmanager.{region}.amazonaws.com`.
    pub aws_secrets: String,
    /// What requests to AWS without a token of the job's own are signed with. Default: none.
    pub aws_credentials: Option<AwsCredentials>,
    /// AWS's region where a request names none. Default: none.
    pub aws_region: Option<String>,
}

impl Default for SecretsSettings {
    fn default() -> Self {
        Self {
            google_sts: "https://sts.googleapis.com".to_owned(),
            google_secrets: "https://secretmanager.googleapis.com".to_owned(),
            azure_login: "https://login.microsoftonline.com".to_owned(),
            aws_sts: "https://sts.{region}.amazonaws.com".to_owned(),
            aws_secrets: "https://secretsmanager.{region}.amazonaws.com".to_owned(),
            aws_credentials: None,
            aws_region: None,
        }
    }
}

impl SecretsSettings {
    /// The same with what AWS's tools find in the environment: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, and `AWS_REGION` or `AWS_DEFAULT_REGION`.
    #[must_use]
    pub fn with_aws_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let keys = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        self.aws_credentials = keys.map(|(id, key)| AwsCredentials {
            access_key_id: id,
            secret_access_key: key.into(),
            session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        });
        self.aws_region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        self
    }
}

/// All providers that GitLab's `secrets:` knows, apart from those that GitLab Runner does not know
/// either.
#[derive(Debug)]
pub struct Secrets {
    settings: SecretsSettings,
    http: Http,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for secret stores cannot be set up")]
pub struct SetupError(#[from] reqwest::Error);

impl Secrets {
    /// With these settings. The process needs a crypto provider for TLS.
    ///
    /// # Errors
    /// When there is none, or the system's certificates cannot be read.
    pub fn new(settings: SecretsSettings) -> Result<Self, SetupError> {
        Ok(Self { settings, http: Http::new()? })
    }
}

#[async_trait]
impl SecretStore for Secrets {
    fn provider(&self, request: &SecretRequest) -> Option<&'static str> {
        request::name(request)
    }

    async fn resolve(
        &self,
        request: &SecretRequest,
        variables: &VariableSet,
    ) -> Result<Option<Secret>, SecretStoreError> {
        match parse(request, variables)? {
            Provider::Vault(request) => vault::resolve(&self.http, &request).await,
            Provider::GitLab(request) => gitlab::resolve(&self.http, &request).await,
            Provider::Google(request) => gcp::resolve(&self.http, &self.settings, &request).await,
            Provider::Azure(request) => azure::resolve(&self.http, &self.settings, &request).await,
            Provider::Aws(request) => {
                let variable = |name: &str| variables.setting(name).unwrap_or_default().to_owned();
                let session = aws::default_session(variable);
                aws::resolve(&self.http, &self.settings, &request, &session).await
            }
        }
    }
}
