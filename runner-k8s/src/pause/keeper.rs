//! Keeps as many pause pods as the policies want.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use runner_core::causes::causes;
use runner_core::ids::JobId;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::deployment::{HEARTBEAT, PAUSE_LABEL, deployment, name, priority_class};
use super::numbers::PauseNumbers;
use super::scale::Scaler;
use crate::names::{MANAGER_LABEL, RunnerIdentity, SOURCE_LABEL, source_hash};
use crate::presence::Living;
use crate::settings::{Autoscaler, DEFAULT_PAUSE_CLASS, KubernetesSettings};

/// How often the Deployment is looked at, and says that somebody does.
const BEAT: Duration = Duration::from_secs(60);
/// Pause after a change: jobs that begin together are one change.
const BREATH: Duration = Duration::from_secs(1);
/// Pause after a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// The pause pods of a manager.
#[derive(Clone)]
pub(crate) struct PausePods {
    pub(crate) client: Client,
    pub(crate) settings: Arc<KubernetesSettings>,
    pub(crate) autoscaler: Autoscaler,
    pub(crate) runner: RunnerIdentity,
    pub(crate) numbers: PauseNumbers,
}

impl PausePods {
    /// Until it is aborted. `jobs`: how many this manager has. GitLab Runner counts workers that only
    /// ask for jobs, too (better).
    pub(crate) async fn keep(self, mut jobs: watch::Receiver<BTreeMap<JobId, usize>>) {
        let mut scaler = Scaler::new(self.autoscaler.clone());
        let (mut applied, mut beat) = (None, Instant::now());
        let mut not_before = Instant::now();
        if self.autoscaler.priority_class == DEFAULT_PAUSE_CLASS {
            self.ensure_class().await;
        }
        loop {
            let (now, time) = (Instant::now(), Timestamp::now());
            let decision = scaler.decide(now, time, jobs.borrow_and_update().len());
            self.numbers.wanted(decision.replicas);
            let wanted = Some(decision.replicas);
            // Nothing was made, and nothing is wanted.
            let idle = applied.is_none() && decision.replicas == 0;
            let due = !idle && (applied != wanted || beat <= now);
            if due && not_before <= now {
                match self.apply(decision.replicas).await {
                    Ok(()) => {
                        self.numbers.applied(applied, decision.replicas);
                        (applied, beat) = (wanted, now + BEAT);
                        not_before = now + BREATH;
                    }
                    Err(error) => {
                        warn!(
                            runner = self.runner.name,
                            error = causes(&error),
                            "the Deployment of pause pods could not be written"
                        );
                        not_before = now + AGAIN;
                    }
                }
            }
            let mut wake = beat.max(now + BREATH);
            if applied != wanted && !idle {
                wake = wake.min(not_before.max(now + BREATH));
            }
            wake = decision.again.map_or(wake, |again| wake.min(again));
            if scaler.varies() {
                wake = wake.min(now + to_next_minute(time));
            }
            tokio::select! {
                () = sleep_until(wake) => {}
                changed = jobs.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    fn url(&self, name: &str) -> String {
        let namespace = &self.settings.namespace;
        format!("/apis/apps/v1/namespaces/{namespace}/deployments{name}")
    }

    async fn apply(&self, replicas: u32) -> kube::Result<()> {
        let heartbeat = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Self { settings, autoscaler, runner, .. } = self;
        let fresh = deployment(settings, autoscaler, runner, replicas, &heartbeat);
        let one = self.url(&format!("/{}", name(runner)));
        let there = request(&self.client, "GET", &one, None).await;
        let there = there.inspect_err(|error| {
            if !is(error, 404) {
                self.numbers.failed("get_deployment");
            }
        });
        let written = match there {
            Ok(mut there) => {
                // What others have added stays.
                there["spec"]["replicas"] = replicas.into();
                there["spec"]["template"] = fresh["spec"]["template"].clone();
                there["metadata"]["annotations"][HEARTBEAT] = heartbeat.into();
                request(&self.client, "PUT", &one, Some(&there)).await
            }
            Err(error) if is(&error, 404) => {
                request(&self.client, "POST", &self.url(""), Some(&fresh)).await
            }
            Err(error) => return Err(error),
        };
        written.map(drop).inspect_err(|_| self.numbers.failed("apply_state"))
    }

    async fn ensure_class(&self) {
        let name = &self.autoscaler.priority_class;
        let all = "/apis/scheduling.k8s.io/v1/priorityclasses";
        let there = request(&self.client, "GET", &format!("{all}/{name}"), None).await;
        let made = match there {
            Err(error) if is(&error, 404) => {
                request(&self.client, "POST", all, Some(&priority_class(name))).await
            }
            other => other,
        };
        match made {
            Ok(_) => {}
            Err(error) if is(&error, 409) => {}
            Err(error) => warn!(
                name,
                error = causes(&error),
                "the priority class of pause pods could not be made sure of; without it there are none"
            ),
        }
    }

    /// Takes the own Deployment away.
    pub(crate) async fn remove(&self) {
        self.delete(&name(&self.runner)).await;
    }

    /// Takes away what managers that do not live any more have left. GitLab Runner looks at its start
    /// only, for what is an hour old.
    pub(crate) async fn sweep(&self, living: &Living) {
        let source = source_hash(&self.runner.source);
        let url =
            self.url(&format!("?labelSelector={PAUSE_LABEL}%3Dtrue,{SOURCE_LABEL}%3D{source}"));
        let list = match request(&self.client, "GET", &url, None).await {
            Ok(list) => list,
            Err(error) => return debug!(%error, "Deployments of pause pods cannot be listed"),
        };
        let living = living.hashes();
        for item in list["items"].as_array().into_iter().flatten() {
            let metadata = &item["metadata"];
            let owner = metadata["labels"][MANAGER_LABEL].as_str().unwrap_or_default();
            if !living.contains(owner) {
                self.delete(metadata["name"].as_str().unwrap_or_default()).await;
            }
        }
    }

    async fn delete(&self, name: &str) {
        let url = self.url(&format!("/{name}?propagationPolicy=Background"));
        match request(&self.client, "DELETE", &url, None).await {
            Ok(_) => {}
            Err(error) if is(&error, 404) => {}
            Err(error) => {
                warn!(name, error = causes(&error), "the Deployment of pause pods was not deleted")
            }
        }
    }
}

fn to_next_minute(time: Timestamp) -> Duration {
    let past = time.as_second().rem_euclid(60);
    let left = SignedDuration::from_secs(60 - past);
    // Between 1 and 60 s.
    Duration::try_from(left).unwrap_or(BEAT)
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

async fn request(
    client: &Client,
    method: &str,
    url: &str,
    body: Option<&Value>,
) -> kube::Result<Value> {
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}
