//! The job's state machine: what happened goes in, what to do comes out. No I/O, no clock.
//!
//! ```text
//!   Waiting ──► Connecting ──► Following ──► Ended
//!      ▲            ▲  │           │            │ (the trace is wanted again)
//!      │            │  ▼           ▼            ▼
//!      │          Pause ◄── link lost ──────────┘
//!      └─ a killed helper comes back
//! ```

mod ending;
mod pulls;
mod talk;

use std::collections::BTreeSet;
use std::time::Duration;

use runner_core::executor::{JobEvent, Stop};
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::outcome::{StageReport, Verdict};
use runner_core::wire::{AgentFrame, AnswerFrame, ContainerFrame, ManagerFrame, StartFrame};
use tokio::time::Instant;

use self::pulls::Pulls;
use crate::classify::{End, Sighting};
use crate::pod::Fallbacks;

/// How often the agent hears that a manager is there; it gives up after 60 s.
const BEAT: Duration = Duration::from_secs(15);
/// Pauses between tries to connect: the first one is short, because the usual cause is a helper that
/// has only just started, the last bounds how late a returned API server is noticed.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
];
/// How long the agent has for its last words once its pod is being taken away, or after it was told
/// to end because the job cannot go on: twice the plan's default grace, plus the way.
const LAST_WORDS: Duration = Duration::from_secs(25);
/// How long an agent that knows by itself what to do may be silent while its pod is being taken away:
/// what takes the pod away may have taken the node, or the API server may be away for a moment.
const UNHEARD: Duration = Duration::from_secs(60);
/// How long after its grace a pod that is being taken away is given up. The kubelet kills it then.
const AFTER_GRACE: Duration = Duration::from_secs(10);
/// The grace of a pod that says nothing of it: Kubernetes' default.
const USUAL_GRACE: Duration = Duration::from_secs(30);
/// How long to wait for the watch to name the cause of a failure that the agent cannot explain.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a container may be between two starts.
const COME_BACK: Duration = Duration::from_secs(90);
/// How long a stopped job that nobody may talk to is left alone before its pod is deleted: its log does
/// not get out in any case.
const BARRED_STOP: Duration = Duration::from_secs(60);
/// How long one that does not answer is: with its pod goes what nobody has of its log. Longer than an
/// API server, a tunnel to its nodes or a kubelet takes to come back.
const UNHEARD_STOP: Duration = Duration::from_secs(5 * 60);
/// Pause between two tries to delete the pod of a job that never ran.
const DELETE_AGAIN: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The pod looks like this now.
    Pod(Sighting),
    /// There is no pod any more; how it looked last.
    Gone(Option<Sighting>),
    /// The stream is open.
    Linked,
    /// It could not be opened.
    NotLinked { refused: bool, message: String, retry_after: Option<Duration> },
    /// The agent said something.
    Frame(AgentFrame),
    /// The stream is over.
    Unlinked(String),
    /// The pod is deleted, or it could not be.
    Deleted(bool),
    /// The manager wants the trace up to here; from elsewhere, if it says so.
    Follow { from: Option<Offset>, until: Offset },
    /// There is a new pod, with the next pull policy.
    Relaunched,
    /// There is not.
    NotRelaunched(End),
    /// The manager wants the job to stop.
    Stop(Stop),
    /// The manager answers what the agent has asked.
    Answer(AnswerFrame),
    /// This is known of how the pod came to run.
    Start(StartFrame),
    /// The deadline has passed.
    Tick,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Open a stream.
    Link,
    /// Drop the stream, or the try to open one.
    Unlink,
    /// Say this to the agent.
    Send(ManagerFrame),
    /// Follow the output of this container, if it is to be shown.
    Listen(String),
    /// The pod has no job yet: make it this job's and hand over the plan.
    Assign,
    /// Say this to the manager.
    Emit(JobEvent),
    /// Delete the pod at once: nothing of it is wanted. [`Input::Deleted`] follows.
    DeletePod,
    /// This container's image could not be pulled: replace the pod by one with this policy
    /// (`None`: the cluster's default).
    Relaunch { container: String, policy: Option<String> },
    /// The pod went before it had its plan: replace it by the job's own.
    Replace,
    /// The job runs: what is only needed to start it may be forgotten.
    Settled,
    /// Another manager has the job.
    Superseded,
}

