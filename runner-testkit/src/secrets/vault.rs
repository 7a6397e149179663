//! Vault's and OpenBao's answers.

use axum::http::Method;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Call, Reply, Shelf};

const TOKEN: &str = "hvs.stand-in";
const MOUNT: &str = "jwt";
/// The role that a login has to ask for.
const ROLE: &str = "app";

fn errors(status: u16, message: &str) -> Reply {
    (status, json!({ "errors": [message] }).to_string())
}

/// A login, then reads with its token.
pub(super) fn answer(shelf: &Shelf, call: &Call<'_>) -> Reply {
    let namespace = Some(call.header("x-vault-namespace")).filter(|name| !name.is_empty());
    if namespace != shelf.namespace.as_deref() {
        return errors(404, "no handler for route");
    }
    if call.is(Method::POST, &format!("/v1/auth/{MOUNT}/login")) {
        let body = call.json();
        let known = |fields: &serde_json::Map<String, Value>| {
            fields.keys().all(|key| matches!(key.as_str(), "jwt" | "role"))
        };
        if !body.as_object().is_some_and(known) {
            return errors(400, "the login's body is not {jwt, role}");
        }
        if body["jwt"] != shelf.jwt.as_str() || body["role"] != ROLE {
            return errors(400, "error validating token");
        }
        return (200, json!({ "auth": { "client_token": TOKEN } }).to_string());
    }
    if call.header("x-vault-token") != TOKEN {
        return errors(403, "permission denied");
    }
    read(shelf, call)
}

/// Reads with the login in the same request.
pub(super) fn answer_inline(shelf: &Shelf, call: &Call<'_>) -> Reply {
    let parameter = |name: &str| -> Value {
        let encoded = call.header(&format!("x-vault-inline-auth-parameter-{name}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    if !call.header("x-vault-token").is_empty() {
        return errors(400, "a token and an inline login exclude each other");
    }
    let login = call.header("x-vault-inline-auth-path");
    if login != format!("auth/{MOUNT}/login") {
        return errors(404, "no handler for the inline login's path");
    }
    let jwt = parameter("jwt") == json!({ "key": "jwt", "value": shelf.jwt });
    if !jwt || parameter("role") != json!({ "key": "role", "value": ROLE }) {
        return errors(403, "permission denied");
    }
    read(shelf, call)
}

/// `kv-v2` below `/data/`, `kv-v1` elsewhere: an engine is of the version by which it is read.
fn read(shelf: &Shelf, call: &Call<'_>) -> Reply {
    let entry = call.path.strip_prefix("/v1/").filter(|_| call.method == Method::GET);
    let Some(entry) = entry else { return errors(405, "unsupported operation") };
    let find = |name: &str| shelf.secrets.get(name).map(|value| fields(value));
    if let Some(data) = find(&entry.replacen("/data/", "/", 1)).filter(|_| entry.contains("/data/"))
    {
        return (200, json!({ "data": { "data": data, "metadata": {} } }).to_string());
    }
    match find(entry) {
        Some(data) => (200, json!({ "data": data }).to_string()),
        None => (404, json!({ "errors": [] }).to_string()),
    }
}

fn fields(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_default()
}
