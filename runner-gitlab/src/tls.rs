//! Certificate files: which ones apply, whether they have changed, what is in them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use runner_core::secret::Secret;

use crate::settings::TlsSettings;

/// The files that apply to one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// When the files were last written; different stamps mean different files.
pub(crate) type Stamps = [Option<SystemTime>; 3];

/// What the files hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsMaterial {
    /// Text of the CA file.
    pub(crate) ca: Option<String>,
    /// Certificate and key of the client; never only one of them.
    pub(crate) client: Option<(String, Secret)>,
}

impl TlsFiles {
    /// A file that is set wins over the one that is named after the host.
    pub(crate) fn resolve(settings: &TlsSettings, host: &str) -> Self {
        // A literal IPv6 address comes in brackets, which nobody expects in a file name.
        let host = host.trim_matches(['[', ']']);
        let pick = |set: &Option<PathBuf>, suffix: &str| {
            set.clone().or_else(|| {
                settings.certs_dir.as_ref().map(|dir| dir.join(format!("{host}.{suffix}")))
            })
        };
        Self {
            ca: pick(&settings.ca_file, "crt"),
            cert: pick(&settings.cert_file, "auth.crt"),
            key: pick(&settings.key_file, "auth.key"),
        }
    }

    /// Three `stat` calls on local files, cheap enough for every request.
    pub(crate) fn stamps(&self) -> Stamps {
        [&self.ca, &self.cert, &self.key].map(|file| {
            file.as_ref().and_then(|path| std::fs::metadata(path).ok()?.modified().ok())
        })
    }

    /// Reads what is there.
    pub(crate) fn load(&self) -> TlsMaterial {
        let ca = self.ca.as_deref().and_then(read);
        let client = match (self.cert.as_deref().and_then(read), self.key.as_deref().and_then(read))
        {
            (Some(cert), Some(key)) => Some((cert, Secret::new(key))),
            (Some(_), None) | (None, Some(_)) => {
                tracing::warn!(
                    cert = ?self.cert, key = ?self.key,
                    "client certificate and key must both be there; neither is used"
                );
                None
            }
            (None, None) => None,
        };
        TlsMaterial { ca, client }
    }
}

fn read(path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        // A file that is not there is no mistake: the directory of certificates is only looked into.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), "certificate file is not there");
            None
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "certificate file cannot be read; it is not used");
            None
        }
    }
}

impl TlsMaterial {
    /// Puts the certificates into a client. What cannot be used is an error in the log and left out,
    /// as GitLab Runner does: the system's authorities may be enough.
    pub(crate) fn apply(&self, mut builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        if let Some(ca) = &self.ca {
            match reqwest::Certificate::from_pem_bundle(ca.as_bytes()) {
                Ok(roots) if !roots.is_empty() => builder = builder.tls_certs_merge(roots),
                Ok(_) => tracing::error!("the CA file holds no certificate; it is not used"),
                Err(error) => {
                    tracing::error!(%error, "the CA file is not PEM; it is not used");
                }
            }
        }
        if let Some((cert, key)) = &self.client {
            let pem = Secret::new(format!("{cert}\n{}", key.expose()));
            match reqwest::Identity::from_pem(pem.expose().as_bytes()) {
                Ok(identity) => builder = builder.identity(identity),
                Err(error) => {
                    tracing::error!(%error, "the client certificate is not usable; it is not used");
                }
            }
        }
        builder
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::TlsFiles;
    use crate::settings::TlsSettings;

    #[test]
    fn api_66_a_file_that_is_set_wins_over_the_hosts_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("h.crt"), "by host").unwrap();
        std::fs::write(dir.path().join("other.crt"), "set").unwrap();
        let settings = TlsSettings { certs_dir: Some(dir.path().into()), ..TlsSettings::default() };
        assert_eq!(TlsFiles::resolve(&settings, "h").load().ca.as_deref(), Some("by host"));
        let settings = TlsSettings { ca_file: Some(dir.path().join("other.crt")), ..settings };
        assert_eq!(TlsFiles::resolve(&settings, "h").load().ca.as_deref(), Some("set"));
    }

    #[test]
    fn api_66_a_missing_file_is_ignored() {
        let settings = TlsSettings {
            ca_file: Some(PathBuf::from("/nonexistent/ca.crt")),
            ..TlsSettings::default()
        };
        assert_eq!(TlsFiles::resolve(&settings, "h").load().ca, None);
    }

    #[test]
    fn api_66_certificate_and_key_only_together() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TlsSettings { certs_dir: Some(dir.path().into()), ..TlsSettings::default() };
        std::fs::write(dir.path().join("h.auth.crt"), "cert").unwrap();
        assert!(TlsFiles::resolve(&settings, "h").load().client.is_none());
        std::fs::write(dir.path().join("h.auth.key"), "key").unwrap();
        assert!(TlsFiles::resolve(&settings, "h").load().client.is_some());
    }
}