/// What a machine has to know from the start.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) job: JobId,
    pub(super) epoch: Epoch,
    /// When all containers must have started.
    pub(super) start_by: Instant,
    /// When the job must have ended, by any clock.
    pub(super) end_by: Instant,
    /// Pull policies that are left to try.
    pub(super) fallbacks: Fallbacks,
    /// Whether the pod was ready before its job, and this process took it: its agent has no plan
    /// before this process hands it over.
    pub(super) is_warm: bool,
}

#[derive(Debug)]
enum State {
    /// For the helper to run.
    Waiting,
    /// For a new pod.
    Relaunching,
    Connecting,
    /// Until the next try.
    Pause(Instant),
    Following {
        welcomed: bool,
        beat_at: Instant,
    },
    /// Everything is said. The stream may still be open, for `Release`.
    Ended {
        linked: bool,
    },
    Superseded,
}

/// A job that cannot go on, and until when the agent may say more.
#[derive(Debug)]
struct Ending {
    end: End,
    /// In any case.
    until: Instant,
    /// While it cannot be heard.
    unheard_until: Instant,
}

pub(super) struct Machine {
    terms: Terms,
    state: State,
    sighting: Sighting,
    /// Tries since the last welcome.
    tries: usize,
    /// Next byte to hand out.
    position: Offset,
    /// Not beyond this.
    until: Offset,
    verdict: Option<Verdict>,
    ending: Option<Ending>,
    settle_until: Option<Instant>,
    /// That time has passed.
    settled: bool,
    /// Since when the helper is between two starts.
    away_until: Option<Instant>,
    /// That the job is to stop, and since when it could have heard of that.
    stop: Option<(Stop, Instant)>,
    /// When to try again to delete the pod of a job that never ran.
    delete_at: Option<Instant>,
    /// Whether the pod is being deleted: [`Input::Deleted`] is still to come.
    deleting: bool,
    /// Nobody may open a stream into the pod.
    barred: bool,
    said_running: bool,
    said_finishing: bool,
    waits_for: Option<String>,
    /// Whether the job's log says what the pod waits for: `print_pod_warning_events`.
    pub(super) says_waits: bool,
    start_patience: Duration,
    pulls: Pulls,
    /// What the agent has been told of other containers in this session.
    told: Vec<ContainerFrame>,
    /// The grace that the agent has been told of in this session.
    told_grace: Option<Duration>,
    /// How the pod came to run, and whether the agent has been told in this session.
    start: Option<StartFrame>,
    told_start: bool,
    /// The stage that was said to run last.
    stage: Option<String>,
    stages: Vec<StageReport>,
    /// How many stages were said to begin.
    begun: usize,
    last_problem: Option<String>,
    /// Questions that the manager has heard and not answered.
    asks: BTreeSet<u64>,
    actions: Vec<Action>,
}

impl Machine {
    pub(super) fn new(now: Instant, terms: Terms) -> Self {
        Self {
            start_patience: terms.start_by.duration_since(now),
            terms,
            state: State::Waiting,
            sighting: Sighting::default(),
            tries: 0,
            position: Offset::ZERO,
            until: Offset::ZERO,
            verdict: None,
            ending: None,
            settle_until: None,
            settled: false,
            away_until: None,
            stop: None,
            delete_at: None,
            deleting: false,
            barred: false,
            said_running: false,
            said_finishing: false,
            waits_for: None,
            says_waits: true,
            pulls: Pulls::default(),
            told: Vec::new(),
            told_grace: None,
            start: None,
            told_start: false,
            stage: None,
            stages: Vec::new(),
            begun: 0,
            last_problem: None,
            asks: BTreeSet::new(),
            actions: Vec::new(),
        }
    }

