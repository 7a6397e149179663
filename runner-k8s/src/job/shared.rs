//! What all jobs of an executor share: settings, clients, watches, and what is known of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use runner_core::executor::ExecutorError;
use runner_core::ids::JobId;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::access::Access;
use super::launch::{KnownAbilities, Launched, Launcher};
use super::link::Connect;
use crate::announce::Announcer;
use crate::capacity::Capacity;
use crate::classify::executor_error;
use crate::client::{Clients, StreamCounts};
use crate::names::{MANAGER_LABEL, RunnerIdentity, SOURCE_LABEL, WARM_LABEL, source_hash};
use crate::pause::PausePods;
use crate::pod::{Abilities, adapt, budget};
use crate::presence::{Presence, Signs};
use crate::record::{Place, RecordStore};
use crate::settings::KubernetesSettings;
use crate::warm::{Orphans, WarmPool};
use crate::watch::{Hubs, PodHub, PodView};

/// How long a new namespace may be without its service account.
const ACCOUNT: Duration = Duration::from_secs(15);
/// Pause between two looks for it.
const ACCOUNT_PAUSE: Duration = Duration::from_millis(100);

/// What all jobs of an executor share.
pub(crate) struct Shared {
    pub(crate) settings: KubernetesSettings,
    pub(crate) runner: RunnerIdentity,
    pub(crate) clients: Clients,
    pub(crate) store: RecordStore,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) hub: std::sync::OnceLock<PodHub>,
    /// Watches of other namespaces.
    pub(crate) hubs: Hubs,
    pub(crate) presence: std::sync::OnceLock<Presence>,
    /// The jobs that this process has in its hands.
    pub(crate) held: HeldJobs,
    pub(crate) launcher: OnceCell<Launcher>,
    pub(crate) streams: StreamCounts,
    pub(crate) capacity: Capacity,
    pub(crate) announcer: Announcer,
    /// Pods that keep room for jobs, with the task that looks after them.
    pub(crate) pause: Option<Pause>,
    /// Pods that are ready before their job is there.
    pub(crate) warm: Option<Warm>,
}

/// Warm pods, and who looks after them.
pub(crate) struct Warm {
    pub(crate) pool: Arc<WarmPool>,
    pub(crate) keeper: parking_lot::Mutex<Option<AbortOnDropHandle<()>>>,
    pub(crate) orphans: parking_lot::Mutex<Orphans>,
}

