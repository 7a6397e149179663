//! The conversation with the agent: connecting, frames, trace.

use std::time::Duration;

use runner_core::executor::{JobEvent, Stop};
use runner_core::ids::Offset;
use runner_core::outcome::{InfraKind, Outcome, StageReport, Verdict};
use runner_core::plan::POD_EVENTS;
use runner_core::wire::{
    AgentFrame, AnswerFrame, AskFrame, DisruptionFrame, Hello, MOST_ASKS, ManagerFrame,
    OLDEST_WIRE_VERSION, RefusalReason, StageFrame, StartFrame, StopFrame, StopMode, WIRE_VERSION,
    Want, speaks,
};
use tokio::time::Instant;

use super::{Action, BEAT, Machine, PAUSES, SETTLE, State};
use crate::classify::End;

/// Most stages, and ends of stages, that an agent is believed. A plan has some twenty stages of at most ten attempts.
const MOST_STAGES: usize = 256;
/// Most bytes of text that one may come with; honest ones have a name and at most a sentence. With the
/// number it bounds what is kept of a hostile agent.
const LONGEST_STAGE: usize = 4096;

/// Whether a manager keeps this of an agent: the job may have taken its place.
fn is_believable(report: &StageReport) -> bool {
    let said = match &report.outcome {
        Outcome::Infra(infra) => infra.message.len(),
        _ => 0,
    };
    report.name.len() + said <= LONGEST_STAGE
}

impl Machine {
    pub(super) fn is_welcome(&self) -> bool {
        matches!(self.state, State::Following { welcomed: true, .. })
    }

    /// While another pod may have to take this one's place, nothing of its trace may be said.
    pub(super) fn may_link(&self) -> bool {
        let final_pod = self.sighting.all_started || self.terms.fallbacks.is_empty();
        self.sighting.reachable && (final_pod || self.ending.is_some())
    }

    pub(super) fn link(&mut self) {
        self.state = State::Connecting;
        self.actions.push(Action::Link);
    }

    pub(super) fn on_linked(&mut self, now: Instant) {
        if !matches!(self.state, State::Connecting) {
            self.actions.push(Action::Unlink);
            return;
        }
        self.state = State::Following { welcomed: false, beat_at: now + BEAT };
        self.barred = false;
        self.say_hello();
    }

    fn say_hello(&mut self) {
        self.actions.push(Action::Send(ManagerFrame::Hello(Hello {
            version: WIRE_VERSION,
            job: self.terms.job,
            epoch: self.terms.epoch,
            from: self.position,
            until: self.until.max(self.position),
        })));
    }

