//! Creates and deletes pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use runner_core::causes::causes;
use serde_json::Value;
use tracing::{info, warn};

use crate::classify::{ApiErrorKind, api_error};
use crate::names::JOB_LABEL;
use crate::pod::{Abilities, AgentDelivery};
use crate::watch::PodView;

/// What the cluster turned out to be able to do. Found out once, remembered for all jobs.
#[derive(Clone, Debug)]
pub(crate) struct KnownAbilities(Arc<Flags>);

#[derive(Debug)]
struct Flags {
    image_volumes: AtomicBool,
    restart_rules: AtomicBool,
}

impl KnownAbilities {
    /// What a server of this version (`1.36`) should be able to do.
    pub(crate) fn of_version(major: &str, minor: &str) -> Self {
        let abilities = Abilities::of_version(major, minor);
        Self(Arc::new(Flags {
            image_volumes: AtomicBool::new(abilities.agent == AgentDelivery::ImageVolume),
            restart_rules: AtomicBool::new(abilities.restart_rules),
        }))
    }

    /// What is known by now.
    pub(crate) fn current(&self) -> Abilities {
        let agent = match self.0.image_volumes.load(Ordering::Relaxed) {
            true => AgentDelivery::ImageVolume,
            false => AgentDelivery::InitContainer,
        };
        Abilities { agent, restart_rules: self.0.restart_rules.load(Ordering::Relaxed) }
    }

    /// Learns from a refusal. Whether there is something to do differently.
    fn learn(&self, message: &str) -> bool {
        let rules = message.contains("restartPolicy") || message.contains("restartPolicyRules");
        let volumes = message.contains(".image") && message.contains("volumes");
        (rules && self.0.restart_rules.swap(false, Ordering::Relaxed))
            | (volumes && self.0.image_volumes.swap(false, Ordering::Relaxed))
    }

    /// Learns from the pod that the server made of ours: a server that does not know a field drops
    /// it, and an image volume without its image becomes an empty directory *(seen on 1.36.2)*.
    fn learn_from(&self, created: &PodView) -> bool {
        let dropped = |volume: &crate::watch::VolumeSpec| {
            volume.name == "podwright-agent" && volume.image.is_none()
        };
        let lost = created.spec.volumes.iter().any(dropped);
        lost && self.0.image_volumes.swap(false, Ordering::Relaxed)
    }
}

/// Pods.
#[derive(Clone)]
pub(crate) struct Launcher {
    client: Client,
    abilities: KnownAbilities,
    grace: u32,
}

/// What became of a pod that was to be created.
#[derive(Debug)]
pub(crate) enum Launched {
    /// It is there, perhaps from an earlier try.
    Created(Box<PodView>),
    /// The cluster cannot do what the pod needs; it has to be built again.
    BuildAgain,
}

impl Launcher {
    /// `grace`: seconds that a deleted pod gets.
    pub(crate) fn new(client: Client, abilities: KnownAbilities, grace: u32) -> Self {
        Self { client, abilities, grace }
    }

    /// The same as somebody else.
    pub(crate) fn by(&self, client: &Client) -> Self {
        Self { client: client.clone(), ..self.clone() }
    }

    fn api(&self, namespace: &str) -> Api<PodView> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What is known about the cluster.
    pub(crate) fn abilities(&self) -> &KnownAbilities {
        &self.abilities
    }

