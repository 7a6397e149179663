//! Google's answers.

use axum::http::Method;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::{Call, Reply, Shelf};

const TOKEN: &str = "ya29.stand-in";
/// The federation that a job has to name.
const AUDIENCE: &str = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/\
                        pool/providers/provider";

fn error(status: u16, message: &str) -> Reply {
    (status, json!({ "error": { "code": status, "message": message } }).to_string())
}

pub(super) fn answer(shelf: &Shelf, call: &Call<'_>) -> Reply {
    if call.is(Method::POST, "/v1/token") {
        let expected = json!({
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": AUDIENCE,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "subjectToken": shelf.jwt,
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
        });
        if call.json() != expected {
            let body =
                json!({ "error": "invalid_grant", "error_description": "not this exchange" });
            return (400, body.to_string());
        }
        return (200, json!({ "access_token": TOKEN, "token_type": "Bearer" }).to_string());
    }
    if call.header("authorization") != format!("Bearer {TOKEN}") {
        return error(401, "Request had invalid authentication credentials.");
    }
    let version = call.path.strip_prefix("/v1/").and_then(|path| path.strip_suffix(":access"));
    let Some((name, version)) = version.and_then(|path| path.split_once("/versions/")) else {
        return error(404, "no such method");
    };
    let is_version = version == "latest" || version.bytes().all(|byte| byte.is_ascii_digit());
    if call.method != Method::GET || !is_version {
        return error(400, "no such version");
    }
    match shelf.secrets.get(name) {
        None => error(404, "Secret not found."),
        Some(value) => {
            let crc = crc32c(value.as_bytes()).to_string();
            let data = BASE64_STANDARD.encode(value);
            (200, json!({ "payload": { "data": data, "dataCrc32c": crc } }).to_string())
        }
    }
}

/// CRC-32C by a table of four bits.
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..16)
        .map(|n: u32| (0..4).fold(n, |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))))
        .collect();
    let mut crc = !0_u32;
    for byte in bytes {
        for half in [*byte & 15, *byte >> 4] {
            crc = (crc >> 4) ^ table[((crc ^ u32::from(half)) & 15) as usize];
        }
    }
    !crc
}
