//! Requests as a payload describes them (GitLab's `secrets`).

use std::collections::BTreeMap;

use runner_core::job::SecretRequest;
use runner_core::outcome::InfraKind;
use runner_core::planner::VariableSet;
use runner_core::secret::Secret;
use runner_core::secrets::SecretStoreError;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{aws, azure, gcp, gitlab, vault};

/// Keys of providers, and what the log calls them.
const PROVIDERS: [(&str, &str); 5] = [
    ("vault", "vault"),
    ("gcp_secret_manager", "gcp_secret_manager"),
    ("azure_key_vault", "azure_key_vault"),
    ("aws_secrets_manager", "aws_secrets_manager"),
    ("gitlab_secrets_manager", "gitlab_secrets_manager"),
];

/// A request of one provider.
#[derive(Debug)]
pub(crate) enum Provider {
    Vault(vault::Request),
    GitLab(gitlab::Request),
    Google(gcp::Request),
    Azure(azure::Request),
    Aws(aws::Request),
}

/// Which provider this is for.
pub(crate) fn name(request: &SecretRequest) -> Option<&'static str> {
    let value: Map<String, Value> = serde_json::from_str(request.provider.expose()).ok()?;
    PROVIDERS.iter().find(|(key, _)| value.contains_key(*key)).map(|(_, name)| *name)
}

/// Reads a request. References to variables are replaced in all of them but GitLab's own.
pub(crate) fn parse(
    request: &SecretRequest,
    variables: &VariableSet,
) -> Result<Provider, SecretStoreError> {
    let name = name(request).ok_or_else(|| wrong("no provider is known"))?;
    let mut value: Map<String, Value> =
        serde_json::from_str(request.provider.expose()).map_err(|_| wrong("it is no object"))?;
    let mut value = value.remove(name).unwrap_or_default();
    if name != "gitlab_secrets_manager" {
        expand(&mut value, variables)?;
    }
    let provider = match name {
        "vault" => read(value).map(Provider::Vault),
        "gcp_secret_manager" => read(value).map(Provider::Google),
        "azure_key_vault" => read(value).map(Provider::Azure),
        "aws_secrets_manager" => read(value).map(Provider::Aws),
        _ => read(value).map(Provider::GitLab),
    };
    provider.map_err(|_| wrong("a field has the wrong type"))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}

fn wrong(what: &str) -> SecretStoreError {
    SecretStoreError::new(
        InfraKind::Configuration,
        format!("the `secrets:` entry cannot be used: {what}"),
    )
}

fn expand(value: &mut Value, variables: &VariableSet) -> Result<(), SecretStoreError> {
    match value {
        Value::String(text) => {
            *text = variables.expand(text).map_err(|_| wrong("a field is too long"))?;
            Ok(())
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| expand(value, variables)),
        Value::Object(fields) => fields.values_mut().try_for_each(|value| expand(value, variables)),
        _ => Ok(()),
    }
}

/// `engine` of Vault and OpenBao.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) path: String,
}

/// Texts and numbers as text; `null` and anything else are left out.
pub(crate) fn texts(data: &BTreeMap<String, Value>) -> BTreeMap<&str, Secret> {
    data.iter()
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some((key.as_str(), Secret::from(text.as_str()))),
            Value::Number(number) => Some((key.as_str(), Secret::new(number.to_string()))),
            _ => None,
        })
        .collect()
}