/// Pause pods, and who looks after them.
pub(crate) struct Pause {
    pub(crate) pods: PausePods,
    pub(crate) keeper: parking_lot::Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Shared {
    /// The shared watch; it starts with the first job.
    pub(crate) fn hub(&self) -> &PodHub {
        self.hub.get_or_init(|| {
            let selector = format!("{SOURCE_LABEL}={}", source_hash(&self.runner.source));
            PodHub::start(self.clients.api.clone(), &self.settings.namespace, &selector)
        })
    }

    /// The watch of the namespace where this pod is; of all namespaces where every job has its own.
    pub(crate) fn hub_at(&self, place: Option<&Place>, access: &Access) -> PodHub {
        let Some(place) = place else { return self.hub().clone() };
        // Somebody else may see the one namespace only.
        let all = place.own && access.who.is_empty();
        let namespace = if all { "" } else { &place.namespace };
        self.hubs.get(&format!("{namespace} {}", access.who), || {
            let selector = format!("{SOURCE_LABEL}={}", source_hash(&self.runner.source));
            PodHub::start(access.clients.api.clone(), namespace, &selector)
        })
    }

    /// The namespace of a job's pod.
    pub(crate) fn namespace<'a>(&'a self, place: Option<&'a Place>) -> &'a str {
        place.map_or(&self.settings.namespace, |place| &place.namespace)
    }

    /// What is known of other managers; it starts with the first job, or when jobs are recovered.
    pub(crate) fn presence(&self) -> &Presence {
        self.presence.get_or_init(|| {
            let (manager, lasts) = (&self.runner.manager, self.settings.lease);
            let client = self.clients.api.clone();
            let source = self.runner.source.clone();
            let signs = Signs::new(client, &self.settings.namespace, source, manager, lasts);
            let held = self.held.clone();
            Presence::start(signs, manager, lasts, move || held.jobs())
        })
    }

    /// The pods of the executor's own namespace.
    pub(crate) fn pods(&self) -> Api<PodView> {
        Api::namespaced(self.clients.api.clone(), &self.settings.namespace)
    }

    /// The launcher; it asks for the server's version once.
    pub(crate) async fn launcher(&self) -> Result<&Launcher, ExecutorError> {
        self.launcher
            .get_or_try_init(async || {
                let version = self
                    .clients
                    .api
                    .apiserver_version()
                    .await
                    .map_err(|error| executor_error(error, "ask for the server's version"))?;
                let abilities = KnownAbilities::of_version(&version.major, &version.minor);
                // A second: long enough for TERM, short because the job is over. GitLab Runner's
                // pods hold their resources for 30 s more.
                let grace = self.settings.cleanup_grace.and_then(|grace| grace.try_into().ok());
                let grace = grace.unwrap_or(1);
                let api = self.clients.api.clone();
                Ok(Launcher::new(api, abilities, grace))
            })
            .await
    }

    /// Creates a pod, with as much as the cluster can do.
    pub(crate) async fn create_pod(
        &self,
        clients: &Clients,
        pod: Value,
    ) -> Result<Launched, ExecutorError> {
        let launcher = &self.launcher().await?.by(&clients.api);
        let init = Value::Object(self.settings.init_security.clone());
        let mut tried: Option<Abilities> = None;
        let elsewhere = pod["metadata"]["namespace"] != self.settings.namespace.as_str();
        let give_up = Instant::now() + if elsewhere { ACCOUNT } else { Duration::ZERO };
        loop {
            let abilities = launcher.abilities().current();
            let mut pod = pod.clone();
            adapt(&mut pod, abilities, &init);
            match launcher.create(&pod).await {
                // What was learned makes a difference only once.
                Ok(Launched::BuildAgain) if tried != Some(abilities) => tried = Some(abilities),
                Ok(Launched::Created(created)) => {
                    if self.settings.pod_disruption_budget {
                        launcher.protect(&budget(&pod, created.uid())).await;
                    }
                    return Ok(Launched::Created(created));
                }
                Ok(launched) => return Ok(launched),
                // A namespace that was only just made has no service account for some moments, and
                // roles for runners do not allow to watch for it.
                Err(error) if has_no_account_yet(&error) && Instant::now() < give_up => {
                    sleep(ACCOUNT_PAUSE).await;
                }
                Err(error) => {
                    self.capacity.refused(&error.to_string());
                    return Err(executor_error(error, "create the job's pod"));
                }
            }
        }
    }

    /// Makes a warm pod a job's: labels, annotations and deadline of the pod that the job would have.
    pub(crate) async fn assign_pod(&self, name: &str, pod: &Value) -> kube::Result<()> {
        let there = match self.hub().find(name) {
            Some(seen) => seen,
            None => Arc::new(self.pods().get(name).await?),
        };
        if there.has_job() {
            return Ok(());
        }
        let created = there.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let age = created.map_or(0, |created| Timestamp::now().duration_since(created).as_secs());
        // It counts from the pod's start.
        let deadline = pod["spec"]["activeDeadlineSeconds"].as_i64().unwrap_or(0) + age.max(0) + 60;
        let mut labels = pod["metadata"]["labels"].clone();
        labels[WARM_LABEL] = Value::Null;
        labels[MANAGER_LABEL] = Value::Null;
        let patch = json!({
            // Another pod of this name is another pod.
            "metadata": {
                "uid": there.uid(),
                "labels": labels,
                "annotations": pod["metadata"]["annotations"],
            },
            "spec": { "activeDeadlineSeconds": deadline },
        });
        match self.pods().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            // A deadline can only become shorter: an earlier try, whose answer was lost, set it.
            Err(error) if self.pods().get(name).await?.has_job() => {
                debug!(%error, "a repeated patch")
            }
            Err(error) => return Err(error),
        }
        if self.settings.pod_disruption_budget
            && let Some(launcher) = self.launcher.get()
        {
            let mut pod = pod.clone();
            pod["metadata"]["name"] = name.into();
            launcher.protect(&budget(&pod, there.uid())).await;
        }
        Ok(())
    }

    pub(crate) async fn delete_pod(
        &self,
        clients: &Clients,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> kube::Result<()> {
        match self.launcher.get() {
            Some(launcher) => launcher.by(&clients.api).delete(namespace, name, uid).await,
            None => {
                let known = KnownAbilities::of_version("1", "0");
                Launcher::new(clients.api.clone(), known, 1).delete(namespace, name, uid).await
            }
        }
    }
}

/// The admission of service accounts speaks.
fn has_no_account_yet(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.code == 403 && status.message.contains("error looking up service account"))
}

/// The jobs that have a handle in this process. A record of this manager whose job has none was
/// dropped by accident and may be adopted again.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldJobs(Arc<watch::Sender<BTreeMap<JobId, usize>>>);

/// Keeps a job in [`HeldJobs`].
#[derive(Debug)]
pub(crate) struct Held {
    jobs: HeldJobs,
    job: JobId,
}

impl HeldJobs {
    /// Holds a job, from before its record is written or claimed.
    pub(crate) fn hold(&self, job: JobId) -> Held {
        // Counted: a job that the source took back and gave out again has two handles for a moment.
        self.0.send_modify(|jobs| *jobs.entry(job).or_default() += 1);
        Held { jobs: self.clone(), job }
    }

    /// How many jobs there are.
    pub(crate) fn jobs(&self) -> usize {
        self.0.borrow().len()
    }

    /// How many handles a job has.
    pub(crate) fn count(&self, job: JobId) -> usize {
        self.0.borrow().get(&job).copied().unwrap_or_default()
    }

    pub(crate) fn contains(&self, job: JobId) -> bool {
        self.0.borrow().contains_key(&job)
    }

    /// The jobs with their numbers of handles, as they come and go.
    pub(crate) fn watch(&self) -> watch::Receiver<BTreeMap<JobId, usize>> {
        self.0.subscribe()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.jobs.0.send_modify(|jobs| {
            if let Some(count) = jobs.get_mut(&self.job) {
                *count -= 1;
                if *count == 0 {
                    jobs.remove(&self.job);
                }
            }
        });
    }
}
