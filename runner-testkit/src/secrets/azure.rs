//! Azure's answers.

use axum::http::Method;
use serde_json::json;

use super::{Call, Reply, Shelf};

const TOKEN: &str = "eyJ.stand-in";
const TENANT: &str = "tenant";

pub(super) fn answer(shelf: &Shelf, call: &Call<'_>) -> Reply {
    if call.is(Method::POST, &format!("/{TENANT}/oauth2/v2.0/token")) {
        let form = call.form();
        let expected = [
            ("grant_type", "client_credentials"),
            ("client_id", "client"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &shelf.jwt),
            ("scope", "https://vault.azure.net/.default"),
        ];
        let fits = form.len() == expected.len()
            && expected.iter().all(|(key, value)| form.get(*key).is_some_and(|v| v == value));
        if !fits {
            let description = "AADSTS700027: the client assertion is not valid";
            let body = json!({ "error": "invalid_client", "error_description": description });
            return (401, body.to_string());
        }
        return (200, json!({ "access_token": TOKEN, "token_type": "Bearer" }).to_string());
    }
    let error = |status: u16, message: &str| {
        (status, json!({ "error": { "code": "stand-in", "message": message } }).to_string())
    };
    if call.header("authorization") != format!("Bearer {TOKEN}") {
        return error(401, "AKV10000: Request is missing a Bearer or PoP token.");
    }
    if call.method != Method::GET || !call.query.starts_with("api-version=7.") {
        return error(400, "api-version must be specified");
    }
    let Some(name) = call.path.strip_prefix("/secrets/") else {
        return error(404, "no such collection");
    };
    match shelf.secrets.get(name) {
        Some(value) => (200, json!({ "value": value, "id": call.path }).to_string()),
        None => error(404, "SecretNotFound"),
    }
}
