//! Keeps warm pods ready: all I/O of the pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::select_all;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use runner_core::causes::causes;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::pool::{Deed, Idle, Look, Pool};
use super::shape::Shape;
use crate::classify::sight;
use crate::job::{Launched, Shared};
use crate::names::{
    MANAGED_LABEL, MANAGER_LABEL, SOURCE_LABEL, WARM_LABEL, manager_hash, source_hash,
    unique_suffix,
};
use crate::watch::{PodSight, PodWatch};

/// How much longer an agent waits for its job than its manager keeps the pod: then nobody is there
/// any more.
const AGENT_WAITS_ON: Duration = Duration::from_secs(300);

/// The warm pods of a manager.
#[derive(Debug)]
pub(crate) struct WarmPool {
    pool: Mutex<Pool>,
    changed: Notify,
    closing: AtomicBool,
    /// The pod that is being made, by name and, once it is there, uid: its keeper may be aborted
    /// before the pool knows of it.
    making: Mutex<Option<(String, Option<String>)>>,
    max_age: Duration,
}

impl WarmPool {
    pub(crate) fn new(pool: Pool, max_age: Duration) -> Self {
        Self {
            pool: Mutex::new(pool),
            changed: Notify::new(),
            closing: AtomicBool::new(false),
            making: Mutex::default(),
            max_age,
        }
    }

    /// A job wants a pod of this shape.
    pub(crate) fn wanted(&self, shape: &Shape) {
        self.pool.lock().wanted(shape);
        self.changed.notify_one();
    }

    /// A ready pod of this shape, for good: from now on it is the caller's.
    pub(crate) fn take(&self, hash: &str) -> Option<Idle> {
        let taken = self.pool.lock().take(hash);
        if taken.is_some() {
            self.changed.notify_one();
        }
        taken
    }

