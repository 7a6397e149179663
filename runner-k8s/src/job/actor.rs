//! The task behind a handle: it does what the machine says and tells it what happened. All I/O of a
//! running job is here; all decisions are in [`machine`](super::machine).

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use runner_core::executor::{JobEnd, JobEvent, Stop};
use runner_core::ids::Offset;
use runner_core::outcome::InfraKind;
use runner_core::plan::POD_EVENTS;
use runner_core::wire::{
    AgentFrame, AnswerFrame, AssignFrame, MAX_TRACE, ManagerFrame, OutputFrame,
};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, trace, warn};

use super::access::Access;
use super::door::Whereabouts;
use super::events::EventListener;
use super::launch::Launched;
use super::link::{AgentLink, LinkError};
use super::listen::{Listener, Listeners};
use super::machine::{Action, Input, Machine};
use super::milestones::Milestones;
use super::shared::Shared;
use super::start::PodStart;
use super::warnings::{self, Wanted};
use crate::announce::News;
use crate::classify::{End, executor_error, sight};
use crate::pod::with_policy;
use crate::record::{Claimed, POD_PULLS, RecordBody, RecordPhase};
use crate::watch::{PodHub, PodSight, PodView, PodWatch};

/// Longest time to hand a frame to the stream: it only waits while 64 KiB are unsent.
const SEND: Duration = Duration::from_secs(10);
/// How long the watch may say nothing about a pod before it is asked for: a pod that was deleted
/// before anybody followed it is never mentioned.
const UNSEEN: Duration = Duration::from_secs(15);

/// What a handle wants.
#[derive(Debug)]
pub(super) enum Command {
    /// Trace up to here, from elsewhere if it says so; `generation` tells old pieces from new.
    Follow {
        from: Option<Offset>,
        until: Offset,
        generation: u64,
    },
    Stop(Stop),
    Answer(AnswerFrame),
    /// The job is to be removed: tell the agent that it may end.
    Release(oneshot::Sender<()>),
}

/// What a handle hears.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) generation: u64,
    pub(super) event: JobEvent,
}

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) access: Access,
    pub(super) claimed: Arc<Mutex<Claimed>>,
    pub(super) machine: Machine,
    pub(super) namespace: String,
    /// Of the pod's namespace.
    pub(super) hub: PodHub,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) current: watch::Sender<Option<Whereabouts>>,
    pub(super) watch: PodWatch,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Bounded by what the manager asked for (trace), by the number of stages and of the pod's
    /// changes of state, and by `MOST_ASKS` questions.
    pub(super) events: mpsc::UnboundedSender<Told>,
    pub(super) link: Option<Box<dyn AgentLink>>,
    /// What other containers print, while there is a link to hand it to.
    pub(super) listeners: Listeners,
    pub(super) connecting: Option<BoxFuture<'static, Result<Box<dyn AgentLink>, LinkError>>>,
    pub(super) generation: u64,
    pub(super) unseen: Option<Instant>,
    pub(super) milestones: Milestones,
    pub(super) start: PodStart,
    /// When a stream was lost; `None`: there is one, or was none yet.
    pub(super) lost: Option<Instant>,
    /// Whether the watch has said its last word.
    pub(super) gone: bool,
    pub(super) inputs: VecDeque<Input>,
}

enum Next {
    Input(Input),
    Command(Option<Command>),
    Watch,
    Unseen,
    Output(OutputFrame),
}

