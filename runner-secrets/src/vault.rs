//! HashiCorp Vault (and OpenBao used like it): a login with the job's token, then one entry of a
//! key-value engine.

use std::collections::BTreeMap;

use runner_core::outcome::InfraKind;
use runner_core::secret::Secret;
use runner_core::secrets::SecretStoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Answer, Http, path, send};
use crate::request::{Engine, texts};

const SERVICE: &str = "Vault";

/// `vault` of a secret.
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
    auth: Auth,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    name: String,
    path: String,
    data: BTreeMap<String, Value>,
}

/// Logs in and reads. `None`: the entry has no such field.
pub(crate) async fn resolve(
    http: &Http,
    request: &Request,
) -> Result<Option<Secret>, SecretStoreError> {
    let token = login(http, &request.server).await?;
    let server = &request.server;
    let url = entry_url(SERVICE, &server.url, &request.engine, &request.path)?;
    let call = http.get(&url).header("X-Vault-Token", token.expose());
    let call = namespaced(call, server.namespace.as_deref());
    field(SERVICE, &send(SERVICE, call).await?, &request.engine, &request.field)
}

async fn login(http: &Http, server: &Server) -> Result<Secret, SecretStoreError> {
    let auth = &server.auth;
    if auth.name != "jwt" {
        return Err(SecretStoreError::new(
            InfraKind::Configuration,
            format!("{SERVICE}'s auth method {:?} is not known here, only jwt is", auth.name),
        ));
    }
    let mut data = texts(&auth.data);
    let Some(jwt) = data.remove("jwt") else {
        return Err(SecretStoreError::new(
            InfraKind::Configuration,
            format!("the login at {SERVICE} has no jwt; does the job have an `id_tokens:` entry?"),
        ));
    };
    let mut body = json!({ "jwt": jwt.expose() });
    // Others are not sent, as with GitLab Runner.
    if let Some(role) = data.remove("role") {
        body["role"] = role.expose().into();
    }
    let mount = if auth.path.is_empty() { "jwt" } else { &auth.path };
    let url = format!("{}/v1/auth/{}/login", base(SERVICE, &server.url)?, path(mount));
    let call = namespaced(http.post(&url).json(&body), server.namespace.as_deref());
    let answer = send(SERVICE, call).await?;
    if !answer.status.is_success() {
        return Err(answer.refused(SERVICE, "the login"));
    }
    let value = answer.json(SERVICE)?;
    match value.pointer("/auth/client_token").and_then(Value::as_str) {
        Some(token) => Ok(Secret::from(token)),
        None => Err(SecretStoreError::new(
            InfraKind::System,
            format!("{SERVICE}'s answer to the login holds no token"),
        )),
    }
}

/// `https://host[/prefix]` without a slash at its end.
pub(crate) fn base<'u>(service: &str, url: &'u str) -> Result<&'u str, SecretStoreError> {
    let url = url.trim_end_matches('/');
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(url);
    }
    let message = format!(
        "the address of {service} is no http(s) URL; set it in the project's CI/CD variables"
    );
    Err(SecretStoreError::new(InfraKind::Configuration, message))
}

pub(crate) fn namespaced(
    call: reqwest::RequestBuilder,
    namespace: Option<&str>,
) -> reqwest::RequestBuilder {
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => call.header("X-Vault-Namespace", namespace),
        None => call,
    }
}

/// Where an entry of a key-value engine is.
pub(crate) fn entry_url(
    service: &str,
    server: &str,
    engine: &Engine,
    entry: &str,
) -> Result<String, SecretStoreError> {
    let (base, mount, entry) = (base(service, server)?, path(&engine.path), path(entry));
    match engine.name.as_str() {
        "kv-v2" => Ok(format!("{base}/v1/{mount}/data/{entry}")),
        "kv-v1" | "generic" => Ok(format!("{base}/v1/{mount}/{entry}")),
        other => Err(SecretStoreError::new(
            InfraKind::Configuration,
            format!("the engine {other:?} of {service} is not known; kv-v2, kv-v1 and generic are"),
        )),
    }
}

/// The field of an entry: text as it is, anything else as JSON.
pub(crate) fn field(
    service: &str,
    answer: &Answer,
    engine: &Engine,
    field: &str,
) -> Result<Option<Secret>, SecretStoreError> {
    if !answer.status.is_success() {
        return Err(answer.refused(service, "the request for the secret"));
    }
    let value = answer.json(service)?;
    let data = match engine.name.as_str() {
        "kv-v2" => value.pointer("/data/data"),
        _ => value.get("data"),
    };
    let value = data.and_then(|data| data.get(field)).filter(|value| !value.is_null());
    Ok(value.map(|value| match value {
        Value::String(text) => Secret::from(text.as_str()),
        other => Secret::new(other.to_string()),
    }))
}
