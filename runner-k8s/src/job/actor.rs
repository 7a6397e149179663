//! The task behind a handle: it does what the machine says and tells it what happened. All I/O of a
//! running job is here; all decisions are in [`machine`](super::machine).

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use runner_core::executor::{JobEvent, Stop};
use runner_core::ids::Offset;
use runner_core::wire::{
    AgentFrame, AnswerFrame, AssignFrame, MAX_TRACE, ManagerFrame, OutputFrame,
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, trace, warn};

use super::access::Access;
use super::door::Whereabouts;
use super::link::{AgentLink, LinkError};
use super::listen::Listeners;
use super::machine::{Action, Input, Machine};
use super::milestones::Milestones;
use super::shared::Shared;
use super::start::PodStart;
use crate::announce::News;
use crate::classify::sight;
use crate::record::Claimed;
use crate::watch::{PodHub, PodSight, PodWatch};

/// Longest time to hand a frame to the stream: it only waits while 64 KiB are unsent.
const SEND: Duration = Duration::from_secs(10);
/// How long the watch may say nothing about a pod before it is asked for: a pod that was deleted
/// before anybody followed it is never mentioned.
pub(super) const UNSEEN: Duration = Duration::from_secs(15);

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
                Next::Unseen => Box::pin(self.ask_for_pod()).await,
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

    /// What is rare is boxed: its state would be a part of every job's task, for as long as the job runs.
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
                if let Err(problem) = Box::pin(self.assign()).await {
                    warn!(pod = self.pod, problem, "a warm pod could not be given its job yet");
                    (self.link, self.listeners) = (None, Listeners::default());
                    self.inputs.push_back(Input::Unlinked(problem));
                }
            }
            Action::Listen(container) => self.listen(container).await,
            Action::Send(frame) => self.send(frame).await,
            Action::Emit(JobEvent::Ended(end)) => {
                let end = Box::pin(self.with_events(end)).await;
                self.tell(JobEvent::Ended(end));
            }
            Action::Emit(event) => self.tell(event),
            Action::DeletePod => self.delete_pod().await,
            Action::DeletePodUnlessRun => {
                let there = self.access.pods(&self.namespace).get_opt(&self.pod).await;
                match there.map(|pod| pod.filter(|pod| pod.uid() == self.uid)) {
                    Ok(Some(pod)) => {
                        let seen = sight(&pod);
                        let has_run = seen.has_run;
                        self.inputs.push_back(Input::Pod(seen));
                        match has_run {
                            true => self.inputs.push_back(Input::Deleted(false)),
                            false => self.delete_pod().await,
                        }
                    }
                    Ok(None) => self.inputs.push_back(Input::Deleted(true)),
                    Err(error) => {
                        debug!(pod = self.pod, %error, "the pod could not be asked for");
                        self.inputs.push_back(Input::Deleted(false));
                    }
                }
            }
            Action::Relaunch { container, policy } => {
                let input = match Box::pin(self.relaunch(&container, policy.as_deref())).await {
                    Ok(()) => Input::Relaunched,
                    Err(end) => Input::NotRelaunched(end),
                };
                self.inputs.push_back(input);
            }
            Action::Replace => {
                let input = match Box::pin(self.replace()).await {
                    Ok(()) => Input::Relaunched,
                    Err(end) => Input::NotRelaunched(end),
                };
                self.inputs.push_back(input);
            }
            Action::Settled => self.claimed.lock().await.forget_content(),
            Action::Superseded => self.tell(JobEvent::Superseded),
        }
    }

    async fn delete_pod(&mut self) {
        let (namespace, uid) = (&self.namespace, Some(self.uid.as_str()));
        let deleted = self.shared.delete_pod(&self.access.clients, namespace, &self.pod, uid);
        let deleted = Box::pin(deleted).await;
        if let Err(error) = &deleted {
            warn!(pod = self.pod, %error, "the pod of a stopped job could not be deleted yet");
        }
        self.inputs.push_back(Input::Deleted(deleted.is_ok()));
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