impl Actor {
    /// Until the handle is dropped.
    pub(super) async fn run(mut self) {
        self.unseen = Some(Instant::now() + UNSEEN);
        self.look().await;
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.take_in(input).await;
            }
            match self.next().await {
                Next::Input(input) => self.take_in(input).await,
                Next::Watch => self.look().await,
                Next::Unseen => self.ask_for_pod().await,
                Next::Output(frame) => self.send(ManagerFrame::Output(frame)).await,
                Next::Command(Some(Command::Follow { from, until, generation })) => {
                    self.generation = generation;
                    self.take_in(Input::Follow { from, until }).await;
                }
                Next::Command(Some(Command::Stop(stop))) => {
                    self.announce(&News::Stopped(stop));
                    self.take_in(Input::Stop(stop)).await;
                }
                Next::Command(Some(Command::Answer(answer))) => {
                    self.take_in(Input::Answer(answer)).await;
                }
                Next::Command(Some(Command::Release(done))) => {
                    self.release().await;
                    // The handle may have been dropped meanwhile.
                    let _ = done.send(());
                    return;
                }
                Next::Command(None) => return,
            }
        }
    }

    async fn next(&mut self) -> Next {
        let deadline = self.machine.deadline();
        let unseen = self.unseen;
        let at = |instant: Option<Instant>| async move {
            match instant {
                Some(instant) => sleep_until(instant).await,
                None => pending().await,
            }
        };
        tokio::select! {
            // What the manager wants comes first: it may be to stop. Then deadlines, so that a
            // flood of trace cannot starve a heartbeat.
            biased;
            command = self.commands.recv() => Next::Command(command),
            () = at(deadline) => Next::Input(Input::Tick),
            () = at(unseen) => Next::Unseen,
            changed = self.watch.changed(), if !self.gone => {
                // An error means that the watch will say no more; the last value may be unseen.
                self.gone = changed.is_err();
                Next::Watch
            }
            opened = opened(&mut self.connecting) => {
                self.connecting = None;
                Next::Input(match opened {
                    Ok(link) => {
                        let gap = self.lost.take().map(|lost| lost.elapsed());
                        self.shared.streams.open(gap);
                        self.link = Some(link);
                        Input::Linked
                    }
                    Err(error) => Input::NotLinked {
                        refused: error.refused,
                        message: error.message,
                        retry_after: error.retry_after,
                    },
                })
            }
            frame = heard(&mut self.link) => Next::Input(match frame {
                Ok(frame) => {
                    if let AgentFrame::Trace { bytes, .. } = &frame {
                        self.shared.streams.receive(bytes.len());
                    }
                    Input::Frame(frame)
                }
                Err(message) => {
                    if !self.machine.is_ended() {
                        self.shared.streams.lose();
                        self.lost = Some(Instant::now());
                    }
                    (self.link, self.listeners) = (None, Listeners::default());
                    debug!(pod = self.pod, message, "the stream to the job ended");
                    Input::Unlinked(message)
                }
            }),
            Some(frame) = self.listeners.next() => Next::Output(frame),
            known = self.start.answered() => Next::Input(Input::Start(known)),
        }
    }

    async fn look(&mut self) {
        let seen = self.watch.borrow_and_update().clone();
        match seen {
            PodSight::Unseen => {}
            PodSight::Seen(pod) => {
                self.unseen = None;
                for milestone in self.milestones.look(&pod) {
                    self.tell(JobEvent::Reached(milestone));
                }
                self.look_at_start(&pod).await;
                self.take_in(Input::Pod(sight(&pod))).await;
            }
            PodSight::Gone(last) => {
                (self.unseen, self.gone) = (None, true);
                self.take_in(Input::Gone(last.map(|pod| sight(&pod)))).await;
            }
        }
    }

    async fn look_at_start(&mut self, pod: &PodView) {
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

    async fn is_listened_to(&mut self, name: &str) -> bool {
        let claimed = self.claimed.lock().await;
        let listens = claimed.body().listens.as_ref();
        listens.is_some_and(|listens| listens.containers.iter().any(|known| known == name))
    }

    async fn ask_for_pod(&mut self) {
        self.unseen = Some(Instant::now() + UNSEEN);
        match self.access.pods(&self.namespace).get_opt(&self.pod).await {
            Ok(Some(pod)) if pod.uid() == self.uid => {
                self.take_in(Input::Pod(sight(&pod))).await;
            }
            Ok(_) => {
                self.unseen = None;
                self.take_in(Input::Gone(None)).await;
            }
            Err(error) => debug!(pod = self.pod, %error, "the pod could not be asked for"),
        }
    }

    async fn take_in(&mut self, input: Input) {
        trace!(pod = self.pod, ?input);
        for action in self.machine.handle(Instant::now(), input) {
            self.perform(action).await;
        }
    }

    async fn perform(&mut self, action: Action) {
        trace!(pod = self.pod, ?action);
        match action {
            Action::Link => {
                let connector = Arc::clone(&self.access.connector);
                let (namespace, pod) = (self.namespace.clone(), self.pod.clone());
                let connect = async move { connector.connect(&namespace, &pod).await };
                self.connecting = Some(connect.boxed());
            }
            Action::Unlink => {
                (self.link, self.connecting) = (None, None);
                self.listeners = Listeners::default();
            }
            Action::Assign => {
                if let Err(problem) = self.assign().await {
                    warn!(pod = self.pod, problem, "a warm pod could not be given its job yet");
                    (self.link, self.listeners) = (None, Listeners::default());
                    self.inputs.push_back(Input::Unlinked(problem));
                }
            }
            Action::Listen(container) => self.listen(container).await,
            Action::Send(frame) => self.send(frame).await,
            Action::Emit(JobEvent::Ended(end)) => {
                let end = self.with_events(end).await;
                self.tell(JobEvent::Ended(end));
            }
            Action::Emit(event) => self.tell(event),
            Action::DeletePod => {
                let (namespace, uid) = (&self.namespace, Some(self.uid.as_str()));
                let deleted =
                    self.shared.delete_pod(&self.access.clients, namespace, &self.pod, uid).await;
                if let Err(error) = &deleted {
                    warn!(pod = self.pod, %error, "the pod of a stopped job could not be deleted yet");
                }
                self.inputs.push_back(Input::Deleted(deleted.is_ok()));
            }
            Action::Relaunch { container, policy } => {
                let input = match self.relaunch(&container, policy.as_deref()).await {
                    Ok(()) => Input::Relaunched,
                    Err(end) => Input::NotRelaunched(end),
                };
                self.inputs.push_back(input);
            }
            Action::Replace => {
                let input = match self.replace().await {
                    Ok(()) => Input::Relaunched,
                    Err(end) => Input::NotRelaunched(end),
                };
                self.inputs.push_back(input);
            }
            Action::Settled => self.claimed.lock().await.forget_content(),
            Action::Superseded => self.tell(JobEvent::Superseded),
        }
    }

    /// The end, with what Kubernetes says about the pod where that is what failed.
    async fn with_events(&mut self, end: JobEnd) -> JobEnd {
        let wanted = match self.is_listened_to(POD_EVENTS).await {
            // The agent has said them, as far as there was one.
            true if !self.machine.has_heard() => Wanted::All,
            _ if self.shared.settings.print_pod_warning_events => Wanted::Warnings,
            _ => return end,
        };
        let client = &self.access.clients.api;
        warnings::add(client, &self.namespace, &self.pod, &self.uid, wanted, end).await
    }

    fn announce(&self, news: &News) {
        self.shared.announcer.say(&self.namespace, &self.pod, &self.uid, news);
    }

    fn tell(&self, event: JobEvent) {
        let news = match &event {
            JobEvent::Running => Some(News::Running),
            JobEvent::Ended(end) => Some(News::Ended(end.outcome.clone())),
            _ => None,
        };
        if let Some(news) = news {
            self.announce(&news);
        }
        // A handle that is gone is noticed by its commands.
        let _ = self.events.send(Told { generation: self.generation, event });
    }

    async fn send(&mut self, frame: ManagerFrame) {
        let Some(link) = &mut self.link else { return };
        let problem = match timeout(SEND, link.send(frame)).await {
            Ok(Ok(())) => return,
            Ok(Err(message)) => message,
            Err(_) => "the stream does not take what is sent".to_owned(),
        };
        (self.link, self.listeners) = (None, Listeners::default());
        self.inputs.push_back(Input::Unlinked(problem));
    }

    /// Gives a warm pod the job's labels, and then its plan. Doing it twice is harmless.
    async fn assign(&mut self) -> Result<(), String> {
        let claimed = self.claimed.lock().await;
        let (plan, pod) = (claimed.plan(), claimed.pod());
        drop(claimed);
        let (Some(plan), Some(pod)) = (plan, pod) else {
            return Err("the plan is not written down any more".to_owned());
        };
        let assigned = self.shared.assign_pod(&self.pod, &pod).await;
        assigned.map_err(|error| error.to_string())?;
        let mut rest = plan;
        loop {
            let bytes = rest.split_to(rest.len().min(MAX_TRACE));
            let last = rest.is_empty();
            if last {
                self.machine.hands_over();
            }
            self.send(ManagerFrame::Assign(AssignFrame { last, bytes })).await;
            if last || self.link.is_none() {
                return Ok(());
            }
        }
    }

    async fn listen(&mut self, container: String) {
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

    /// Tells the agent that it may end. Only an open stream is used: the pod is about to be deleted
    /// anyway.
    async fn release(&mut self) {
        if let Some(mut link) = self.link.take() {
            let good_bye = async {
                if link.send(ManagerFrame::Release).await.is_ok() {
                    link.close().await;
                }
            };
            // Good manners only.
            let _ = timeout(Duration::from_secs(1), good_bye).await;
        }
    }

    /// Replaces the pod by one with another pull policy.
    async fn relaunch(&mut self, container: &str, policy: Option<&str>) -> Result<(), End> {
        info!(pod = self.pod, container, policy, "an image could not be pulled; trying again");
        let name = next_name(&self.pod);
        self.exchange(|pod, body| {
            body.fallbacks.next(container);
            with_policy(pod, &name, container, policy);
        })
        .await
    }

    /// Replaces a warm pod by the job's own, which is written down in any case.
    async fn replace(&mut self) -> Result<(), End> {
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

async fn opened(
    connecting: &mut Option<BoxFuture<'static, Result<Box<dyn AgentLink>, LinkError>>>,
) -> Result<Box<dyn AgentLink>, LinkError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}

async fn heard(link: &mut Option<Box<dyn AgentLink>>) -> Result<AgentFrame, String> {
    match link {
        Some(link) => link.next().await,
        None => pending().await,
    }
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
