//! Where the session server listens, and where GitLab finds it.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::SessionServerConfig;

/// Addresses that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// `host:port` to bind.
    pub(super) listen: String,
    /// `host:port` that GitLab connects to.
    pub(super) advertise: String,
    /// The host of it, for the certificate.
    pub(super) host: String,
    /// Certificate and key in files.
    pub(super) files: Option<(PathBuf, PathBuf)>,
    pub(super) timeout: Duration,
}

/// Why there can be no session server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error(
        "[session_server] advertise_address {0:?} must not begin with a scheme; write host:port, \
         https:// is added"
    )]
    Scheme(String),
    #[error(
        "[session_server] {key} {value:?} is not host:port, for example \"runner.example:8093\""
    )]
    Form { key: &'static str, value: String },
    #[error(
        "[session_server] has no host that GitLab could connect to: set advertise_address to \
         host:port"
    )]
    NoHost,
    #[error("[session_server] certificate_file and key_file only work together")]
    Files,
}

impl Addresses {
    /// What the configuration means; `None`: there is to be no session server.
    pub(crate) fn of(config: &SessionServerConfig) -> Result<Option<Self>, AddressError> {
        let listen = config.listen_address.trim();
        if listen.is_empty() {
            return Ok(None);
        }
        let advertise = match config.advertise_address.trim() {
            "" => listen,
            advertise => advertise,
        };
        if advertise.contains("://") {
            return Err(AddressError::Scheme(advertise.to_owned()));
        }
        let form = |key, value: &str| AddressError::Form { key, value: value.to_owned() };
        let (bind, _) = split(listen).ok_or_else(|| form("listen_address", listen))?;
        let (host, _) = split(advertise).ok_or_else(|| form("advertise_address", advertise))?;
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        let files = match (&config.certificate_file, &config.key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(AddressError::Files),
        };
        // Without a host: all addresses of both families, as Go does.
        let listen = if bind.is_empty() { format!("[::]{listen}") } else { listen.to_owned() };
        Ok(Some(Self {
            listen,
            advertise: advertise.to_owned(),
            host: host.to_owned(),
            files,
            timeout: config.session_timeout,
        }))
    }
}

/// Host (without brackets, perhaps empty) and port.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let good = |c: char| c.is_ascii_alphanumeric() || ".-:%_".contains(c);
    bare.chars().all(good).then_some((bare, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rstest::rstest;

    use super::{AddressError, Addresses};
    use crate::config::SessionServerConfig;

    fn of(listen: &str, advertise: &str) -> Result<Option<Addresses>, AddressError> {
        Addresses::of(&SessionServerConfig {
            listen_address: listen.to_owned(),
            advertise_address: advertise.to_owned(),
            ..SessionServerConfig::default()
        })
    }

    #[test]
    fn manager_58_without_a_listen_address_there_is_no_session_server() {
        assert_eq!(of("", "runner:1"), Ok(None));
    }

    #[rstest]
    #[case("0.0.0.0:8093", "runner.example:9000", "0.0.0.0:8093", "runner.example")]
    #[case(":8093", "[2001:db8::1]:9000", "[::]:8093", "2001:db8::1")]
    #[case("10.0.0.1:8093", "", "10.0.0.1:8093", "10.0.0.1")]
    fn manager_58_the_advertised_host_is_the_certificates(
        #[case] listen: &str,
        #[case] advertise: &str,
        #[case] bind: &str,
        #[case] host: &str,
    ) {
        let addresses = of(listen, advertise).unwrap().unwrap();
        assert_eq!((addresses.listen.as_str(), addresses.host.as_str()), (bind, host));
    }

    #[test]
    fn manager_58_addresses_that_cannot_work_are_refused_with_what_to_write() {
        let scheme = of(":1", "https://h:1").unwrap_err();
        assert!(scheme.to_string().contains("write host:port"), "{scheme}");
        assert_eq!(of(":8093", ""), Err(AddressError::NoHost));
        assert!(matches!(of("8093", "h:1"), Err(AddressError::Form { .. })));
        assert!(matches!(of(":1", "h:99999"), Err(AddressError::Form { .. })));
        let one = SessionServerConfig {
            listen_address: "h:1".to_owned(),
            key_file: Some(PathBuf::from("k")),
            ..SessionServerConfig::default()
        };
        assert_eq!(Addresses::of(&one), Err(AddressError::Files));
    }
}
