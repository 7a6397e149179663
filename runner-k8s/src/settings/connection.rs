//! How to reach the API server.

use runner_core::secret::Secret;

use super::mistakes::Mistakes;
use super::raw::RawSettings;

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// `host` is set.
    Host {
        /// URL.
        url: String,
        /// CA bundle; `None`: the system's roots.
        ca_file: Option<String>,
        /// Client certificate and key.
        certificate: Option<(String, String)>,
        /// Token.
        token: Option<Secret>,
    },
    /// In-cluster where that is possible, else a kubeconfig.
    Discover {
        /// Use this kubeconfig and nothing else.
        kubeconfig: Option<String>,
        /// Its context.
        context: Option<String>,
        /// Token that replaces the discovered one. GitLab Runner ignores it in a cluster because
        /// the token file wins there; here it takes effect (better).
        token: Option<Secret>,
    },
}

impl Connection {
    /// The same server, as whoever has this token.
    #[must_use]
    pub fn with_token(&self, own: Secret) -> Self {
        let mut out = self.clone();
        match &mut out {
            // A certificate would still say who we are.
            Self::Host { token, certificate, .. } => {
                *token = Some(own);
                *certificate = None;
            }
            Self::Discover { token, .. } => *token = Some(own),
        }
        out
    }
}

pub(super) fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

pub(super) fn connection(raw: &RawSettings, mistakes: &mut Mistakes) -> Connection {
    let token = (!raw.bearer_token.is_empty()).then(|| raw.bearer_token.clone());
    if raw.host.is_empty() {
        return Connection::Discover {
            kubeconfig: text(&raw.kubeconfig),
            context: text(&raw.context),
            token,
        };
    }
    let certificate = match (text(&raw.cert_file), text(&raw.key_file), text(&raw.ca_file)) {
        (None, _, _) => None,
        (Some(cert), Some(key), Some(_)) => Some((cert, key)),
        (Some(cert), _, _) => {
            mistakes.value("cert_file", cert, "only with key_file and ca_file beside it");
            None
        }
    };
    Connection::Host { url: raw.host.clone(), ca_file: text(&raw.ca_file), certificate, token }
}
