//! From settings to clients.

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
pub struct Clients {
    /// For requests.
    pub api: Client,
    /// For the watch's neighbours: streams into pods. No deadline after the connection is there.
    pub stream: Client,
    /// What both have been used for.
    pub requests: RequestCounts,
    /// Whether the API server answers them.
    pub health: ApiHealth,
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
        source: http::uri::InvalidUri,
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

impl Clients {
    /// Connects by these settings. Nothing is sent yet. A rustls provider must be installed.
    ///
    /// # Errors
    /// When the settings do not lead to an API server.
    pub async fn connect(connection: &Connection) -> Result<Self, ClientError> {
        Self::from_config(config(connection).await?)
    }

    /// Connects by kube's own configuration.
    ///
    /// # Errors
    /// When it does not give a client.
    pub fn from_config(config: Config) -> Result<Self, ClientError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT));
        http.set_keepalive(Some(KEEPALIVE));
        http.set_keepalive_interval(Some(KEEPALIVE / 3));
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(2 * KEEPALIVE));
        let https = config
            .rustls_https_connector_with_connector(http)
            .map_err(|error| ClientError::Config(Box::new(error)))?;
        Self::from_connector(config, https)
    }

    /// Connects by kube's own configuration, over connections of somebody else's making.
    ///
    /// # Errors
    /// When the configuration does not give a client.
    pub fn from_connector<C>(mut config: Config, connector: C) -> Result<Self, ClientError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        config.default_retry = false;
        let requests = RequestCounts::default();
        let health = ApiHealth::default();
        let watched = Watched { counts: requests.clone(), health: health.clone() };
        let api = client(&config, connector.clone(), &watched, Some(ANSWER))?;
        let stream = client(&config, connector, &watched, None)?;
        Ok(Self { api, stream, requests, health })
    }

    /// Uses a client for everything, e.g. a mock.
    pub fn from_client(client: Client) -> Self {
        let (requests, health) = (RequestCounts::default(), ApiHealth::default());
        Self { stream: client.clone(), api: client, requests, health }
    }
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
            let uri =
                url.parse().map_err(|source| ClientError::Host { url: url.clone(), source })?;
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

fn set_token(auth: &mut AuthInfo, token: &Secret) {
    auth.token_file = None;
    auth.token = Some(token.expose().to_owned().into());
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
