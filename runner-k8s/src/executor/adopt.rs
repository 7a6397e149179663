//! Jobs that were left behind: which there are, what became of their pods, and taking them over.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use runner_core::executor::{ExecutorError, ExecutorErrorKind, JobHandle};
use runner_core::ids::JobId;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{FIRST_LIST, KubernetesExecutor};
use crate::announce::News;
use crate::classify::executor_error;
use crate::job::{Access, KubernetesJob};
use crate::names::{JOB_LABEL, SOURCE_LABEL, manager_hash, source_hash};
use crate::presence::{HEIR_PATIENCE, View};
use crate::record::{ClaimError, Found, RecordPhase};
use crate::watch::{PodSight, PodView};

impl KubernetesExecutor {
    /// The records that nobody looks after, and all jobs that have one.
    pub(super) async fn left_behind(
        &self,
        view: &View,
    ) -> kube::Result<(Vec<String>, BTreeSet<JobId>)> {
        let me = manager_hash(&self.shared.runner.manager);
        let living = match view {
            View::Seen(living) => living.hashes(),
            View::Blind | View::Unknown => std::iter::once(me.clone()).collect(),
        };
        let held = &self.shared.held;
        let mut recorded = BTreeSet::new();
        let names = self
            .shared
            .store
            .find(|job, manager| {
                recorded.insert(job);
                match manager == me {
                    true => !held.contains(job),
                    false => !living.contains(manager),
                }
            })
            .await?;
        Ok((names, recorded))
    }

