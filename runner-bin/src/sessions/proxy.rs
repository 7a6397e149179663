//! The service proxy: HTTP (and websockets) to a port that the job's author has declared.
//!
//! The whole request goes through, and the whole answer comes back, unlike with GitLab Runner, which
//! passes on neither headers nor query nor body. It needs no Service object: the port is dialled from
//! inside the pod.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use runner_core::session::{DoorError, PortScheme, PortStream, SessionPort};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use super::registry::Open;
use super::server::{Body, status};

/// How long a service that is declared may take to take a request. Its pod runs, or nobody waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5 * 60);

/// Answers a request for `<service>/<port>/<path…>`.
pub(super) async fn answer(open: &Open, rest: &str, request: Request<Incoming>) -> Response<Body> {
    let mut parts = rest.splitn(3, '/');
    let (host, port) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let path = parts.next().unwrap_or_default();
    let Some(declared) = find(&open.ports, host, port) else {
        return status(StatusCode::NOT_FOUND);
    };
    let stream = match timeout(PATIENCE, open.door.port(declared.number)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error @ DoorError::Unreachable(_))) => {
            info!(job = %open.job, %error, "no way to a service");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Ok(Err(_)) | Err(_) => return status(StatusCode::SERVICE_UNAVAILABLE),
    };
    match timeout(ANSWER, pass_on(stream, declared, path, request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            debug!(job = %open.job, error, "a service does not answer");
            status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Err(_) => status(StatusCode::GATEWAY_TIMEOUT),
    }
}

fn find<'a>(ports: &'a [SessionPort], host: &str, port: &str) -> Option<&'a SessionPort> {
    let is_port = |declared: &SessionPort| {
        port.parse() == Ok(declared.number) || (!port.is_empty() && declared.name == port)
    };
    ports.iter().find(|declared| declared.host == host && is_port(declared))
}

async fn pass_on(
    stream: Box<dyn PortStream>,
    port: &SessionPort,
    path: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, String> {
    let stream: Box<dyn PortStream> = match port.scheme {
        PortScheme::Http => stream,
        PortScheme::Https => {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(any_certificate()));
            let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
            let stream = connector.connect(name, stream).await;
            Box::new(stream.map_err(|error| error.to_string())?)
        }
    };
    let upgrade = request.headers().contains_key(UPGRADE);
    let client = upgrade.then(|| hyper::upgrade::on(&mut request));
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri: Uri = format!("/{path}{query}").parse().map_err(|_| "the path makes no sense")?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    // The session's token is not the service's business.
    headers.remove(AUTHORIZATION);
    if !upgrade {
        headers.remove(CONNECTION);
    }
    let host = HeaderValue::from_str(&format!("{}:{}", port.host, port.number));
    headers.insert(HOST, host.map_err(|_| "the service has a strange name")?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // Belongs to the answer's body; ends with it.
    let connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let mut response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let service = hyper::upgrade::on(&mut response);
        tokio::spawn(join(client, service, connection));
        return Ok(response.map(|_| Body::default()));
    }
    Ok(response.map(|body| {
        body.map_err(std::io::Error::other)
            .map_frame(move |frame| {
                let _alive = &connection;
                frame
            })
            .boxed()
    }))
}

/// Passes bytes between two upgraded connections until one of them ends. Its owner is whoever ends
/// first: both sides are sockets that are closed when the client or the pod goes.
async fn join<T>(client: OnUpgrade, service: OnUpgrade, connection: T) {
    if let (Ok(client), Ok(service)) = tokio::join!(client, service) {
        let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
        // How it ends is between the two.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut service).await;
    }
    drop(connection);
}

/// Takes any certificate: the connection does not leave the pod, and what jobs use is self-signed.
/// (An API server's proxy does the same.)
fn any_certificate() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("the provider knows the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
