//! GitLab's runner API, spoken to the stand-in, keeps what a job source and an artifact store promise.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use runner_core::artifact::ArtifactStore;
use runner_core::ids::JobId;
use runner_core::job::{Dependency, Job};
use runner_core::source::{JobSource, Ticket};
use runner_gitlab::{GitLabSettings, GitLabSource};
use runner_testkit::conformance::{self, Counter, Shelf, Shown, SourcePromise, StorePromise};
use runner_testkit::gitlab::{GitLab, JobRef, JobSpec, JobState};

struct StandIn {
    gitlab: GitLab,
    jobs: Mutex<Vec<JobRef>>,
}

impl StandIn {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A job whose hand-out was lost goes back into the queue soon.
        let gitlab = GitLab::builder().commit_deadline(Duration::from_millis(300));
        let gitlab = gitlab.long_poll(Duration::from_millis(200)).start().await.unwrap();
        Self { gitlab, jobs: Mutex::default() }
    }

    fn manager(&self) -> GitLabSource {
        let token = self.gitlab.runner_token();
        GitLabSource::new(GitLabSettings::new(self.gitlab.url(), token, "s_0123456789ab")).unwrap()
    }

    fn job(&self, id: JobId) -> JobRef {
        self.jobs.lock().iter().find(|job| job.id() == id.0).unwrap().clone()
    }
}

#[async_trait]
impl Counter for StandIn {
    async fn source(&self) -> Arc<dyn JobSource> {
        Arc::new(self.manager())
    }

    async fn enqueue(&self) -> JobId {
        let job = self.gitlab.enqueue(JobSpec::new("test").script(["true"]));
        let id = JobId(job.id());
        self.jobs.lock().push(job);
        id
    }

    async fn trace(&self, job: JobId) -> Vec<u8> {
        self.job(job).trace().to_vec()
    }

    async fn shown(&self, job: JobId) -> Shown {
        match self.job(job).state() {
            JobState::Success => Shown::Success,
            state if state.is_final() => Shown::NoSuccess,
            _ => Shown::Unfinished,
        }
    }

    async fn cancel(&self, job: JobId) -> bool {
        self.job(job).cancel();
        true
    }
}

#[async_trait]
impl Shelf for StandIn {
    async fn store(&self) -> Arc<dyn ArtifactStore> {
        Arc::new(self.manager())
    }

    async fn job(&self) -> (Job, Ticket) {
        let id = self.enqueue().await;
        let source = self.manager();
        loop {
            if let Some(offer) = source.poll().await.unwrap().offer {
                assert_eq!(offer.job.id, id);
                source.accept(&offer.ticket).await.unwrap();
                return (offer.job, offer.ticket);
            }
        }
    }

    async fn dependency(&self, job: &Job, size: u64) -> Dependency {
        Dependency {
            id: job.id,
            name: job.name.clone(),
            token: StandIn::job(self, job.id).token().into(),
            filename: "artifacts.zip".to_owned(),
            size,
        }
    }
}

#[tokio::test]
async fn gitlab_keeps_what_a_source_promises() {
    let report = conformance::source(&StandIn::start().await).await;
    report.assert_kept();
    for promise in SourcePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

#[tokio::test]
async fn gitlab_keeps_what_an_artifact_store_promises() {
    let report = conformance::artifact_store(&StandIn::start().await).await;
    report.assert_kept();
    for promise in StorePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}
