//! The job's state machine: what happened goes in, what to do comes out. No I/O, no clock.
//!
//! ```text
//!   Waiting ──► Connecting ──► Following ──► Ended
//!      ▲            ▲  │           │            │ (the trace is wanted again)
//!      │            │  ▼           ▼            ▼
//!      │          Pause ◄── link lost ──────────┘
//!      └─ a killed helper comes back
//! ```

use std::time::Duration;

use runner_core::executor::{JobEnd, JobEvent, Stop};
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::outcome::{Infra, InfraKind, Outcome, StageReport, Verdict};
use runner_core::wire::{
    AgentFrame, Beat, Hello, ManagerFrame, RefusalReason, StageFrame, StopFrame, StopMode,
    WIRE_VERSION, Want,
};
use tokio::time::Instant;

use crate::classify::{End, Sighting, worst};
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
/// How long to wait for the watch to name the cause of a failure that the agent cannot explain.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a container may be between two starts.
const COME_BACK: Duration = Duration::from_secs(90);
/// How long a stopped job that cannot be reached is left alone before its pod is deleted.
const UNHEARD_STOP: Duration = Duration::from_secs(60);

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
    /// The manager wants the trace up to here; from elsewhere, if it says so.
    Follow { from: Option<Offset>, until: Offset },
    /// There is a new pod, with the next pull policy.
    Relaunched,
    /// There is not.
    NotRelaunched(End),
    /// The manager wants the job to stop.
    Stop(Stop),
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
    /// Say this to the manager.
    Emit(JobEvent),
    /// Delete the pod at once: nothing of it is wanted.
    DeletePod,
    /// This container's image could not be pulled: replace the pod by one with this policy
    /// (`None`: the cluster's default).
    Relaunch { container: String, policy: Option<String> },
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
    until: Instant,
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
    /// Since when the helper is between two starts.
    away_until: Option<Instant>,
    stop: Option<(Stop, Instant)>,
    said_running: bool,
    said_finishing: bool,
    waits_for: Option<String>,
    start_patience: Duration,
    /// The stage that was said to run last.
    stage: Option<String>,
    stages: Vec<StageReport>,
    last_problem: Option<String>,
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
            away_until: None,
            stop: None,
            said_running: false,
            said_finishing: false,
            waits_for: None,
            stage: None,
            stages: Vec::new(),
            last_problem: None,
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
            Input::Follow { from, until } => self.on_follow(now, from, until),
            Input::Relaunched => {
                self.sighting = Sighting::default();
                self.terms.start_by = now + self.start_patience;
                self.state = State::Waiting;
            }
            Input::NotRelaunched(end) => {
                self.sighting = Sighting::default();
                self.finish(Some(end));
            }
            Input::Stop(stop) => self.on_stop(now, stop),
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
        all.extend(self.ending.as_ref().map(|ending| ending.until));
        all.extend(self.settle_until);
        all.extend(self.away_until);
        all.extend(self.unheard_stop());
        all.into_iter().min()
    }

    fn emit(&mut self, event: JobEvent) {
        self.actions.push(Action::Emit(event));
    }

    fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    fn is_welcome(&self) -> bool {
        matches!(self.state, State::Following { welcomed: true, .. })
    }

    fn on_pod(&mut self, now: Instant, sighting: Sighting) {
        self.sighting = sighting;
        if self.is_ended() || matches!(self.state, State::Relaunching) {
            return;
        }
        if self.relaunches() {
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
        if let Some(end) = self.sighting.end.clone() {
            self.on_end(now, end);
        }
        if self.sighting.all_started {
            self.waits_for = None;
        } else if self.sighting.waits_for.is_some() && self.sighting.waits_for != self.waits_for {
            self.waits_for.clone_from(&self.sighting.waits_for);
            if let Some(reason) = self.waits_for.clone() {
                self.emit(JobEvent::Waiting { reason });
            }
        }
        if self.may_link() && matches!(self.state, State::Waiting) {
            self.link();
        }
    }

    /// While another pod may have to take this one's place, nothing of its trace may be said.
    fn may_link(&self) -> bool {
        let final_pod = self.sighting.all_started || self.terms.fallbacks.is_empty();
        self.sighting.reachable && (final_pod || self.ending.is_some())
    }

    /// Whether a pull failure leads to another pod. The build container has not started, so nothing
    /// of the job's own has run; what the helper did is gone with its pod.
    fn relaunches(&mut self) -> bool {
        let Some(container) = self.sighting.end.as_ref().and_then(|end| end.pull_failure.clone())
        else {
            return false;
        };
        if self.said_running || self.ending.is_some() || self.stop.is_some() {
            return false;
        }
        let Some(policy) = self.terms.fallbacks.next(&container) else { return false };
        self.state = State::Relaunching;
        self.waits_for = None;
        let reason = format!(
            "another way to pull the image for {container}: {}",
            policy.as_deref().unwrap_or("the cluster's default policy")
        );
        self.emit(JobEvent::Waiting { reason });
        self.actions.push(Action::Relaunch { container, policy });
        true
    }

    /// The job cannot go on. If the agent can be heard, it is told to end, so that what it has of
    /// the trace is not lost.
    fn on_end(&mut self, now: Instant, end: End) {
        match &mut self.ending {
            // What is seen later explains more: first "deleted", then who did it.
            Some(ending) => ending.end = end,
            None => {
                self.ending = Some(Ending { end, until: now + LAST_WORDS });
                self.send_stop();
            }
        }
    }

    fn on_gone(&mut self, last: Option<Sighting>) {
        if self.is_ended() || matches!(self.state, State::Relaunching) {
            return;
        }
        let seen = last.unwrap_or_else(|| self.sighting.clone());
        self.verdict = self.verdict.take().or(seen.verdict);
        let known = self.ending.take().map(|ending| ending.end).or(seen.end);
        self.sighting = Sighting { helper_over: true, has_run: true, ..Sighting::default() };
        let complete = self.verdict.as_ref().is_some_and(|v| self.position >= v.trace.length);
        let end = known.or_else(|| (!complete).then(deleted));
        self.finish(end);
    }

    fn link(&mut self) {
        self.state = State::Connecting;
        self.actions.push(Action::Link);
    }

    fn on_linked(&mut self, now: Instant) {
        if !matches!(self.state, State::Connecting) {
            self.actions.push(Action::Unlink);
            return;
        }
        self.state = State::Following { welcomed: false, beat_at: now + BEAT };
        self.actions.push(Action::Send(ManagerFrame::Hello(Hello {
            version: WIRE_VERSION,
            job: self.terms.job,
            epoch: self.terms.epoch,
            from: self.position,
            until: self.until.max(self.position),
        })));
    }

    fn on_not_linked(
        &mut self,
        now: Instant,
        refused: bool,
        message: String,
        retry_after: Option<Duration>,
    ) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        if refused && self.tries == PAUSES.len() {
            // The verdict still comes through the watch; only the log does not.
            let reason = "the runner's role to allow a look at the job's log".to_owned();
            self.emit(JobEvent::Waiting { reason });
        }
        self.last_problem = Some(message);
        self.pause(now, retry_after);
    }

    fn pause(&mut self, now: Instant, at_least: Option<Duration>) {
        let pause = PAUSES[self.tries.min(PAUSES.len() - 1)];
        self.tries += 1;
        self.state = State::Pause(now + pause.max(at_least.unwrap_or_default()));
    }

    fn on_unlinked(&mut self, now: Instant, message: String) {
        match &mut self.state {
            State::Following { .. } => {
                self.last_problem = Some(message);
                self.pause(now, None);
            }
            State::Ended { linked } => *linked = false,
            _ => {}
        }
    }

    fn relink(&mut self, now: Instant) {
        self.actions.push(Action::Unlink);
        self.pause(now, None);
    }

    fn on_frame(&mut self, now: Instant, frame: AgentFrame) {
        if !matches!(self.state, State::Following { .. }) {
            return;
        }
        match frame {
            AgentFrame::Welcome(_) => {
                if let State::Following { welcomed, .. } = &mut self.state {
                    *welcomed = true;
                }
                self.tries = 0;
                self.last_problem = None;
                if !self.said_running {
                    self.said_running = true;
                    self.actions.push(Action::Settled);
                    self.emit(JobEvent::Running);
                }
                // All changes of stages come again; known ones are not said twice.
                self.send_stop();
            }
            AgentFrame::Refused(refused) => match refused.reason {
                RefusalReason::Superseded => {
                    self.state = State::Superseded;
                    self.actions.push(Action::Unlink);
                    self.actions.push(Action::Superseded);
                }
                RefusalReason::NotReady => {
                    self.last_problem = Some(refused.message);
                    self.relink(now);
                }
                _ => {
                    let message = "the job's agent does not accept this runner".to_owned();
                    let end = End::new(InfraKind::System, message, refused.message);
                    self.actions.push(Action::Unlink);
                    self.finish(Some(end));
                }
            },
            AgentFrame::Trace { offset, bytes } => self.on_trace(now, offset, bytes),
            AgentFrame::Stage(stage) => self.on_stage(stage),
            AgentFrame::Beat(_) => {}
            AgentFrame::Verdict(verdict) => self.on_verdict(now, verdict),
            // A frame of a later release.
            _ => {}
        }
    }

    /// After each welcome all stages are told again.
    fn on_stage(&mut self, stage: StageFrame) {
        match stage {
            StageFrame::Started { name } => {
                let known = self.stage.as_ref() == Some(&name)
                    || self.stages.iter().any(|stage| stage.name == name);
                if !known {
                    self.stage = Some(name.clone());
                    self.emit(JobEvent::StageStarted { name });
                }
            }
            StageFrame::Finished(report) => {
                if !self.stages.contains(&report) {
                    self.stages.push(report.clone());
                    self.emit(JobEvent::StageFinished(report));
                }
            }
        }
    }

    fn on_trace(&mut self, now: Instant, offset: Offset, mut bytes: bytes::Bytes) {
        let end = offset.advance(bytes.len());
        if end <= self.position {
            return;
        }
        if offset > self.position {
            self.last_problem =
                Some(format!("trace from {offset} although {} was next", self.position));
            self.relink(now);
            return;
        }
        // Both differences are at most one frame long.
        let known = (self.position.0 - offset.0) as usize;
        let bytes = bytes.split_off(known);
        let offset = self.position;
        self.position = end;
        self.emit(JobEvent::Trace { offset, bytes });
    }

    fn on_verdict(&mut self, now: Instant, verdict: Verdict) {
        let unexplained =
            matches!(verdict.outcome, Outcome::Infra(_) | Outcome::Unknown | Outcome::Signalled(_));
        if unexplained && self.ending.is_none() && self.settle_until.is_none() {
            self.settle_until = Some(now + SETTLE);
        }
        if verdict.trace.length > self.position && !self.said_finishing {
            self.said_finishing = true;
            self.emit(JobEvent::Finishing);
        }
        self.verdict = Some(verdict);
    }

    fn on_follow(&mut self, now: Instant, from: Option<Offset>, until: Offset) {
        let from = from.filter(|from| *from != self.position);
        // What was asked for and has not come may still be on its way, from the old position.
        let outstanding = self.until > self.position;
        match from {
            Some(from) => (self.position, self.until) = (from, until),
            // A smaller window cannot take back what is on its way.
            None => self.until = self.until.max(until),
        }
        if let State::Ended { linked } = self.state {
            let length = self.verdict.as_ref().map(|verdict| verdict.trace.length);
            if from.is_none() || length.is_none_or(|length| self.position >= length) {
                return;
            }
            // The source wants the trace again.
            if linked {
                self.actions.push(Action::Unlink);
            }
            if self.sighting.helper_over {
                self.finish(None);
            } else {
                self.link();
            }
            return;
        }
        if !matches!(self.state, State::Following { .. }) {
            return;
        }
        if from.is_some() && outstanding {
            self.relink(now);
        } else {
            let until = self.until;
            self.actions.push(Action::Send(ManagerFrame::Want(Want { from, until })));
        }
    }

    fn on_stop(&mut self, now: Instant, stop: Stop) {
        if self.is_ended() {
            return;
        }
        let since = self.stop.map_or(now, |(_, since)| since);
        let stop = self.stop.map_or(stop, |(known, _)| known.max(stop));
        self.stop = Some((stop, since));
        if !self.sighting.has_run && !self.said_running {
            // Nothing has run, so there is nothing to clean up and no log to wait for. GitLab
            // Runner waits for the pod first.
            self.actions.push(Action::Unlink);
            self.actions.push(Action::DeletePod);
            self.finish_as(Outcome::Cancelled, None, false);
            return;
        }
        self.send_stop();
    }

    /// Tells the agent to stop, if somebody wants that and it can be told.
    fn send_stop(&mut self) {
        if !self.is_welcome() || self.verdict.is_some() {
            return;
        }
        let mode = match (&self.ending, self.stop) {
            (Some(_), _) | (None, Some((Stop::Abort, _))) => StopMode::Abort,
            (None, Some((Stop::Cancel, _))) => StopMode::Cancel,
            (None, None) => return,
        };
        self.actions.push(Action::Send(ManagerFrame::Stop(StopFrame { mode })));
    }

    fn unheard_stop(&self) -> Option<Instant> {
        let (_, since) = self.stop?;
        (!self.is_welcome()).then_some(since + UNHEARD_STOP)
    }

    fn on_tick(&mut self, now: Instant) {
        match &mut self.state {
            State::Pause(until) if *until <= now => {
                if self.may_link() {
                    self.link();
                } else {
                    self.state = State::Waiting;
                }
            }
            State::Following { beat_at, .. } if *beat_at <= now => {
                *beat_at = now + BEAT;
                self.actions.push(Action::Send(ManagerFrame::Beat(Beat::default())));
            }
            _ => {}
        }
        if self.is_ended() {
            return;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !self.sighting.all_started && self.ending.is_none() && self.terms.start_by <= now {
            let what = self.waits_for.clone().unwrap_or_else(|| "its pod".to_owned());
            let message = format!("the job did not start in time; it waited for {what}");
            let detail = format!("poll_timeout passed; {:?}", self.sighting);
            self.on_end(now, End::new(InfraKind::System, message, detail));
        }
        if due(self.away_until) {
            let message = "the runner's helper container was killed and did not come back";
            let end = End::new(InfraKind::System, message, "no restart of helper in time");
            self.finish(Some(end));
        } else if due(self.unheard_stop()) {
            self.actions.push(Action::Unlink);
            self.actions.push(Action::DeletePod);
            self.finish_as(Outcome::Cancelled, None, false);
        } else if self.terms.end_by <= now {
            let problem = self.last_problem.clone().unwrap_or_default();
            let message = "the job is long over its time, and its pod does not answer";
            self.actions.push(Action::Unlink);
            self.finish(Some(End::new(InfraKind::System, message, problem)));
        }
    }

    /// Ends the job if nothing more is to come.
    fn conclude(&mut self, now: Instant) {
        if matches!(self.state, State::Ended { .. } | State::Superseded | State::Relaunching) {
            return;
        }
        let settled = self.settle_until.is_none_or(|until| until <= now) || self.ending.is_some();
        if let Some(verdict) = &self.verdict {
            let complete = self.position >= verdict.trace.length;
            if (complete && settled) || self.sighting.helper_over {
                let end = self.ending.take().map(|ending| ending.end);
                self.finish(end);
                return;
            }
        }
        let Some(ending) = &self.ending else { return };
        let nothing_to_hear = !self.sighting.has_run || self.sighting.helper_over;
        if nothing_to_hear || ending.until <= now {
            let end = self.ending.take().map(|ending| ending.end);
            self.finish(end);
        }
    }

    fn finish(&mut self, end: Option<End>) {
        let outcome = worst(self.verdict.as_ref(), end.as_ref());
        let outcome = match outcome {
            // Nobody knows, and nothing says why: at least that is said.
            Outcome::Unknown if self.verdict.is_none() => Outcome::Infra(Infra::new(
                InfraKind::System,
                "the job's pod ended, and nothing says how the job did",
            )),
            other => other,
        };
        let explained = self.verdict.as_ref().is_some_and(|verdict| verdict.outcome == outcome);
        let detail = end.map(|end| end.detail);
        self.finish_as(outcome, detail, explained);
    }

    fn finish_as(&mut self, outcome: Outcome, detail: Option<String>, explained: bool) {
        let linked = matches!(self.state, State::Following { .. });
        if matches!(self.state, State::Connecting) {
            self.actions.push(Action::Unlink);
        }
        self.state = State::Ended { linked };
        let trace = match &self.verdict {
            Some(verdict) => Some(verdict.trace).filter(|trace| self.position >= trace.length),
            // Nothing ever ran, so there is no trace, and that is certain.
            None if !self.sighting.has_run && !self.said_running => Some(Default::default()),
            None => None,
        };
        let stages = match &self.verdict {
            Some(verdict) if !verdict.stages.is_empty() => verdict.stages.clone(),
            _ => self.stages.clone(),
        };
        let explained = explained && trace.is_some();
        self.emit(JobEvent::Ended(JobEnd { outcome, trace, stages, explained, detail }));
    }
}

/// The pod went without a reason that anybody saw.
pub(super) fn deleted() -> End {
    End::new(
        InfraKind::System,
        "the job's pod was deleted by someone, or its node was removed",
        "the pod is gone",
    )
}
