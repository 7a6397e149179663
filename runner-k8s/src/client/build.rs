//! From settings to clients.

use std::fmt;
use std::time::Duration;

use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use runner_core::secret::Secret;
use tower::{BoxError, ServiceBuilder};

use super::count::{RequestCounts, Watched};
use super::health::ApiHealth;
use crate::settings::Connection;

/// Longest time to a TCP connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time from a request to the head of its answer. A create passes all admission webhooks,
/// which may take 30 s together with the API server's own limit of 34 s for them.
const ANSWER: Duration = Duration::from_secs(40);
/// A silent connection is probed after this time, and given up when sent bytes are not
/// acknowledged for twice as long.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The two clients.
#[derive(Clone)]
#[non_exhaustive]
pub struct Clients {
    /// For requests.
    pub api: Client,
    /// For the watch's neighbours: streams into pods. No deadline after the connection is there.
    pub stream: Client,
    /// What both have been used for.
    pub requests: RequestCounts,
    /// Whether the API server answers them.
    pub(crate) health: ApiHealth,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// `host` is not a URL.
    #[error("[runners.kubernetes] host {url:?} is not a URL")]
    Host {
        /// What it says.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A CA file holds no certificate.
    #[error("{path} holds no certificate in PEM form")]
    NoCertificate {
        /// Which.
        path: String,
    },
    /// The kubeconfig does not help.
    #[error(
        "no way to the API server: not in a cluster, and the kubeconfig cannot be used; set `host`, \
         KUBECONFIG or run in a cluster"
    )]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// The configuration does not give a client, e.g. a certificate that is none.
    #[error("the settings of the connection to the API server do not fit together")]
    Config(#[source] Box<kube::Error>),
}

impl fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Clients").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Clients {
    /// Connects by these settings. Nothing is sent yet. A rustls provider must be installed.
    ///
    /// # Errors
    /// When the settings do not lead to an API server.
    pub async fn connect(connection: &Connection) -> Result<Self, ClientError> {
        Self::from_config(config(connection).await?)
    }

    /// More clients, by another connection, whose requests are counted with these.
    ///
    /// # Errors
    /// When it does not lead to an API server.
    pub async fn also(&self, connection: &Connection) -> Result<Self, ClientError> {
        let config = config(connection).await?;
        let https = https(&config)?;
        Self::counted(config, https, self.requests.clone())
    }

    /// Connects by kube's own configuration.
    ///
    /// # Errors
    /// When it does not give a client.
    pub fn from_config(config: Config) -> Result<Self, ClientError> {
        let https = https(&config)?;
        Self::from_connector(config, https)
    }

    /// Connects by kube's own configuration, over connections of somebody else's making: for tests with a cluster that is
    /// no server.
    ///
    /// # Errors
    /// When the configuration does not give a client.
    #[doc(hidden)]
    pub fn from_connector<C>(config: Config, connector: C) -> Result<Self, ClientError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        Self::counted(config, connector, RequestCounts::default())
    }

    fn counted<C>(
        mut config: Config,
        connector: C,
        requests: RequestCounts,
    ) -> Result<Self, ClientError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        config.default_retry = false;
        let health = ApiHealth::default();
        let watched = Watched { counts: requests.clone(), health: health.clone() };
        let api = client(&config, connector.clone(), &watched, Some(ANSWER))?;
        let stream = client(&config, connector, &watched, None)?;
        Ok(Self { api, stream, requests, health })
    }

    /// Uses a client for everything, e.g. a mock.
    #[must_use]
    pub fn from_client(client: Client) -> Self {
        let (requests, health) = (RequestCounts::default(), ApiHealth::default());
        Self { stream: client.clone(), api: client, requests, health }
    }
}

fn https(config: &Config) -> Result<impl Connect + Clone + Send + Sync + 'static, ClientError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE / 3));
    #[cfg(target_os = "linux")]
    http.set_tcp_user_timeout(Some(2 * KEEPALIVE));
    config
        .rustls_https_connector_with_connector(http)
        .map_err(|error| ClientError::Config(Box::new(error)))
}

fn client<C>(
    config: &Config,
    connector: C,
    requests: &Watched,
    answer: Option<Duration>,
) -> Result<Client, ClientError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let failed = |error| ClientError::Config(Box::new(error));
    let hyper: HyperClient<_, Body> = HyperClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .layer(requests.clone())
        .option_layer(answer.map(tower::timeout::TimeoutLayer::new))
        .map_err(BoxError::from)
        .service(hyper);
    Ok(Client::new(service, config.default_namespace.clone()))
}

async fn read(path: &str) -> Result<Vec<u8>, ClientError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| ClientError::File { path: path.to_owned(), source })
}

