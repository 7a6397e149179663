//! GitLab's Secrets Manager: OpenBao with the login in the request's own headers, so that no token
//! is made that would have to be kept and revoked.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use runner_core::outcome::InfraKind;
use runner_core::secret::Secret;
use runner_core::secrets::SecretStoreError;
use serde::Deserialize;
use serde_json::json;

use crate::http::{Http, path, send};
use crate::request::Engine;
use crate::vault::{entry_url, field, namespaced};

const SERVICE: &str = "GitLab Secrets Manager";

/// `gitlab_secrets_manager` of a secret. Its fields are GitLab's own and not expanded.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    server: Server,
    engine: Engine,
    path: String,
    field: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    url: String,
    namespace: Option<String>,
    inline_auth: InlineAuth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InlineAuth {
    /// The whole login path.
    path: String,
    jwt: String,
    role: String,
    /// What older GitLabs send in place of `path`.
    auth_mount: String,
}

/// Reads. `None`: the entry has no such field.
pub(crate) async fn resolve(
    http: &Http,
    request: &Request,
) -> Result<Option<Secret>, SecretStoreError> {
    let server = &request.server;
    let auth = &server.inline_auth;
    let login = match (auth.path.as_str(), auth.auth_mount.as_str()) {
        ("", "") => {
            let message = format!("{SERVICE} was named without a way to log in");
            return Err(SecretStoreError::new(InfraKind::Configuration, message));
        }
        ("", mount) => format!("auth/{}/login", path(mount)),
        (whole, _) => path(whole),
    };
    let url = entry_url(SERVICE, &server.url, &request.engine, &request.path)?;
    let mut call = http
        .get(&url)
        .header("X-Vault-Inline-Auth-Path", login)
        .header("X-Vault-Inline-Auth-Parameter-jwt", parameter("jwt", &auth.jwt));
    if !auth.role.is_empty() {
        call = call.header("X-Vault-Inline-Auth-Parameter-role", parameter("role", &auth.role));
    }
    let call = namespaced(call, server.namespace.as_deref());
    field(SERVICE, &send(SERVICE, call).await?, &request.engine, &request.field)
}

/// OpenBao's form of a login's parameter.
fn parameter(key: &str, value: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json!({ "key": key, "value": value }).to_string())
}
