//! Kubernetes events on a job's pod, for those who look at the cluster and not at GitLab.
//!
//! What is unusual is said by default: a job was taken over, stopped, or did not succeed. Each event
//! is a request, so what is usual (that it runs, that it succeeded) is said only where asked for. A
//! role that does not allow it is found out once, and nothing is said from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use runner_core::executor::Stop;
use runner_core::outcome::Outcome;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Events on their way at once; more are dropped: they are a courtesy.
const AT_ONCE: usize = 32;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest message of an event, the API server's limit.
const LONGEST: usize = 1024;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The job's own program speaks.
    Running,
    /// Another manager had it.
    Adopted,
    /// It was stopped.
    Stopped(Stop),
    /// It is over.
    Ended(Outcome),
}

impl News {
    fn is_usual(&self) -> bool {
        matches!(self, Self::Running | Self::Ended(Outcome::Exited(0)))
    }

    /// Type, reason and message.
    fn words(&self, manager: &str) -> (&'static str, &'static str, String) {
        match self {
            Self::Running => ("Normal", "JobRunning", format!("the job runs; manager {manager}")),
            Self::Adopted => {
                ("Normal", "JobAdopted", format!("manager {manager} has taken the job over"))
            }
            Self::Stopped(Stop::Cancel) => {
                ("Normal", "JobCancelled", "the job is to stop; after_script still runs".to_owned())
            }
            Self::Stopped(Stop::Abort) => {
                ("Warning", "JobAborted", "the job is stopped at once".to_owned())
            }
            Self::Ended(Outcome::Exited(0)) => {
                ("Normal", "JobSucceeded", "the job has succeeded".to_owned())
            }
            Self::Ended(Outcome::Infra(infra)) => {
                ("Warning", "JobFailed", format!("the job could not be run: {infra}"))
            }
            Self::Ended(outcome) => {
                ("Warning", "JobFailed", format!("the job has not succeeded: {outcome:?}"))
            }
        }
    }
}

/// Says news.
#[derive(Clone)]
pub(crate) struct Announcer {
    client: Client,
    manager: String,
    /// Also what is usual.
    all: bool,
    refused: Arc<AtomicBool>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Announcer {
    pub(crate) fn new(client: Client, manager: &str, all: bool) -> Self {
        Self {
            client,
            manager: manager.to_owned(),
            all,
            refused: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    /// Says something about a pod. Never waits, and never fails.
    pub(crate) fn say(&self, namespace: &str, pod: &str, uid: &str, news: &News) {
        if (news.is_usual() && !self.all) || uid.is_empty() || self.refused.load(Ordering::Relaxed)
        {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let event = self.event(namespace, pod, uid, news);
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let refused = Arc::clone(&self.refused);
        self.tasks.spawn(async move {
            let _place = place;
            match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                    debug!("the role does not allow events; none are made");
                    refused.store(true, Ordering::Relaxed);
                }
                Ok(Err(error)) => debug!(%error, "an event could not be made"),
                Ok(Ok(_)) | Err(_) => {}
            }
        });
    }

    fn event(&self, namespace: &str, pod: &str, uid: &str, news: &News) -> Event {
        let (kind, reason, mut message) = news.words(&self.manager);
        message.truncate(message.floor_char_boundary(LONGEST));
        let now = Timestamp::now();
        // As client-go names them.
        let name = format!("{pod}.{:x}", now.as_nanosecond());
        let now = Time(now);
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.to_owned()),
                namespace: Some(namespace.to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            },
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some("podwright".to_owned()), host: None }),
            reporting_component: Some("podwright".to_owned()),
            reporting_instance: Some(self.manager.clone()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use runner_core::executor::Stop;
    use runner_core::outcome::{Infra, InfraKind, Outcome};

    use super::News;

    #[test]
    fn what_is_usual_is_not_worth_a_request() {
        assert!(News::Running.is_usual() && News::Ended(Outcome::Exited(0)).is_usual());
        let evicted = Outcome::Infra(Infra::new(InfraKind::System, "evicted"));
        for news in [News::Adopted, News::Stopped(Stop::Cancel), News::Ended(evicted)] {
            assert!(!news.is_usual(), "{news:?}");
            assert!(!news.words("m").2.is_empty());
        }
    }
}
