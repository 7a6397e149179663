//! Jobs whose pods are in another namespace than the executor's own.
//!
//! The record stays at home, where every manager looks. What the pod needs (plan, values of services,
//! pull credentials) has to be beside it: Secrets cannot be mounted from another namespace.
//!
//! ```text
//!   home:   record (ticket, claim, pod, place) ──► names ──┐
//!   place:  [namespace]  Secrets  pod                    ◄─┘   deleted before the record
//! ```

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use runner_core::ids::JobId;
use serde::{Deserialize, Serialize};

use crate::names::{JOB_LABEL, MANAGED_LABEL, SOURCE_LABEL, source_hash};

/// Where a job's pod is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// It was made for this job and goes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

/// Makes a job's own namespace. Doing it twice is harmless.
///
/// # Errors
/// When it is not made, or another one has its name.
pub(crate) async fn create_namespace(
    client: &Client,
    name: &str,
    source: &runner_core::ids::SourceId,
    job: JobId,
) -> kube::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let labels = [
        (MANAGED_LABEL, "podwright".to_owned()),
        (SOURCE_LABEL, source_hash(source)),
        (JOB_LABEL, job.to_string()),
    ];
    let labels: std::collections::BTreeMap<_, _> =
        labels.map(|(key, value)| (key.to_owned(), value)).into();
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    let namespace = Namespace { metadata, ..Namespace::default() };
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(error @ kube::Error::Api(_)) => {
            let conflict = matches!(&error, kube::Error::Api(status) if status.code == 409);
            let there = if conflict { api.get_opt(name).await? } else { None };
            // An answer that was lost, or an earlier manager's. One that is being deleted takes nothing.
            let ours = there.is_some_and(|there| {
                there.metadata.deletion_timestamp.is_none()
                    && there
                        .metadata
                        .labels
                        .unwrap_or_default()
                        .iter()
                        .filter(|(key, value)| labels.get(*key) == Some(*value))
                        .count()
                        == labels.len()
            });
            if ours { Ok(()) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

/// Deletes a job's own namespace with everything in it. None there is no error.
///
/// # Errors
/// When it is not deleted.
pub(crate) async fn delete_namespace(client: &Client, name: &str) -> kube::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        // 409: it is being deleted already.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