async fn config(connection: &Connection) -> Result<Config, ClientError> {
    let (mut config, token) = match connection {
        Connection::Host { url, ca_file, certificate, token } => {
            let uri = url.parse().map_err(|source: http::uri::InvalidUri| ClientError::Host {
                url: url.clone(),
                source: source.into(),
            })?;
            let mut config = Config::new(uri);
            if let Some(path) = ca_file {
                config.root_cert = Some(certificates(path, &read(path).await?)?);
            }
            if let Some((cert, key)) = certificate {
                let auth = &mut config.auth_info;
                auth.client_certificate = Some(cert.clone());
                auth.client_key = Some(key.clone());
            }
            (config, token)
        }
        Connection::Discover { kubeconfig, context, token } => {
            (discover(kubeconfig.as_deref(), context.clone()).await?, token)
        }
    };
    if let Some(token) = token {
        set_token(&mut config.auth_info, token);
    }
    Ok(config)
}

/// In-cluster first, as GitLab Runner and client-go do; kube's own order is the other way round.
async fn discover(path: Option<&str>, context: Option<String>) -> Result<Config, ClientError> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let failed = |error| ClientError::Kubeconfig(Box::new(error));
    if let Some(path) = path {
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        return Config::from_custom_kubeconfig(file, &options).await.map_err(failed);
    }
    match Config::incluster() {
        Ok(config) => Ok(config),
        Err(_) => Config::from_kubeconfig(&options).await.map_err(failed),
    }
}

/// The token and nothing else: an API server asks for certificates first, and a kubeconfig may have a
/// program, a password or somebody to impersonate beside it.
fn set_token(auth: &mut AuthInfo, token: &Secret) {
    *auth = AuthInfo { token: Some(token.expose().to_owned().into()), ..AuthInfo::default() };
}

/// The certificates of a PEM file, as DER.
fn certificates(path: &str, pem: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .filter_map(|certificate| certificate.ok().map(|der| der.to_vec()))
        .collect();
    if all.is_empty() {
        return Err(ClientError::NoCertificate { path: path.to_owned() });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use kube::config::AuthInfo;
    use runner_core::secret::Secret;

    use super::{ClientError, config};
    use crate::settings::Connection;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: first
contexts:
  - { name: first, context: { cluster: one, user: certificate } }
  - { name: second, context: { cluster: two, user: token, namespace: ci } }
clusters:
  - { name: one, cluster: { server: "https://one.example:6443" } }
  - { name: two, cluster: { server: "https://two.example:6443" } }
users:
  - { name: certificate, user: { client-certificate-data: Yw==, client-key-data: aw== } }
  - { name: token, user: { token: of-the-file } }
"#;

    /// Who one is to the API server: a token, a certificate.
    fn who(auth: &AuthInfo) -> (Option<String>, bool) {
        let auth = serde_json::to_value(auth).unwrap();
        let token = auth.get("token").and_then(|token| token.as_str()).map(str::to_owned);
        let has = |key: &str| auth.get(key).is_some_and(|value| !value.is_null());
        (token, has("client-certificate") || has("client-certificate-data"))
    }

    fn discover(path: &std::path::Path, context: Option<&str>) -> Connection {
        Connection::Discover {
            kubeconfig: Some(path.to_string_lossy().into_owned()),
            context: context.map(str::to_owned),
            token: None,
        }
    }

    #[tokio::test]
    async fn k8s_06_a_kubeconfig_leads_to_the_server_and_the_user_of_its_context() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, KUBECONFIG).unwrap();
        let first = config(&discover(&file, None)).await.unwrap();
        assert_eq!(first.cluster_url.host(), Some("one.example"));
        assert_eq!(who(&first.auth_info), (None, true));
        let second = config(&discover(&file, Some("second"))).await.unwrap();
        assert_eq!(second.cluster_url.host(), Some("two.example"));
        assert_eq!(who(&second.auth_info), (Some("of-the-file".into()), false));
        let missing = config(&discover(&file, Some("third"))).await.unwrap_err();
        assert!(matches!(missing, ClientError::Kubeconfig(_)), "{missing}");
        // The job's own token says who it is, and nothing beside it does.
        for context in [None, Some("second")] {
            let own = discover(&file, context).with_token(Secret::new("of-the-job"));
            let own = config(&own).await.unwrap();
            assert_eq!(who(&own.auth_info), (Some("of-the-job".into()), false));
        }
    }

    #[tokio::test]
    async fn k8s_06_a_host_is_reached_with_a_token_or_a_certificate() {
        let host = |certificate: Option<(&str, &str)>, token: Option<&str>| Connection::Host {
            url: "https://k8s.example".into(),
            ca_file: None,
            certificate: certificate.map(|(cert, key)| (cert.into(), key.into())),
            token: token.map(Secret::new),
        };
        let by_token = config(&host(None, Some("t"))).await.unwrap();
        assert_eq!(who(&by_token.auth_info), (Some("t".into()), false));
        let certificate = host(Some(("c.pem", "k.pem")), None);
        let by_certificate = config(&certificate).await.unwrap();
        assert_eq!(who(&by_certificate.auth_info), (None, true));
        let own = config(&certificate.with_token(Secret::new("of-the-job"))).await.unwrap();
        assert_eq!(who(&own.auth_info), (Some("of-the-job".into()), false));
    }
}
