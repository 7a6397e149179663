//! A job from its first stage to its verdict: which stages run, how often, and what their ends mean.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use runner_core::log::Message;
use runner_core::outcome::{Outcome, StageReport, TimeLimit, Verdict};
use runner_core::plan::{Plan, Stage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::Attempt;
use super::interruption::next_wish;
use crate::builder::{Builder, Door};
use crate::clock::now_ms;
use crate::control::{Control, Wish};
use crate::disruption::failed_beside_ending_services;
use crate::process::Reaper;
use crate::standing::{Standing, is_user_step};
use crate::summary::{self, Facts, before_the_agent};
use crate::usage::Usage;
use crate::words::{self, describe, wished_outcome};

pub(super) struct Supervisor<'a, D: Door> {
    pub(super) plan: &'a Plan,
    pub(super) control: &'a Rc<Control>,
    pub(super) reaper: &'a Reaper,
    pub(super) builder: Builder<D>,
    pub(super) standing: Standing,
    pub(super) deadline: Instant,
    pub(super) wishes: watch::Receiver<Option<Wish>>,
    /// The strongest wish that has been obeyed; each is obeyed once.
    pub(super) obeyed: Option<Wish>,
    /// Something in the checkout may not be the job's own user's yet.
    pub(super) to_hand_over: bool,
    /// The job knows whose its checkout is.
    pub(super) told_owner: bool,
    /// How long stages waited for the build container.
    pub(super) build_wait: Option<Duration>,
    /// The plan's notices are in the trace.
    pub(super) noticed: bool,
}

impl<'a, D: Door> Supervisor<'a, D> {
    pub(super) fn new(
        plan: &'a Plan,
        control: &'a Rc<Control>,
        reaper: &'a Reaper,
        builder: Builder<D>,
    ) -> Self {
        let wishes = control.wishes();
        Self {
            plan,
            control,
            reaper,
            builder,
            standing: Standing::default(),
            deadline: Instant::now() + plan.timeout,
            wishes,
            obeyed: None,
            to_hand_over: true,
            told_owner: false,
            build_wait: None,
            noticed: false,
        }
    }

    pub(super) async fn run(mut self) -> io::Result<Verdict> {
        let first = self.begin()?;
        for (index, stage) in self.plan.stages.iter().enumerate().skip(first) {
            if self.standing.admits(stage) {
                self.notice(stage)?;
                self.stage(index, stage).await?;
            }
        }
        self.builder.sweep().await;
        let outcome = self.standing.outcome();
        let line = words::last_line(&outcome);
        self.summarize(&outcome)?;
        let mut recorder = self.control.recorder.borrow_mut();
        recorder.say(&line)?;
        recorder.conclude(outcome)
    }

    /// Writes the header, or goes on where another supervisor was killed. The result is the first
    /// stage that is not over.
    fn begin(&mut self) -> io::Result<usize> {
        let mut recorder = self.control.recorder.borrow_mut();
        let state = recorder.state().clone();
        if let Some(began) = state.began_ms {
            let spent = Duration::from_millis(now_ms().saturating_sub(began));
            self.deadline = Instant::now() + self.plan.timeout.saturating_sub(spent);
            self.standing.failure = state.outcome;
            let over = state.finished.last().map(|(index, _)| index + 1);
            let first = state.running.map(|running| running.index).or(over).unwrap_or(0);
            self.standing.entered = self.plan.stages[..first].iter().any(is_user_step)
                && state
                    .finished
                    .iter()
                    .any(|(index, _)| self.plan.stages.get(*index).is_some_and(is_user_step));
            return Ok(first);
        }
        recorder.note(|state| state.began_ms = Some(now_ms()))?;
        for line in &self.plan.header {
            recorder.header(line)?;
        }
        Ok(0)
    }

    /// Says what the author should know before the commands run, once.
    fn notice(&mut self, stage: &Stage) -> io::Result<()> {
        if !is_user_step(stage) || std::mem::replace(&mut self.noticed, true) {
            return Ok(());
        }
        let mut recorder = self.control.recorder.borrow_mut();
        // A supervisor that goes on with a step has said it before.
        if recorder.state().running.is_some() {
            return Ok(());
        }
        self.plan.notices.iter().try_for_each(|notice| recorder.say(&Message::info(notice)))
    }

    /// Says where the time went. Nobody waits for it after an abort.
    fn summarize(&self, outcome: &Outcome) -> io::Result<()> {
        let Some(settings) = self.plan.summary else { return Ok(()) };
        let mut recorder = self.control.recorder.borrow_mut();
        let state = recorder.state();
        let stages: Vec<_> = state.finished.iter().map(|(_, report)| report.clone()).collect();
        let failed = stages.iter().find(|stage| stage.outcome == *outcome);
        let failure = (!outcome.is_success()).then(|| match failed {
            Some(stage) => format!("{}: {}", stage.name, describe(outcome)),
            None => describe(outcome),
        });
        let start = self.control.start();
        let (node, pod) = before_the_agent(settings.received_ms, start.placed_ms, state.began_ms);
        let facts = Facts {
            queued: settings.queued,
            node,
            pod,
            pulls: &start.pulls,
            build: self.build_wait,
            stages: &stages,
            usage: vec![("build", self.builder.usage()), ("helper", Usage::of_this_container())],
            failure,
        };
        let names = (summary::SECTION, summary::SECTION_END);
        recorder.section(names, &summary::heading(&facts), &summary::lines(&facts))
    }

