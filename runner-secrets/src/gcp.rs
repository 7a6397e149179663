//! Google Cloud Secret Manager: the job's token is exchanged for a Google one (workload identity
//! federation), which reads one version of a secret.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use runner_core::outcome::InfraKind;
use runner_core::secret::Secret;
use runner_core::secrets::SecretStoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::SecretsSettings;
use crate::http::{Http, path, segment, send};

const SERVICE: &str = "Google Cloud";

/// `gcp_secret_manager` of a secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    name: String,
    version: Version,
    server: Server,
}

/// A number or text.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Version {
    Number(u64),
    Text(String),
    #[default]
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    project_number: String,
    workload_identity_federation_pool_id: String,
    workload_identity_federation_provider_id: String,
    jwt: String,
}

/// Exchanges the token and reads. `None`: there is no such secret.
pub(crate) async fn resolve(
    http: &Http,
    settings: &SecretsSettings,
    request: &Request,
) -> Result<Option<Secret>, SecretStoreError> {
    let token = exchange(http, settings, &request.server).await?;
    let version = match &request.version {
        Version::Number(number) => number.to_string(),
        Version::Text(text) if !text.is_empty() => text.clone(),
        _ => "latest".to_owned(),
    };
    let secret = match request.name.starts_with("projects/") {
        true => path(&request.name),
        false => format!(
            "projects/{}/secrets/{}",
            segment(&request.server.project_number),
            segment(&request.name)
        ),
    };
    let version = segment(&version);
    let url = format!("{}/v1/{secret}/versions/{version}:access", settings.google_secrets);
    let answer = send(SERVICE, http.get(&url).bearer_auth(token.expose())).await?;
    match answer.status.as_u16() {
        404 => return Ok(None),
        200 => {}
        _ => return Err(answer.refused(SERVICE, "the request for the secret")),
    }
    value(&answer.json(SERVICE)?).map(Some)
}

async fn exchange(
    http: &Http,
    settings: &SecretsSettings,
    server: &Server,
) -> Result<Secret, SecretStoreError> {
    let audience = format!(
        "//iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{}/providers/{}",
        server.project_number,
        server.workload_identity_federation_pool_id,
        server.workload_identity_federation_provider_id
    );
    let body = json!({
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": audience,
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": server.jwt,
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
    });
    let url = format!("{}/v1/token", settings.google_sts);
    let answer = send(SERVICE, http.post(&url).json(&body)).await?;
    if !answer.status.is_success() {
        return Err(answer.refused(SERVICE, "the exchange of the job's token"));
    }
    match answer.json(SERVICE)?.get("access_token").and_then(Value::as_str) {
        Some(token) => Ok(Secret::from(token)),
        None => Err(unusable("the exchange of the job's token")),
    }
}

/// The value, with its checksum where there is one.
fn value(answer: &Value) -> Result<Secret, SecretStoreError> {
    let broken = || unusable("the request for the secret");
    let data = answer.pointer("/payload/data").and_then(Value::as_str).ok_or_else(broken)?;
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| broken())?;
    let expected = answer.pointer("/payload/dataCrc32c").and_then(|crc| match crc {
        // 64-bit numbers are texts in Google's JSON.
        Value::String(text) => text.parse::<u64>().ok(),
        other => other.as_u64(),
    });
    if expected.is_some_and(|expected| expected != u64::from(crc32c(&bytes))) {
        let message = format!("the value from {SERVICE} was damaged on its way");
        return Err(SecretStoreError::new(InfraKind::ExternalDependency, message));
    }
    String::from_utf8(bytes).map(Secret::new).map_err(|_| {
        let message = format!("the value from {SERVICE} is no text and cannot be a variable");
        SecretStoreError::new(InfraKind::Configuration, message)
    })
}

fn unusable(what: &str) -> SecretStoreError {
    SecretStoreError::new(
        InfraKind::System,
        format!("the answer of {SERVICE} to {what} cannot be used"),
    )
}

/// CRC-32C (Castagnoli), bit by bit: values are 64 KiB at most.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the catalogue of CRC algorithms.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
