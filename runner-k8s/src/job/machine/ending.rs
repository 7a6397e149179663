//! How a job comes to its end: verdict, pod, deadlines and stops, compared.

use runner_core::executor::{JobEnd, JobEvent, Stop};
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::wire::{Beat, ManagerFrame};
use tokio::time::Instant;

use super::{
    AFTER_GRACE, Action, BARRED_STOP, BEAT, DELETE_AGAIN, Ending, LAST_WORDS, Machine, State,
    UNHEARD, UNHEARD_STOP, USUAL_GRACE,
};
use crate::classify::{End, Sighting, Whole, worst};

impl Machine {
    /// Whether a pull failure leads to another pod. The build container has not started, so nothing
    /// of the job's own has run; what the helper did is gone with its pod. The next policy may have
    /// the image at once, so the kubelet's own next try is not waited for.
    pub(super) fn relaunches(&mut self) -> bool {
        if self.said_running || self.ending.is_some() || self.stop.is_some() {
            return false;
        }
        let for_good = self.sighting.end.iter().filter_map(|end| end.pull_failure.clone());
        let so_far = self.sighting.failed_pulls.iter().map(|pull| pull.container.clone());
        let mut failed = for_good.chain(so_far);
        let next = failed.find_map(|container| {
            let policy = self.terms.fallbacks.next(&container)?;
            Some((container, policy))
        });
        let Some((container, policy)) = next else { return false };
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

    /// Whether the job gets a pod of its own for a warm one that went. An agent does nothing before
    /// it has the end of its plan, and this process has not sent that: so nothing has run.
    pub(super) fn replaces(&mut self) -> bool {
        let has_run = !self.terms.is_warm || self.said_running || self.verdict.is_some();
        if has_run || self.ending.is_some() || self.stop.is_some() {
            return false;
        }
        self.terms.is_warm = false;
        if matches!(self.state, State::Connecting | State::Following { .. }) {
            self.actions.push(Action::Unlink);
        }
        self.state = State::Relaunching;
        self.waits_for = None;
        let reason = "another pod: the one that was ready went before it had the job".to_owned();
        self.emit(JobEvent::Waiting { reason });
        self.actions.push(Action::Replace);
        true
    }

    /// The job cannot go on. If the agent can be heard, it is told to end, so that what it has of
    /// the trace is not lost.
    pub(super) fn on_end(&mut self, now: Instant, end: End) {
        match &mut self.ending {
            // What is seen later explains more: first "deleted", then who did it.
            Some(ending) => {
                let worse = ending.end.disruption && !end.disruption;
                ending.end = end;
                if worse {
                    ending.until = now + LAST_WORDS;
                    self.send_stop();
                }
            }
            None => {
                let until = match end.disruption {
                    true => now + self.sighting.grace.unwrap_or(USUAL_GRACE) + AFTER_GRACE,
                    false => now + LAST_WORDS,
                };
                self.ending = Some(Ending { end, until, unheard_until: now + UNHEARD });
                self.send_stop();
            }
        }
    }

    /// When a job that cannot go on is given up, whatever its agent might still say.
    pub(super) fn gives_up(&self, ending: &Ending) -> Instant {
        match self.is_welcome() {
            true => ending.until,
            false => ending.until.min(ending.unheard_until),
        }
    }

    /// The agent cannot be heard from now on.
    pub(super) fn unheard_from(&mut self, now: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.unheard_until = now + UNHEARD;
        }
    }

    pub(super) fn on_gone(&mut self, last: Option<Sighting>) {
        if self.is_ended() {
            // Should the trace be wanted again, there is nobody to ask.
            self.sighting.helper_over = true;
            return;
        }
        if matches!(self.state, State::Relaunching) || self.replaces() {
            return;
        }
        let seen = last.unwrap_or_else(|| self.sighting.clone());
        self.verdict = self.verdict.take().or(seen.verdict);
        let known = self.ending.take().map(|ending| ending.end).or(seen.end);
        let node = seen.node.or(self.sighting.node.take());
        self.sighting = Sighting { helper_over: true, has_run: true, node, ..Sighting::default() };
        let complete = self.verdict.as_ref().is_some_and(|v| self.position >= v.trace.length);
        let end = known.or_else(|| (!complete).then(|| deleted(self.sighting.node.as_deref())));
        self.finish(end);
    }

    pub(super) fn on_stop(&mut self, now: Instant, stop: Stop) {
        if self.is_ended() {
            return;
        }
        let since = self.stop.map_or(now, |(_, since)| since);
        let stop = self.stop.map_or(stop, |(known, _)| known.max(stop));
        self.stop = Some((stop, since));
        if self.never_ran() {
            // Nothing has run, so there is nothing to clean up and no log to wait for. GitLab
            // Runner waits for the pod first.
            self.delete_pod();
            return;
        }
        self.send_stop();
    }

