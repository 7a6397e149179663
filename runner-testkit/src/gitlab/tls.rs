//! A certificate authority for one server and one run.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Makes an authority and a certificate for `localhost` and this address. Returns the authority's
/// certificate as PEM.
pub(super) fn throw_away(ip: IpAddr) -> io::Result<(String, TlsAcceptor)> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "GitLab stand-in, throw-away CA");
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let server = CertificateParams::new(vec!["localhost".to_owned(), ip.to_string()])
        .and_then(|params| params.signed_by(&key, &authority))
        .map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .map_err(io::Error::other)?;
    Ok((authority.pem(), TlsAcceptor::from(Arc::new(config))))
}
