//! Looks for what may belong to nobody any more, and removes it: the I/O of [`orphans`](crate::orphans).
//!
//! Pods are looked at where the executor's own jobs run. Where jobs may be elsewhere, by
//! `namespace_per_job` or `namespace_overwrite_allowed`, the whole cluster is looked at as far as the
//! role allows; what it does not allow is not asked for again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use parking_lot::Mutex;
use runner_core::ids::JobId;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::job::Shared;
use crate::names::{JOB_LABEL, MANAGER_LABEL, ROLE_LABEL, SOURCE_LABEL, WARM_LABEL, source_hash};
use crate::orphans::{Orphans, Owned, Owner, Owners, What};
use crate::record::delete_namespace;

/// What this executor has seen without an owner.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    orphans: Mutex<Orphans>,
    /// What the role does not allow to list in the whole cluster.
    no_namespaces: AtomicBool,
    no_pods: AtomicBool,
    no_secrets: AtomicBool,
}

impl Sweep {
    /// When the next look is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.orphans.lock().next()
    }

    /// Everything that has an owner; to be called before the owners are looked up. `None`: it cannot
    /// be listed now, which can wait.
    pub(crate) async fn look(&self, shared: &Shared) -> Option<Vec<Owned>> {
        match self.list(shared).await {
            Ok(all) => Some(all),
            Err(error) => {
                debug!(%error, "could not look for what belongs to no job any more");
                None
            }
        }
    }

    async fn list(&self, shared: &Shared) -> kube::Result<Vec<Owned>> {
        let settings = &shared.settings;
        let client = || shared.clients.api.clone();
        let of_source = format!("{SOURCE_LABEL}={}", source_hash(&shared.runner.source));
        let all = ListParams::default().labels(&of_source);
        let home: Api<Pod> = Api::namespaced(client(), &settings.namespace);
        let pods = home.list_metadata(&all).await?;
        let mut found = owned(What::Pod, pods.items.into_iter().map(|pod| pod.metadata));
        if settings.namespace_per_job {
            // Everything else of the job's is in it.
            let namespaces = Api::<Namespace>::all(client());
            found.extend(self.away(&self.no_namespaces, What::Namespace, namespaces, &all).await?);
        }
        if settings.gates.namespace.is_open() {
            let pods = Api::<Pod>::all(client());
            let pods = self.away(&self.no_pods, What::Pod, pods, &all).await?;
            // At home these go with their record.
            let beside = format!("{of_source},{ROLE_LABEL} in (plan, pull)");
            let beside = ListParams::default().labels(&beside);
            let secrets = Api::<Secret>::all(client());
            let secrets = self.away(&self.no_secrets, What::Secret, secrets, &beside).await?;
            let away = |owned: &Owned| owned.namespace != settings.namespace;
            found.extend(pods.into_iter().chain(secrets).filter(away));
        }
        Ok(found)
    }

    /// What there is in the whole cluster, as far as the role allows to look.
    async fn away<K>(
        &self,
        refused: &AtomicBool,
        what: What,
        api: Api<K>,
        wanted: &ListParams,
    ) -> kube::Result<Vec<Owned>>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        if refused.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        match api.list_metadata(wanted).await {
            Ok(list) => Ok(owned(what, list.items.into_iter().map(|item| item.metadata))),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                refused.store(true, Ordering::Relaxed);
                debug!(%status, "what jobs leave behind elsewhere stays: the role allows no look at it");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes what has been without its owner for long enough.
    pub(crate) async fn remove(
        &self,
        shared: &Shared,
        all: Vec<Owned>,
        recorded: &BTreeSet<JobId>,
        living: Option<&BTreeSet<String>>,
    ) {
        let owners = Owners { recorded, living };
        let due = self.orphans.lock().observe(all, &owners, Instant::now());
        for Owned { what, namespace, name, uid, owner } in due {
            warn!(?what, namespace, name, ?owner, "this belongs to nobody any more; removing it");
            let removed = match what {
                What::Pod => {
                    shared.delete_pod(&shared.clients, &namespace, &name, Some(&uid)).await
                }
                What::Namespace => delete_namespace(&shared.clients.api, &name).await,
                What::Secret => {
                    let api: Api<Secret> = Api::namespaced(shared.clients.api.clone(), &namespace);
                    let same = Preconditions { uid: Some(uid), resource_version: None };
                    let same =
                        DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
                    api.delete(&name, &same).await.map(drop)
                }
            };
            if let Err(error) = removed {
                debug!(name, %error, "it could not be removed; it will be tried again");
            }
        }
    }
}

/// Those of them that have an owner and are not being deleted.
fn owned(what: What, all: impl Iterator<Item = ObjectMeta>) -> Vec<Owned> {
    let one = |metadata: ObjectMeta| {
        metadata.deletion_timestamp.is_none().then_some(())?;
        let labels = metadata.labels?;
        let owner = match labels.get(JOB_LABEL) {
            Some(job) => Owner::Job(JobId(job.parse().ok()?)),
            // Pods that keep room have a manager too; they go with their Deployment.
            None => {
                labels.get(WARM_LABEL)?;
                Owner::Manager(labels.get(MANAGER_LABEL)?.clone())
            }
        };
        let namespace = metadata.namespace.unwrap_or_default();
        Some(Owned { what, namespace, name: metadata.name?, uid: metadata.uid?, owner })
    };
    all.filter_map(one).collect()
}
