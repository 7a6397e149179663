//! What an actor hears of a pod besides its agent: how it started, what its other containers print,
//! what Kubernetes says of it. Who wants to hear what is written down in the job's record.

use jiff::Timestamp;
use runner_core::executor::JobEnd;
use runner_core::plan::POD_EVENTS;
use tokio::time::Instant;

use super::actor::Actor;
use super::events::EventListener;
use super::listen::Listener;
use super::machine::Input;
use super::warnings::{self, Wanted};
use crate::classify::sight;
use crate::record::POD_PULLS;
use crate::watch::PodView;

impl Actor {
    pub(super) async fn look_at_start(&mut self, pod: &PodView) {
        let now = Instant::now();
        if let Some(known) = self.start.look(pod, now, Timestamp::now()) {
            self.inputs.push_back(Input::Start(known));
        }
        let wants_pulls = self.start.wants_pulls(sight(pod).all_started, now);
        if wants_pulls && self.is_listened_to(POD_PULLS).await {
            let client = self.access.clients.api.clone();
            self.start.ask(client, &self.namespace, &self.uid);
        }
    }

    /// By reference to what is not shared: the task's future has to be `Send`.
    async fn is_listened_to(&mut self, name: &str) -> bool {
        let claimed = self.claimed.lock().await;
        let listens = claimed.body().listens.as_ref();
        listens.is_some_and(|listens| listens.containers.iter().any(|known| known == name))
    }

    /// The end, with what Kubernetes says about the pod where that is what failed.
    pub(super) async fn with_events(&mut self, end: JobEnd) -> JobEnd {
        let wanted = match self.is_listened_to(POD_EVENTS).await {
            // The agent has said them, as far as there was one.
            true if !self.machine.has_heard() => Wanted::All,
            _ if self.shared.settings.print_pod_warning_events => Wanted::Warnings,
            _ => return end,
        };
        let client = &self.access.clients.api;
        warnings::add(client, &self.namespace, &self.pod, &self.uid, wanted, end).await
    }

    pub(super) async fn listen(&mut self, container: String) {
        let claimed = self.claimed.lock().await;
        let Some(listens) = &claimed.body().listens else { return };
        if !listens.containers.contains(&container) {
            return;
        }
        if container == POD_EVENTS {
            self.listeners.add_events(EventListener {
                client: self.access.clients.api.clone(),
                namespace: self.namespace.clone(),
                uid: self.uid.clone(),
            });
            return;
        }
        let listener = Listener {
            client: self.access.stream().clone(),
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            container,
            watch: self.watch.clone(),
            limit: listens.limit,
        };
        self.listeners.add(listener);
    }
}
