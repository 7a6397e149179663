//! AWS's answers. The signature is computed from what arrived, by other code than a client's.

use axum::http::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Call, Reply, Shelf};

const KEY_ID: &str = "ASIASTANDIN";
const KEY: &str = "stand-in/secret+key=";
const TOKEN: &str = "stand-in//session==";
/// The role and region that a job has to name.
const ROLE: &str = "arn:aws:iam::42:role/app";
const REGION: &str = "eu-central-1";

pub(super) fn answer(shelf: &Shelf, call: &Call<'_>) -> Reply {
    if !call.is(Method::POST, "/") {
        return (404, String::new());
    }
    match call.header("x-amz-target") {
        "" => assume_role(shelf, call),
        "secretsmanager.GetSecretValue" => secret(shelf, call),
        _ => error("UnknownOperationException", "no such operation"),
    }
}

fn assume_role(shelf: &Shelf, call: &Call<'_>) -> Reply {
    let form = call.form();
    let is = |key: &str, value: &str| form.get(key).is_some_and(|found| found == value);
    let session = form.get("RoleSessionName").map(String::as_str).unwrap_or_default();
    let session_fits = (2..=64).contains(&session.len())
        && session.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=,.@-".contains(&b));
    let refuse = |code: &str, message: &str| {
        let text = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>\
             </ErrorResponse>"
        );
        (400, text)
    };
    if form.len() != 5 || !is("Action", "AssumeRoleWithWebIdentity") || !is("Version", "2011-06-15")
    {
        return refuse("InvalidAction", "no such action");
    }
    if !session_fits {
        return refuse("ValidationError", "roleSessionName does not fit");
    }
    if !is("WebIdentityToken", &shelf.jwt) || !is("RoleArn", ROLE) {
        return refuse("InvalidIdentityToken", "the token cannot be used for this role");
    }
    let text = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{KEY_ID}</AccessKeyId><SecretAccessKey>{KEY}</SecretAccessKey>\
         <SessionToken>{TOKEN}</SessionToken></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    (200, text)
}

fn error(kind: &str, message: &str) -> Reply {
    (400, json!({ "__type": kind, "message": message }).to_string())
}

fn secret(shelf: &Shelf, call: &Call<'_>) -> Reply {
    if let Err(why) = check_signature(call) {
        return error("InvalidSignatureException", &why);
    }
    let body: serde_json::Value = serde_json::from_slice(call.body).unwrap_or_default();
    let known = ["SecretId", "VersionId", "VersionStage"];
    if !body.as_object().is_some_and(|body| body.keys().all(|key| known.contains(&key.as_str()))) {
        return error("ValidationException", "unknown parameter");
    }
    match body["SecretId"].as_str().and_then(|name| shelf.secrets.get(name)) {
        Some(value) => {
            (200, json!({ "Name": body["SecretId"], "SecretString": value }).to_string())
        }
        None => error("ResourceNotFoundException", "Secrets Manager can't find the secret."),
    }
}

/// Signature version 4 over the request as it arrived.
fn check_signature(call: &Call<'_>) -> Result<(), String> {
    let part = |name: &str| {
        let (_, rest) = call.header("authorization").split_once(&format!("{name}="))?;
        Some(rest.split(", ").next().unwrap_or(rest).to_owned())
    };
    let (Some(credential), Some(names), Some(signature)) =
        (part("Credential"), part("SignedHeaders"), part("Signature"))
    else {
        return Err("the Authorization header is incomplete".to_owned());
    };
    let (id, scope) = credential.split_once('/').ok_or("no scope")?;
    let time = call.header("x-amz-date");
    let day = time.get(..8).unwrap_or_default();
    if id != KEY_ID || scope != format!("{day}/{REGION}/secretsmanager/aws4_request") {
        return Err(format!("the credential {credential} is not valid here"));
    }
    if call.header("x-amz-security-token") != TOKEN {
        return Err("The security token included in the request is invalid".to_owned());
    }
    for needed in ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
        if !names.split(';').any(|name| name == needed) {
            return Err(format!("{needed} must be signed"));
        }
    }
    let lines: String =
        names.split(';').map(|name| format!("{name}:{}\n", call.header(name).trim())).collect();
    let body = hex(&Sha256::digest(call.body));
    let canonical = format!("POST\n/\n{}\n{lines}\n{names}\n{body}", call.query);
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let mut key = format!("AWS4{KEY}").into_bytes();
    for part in scope.split('/').chain([text.as_str()]) {
        key = hmac(&key, part.as_bytes());
    }
    if hex(&key) == signature { Ok(()) } else { Err("the signature does not match".to_owned()) }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