    /// Creates a pod. Doing it twice is harmless: its name follows from the job.
    ///
    /// # Errors
    /// When the API server does not.
    pub(crate) async fn create(&self, pod: &Value) -> Result<Launched, kube::Error> {
        let body = Bytes::from(pod.to_string());
        let asked_for_image = pod["spec"]["volumes"]
            .as_array()
            .is_some_and(|all| all.iter().any(|volume| volume.get("image").is_some()));
        let (client, namespace) = (&self.client, pod["metadata"]["namespace"].as_str());
        let api = self.api(namespace.unwrap_or_default());
        let request = kube::core::Request::new(api.resource_url())
            .create(&PostParams::default(), body.to_vec())
            .map_err(kube::Error::BuildRequest)?;
        let created: PodView = match client.request(request).await {
            Ok(created) => created,
            Err(error) => match (api_error(&error).0, &error) {
                (ApiErrorKind::Invalid, kube::Error::Api(status))
                    if self.abilities.learn(&status.message) =>
                {
                    warn!(message = status.message, "the cluster cannot do this; doing without");
                    return Ok(Launched::BuildAgain);
                }
                // An answer may have been lost, and an earlier manager may have been here before a
                // policy or a quota forbade it: what is there runs, and its verdict counts.
                (_, kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    let Ok(Some(there)) = api.get_opt(name).await else { return Err(error) };
                    let label = pod["metadata"]["labels"][JOB_LABEL].as_str();
                    let known = there.metadata.labels.as_ref().and_then(|all| all.get(JOB_LABEL));
                    if known.map(String::as_str) != label {
                        return Err(error);
                    }
                    info!(pod = name, "the job's pod is already there");
                    return Ok(Launched::Created(Box::new(there)));
                }
                _ => return Err(error),
            },
        };
        if asked_for_image && self.abilities.learn_from(&created) {
            warn!("the cluster has no image volumes; the agent is copied by an init container");
            let namespace = namespace.unwrap_or_default();
            self.delete(namespace, created.name(), Some(created.uid())).await?;
            return Ok(Launched::BuildAgain);
        }
        Ok(Launched::Created(Box::new(created)))
    }

    /// Creates the budget that keeps a pod from being evicted. The job goes on without: a warning to
    /// the operator, whose role most likely lacks the right.
    pub(crate) async fn protect(&self, budget: &Value) {
        let namespace = budget["metadata"]["namespace"].as_str().unwrap_or_default();
        let url = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
        let request = http::Request::post(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(budget.to_string().into_bytes());
        let made = match request {
            Ok(request) => self.client.request::<Value>(request).await.map(drop),
            Err(error) => Err(kube::Error::HttpError(error)),
        };
        match made {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let name = budget["metadata"]["name"].as_str().unwrap_or_default();
                warn!(
                    name,
                    error = causes(&error),
                    "the pod can be evicted: no PodDisruptionBudget"
                );
            }
        }
    }

    /// Deletes a pod; nothing left is no error.
    ///
    /// # Errors
    /// When the API server does not.
    pub(crate) async fn delete(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Result<(), kube::Error> {
        let mut parameters = DeleteParams::default().grace_period(self.grace);
        if let Some(uid) = uid.filter(|uid| !uid.is_empty()) {
            parameters = parameters.preconditions(kube::api::Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            });
        }
        let url = format!("{}/{name}", self.api(namespace).resource_url());
        let body = serde_json::to_vec(&parameters).map_err(kube::Error::SerdeError)?;
        let request = http::Request::delete(url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(kube::Error::HttpError)?;
        match self.client.request::<serde_json::Value>(request).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            // A pod of this name with another uid: ours is gone. Or somebody changed it meanwhile, and
            // it has to be deleted again.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                match self.api(namespace).get_opt(name).await? {
                    Some(there) if uid.is_none_or(|uid| uid.is_empty() || uid == there.uid()) => {
                        Err(kube::Error::Api(status))
                    }
                    _ => Ok(()),
                }
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KnownAbilities;
    use crate::pod::AgentDelivery::{ImageVolume, InitContainer};

    #[test]
    fn abilities_follow_from_the_version_and_from_refusals() {
        assert_eq!(KnownAbilities::of_version("1", "36").current().agent, ImageVolume);
        assert_eq!(KnownAbilities::of_version("1", "34+").current().agent, InitContainer);
        assert!(KnownAbilities::of_version("1", "35-gke.1").current().restart_rules);
        assert_eq!(KnownAbilities::of_version("1", "x").current().agent, InitContainer);

        let known = KnownAbilities::of_version("1", "36");
        assert!(known.learn("spec.containers[0].restartPolicyRules: Forbidden"));
        assert!(!known.current().restart_rules);
        assert!(!known.learn("spec.containers[0].restartPolicyRules: Forbidden"), "only once");
        assert!(!known.learn("spec.containers[0].image: Required value"));
    }
}
