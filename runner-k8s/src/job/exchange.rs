//! Another pod in the place of a job's: with the next pull policy, or for a warm one that went.

use runner_core::outcome::InfraKind;
use serde_json::Value;
use tokio::time::Instant;
use tracing::info;

use super::actor::{Actor, UNSEEN};
use super::door::Whereabouts;
use super::launch::Launched;
use super::listen::Listeners;
use crate::classify::{End, executor_error};
use crate::pod::with_policy;
use crate::record::{RecordBody, RecordPhase};

impl Actor {
    /// Replaces the pod by one with another pull policy.
    pub(super) async fn relaunch(
        &mut self,
        container: &str,
        policy: Option<&str>,
    ) -> Result<(), End> {
        info!(pod = self.pod, container, policy, "an image could not be pulled; trying again");
        let name = next_name(&self.pod);
        self.exchange(|pod, body| {
            body.fallbacks.next(container);
            with_policy(pod, &name, container, policy);
        })
        .await
    }

    /// Replaces a warm pod by the job's own, which is written down in any case.
    pub(super) async fn replace(&mut self) -> Result<(), End> {
        info!(pod = self.pod, "a warm pod went before it had its job; the job gets its own");
        self.exchange(|_, body| body.warm = None).await
    }

    /// Replaces the pod by the one that is written down, changed. Written down before it is done.
    async fn exchange(
        &mut self,
        change: impl FnOnce(&mut Value, &mut RecordBody),
    ) -> Result<(), End> {
        (self.link, self.connecting) = (None, None);
        self.listeners = Listeners::default();
        let failed = |error: runner_core::executor::ExecutorError| {
            let message = format!("the job could not be started again: {}", error.message);
            End::new(InfraKind::System, message, error.message)
        };
        let mut claimed = self.claimed.lock().await;
        let Some(mut pod) = claimed.pod() else {
            return Err(End::new(
                InfraKind::System,
                "the job could not be started again",
                "the pod is not written down any more",
            ));
        };
        let mut body = claimed.body().clone();
        (body.phase, body.promised) = (RecordPhase::Started, None);
        change(&mut pod, &mut body);
        body.pod = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let name = body.pod.clone();
        self.shared
            .store
            .update(&mut claimed, body, Some(&pod))
            .await
            .map_err(|error| failed(error.into_executor_error("note the new pod")))?;
        drop(claimed);
        self.shared
            .delete_pod(&self.access.clients, &self.namespace, &self.pod, Some(&self.uid))
            .await
            .map_err(|error| failed(executor_error(error, "delete the old pod")))?;
        let created = self.shared.create_pod(&self.access.clients, pod).await.map_err(failed)?;
        let Launched::Created(created) = created else {
            return Err(End::new(
                InfraKind::System,
                "the job could not be started again",
                "the cluster's abilities changed",
            ));
        };
        (self.pod, self.uid) = (name, created.uid().to_owned());
        self.watch = self.hub.follow(&self.uid);
        self.current.send_replace(Some(Whereabouts {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            hub: self.hub.clone(),
            stream: self.access.stream().clone(),
        }));
        (self.unseen, self.gone) = (Some(Instant::now() + UNSEEN), false);
        // What the watch has already seen of it is not said again.
        self.watch.mark_changed();
        Ok(())
    }
}

/// `…-abc` → `…-abc-2` → `…-abc-3`. Names stay below 63 characters, since a pod's is its host name.
fn next_name(name: &str) -> String {
    let (stem, number) = match name.rsplit_once('-') {
        Some((stem, digits)) if digits.len() <= 2 => (stem, digits.parse().unwrap_or(1)),
        _ => (name, 1_u32),
    };
    format!("{}-{}", &stem[stem.len().saturating_sub(60)..].trim_start_matches('-'), number + 1)
}

#[cfg(test)]
mod tests {
    use super::next_name;

    #[test]
    fn pods_of_later_tries_have_names_of_their_own() {
        assert_eq!(next_name("runner-x-abcdefgh"), "runner-x-abcdefgh-2");
        assert_eq!(next_name("runner-x-abcdefgh-2"), "runner-x-abcdefgh-3");
        assert!(next_name(&"a".repeat(63)).len() <= 63);
    }
}