    /// [`keep`](Self::keep) ends after what it does now.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Until it is closed or aborted, or the executor is gone.
    pub(crate) async fn keep(self: Arc<Self>, shared: Weak<Shared>) {
        let mut watches: Vec<(String, PodWatch)> = Vec::new();
        loop {
            let now = Instant::now();
            let mut wake = {
                // Not held while waiting: the executor owns this task.
                let Some(shared) = shared.upgrade() else { return };
                if !self.step(&shared, &mut watches).await || self.is_closing() {
                    return;
                }
                self.pool.lock().deeds(Instant::now(), Timestamp::now()).1
            };
            if self.pool.lock().varies() {
                let minute = now + Duration::from_secs(60);
                wake = Some(wake.map_or(minute, |wake| wake.min(minute)));
            }
            let wake = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            let news = async {
                if watches.is_empty() {
                    return std::future::pending().await;
                }
                let changes = watches.iter_mut().map(|(_, watch)| Box::pin(watch.changed()));
                drop(select_all(changes).await);
            };
            tokio::select! {
                () = wake => {}
                () = news => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Looks at all pods and does what is to be done. `false`: the role does not allow it.
    async fn step(&self, shared: &Shared, watches: &mut Vec<(String, PodWatch)>) -> bool {
        watches.retain_mut(|(uid, watch)| {
            let look = look(&watch.borrow_and_update());
            self.pool.lock().looks(uid, look);
            look != Look::Bad
        });
        let known = self.pool.lock().pods();
        watches.retain(|(uid, _)| known.iter().any(|pod| pod.uid == *uid));
        let deeds = self.pool.lock().deeds(Instant::now(), Timestamp::now()).0;
        for deed in deeds {
            if self.is_closing() {
                break;
            }
            match deed {
                Deed::Delete(pod) => delete(shared, &pod).await,
                Deed::Create(brood, shape) => match self.create(shared, &shape).await {
                    Ok(pod) => {
                        watches.push((pod.uid.clone(), shared.hub().follow(&pod.uid)));
                        let hash = shape.hash.clone();
                        self.pool.lock().created(brood, hash, pod, Instant::now());
                        *self.making.lock() = None;
                    }
                    Err(Trouble::Forbidden) => return false,
                    Err(Trouble::Other) => {
                        self.pool.lock().not_created(brood, Instant::now());
                    }
                },
            }
        }
        true
    }

    async fn create(&self, shared: &Shared, shape: &Shape) -> Result<Idle, Trouble> {
        let waits = self.max_age + AGENT_WAITS_ON;
        let pod = warm_pod(shared, shape, waits);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        *self.making.lock() = Some((name, None));
        let made = self.make(shared, shape, pod).await;
        if made.is_err() {
            *self.making.lock() = None;
        }
        made
    }

    async fn make(&self, shared: &Shared, shape: &Shape, pod: Value) -> Result<Idle, Trouble> {
        let created = match shared.create_pod(&shared.clients, pod).await {
            Ok(Launched::Created(created)) => created,
            Ok(Launched::BuildAgain) => return Err(Trouble::Other),
            Err(error) => {
                warn!(image = shape.image, error = causes(&error), "a warm pod could not be made");
                return Err(Trouble::Other);
            }
        };
        let pod = Idle { name: created.name().to_owned(), uid: created.uid().to_owned() };
        *self.making.lock() = Some((pod.name.clone(), Some(pod.uid.clone())));
        // A pod that cannot be given a job's labels must not get a job: its heirs would take it for one
        // without.
        let patch = json!({ "metadata": { "annotations": { SHAPE: shape.hash } } });
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        match shared.pods().patch(&pod.name, &parameters, &patch).await {
            Ok(_) => Ok(pod),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                warn!("warm_pods has no effect: the role does not allow patch on pods");
                delete(shared, &pod).await;
                Err(Trouble::Forbidden)
            }
            Err(error) => {
                warn!(pod = pod.name, error = causes(&error), "a warm pod could not be made");
                delete(shared, &pod).await;
                Err(Trouble::Other)
            }
        }
    }

    /// Takes all pods away that have no job.
    pub(crate) async fn remove(&self, shared: &Shared) {
        let pods = self.pool.lock().pods();
        let making = self.making.lock().take();
        if let Some((name, uid)) = making {
            let namespace = &shared.settings.namespace;
            if let Err(error) =
                shared.delete_pod(&shared.clients, namespace, &name, uid.as_deref()).await
            {
                warn!(pod = name, error = causes(&error), "a warm pod could not be deleted");
            }
        }
        for pod in pods {
            delete(shared, &pod).await;
        }
    }
}

/// Annotation: what the pod can stand in for.
const SHAPE: &str = "podwright.dev/shape";

enum Trouble {
    Forbidden,
    Other,
}

/// Deletes a pod that has no job.
pub(crate) async fn delete(shared: &Shared, pod: &Idle) {
    info!(pod = pod.name, "a warm pod goes");
    if let Err(error) = shared
        .delete_pod(&shared.clients, &shared.settings.namespace, &pod.name, Some(&pod.uid))
        .await
    {
        // Its agent ends by itself, and the next manager sweeps.
        warn!(pod = pod.name, error = causes(&error), "a warm pod could not be deleted");
    }
}

fn look(sight: &PodSight) -> Look {
    match sight {
        PodSight::Unseen => Look::Starting,
        PodSight::Gone(_) => Look::Bad,
        PodSight::Seen(pod) => {
            let seen = self::sight(pod);
            let build_runs =
                pod.container(crate::pod::BUILD).is_some_and(|c| c.state.running.is_some());
            match () {
                () if seen.end.is_some() || seen.helper_over => Look::Bad,
                () if seen.all_started && seen.reachable && build_runs => Look::Ready,
                () if seen.all_started => Look::Bad,
                () => Look::Starting,
            }
        }
    }
}

fn warm_pod(shared: &Shared, shape: &Shape, waits: Duration) -> Value {
    let (settings, runner) = (&shared.settings, &shared.runner);
    let fixed = |map: &std::collections::BTreeMap<String, String>| -> serde_json::Map<_, _> {
        // What depends on a job comes with the job.
        let fixed = map.iter().filter(|(_, value)| !value.contains('$'));
        fixed.map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
    };
    let mut labels = fixed(&settings.pod_labels);
    for (key, value) in [
        (MANAGED_LABEL, "podwright".to_owned()),
        (SOURCE_LABEL, source_hash(&runner.source)),
        (MANAGER_LABEL, manager_hash(&runner.manager)),
        (WARM_LABEL, "ready".to_owned()),
    ] {
        labels.insert(key.to_owned(), value.into());
    }
    let name = format!("podwright-{}-warm-{}", source_hash(&runner.source), unique_suffix());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": fixed(&settings.pod_annotations),
        },
        "spec": shape.spec(waits.as_secs()),
    })
}