    /// Runs a stage as often as it may be tried.
    async fn stage(&mut self, index: usize, stage: &Stage) -> io::Result<()> {
        let resumed = self.control.recorder.borrow().state().running.clone();
        let mut attempt = resumed.as_ref().map_or(1, |running| running.attempt);
        let mut resume = resumed.is_some();
        let stage_deadline = stage.timeout.map(|limit| {
            let spent = self.spent(limit.shared);
            (Instant::now() + limit.limit.saturating_sub(spent), limit.limit)
        });
        loop {
            let began = now_ms();
            let clock = Instant::now();
            let end = self.attempt(index, stage, attempt, resume, stage_deadline).await;
            resume = false;
            let took = clock.elapsed();
            let (outcome, wished) = match end {
                Attempt::Lost(error) => return Err(error),
                Attempt::Done => (Outcome::Exited(0), None),
                Attempt::Failed(outcome) => (self.blame(stage, outcome), None),
                Attempt::StageTime(limit) => (Outcome::TimedOut(TimeLimit::Stage(limit)), None),
                Attempt::JobTime => (Outcome::TimedOut(TimeLimit::Job(self.plan.timeout)), None),
                Attempt::Wished(wish) => (wished_outcome(wish), Some(wish)),
            };
            self.explain(stage, &outcome, wished)?;
            let report = StageReport {
                name: stage.name.clone(),
                started_ms: began,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                outcome: outcome.clone(),
            };
            self.control.recorder.borrow_mut().stage_finished(
                index,
                report,
                stage.title.is_some(),
            )?;
            self.spend(stage, took)?;
            let again = matches!(outcome, Outcome::Exited(code) if code != 0)
                && attempt < stage.attempts
                && wished.is_none();
            if !again {
                return self.settle(stage, outcome, wished);
            }
            self.control.recorder.borrow_mut().say(&Message::warning("Retrying..."))?;
            tokio::select! {
                () = sleep(self.plan.retry.after(attempt)) => {}
                () = sleep_until(self.deadline) => {}
                wish = next_wish(&mut self.wishes, self.obeyed) => {
                    return self.settle(stage, wished_outcome(wish), Some(wish));
                }
            }
            attempt += 1;
        }
    }

    /// A step that failed although nothing was wrong with it: the services that it needs may have
    /// obeyed the order to end at once.
    fn blame(&self, stage: &Stage, outcome: Outcome) -> Outcome {
        let disrupted = *self.control.disruption().borrow();
        match (disrupted.since, &outcome) {
            (Some(since), Outcome::Exited(_) | Outcome::Signalled(_))
                if is_user_step(stage) && disrupted.terms.services > 0 =>
            {
                failed_beside_ending_services(&describe(&outcome), since.elapsed())
            }
            _ => outcome,
        }
    }

    /// Takes note of how a stage ended.
    fn settle(&mut self, stage: &Stage, outcome: Outcome, wished: Option<Wish>) -> io::Result<()> {
        match (&outcome, wished) {
            (Outcome::Exited(0), _) => return Ok(()),
            // Before the build container is there, no step was entered and `after_script` has nowhere
            // to run.
            (_, Some(Wish::Cancel)) if is_user_step(stage) && self.standing.entered => {
                self.obeyed = Some(Wish::Cancel);
                self.standing.failure.get_or_insert(outcome);
            }
            // What the job wants kept of a failure is saved, as far as there is time.
            (_, Some(Wish::Interrupt)) if self.standing.entered => {
                self.obeyed = Some(Wish::Interrupt);
                self.standing.interrupt(outcome);
            }
            (_, Some(wish)) => {
                self.obeyed = self.obeyed.max(Some(wish));
                self.standing.halt(outcome);
            }
            (Outcome::TimedOut(TimeLimit::Job(_)) | Outcome::Infra(_), _) => {
                self.standing.halt(outcome);
            }
            (Outcome::TimedOut(_), _) if stage.name == "get_sources" => self.standing.halt(outcome),
            _ => self.standing.failed(stage, outcome),
        }
        let failure = self.standing.failure.clone();
        self.control.recorder.borrow_mut().note(|state| state.outcome = failure)
    }

    /// Says in the trace what the author should know beyond the stage's own output.
    fn explain(&self, stage: &Stage, outcome: &Outcome, wished: Option<Wish>) -> io::Result<()> {
        let mut recorder = self.control.recorder.borrow_mut();
        words::explanations(stage, outcome, wished).iter().try_for_each(|line| recorder.say(line))
    }

    fn spent(&self, shared: Option<u32>) -> Duration {
        let recorder = self.control.recorder.borrow();
        let spent = recorder.state().spent_ms.iter().find(|(group, _)| Some(*group) == shared);
        Duration::from_millis(spent.map_or(0, |(_, spent)| *spent))
    }

    fn spend(&self, stage: &Stage, took: Duration) -> io::Result<()> {
        let Some(group) = stage.timeout.and_then(|limit| limit.shared) else { return Ok(()) };
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.control.recorder.borrow_mut().note(|state| {
            match state.spent_ms.iter_mut().find(|(known, _)| *known == group) {
                Some((_, spent)) => *spent = spent.saturating_add(took),
                None => state.spent_ms.push((group, took)),
            }
        })
    }
}
