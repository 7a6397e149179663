//! Something secret that all managers of a namespace have in common.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::client::{ClientError, Clients};
use crate::names::{MANAGED_LABEL, ROLE_LABEL};
use crate::settings::KubernetesSettings;

/// Contents of a Secret.
pub type SecretContents = BTreeMap<String, Vec<u8>>;

/// Why it could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedSecretError {
    /// No way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It did not do it.
    #[error("the API server did not do it: {0}")]
    Api(#[from] kube::Error),
}

/// The contents of this Secret in the settings' namespace; `make` makes them where there is none, or
/// none that `is_good`. Of several managers that make one at the same time, one wins, and all have
/// the same.
///
/// # Errors
/// When it can neither be read nor made.
pub async fn shared_secret(
    settings: &KubernetesSettings,
    name: &str,
    is_good: impl Fn(&SecretContents) -> bool,
    make: impl Fn() -> SecretContents,
) -> Result<SecretContents, SharedSecretError> {
    let clients = Clients::connect(&settings.connection).await?;
    let api: Api<KubeSecret> = Api::namespaced(clients.api, &settings.namespace);
    loop {
        let there = api.get_opt(name).await?;
        let known = there.as_ref().and_then(|secret| secret.data.clone()).unwrap_or_default();
        let known: SecretContents = known.into_iter().map(|(key, value)| (key, value.0)).collect();
        if is_good(&known) {
            return Ok(known);
        }
        let made = make();
        let labels = [(MANAGED_LABEL, "podwright"), (ROLE_LABEL, "session-certificate")];
        let secret = KubeSecret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                resource_version: there
                    .as_ref()
                    .and_then(|it| it.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".into()),
            data: Some(made.iter().map(|(k, v)| (k.clone(), ByteString(v.clone()))).collect()),
            ..KubeSecret::default()
        };
        let result = match there {
            Some(_) => api.replace(name, &PostParams::default(), &secret).await,
            None => api.create(&PostParams::default(), &secret).await,
        };
        match result {
            Ok(_) => return Ok(made),
            // Another manager was faster: its is as good.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
