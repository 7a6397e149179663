//! The certificate of the session server: from files, from the cluster, or made for this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::{Timestamp, ToSpan};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use runner_core::secret::Secret;
use runner_k8s::{KubernetesSettings, shared_secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;
use tracing::{info, warn};

/// How long the cluster is asked for the common certificate when the manager starts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a certificate that was made here is good, as GitLab Runner's.
const YEARS: i16 = 2;
/// One that expires within this time is replaced: jobs may run for long.
const DAYS_LEFT: i64 = 30;
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const EXPIRES: &str = "expires";

/// A certificate in PEM, with its key.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) pem: String,
    key: Secret,
}

impl Certificate {
    /// From files.
    pub(super) fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {} of the session server", path.display()))
        };
        Ok(Self { pem: read(certificate)?, key: Secret::new(read(key)?) })
    }

    /// The one that all managers of this address share; one for this process where the cluster does
    /// not keep it.
    pub(super) async fn common(
        host: &str,
        advertise: &str,
        cluster: Option<&KubernetesSettings>,
    ) -> anyhow::Result<Self> {
        if let Some(settings) = cluster {
            let name = name(advertise);
            let work = shared_secret(settings, &name, is_good, || contents(host));
            let problem = match timeout(PATIENCE, work).await {
                Ok(Ok(kept)) => match Self::of(&kept) {
                    Some(common) => {
                        info!("the session server's certificate is kept in the cluster");
                        return Ok(common);
                    }
                    None => "the Secret holds no certificate".to_owned(),
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server did not answer in time".to_owned(),
            };
            warn!(
                problem,
                "the session server's certificate is for this process only: web terminals of jobs \
                 that another manager takes over cannot be opened again"
            );
        }
        Self::of(&contents(host)).context("cannot make a certificate for the session server")
    }

    fn of(kept: &BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let text = |key: &str| String::from_utf8(kept.get(key)?.clone()).ok();
        Some(Self { pem: text(CERTIFICATE)?, key: Secret::new(text(KEY)?) })
    }

    /// What a TLS server needs.
    pub(super) fn server(&self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.pem.as_bytes())
                .collect::<Result<_, _>>()
                .context("the session server's certificate is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())
            .map_err(|_| anyhow::anyhow!("the session server's key is not PEM"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the session server's certificate and key do not fit")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The Secret for this address.
fn name(advertise: &str) -> String {
    use std::fmt::Write as _;

    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(advertise.as_bytes());
    digest[..8].iter().fold("podwright-session-".to_owned(), |mut name, byte| {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Whether a certificate that was kept is good for a while.
fn is_good(kept: &BTreeMap<String, Vec<u8>>) -> bool {
    let expires = kept.get(EXPIRES).and_then(|text| std::str::from_utf8(text).ok());
    let expires: Option<Timestamp> = expires.and_then(|text| text.parse().ok());
    let needed = Timestamp::now().checked_add((24 * DAYS_LEFT).hours());
    matches!((expires, needed), (Some(expires), Ok(needed)) if expires > needed)
        && Certificate::of(kept).is_some_and(|kept| kept.server().is_ok())
}

/// A new certificate. Empty when it cannot be made.
fn contents(host: &str) -> BTreeMap<String, Vec<u8>> {
    make(host).unwrap_or_else(|error| {
        warn!(%error, "cannot make a certificate for the session server");
        BTreeMap::new()
    })
}

fn make(host: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::OrganizationName, "GitLab Runner");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let today = jiff::Zoned::now().date();
    // From yesterday on: clocks differ.
    let (from, until) = (today.checked_sub(1.day())?, today.checked_add(YEARS.years())?);
    let date = |date: jiff::civil::Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    (params.not_before, params.not_after) = (date(from), date(until));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let expires = until.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp();
    Ok([
        (CERTIFICATE, certificate.pem()),
        (KEY, key.serialize_pem()),
        (EXPIRES, expires.to_string()),
    ]
    .map(|(key, text)| (key.to_owned(), text.into_bytes()))
    .into())
}

#[cfg(test)]
mod tests {
    use super::{Certificate, EXPIRES, contents, is_good, name};

    #[test]
    fn manager_58_a_certificate_that_was_made_works_and_says_until_when() {
        for host in ["runner.example", "10.1.2.3", "2001:db8::1"] {
            let kept = contents(host);
            assert!(is_good(&kept), "{host}");
            let made = Certificate::of(&kept).unwrap();
            assert!(made.pem.starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(!format!("{made:?}").contains("PRIVATE"), "keys do not print");
        }
    }

    #[test]
    fn a_certificate_that_expires_soon_is_not_good() {
        let mut kept = contents("h");
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 29);
        kept.insert(EXPIRES.to_owned(), soon.to_string().into_bytes());
        assert!(!is_good(&kept));
    }

    #[test]
    fn each_address_has_its_own() {
        assert_ne!(name("a:1"), name("b:1"));
    }
}