    pub(super) async fn claim_all(
        &self,
        names: Vec<String>,
    ) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut handles: Vec<Box<dyn JobHandle>> = Vec::new();
        for name in names {
            match self.claim(&name).await {
                Ok(Some(handle)) => handles.push(handle),
                // Somebody else was faster, and has it now.
                Ok(None) => {}
                Err(error) if handles.is_empty() => return Err(error),
                Err(error) => {
                    // What has been claimed must be followed; the rest comes with the next look.
                    warn!(record = name, %error, "could not claim a job that was left behind");
                    self.estate.lock().look_again_at(Instant::now() + HEIR_PATIENCE);
                    break;
                }
            }
        }
        Ok(handles)
    }

    async fn claim(&self, name: &str) -> Result<Option<Box<dyn JobHandle>>, ExecutorError> {
        let shared = &self.shared;
        let found = shared.store.get(name).await;
        let found = found.map_err(|error| executor_error(error, "read a job record"))?;
        let Some(mut record) = found else { return Ok(None) };
        let job = record.body.job;
        let token = record.token();
        let mut access = shared.access(token.as_ref()).await?;
        let mut pod = self.what_became_of(&record, &access).await;
        if token.is_some() && pod.is_err() {
            warn!(%job, "the job's own token does not lead to its pod any more; trying the runner's");
            access = shared.access(None).await?;
            pod = self.what_became_of(&record, &access).await;
        }
        let mut pod = match pod {
            Ok(pod) => pod,
            // Only this job's trouble: it must not keep others from being looked after.
            Err(error) if token.is_some() => {
                warn!(%job, %error, "a job with a token of its own could not be looked at");
                self.estate.lock().look_again_at(Instant::now() + HEIR_PATIENCE);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let held = shared.held.hold(job);
        let mut lost = None;
        if pod.is_none() && record.body.promised.is_some() {
            match record.pod() {
                Some(own) => {
                    lost = Some(record.body.pod.clone());
                    info!(%job, pod = record.body.pod, "a warm pod went before it had its job; the job gets another");
                    record.body.returns_to(&own);
                }
                // Nothing can be started any more.
                None => pod = Some(PodSight::Gone(None)),
            }
        }
        // A pod of which nobody knows whether it ever was is no sign that the source was told of the
        // job: it has to be told before anything else, or it listens to nothing that is said of it.
        let started = pod.as_ref().is_some_and(PodSight::was);
        match shared.store.claim(record, started, &shared.runner.manager).await {
            Ok(claimed) => {
                info!(%job, record = claimed.name(), "took over a job that was left behind");
                if let Some(lost) = lost
                    && let Err(error) = shared
                        .delete_pod(&access.clients, &shared.settings.namespace, &lost, None)
                        .await
                {
                    // It goes with what else its manager left.
                    debug!(%error, pod = lost, "what is left of a warm pod could not be deleted");
                }
                if let Some(PodSight::Seen(pod)) = &pod {
                    let namespace = pod.metadata.namespace.as_deref();
                    let namespace = namespace.unwrap_or(&shared.settings.namespace);
                    shared.announcer.say(namespace, pod.name(), pod.uid(), &News::Adopted);
                }
                Ok(Some(Box::new(KubernetesJob::new(
                    Arc::clone(shared),
                    access,
                    held,
                    claimed,
                    pod,
                ))))
            }
            Err(ClaimError::Taken(_)) => Ok(None),
            Err(error) => Err(error.into_executor_error("claim a job that was left behind")),
        }
    }

    /// The pod of a record; `None`: it was never created, or it was a warm one that never had the job.
    ///
    /// A record does not say that the pod was created, which would be a request more for each job.
    /// So a pod that is not there was either deleted by someone or never made. What happened to pods
    /// since the record was written tells: Kubernetes repeats it for some minutes. After that it is
    /// taken for deleted, because a job must never run twice.
    async fn what_became_of(
        &self,
        record: &Found,
        access: &Access,
    ) -> Result<Option<PodSight>, ExecutorError> {
        let place = record.body.place.as_ref();
        let hub = self.shared.hub_at(place, access);
        if tokio::time::timeout(FIRST_LIST, hub.synced()).await.is_err() {
            return Err(ExecutorError::new(
                ExecutorErrorKind::Unavailable,
                "could not list the pods of jobs that may have been left behind",
            ));
        }
        let went_idle = |pod: &PodView| record.body.promised.is_some() && pod.ended_without_job();
        if let Some(pod) = hub.find(&record.body.pod) {
            return Ok((!went_idle(&pod)).then_some(PodSight::Seen(pod)));
        }
        // The watch may be behind, e.g. because it was cut off while the pod was made: what it does
        // not have is not gone.
        let namespace = self.shared.namespace(place);
        let there = access.pods(namespace).get_opt(&record.body.pod).await;
        let there = there.map_err(|error| executor_error(error, "ask for a job's pod"))?;
        let number = record.body.job.to_string();
        let is_its = |pod: &PodView| {
            let labels = pod.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(JOB_LABEL)) == Some(&number)
        };
        if let Some(mut pod) = there.filter(is_its) {
            pod.strip();
            return Ok(Some(PodSight::Seen(Arc::new(pod))));
        }
        let since = match record.body.phase {
            RecordPhase::Reserved => record.before_pod(),
            // A warm pod becomes the job's after this was written, and has the job after that.
            RecordPhase::Started => record.body.promised.as_deref(),
        };
        let Some(version) = since else {
            return Ok(Some(PodSight::Gone(None)));
        };
        // Another source may have a job of the same number.
        let source = source_hash(&record.body.source);
        let selector = format!("{SOURCE_LABEL}={source},{JOB_LABEL}={}", record.body.job);
        let parameters = WatchParams::default().labels(&selector).timeout(1).disable_bookmarks();
        let failed = |error| executor_error(error, "ask what became of a pod");
        let pods = access.pods(namespace);
        let events = pods.watch(&parameters, version).await;
        let mut events = match events {
            Ok(events) => events.boxed(),
            Err(kube::Error::Api(status)) if status.code == 410 => {
                return Ok(Some(PodSight::Gone(None)));
            }
            Err(error) => return Err(failed(error)),
        };
        // A warm pod that never had the job has its labels too, under another name.
        let is_meant = |pod: &PodView| pod.name() == record.body.pod;
        let mut last = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) if is_meant(&pod) => {
                    last = Some(pod);
                }
                Ok(WatchEvent::Deleted(pod)) if is_meant(&pod) => {
                    return Ok(Some(PodSight::Gone(Some(Arc::new(pod)))));
                }
                Ok(
                    WatchEvent::Bookmark(_)
                    | WatchEvent::Added(_)
                    | WatchEvent::Modified(_)
                    | WatchEvent::Deleted(_),
                ) => {}
                // Too long ago to be told.
                Ok(WatchEvent::Error(status)) if status.code == 410 => {
                    return Ok(Some(PodSight::Gone(None)));
                }
                // Among others 504, "too large resource version": the server's view of pods is older
                // than the record, for some seconds.
                Ok(WatchEvent::Error(status)) => return Err(failed(kube::Error::Api(status))),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(last.map(|pod| PodSight::Seen(Arc::new(pod))))
    }
}