    pub(super) fn on_not_linked(
        &mut self,
        now: Instant,
        refused: bool,
        message: String,
        retry_after: Option<Duration>,
    ) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        self.barred = refused;
        if refused && self.tries == PAUSES.len() {
            // The verdict still comes through the watch; only the log does not.
            let reason = "the runner's role to allow a look at the job's log".to_owned();
            self.emit(JobEvent::Waiting { reason });
        }
        self.last_problem = Some(message);
        self.pause(now, retry_after);
    }

    pub(super) fn pause(&mut self, now: Instant, at_least: Option<Duration>) {
        let pause = PAUSES[self.tries.min(PAUSES.len() - 1)];
        self.tries += 1;
        self.state = State::Pause(now + pause.max(at_least.unwrap_or_default()));
    }

    pub(super) fn on_unlinked(&mut self, now: Instant, message: String) {
        if self.is_welcome() {
            self.unheard_from(now);
        }
        match &mut self.state {
            State::Following { .. } => {
                self.last_problem = Some(message);
                self.pause(now, None);
            }
            State::Ended { linked } => *linked = false,
            _ => {}
        }
    }

    pub(super) fn relink(&mut self, now: Instant) {
        if self.is_welcome() {
            self.unheard_from(now);
        }
        self.actions.push(Action::Unlink);
        self.pause(now, None);
    }

    pub(super) fn on_frame(&mut self, now: Instant, frame: AgentFrame) {
        if !matches!(self.state, State::Following { .. }) {
            return;
        }
        match frame {
            AgentFrame::Welcome(welcome) if !speaks(welcome.version) => {
                let message = "the job's pod runs an agent of another release, which this runner \
                               does not understand"
                    .to_owned();
                let detail = format!(
                    "the agent of release {:?} speaks version {} of the protocol, this manager \
                     versions {OLDEST_WIRE_VERSION} to {WIRE_VERSION}: the pod's agent image has to be \
                     at most two releases older than the manager",
                    welcome.release, welcome.version,
                );
                self.actions.push(Action::Unlink);
                self.finish(Some(End::new(InfraKind::System, message, detail)));
            }
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
                self.told.clear();
                self.told_grace = None;
                self.told_start = false;
                self.actions.push(Action::Listen(POD_EVENTS.to_owned()));
                self.tell_of_others();
                self.tell_of_grace();
                self.tell_of_start();
            }
            AgentFrame::Refused(refused) => match refused.reason {
                RefusalReason::Superseded => {
                    self.state = State::Superseded;
                    self.actions.push(Action::Unlink);
                    self.actions.push(Action::Superseded);
                }
                RefusalReason::Unassigned => {
                    self.actions.push(Action::Assign);
                    self.say_hello();
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
            AgentFrame::Ask(ask) => self.on_ask(ask),
            AgentFrame::Verdict(verdict) => self.on_verdict(now, verdict),
            // A frame of a later release.
            _ => {}
        }
    }

    /// Says what has changed of the containers that the agent cannot see.
    pub(super) fn tell_of_others(&mut self) {
        if !self.is_welcome() {
            return;
        }
        for seen in &self.sighting.others {
            if self.told.contains(seen) {
                continue;
            }
            if !self.told.iter().any(|told| told.name == seen.name) {
                self.actions.push(Action::Listen(seen.name.clone()));
            }
            self.told.retain(|told| told.name != seen.name);
            self.told.push(seen.clone());
            self.actions.push(Action::Send(ManagerFrame::Container(seen.clone())));
        }
    }

    /// Says how long the pod has, once it is being taken away: perhaps less than the agent believes.
    pub(super) fn tell_of_grace(&mut self) {
        let Some(grace) = self.sighting.grace.filter(|grace| self.told_grace != Some(*grace))
        else {
            return;
        };
        if self.is_welcome() && self.verdict.is_none() {
            self.told_grace = Some(grace);
            let frame = DisruptionFrame { grace_s: grace.as_secs() };
            self.actions.push(Action::Send(ManagerFrame::Disruption(frame)));
        }
    }

    pub(super) fn on_start(&mut self, known: StartFrame) {
        (self.start, self.told_start) = (Some(known), false);
        self.tell_of_start();
    }

    /// Says how the pod came to run: only a manager can see it, and the agent makes the summary.
    fn tell_of_start(&mut self) {
        if self.told_start || self.verdict.is_some() || !self.is_welcome() {
            return;
        }
        if let Some(known) = self.start.clone() {
            self.told_start = true;
            self.actions.push(Action::Send(ManagerFrame::Start(known)));
        }
    }

    /// After each welcome all stages are told again.
    pub(super) fn on_stage(&mut self, stage: StageFrame) {
        match stage {
            StageFrame::Started { name } => {
                let known = self.begun >= MOST_STAGES
                    || name.len() > LONGEST_STAGE
                    || self.stage.as_ref() == Some(&name)
                    || self.stages.iter().any(|stage| stage.name == name);
                if !known {
                    self.begun += 1;
                    self.stage = Some(name.clone());
                    self.emit(JobEvent::StageStarted { name });
                }
            }
            StageFrame::Finished(report) => {
                let room = self.stages.len() < MOST_STAGES && is_believable(&report);
                if room && !self.stages.contains(&report) {
                    self.stages.push(report.clone());
                    self.emit(JobEvent::StageFinished(report));
                }
            }
        }
    }

    pub(super) fn on_trace(&mut self, now: Instant, offset: Offset, mut bytes: bytes::Bytes) {
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

    pub(super) fn on_verdict(&mut self, now: Instant, verdict: Verdict) {
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

    pub(super) fn on_follow(&mut self, now: Instant, from: Option<Offset>, until: Offset) {
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

    /// Questions are repeated in every session until they are answered; an agent that floods us with
    /// them is not listened to.
    fn on_ask(&mut self, ask: AskFrame) {
        if self.asks.len() < MOST_ASKS && self.asks.insert(ask.id) {
            self.emit(JobEvent::Asked(ask));
        }
    }

    /// An answer that cannot be given now is asked for again in the next session.
    pub(super) fn on_answer(&mut self, answer: AnswerFrame) {
        self.asks.remove(&answer.id);
        if self.is_welcome() {
            self.actions.push(Action::Send(ManagerFrame::Answer(answer)));
        }
    }

    /// Tells the agent to stop, if somebody wants that and it can be told.
    pub(super) fn send_stop(&mut self) {
        if !self.is_welcome() || self.verdict.is_some() {
            return;
        }
        // The kubelet has told the agent, which knows what to do then.
        let ending = self.ending.as_ref().filter(|ending| !ending.end.disruption);
        let mode = match (ending, self.stop) {
            (Some(_), _) | (None, Some((Stop::Abort, _))) => StopMode::Abort,
            (None, Some((Stop::Cancel, _))) => StopMode::Cancel,
            (None, None) => return,
        };
        self.actions.push(Action::Send(ManagerFrame::Stop(StopFrame { mode })));
    }
}