    /// Takes one input in.
    pub(super) fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        if matches!(self.state, State::Superseded) {
            return Vec::new();
        }
        match input {
            Input::Pod(sighting) => self.on_pod(now, sighting),
            Input::Gone(last) => self.on_gone(last),
            Input::Linked => self.on_linked(now),
            Input::NotLinked { refused, message, retry_after } => {
                self.on_not_linked(now, refused, message, retry_after);
            }
            Input::Frame(frame) => self.on_frame(now, frame),
            Input::Unlinked(message) => self.on_unlinked(now, message),
            Input::Deleted(gone) => self.on_deleted(now, gone),
            Input::Follow { from, until } => self.on_follow(now, from, until),
            Input::Relaunched => {
                self.sighting = Sighting::default();
                self.pulls = Pulls::default();
                self.terms.start_by = now + self.start_patience;
                self.state = State::Waiting;
            }
            Input::NotRelaunched(end) => {
                self.sighting = Sighting::default();
                self.finish(Some(end));
            }
            Input::Stop(stop) => self.on_stop(now, stop),
            Input::Answer(answer) => self.on_answer(answer),
            Input::Start(known) => self.on_start(known),
            Input::Tick => self.on_tick(now),
        }
        self.conclude(now);
        std::mem::take(&mut self.actions)
    }

    /// When to be woken.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if matches!(self.state, State::Superseded) {
            return None;
        }
        if let State::Ended { .. } = self.state {
            return None;
        }
        let mut all = vec![self.terms.end_by];
        match &self.state {
            State::Pause(until) => all.push(*until),
            State::Following { beat_at, .. } => all.push(*beat_at),
            _ => {}
        }
        if !self.sighting.all_started && self.ending.is_none() {
            all.push(self.terms.start_by);
        }
        all.extend(self.ending.as_ref().map(|ending| self.gives_up(ending)));
        // Once: the rest of the trace may take its time, and a deadline that stays in the past would
        // leave none for it.
        all.extend(self.settle_until.filter(|_| !self.settled));
        all.extend(self.away_until);
        all.extend(self.unheard_stop());
        all.extend(self.delete_at);
        all.into_iter().min()
    }

    fn emit(&mut self, event: JobEvent) {
        self.actions.push(Action::Emit(event));
    }

    /// The agent is about to have the whole plan: from now on the job may be running.
    pub(super) fn hands_over(&mut self) {
        self.terms.is_warm = false;
    }

    /// Whether the agent was heard.
    pub(super) fn has_heard(&self) -> bool {
        self.said_running
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    fn on_pod(&mut self, now: Instant, sighting: Sighting) {
        self.sighting = sighting;
        if self.is_ended() || matches!(self.state, State::Relaunching) {
            return;
        }
        if self.relaunches() {
            return;
        }
        if (self.sighting.end.is_some() || self.sighting.helper_over) && self.replaces() {
            return;
        }
        self.away_until = match (self.sighting.has_run, self.sighting.reachable) {
            (true, false) if !self.sighting.helper_over => {
                Some(self.away_until.unwrap_or(now + COME_BACK))
            }
            _ => None,
        };
        if self.verdict.is_none() {
            self.verdict.clone_from(&self.sighting.verdict);
        }
        let failed_too_often = self.pulls.take_in(&self.sighting.failed_pulls);
        if let Some(end) = self.sighting.end.clone().or(failed_too_often) {
            self.on_end(now, end);
        }
        if self.sighting.all_started {
            self.waits_for = None;
        } else if self.sighting.waits_for.is_some() && self.sighting.waits_for != self.waits_for {
            self.waits_for.clone_from(&self.sighting.waits_for);
            if let Some(reason) = self.waits_for.clone().filter(|_| self.says_waits) {
                self.emit(JobEvent::Waiting { reason });
            }
        }
        if self.may_link() && matches!(self.state, State::Waiting) {
            self.link();
        }
        self.tell_of_others();
        self.tell_of_grace();
    }
}
