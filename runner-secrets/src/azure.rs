//! Azure Key Vault: the job's token is a client's assertion, for which Azure gives a token of its
//! own, which reads one version of a secret.

use runner_core::outcome::InfraKind;
use runner_core::secret::Secret;
use runner_core::secrets::SecretStoreError;
use serde::Deserialize;
use serde_json::Value;

use crate::SecretsSettings;
use crate::http::{Http, segment, send};
use crate::vault::base;

const SERVICE: &str = "Azure";
/// Supported since 2022 and until further notice.
const API_VERSION: &str = "7.4";

/// `azure_key_vault` of a secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    name: String,
    version: Option<String>,
    server: Server,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    client_id: String,
    tenant_id: String,
    jwt: String,
    url: String,
}

/// Signs in and reads. `None`: there is no such secret.
pub(crate) async fn resolve(
    http: &Http,
    settings: &SecretsSettings,
    request: &Request,
) -> Result<Option<Secret>, SecretStoreError> {
    let vault = base("Azure Key Vault", &request.server.url)?;
    let token = sign_in(http, settings, &request.server).await?;
    let version = request.version.as_deref().unwrap_or_default();
    let url = match version {
        "" => format!("{vault}/secrets/{}", segment(&request.name)),
        version => format!("{vault}/secrets/{}/{}", segment(&request.name), segment(version)),
    };
    let call = http.get(&url).query(&[("api-version", API_VERSION)]).bearer_auth(token.expose());
    let answer = send(SERVICE, call).await?;
    match answer.status.as_u16() {
        404 => return Ok(None),
        200 => {}
        _ => return Err(answer.refused(SERVICE, "the request for the secret")),
    }
    let value = answer.json(SERVICE)?;
    Ok(value.get("value").and_then(Value::as_str).map(Secret::from))
}

async fn sign_in(
    http: &Http,
    settings: &SecretsSettings,
    server: &Server,
) -> Result<Secret, SecretStoreError> {
    let url = format!("{}/{}/oauth2/v2.0/token", settings.azure_login, segment(&server.tenant_id));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", server.client_id.as_str()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", server.jwt.as_str()),
        ("scope", "https://vault.azure.net/.default"),
    ];
    let answer = send(SERVICE, http.post(&url).form(&form)).await?;
    if !answer.status.is_success() {
        return Err(answer.refused(SERVICE, "the sign-in"));
    }
    match answer.json(SERVICE)?.get("access_token").and_then(Value::as_str) {
        Some(token) => Ok(Secret::from(token)),
        None => Err(SecretStoreError::new(
            InfraKind::System,
            format!("{SERVICE}'s answer to the sign-in holds no token"),
        )),
    }
}
