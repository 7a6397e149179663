//! The objects by which managers show that they live: a Lease, or a ConfigMap where the role grants
//! no leases.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use runner_core::ids::SourceId;

use super::roster::Sign;
use crate::names::{MANAGED_LABEL, ROLE_LABEL, SOURCE_LABEL, manager_hash, source_hash};

const ROLE: &str = "manager";
/// Annotation of a Lease: how many jobs the manager has.
const JOBS: &str = "podwright.dev/jobs";

/// What kind of object shows that a manager lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignKind {
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// Core ConfigMap; the official chart's role grants the core group only.
    ConfigMap,
}

impl SignKind {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Lease => Self::ConfigMap,
            Self::ConfigMap => Self::Lease,
        }
    }
}

/// Signs of the managers of one source in one namespace.
#[derive(Clone)]
pub(crate) struct Signs {
    leases: Api<Lease>,
    config_maps: Api<ConfigMap>,
    source: SourceId,
    manager: String,
    lasts: Duration,
    /// Of the own sign, as it was written last.
    version: Arc<Mutex<Option<String>>>,
}

impl Signs {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        source: SourceId,
        manager: &str,
        lasts: Duration,
    ) -> Self {
        let leases = Api::namespaced(client.clone(), namespace);
        let config_maps = Api::namespaced(client, namespace);
        Self {
            leases,
            config_maps,
            source,
            manager: manager.to_owned(),
            lasts,
            version: Arc::default(),
        }
    }

    /// The name of a manager's sign.
    pub(super) fn name(&self, manager: &str) -> String {
        format!("podwright-{}-manager-{}", source_hash(&self.source), manager_hash(manager))
    }

    fn metadata(&self) -> ObjectMeta {
        let labels = [
            (MANAGED_LABEL, "podwright".to_owned()),
            (SOURCE_LABEL, source_hash(&self.source)),
            (ROLE_LABEL, ROLE.to_owned()),
        ];
        ObjectMeta {
            name: Some(self.name(&self.manager)),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        }
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.lasts.as_secs()).unwrap_or(i32::MAX).max(1)
    }

    fn lease(&self, jobs: usize) -> Lease {
        let mut metadata = self.metadata();
        metadata.annotations = Some([(JOBS.to_owned(), jobs.to_string())].into());
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.manager.clone()),
                lease_duration_seconds: Some(self.seconds()),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }

    fn config_map(&self, jobs: usize) -> ConfigMap {
        let data = [
            ("jobs", jobs.to_string()),
            ("manager", self.manager.clone()),
            ("leaseDurationSeconds", self.seconds().to_string()),
            ("renewTime", Timestamp::now().to_string()),
        ];
        ConfigMap {
            metadata: self.metadata(),
            data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ConfigMap::default()
        }
    }

    /// Shows once more that this manager lives. One request after the first time.
    pub(crate) async fn show(&self, kind: SignKind, jobs: usize) -> kube::Result<()> {
        let known = self.version.lock().take();
        let version = match kind {
            SignKind::Lease => put(&self.leases, self.lease(jobs), known).await,
            SignKind::ConfigMap => put(&self.config_maps, self.config_map(jobs), known).await,
        };
        *self.version.lock() = version?;
        Ok(())
    }

    /// What all managers show.
    pub(crate) async fn list(&self, kind: SignKind) -> kube::Result<Vec<Sign>> {
        let selector = format!("{SOURCE_LABEL}={},{ROLE_LABEL}={ROLE}", source_hash(&self.source));
        let all = ListParams::default().labels(&selector);
        Ok(match kind {
            SignKind::Lease => {
                self.leases.list(&all).await?.items.into_iter().filter_map(of_lease).collect()
            }
            SignKind::ConfigMap => self
                .config_maps
                .list(&all)
                .await?
                .items
                .into_iter()
                .filter_map(of_config_map)
                .collect(),
        })
    }

    /// Takes a manager's sign away. None there is no error.
    pub(crate) async fn remove(&self, kind: SignKind, manager: &str) -> kube::Result<()> {
        let (name, now) = (self.name(manager), DeleteParams::default());
        let result = match kind {
            SignKind::Lease => self.leases.delete(&name, &now).await.map(drop),
            SignKind::ConfigMap => self.config_maps.delete(&name, &now).await.map(drop),
        };
        match result {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other,
        }
    }
}

/// Writes an object of which `version` was the last one; gives the next.
///
/// A Lease cannot be replaced without saying which version (422), other than a ConfigMap. A change by
/// hand, or an answer that was lost, must not end a manager: then the version is asked for, by a list,
/// since the role has no `get`.
async fn put<K>(
    api: &Api<K>,
    mut object: K,
    version: Option<String>,
) -> kube::Result<Option<String>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let parameters = PostParams::default();
    let version_of = |written: K| written.meta().resource_version.clone();
    let first = match version {
        Some(version) => {
            object.meta_mut().resource_version = Some(version);
            api.replace(&name, &parameters, &object).await
        }
        None => api.create(&parameters, &object).await,
    };
    match first {
        // Somebody took it for dead and removed it; or changed it, or it is of this manager's last life.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        other => return other.map(version_of),
    }
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = api.list(&only).await?.items.into_iter().find_map(version_of);
    object.meta_mut().resource_version.clone_from(&found);
    match found {
        Some(_) => api.replace(&name, &parameters, &object).await,
        None => api.create(&parameters, &object).await,
    }
    .map(version_of)
}

fn of_lease(lease: Lease) -> Option<Sign> {
    let spec = lease.spec?;
    let annotations = lease.metadata.annotations.unwrap_or_default();
    Some(Sign {
        jobs: count(annotations.get(JOBS)),
        manager: spec.holder_identity?,
        version: lease.metadata.resource_version?,
        lasts: seconds(spec.lease_duration_seconds?.to_string().as_str())?,
    })
}

fn of_config_map(map: ConfigMap) -> Option<Sign> {
    let mut data = map.data?;
    Some(Sign {
        jobs: count(data.get("jobs")),
        lasts: seconds(data.get("leaseDurationSeconds")?)?,
        manager: data.remove("manager")?,
        version: map.metadata.resource_version?,
    })
}

/// A manager of a release that does not say it has none as far as others know.
fn count(text: Option<&String>) -> usize {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Longest time that a sign may claim to be good for: a broken object must not keep jobs from
/// everybody.
const LONGEST: u64 = 3600;

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(|seconds: u64| Duration::from_secs(seconds.clamp(1, LONGEST)))
}
