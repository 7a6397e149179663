//! AWS Secrets Manager: the job's token is exchanged for temporary keys (web identity), with which
//! the request for the secret is signed.

mod sign;

use jiff::Timestamp;
use runner_core::outcome::InfraKind;
use runner_core::secret::Secret;
use runner_core::secrets::SecretStoreError;
use serde::Deserialize;
use serde_json::{Value, json};

use self::sign::{Signed, sign};
use crate::SecretsSettings;
use crate::http::{Http, send};

const SERVICE: &str = "AWS";
/// Longest name of a session.
const LONGEST_SESSION: usize = 64;

/// Keys that requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCredentials {
    /// Which key it is.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// What belongs to temporary keys.
    pub session_token: Option<Secret>,
}

/// `aws_secrets_manager` of a secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
    field: Option<String>,
    region: Option<String>,
    role_arn: Option<String>,
    role_session_name: Option<String>,
    server: Server,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Server {
    region: Option<String>,
    jwt: Option<String>,
    role_arn: Option<String>,
    role_session_name: Option<String>,
}

/// What a session is called where nobody says: GitLab Runner's default.
pub(crate) fn default_session(variable: impl Fn(&str) -> String) -> String {
    ["CI_JOB_ID", "CI_PROJECT_ID", "CI_SERVER_HOST"].map(variable).join("-")
}

/// What is said at all, where empty is nothing.
fn first<const N: usize>(texts: [&Option<String>; N]) -> Option<&str> {
    texts.into_iter().flatten().map(String::as_str).find(|text| !text.is_empty())
}

/// Gets keys and reads. `None`: there is no such secret, or it has no such field.
pub(crate) async fn resolve(
    http: &Http,
    settings: &SecretsSettings,
    request: &Request,
    session: &str,
) -> Result<Option<Secret>, SecretStoreError> {
    let server = &request.server;
    let region = first([&request.region, &server.region, &settings.aws_region])
        .ok_or_else(|| wrong("no region is given; set AWS_REGION or aws_secrets_manager:region"))?;
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(wrong("the region is no name of a region"));
    }
    let role = first([&request.role_arn, &server.role_arn]);
    let keys = match (first([&server.jwt]), role, &settings.aws_credentials) {
        (Some(jwt), Some(role), _) => {
            let named = first([&request.role_session_name, &server.role_session_name]);
            let name = named.unwrap_or(session).chars().take(LONGEST_SESSION).collect::<String>();
            assume_role(http, settings, region, (role, &name, jwt)).await?
        }
        (Some(_), None, _) => return Err(wrong("a token is given and no role (role_arn)")),
        (None, Some(_), _) => return Err(wrong("a role is given and no token of the job for it")),
        (None, None, Some(own)) => own.clone(),
        (None, None, None) => {
            return Err(wrong("neither the job has a token for it nor the runner keys"));
        }
    };
    read(http, settings, region, request, &keys).await
}

fn wrong(what: &str) -> SecretStoreError {
    SecretStoreError::new(InfraKind::Configuration, format!("{SERVICE} cannot be asked: {what}"))
}

/// Temporary keys for the job's token.
async fn assume_role(
    http: &Http,
    settings: &SecretsSettings,
    region: &str,
    (role, session, jwt): (&str, &str, &str),
) -> Result<AwsCredentials, SecretStoreError> {
    let url = settings.aws_sts.replace("{region}", region);
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", session),
        ("WebIdentityToken", jwt),
    ];
    let answer = send(SERVICE, http.post(&url).form(&form)).await?;
    let text = String::from_utf8_lossy(&answer.body);
    if !answer.status.is_success() {
        let words = element(&text, "Message").unwrap_or("no reason given");
        let message = format!("{SERVICE} answered {} to the role: {words}", answer.status);
        return Err(SecretStoreError::new(answer.kind(), message));
    }
    let part = |name: &str| element(&text, name).map(str::to_owned);
    let keys = (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken"));
    let (Some(access_key_id), Some(key), Some(token)) = keys else {
        let message = format!("{SERVICE}'s answer to the role holds no keys");
        return Err(SecretStoreError::new(InfraKind::System, message));
    };
    let (secret_access_key, session_token) = (Secret::new(key), Some(Secret::new(token)));
    Ok(AwsCredentials { access_key_id, secret_access_key, session_token })
}

/// The content of the first such element. Keys and tokens are made of letters, digits, `+`, `/` and
/// `=`, so nothing in them is escaped.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content.trim())
}

async fn read(
    http: &Http,
    settings: &SecretsSettings,
    region: &str,
    request: &Request,
    keys: &AwsCredentials,
) -> Result<Option<Secret>, SecretStoreError> {
    let url = settings.aws_secrets.replace("{region}", region);
    let mut body = json!({ "SecretId": request.secret_id });
    if let Some(version) = first([&request.version_id]) {
        body["VersionId"] = version.into();
    }
    if let Some(stage) = first([&request.version_stage]) {
        body["VersionStage"] = stage.into();
    }
    let body = body.to_string();
    let signed = Signed {
        host: url.split_once("://").map_or(url.as_str(), |(_, host)| host),
        region,
        service: "secretsmanager",
        target: "secretsmanager.GetSecretValue",
        body: body.as_bytes(),
        keys,
        now: Timestamp::now(),
    };
    let mut call = http.post(&format!("{url}/"));
    for (name, value) in sign(&signed) {
        call = call.header(name, value);
    }
    let answer = send(SERVICE, call.body(body)).await?;
    if !answer.status.is_success() {
        let value = answer.json(SERVICE).unwrap_or_default();
        let kind = value.get("__type").and_then(Value::as_str).unwrap_or_default();
        if kind.ends_with("ResourceNotFoundException") {
            return Ok(None);
        }
        return Err(answer.refused(SERVICE, "the request for the secret"));
    }
    let value = answer.json(SERVICE)?;
    let Some(text) = value.get("SecretString").and_then(Value::as_str) else {
        return Err(wrong("the secret is binary and cannot be a variable"));
    };
    match first([&request.field]) {
        None => Ok(Some(Secret::from(text))),
        Some(field) => field_of(text, field),
    }
}

/// A field of a secret that is a JSON object.
fn field_of(text: &str, field: &str) -> Result<Option<Secret>, SecretStoreError> {
    let value: Value = serde_json::from_str(text)
        .map_err(|_| wrong("a field is wanted, and the secret is no JSON object"))?;
    Ok(value.get(field).filter(|value| !value.is_null()).map(|value| match value {
        Value::String(text) => Secret::from(text.as_str()),
        other => Secret::new(other.to_string()),
    }))
}