    fn delete_pod(&mut self) {
        self.delete_at = None;
        if !self.deleting {
            self.deleting = true;
            self.actions.push(Action::DeletePod);
        }
    }

    fn never_ran(&self) -> bool {
        !self.sighting.has_run && !self.said_running
    }

    /// A stopped job is over when its pod is: before that it may still run, and what it writes and
    /// comes to counts.
    pub(super) fn on_deleted(&mut self, now: Instant, gone: bool) {
        self.deleting = false;
        if self.is_ended() {
            return;
        }
        if gone {
            self.actions.push(Action::Unlink);
            self.finish_as(Outcome::Cancelled, None, false);
        } else if self.never_ran() {
            self.delete_at = Some(now + DELETE_AGAIN);
        } else if let Some((_, since)) = &mut self.stop {
            // Who cannot be told to delete the pod could not carry a stream into it either.
            *since = now;
        }
    }

    pub(super) fn unheard_stop(&self) -> Option<Instant> {
        let (_, since) = self.stop?;
        let patience = if self.barred { BARRED_STOP } else { UNHEARD_STOP };
        // A job that is over has heard it, or need not; its trace may be wanted again.
        let unheard = !self.is_welcome() && self.verdict.is_none() && !self.deleting;
        (unheard && !self.never_ran()).then_some(since + patience)
    }

    pub(super) fn on_tick(&mut self, now: Instant) {
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
            let end = match self.sighting.failed_pulls.first() {
                Some(pull) => pull.end.clone(),
                None => self.not_started(),
            };
            self.on_end(now, end);
        }
        if due(self.settle_until) {
            // A time that is past would be the next deadline for ever, and nothing else would be
            // heard, if the trace is wanted again.
            self.settle_until = None;
        }
        if due(self.away_until) {
            let message = "the runner's helper container was killed and did not come back";
            let end = End::new(InfraKind::System, message, "no restart of helper in time");
            self.finish(Some(end));
        } else if due(self.unheard_stop()) || (due(self.delete_at) && self.never_ran()) {
            self.delete_pod();
        } else if due(self.delete_at) {
            // It runs by now, and is told to stop as soon as it is heard.
            self.delete_at = None;
        } else if self.terms.end_by <= now {
            let problem = self.last_problem.clone().unwrap_or_default();
            let message = "the job is long over its time, and its pod does not answer";
            self.actions.push(Action::Unlink);
            self.finish(Some(End::new(InfraKind::System, message, problem)));
        }
    }

    fn not_started(&self) -> End {
        let what = self.waits_for.as_deref().unwrap_or("its pod");
        let message = format!("the job did not start in time; it waited for {what}");
        End::new(InfraKind::System, message, format!("poll_timeout passed; {:?}", self.sighting))
    }

    /// Ends the job if nothing more is to come.
    pub(super) fn conclude(&mut self, now: Instant) {
        if matches!(self.state, State::Ended { .. } | State::Superseded | State::Relaunching) {
            return;
        }
        self.settled |= self.settle_until.is_some_and(|until| until <= now);
        let settled = self.settled || self.settle_until.is_none() || self.ending.is_some();
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
        if nothing_to_hear || self.gives_up(ending) <= now {
            let end = self.ending.take().map(|ending| ending.end);
            self.finish(end);
        }
    }

    pub(super) fn finish(&mut self, end: Option<End>) {
        let end = end.or_else(|| self.told_to_end());
        let whole = match &self.verdict {
            Some(verdict) if self.position >= verdict.trace.length => Whole::Yes,
            _ => Whole::No,
        };
        let outcome = worst(self.verdict.as_ref(), end.as_ref(), whole);
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

    /// The agent was told to end, and nothing shows why: a node that shuts down says so too late.
    fn told_to_end(&self) -> Option<End> {
        let Outcome::Infra(infra) = &self.verdict.as_ref()?.outcome else { return None };
        let on =
            self.sighting.node.as_ref().map_or(String::new(), |name| format!(" on node {name}"));
        (infra.kind == InfraKind::Interrupted).then(|| {
            let detail = format!("the pod{on} got TERM, and its status does not say why");
            End::new(InfraKind::System, format!("{}{on}", infra.message), detail).by_disruption()
        })
    }

    pub(super) fn finish_as(&mut self, outcome: Outcome, detail: Option<String>, explained: bool) {
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
fn deleted(node: Option<&str>) -> End {
    let node = node.map_or(String::new(), |name| format!(" {name}"));
    let message = format!("the job's pod was deleted by someone, or its node{node} was removed");
    End::new(InfraKind::System, message, "the pod is gone")
}
