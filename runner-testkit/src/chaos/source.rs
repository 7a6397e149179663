//! A source of jobs in memory, which can be as bad as a GitLab behind a bad network, and which
//! remembers everything that it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Image, Job, Project, SourceFeatures, Step};
use runner_core::outcome::{Outcome, TraceSummary};
use runner_core::secret::Secret;
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Offer, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::trace;

use super::schedule::JobPlan;

/// How long a request for a job is held back when there is none.
const HELD_BACK: Duration = Duration::from_secs(50);
/// After this time a job that nobody accepted goes to somebody else, as with GitLab.
const UNACCEPTED: Duration = Duration::from_secs(60);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a job, as the source knows it.
#[derive(Clone, Debug)]
pub struct MemoryJob {
    /// What it is.
    pub plan: JobPlan,
    /// How often it was handed out.
    pub given: u32,
    /// Somebody said that it runs.
    pub accepted: bool,
    /// Its trace.
    pub trace: Vec<u8>,
    /// Every verdict that was offered while the job ran, with its summary of the trace.
    pub verdicts: Vec<(Outcome, Option<TraceSummary>)>,
    /// The first that was taken, and when.
    pub verdict: Option<(Outcome, Instant)>,
    /// Somebody cancelled it, at this time.
    pub cancelled: Option<Instant>,
    /// The source wants nothing more of it, since this time.
    pub aborted: Option<Instant>,
    /// The source has lost bytes of the trace that it had acknowledged.
    pub lost_trace: bool,
    due: Instant,
    given_at: Option<Instant>,
    rejections: u32,
    hesitations: u32,
}

impl MemoryJob {
    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.verdict.is_some() || self.aborted.is_some()
    }
}

/// The queue behind all connections of all managers.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    jobs: BTreeMap<JobId, MemoryJob>,
    away: Option<Instant>,
    silent: Option<Instant>,
    forbids: Option<Instant>,
    slow: Option<(Instant, Duration)>,
    lost_answers: u32,
    /// Grows when something changes that a held request waits for.
    changes: watch::Sender<u64>,
    wrongs: Vec<String>,
}

/// A manager's way to the source, which can be hurt. The same line may carry its requests to a
/// cluster.
#[derive(Clone, Debug)]
pub struct Line(watch::Sender<Condition>);

/// What a line is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Good,
    Cut,
    Frozen,
    Dead,
}

impl Default for Line {
    fn default() -> Self {
        Self(watch::Sender::new(Condition::Good))
    }
}

impl Line {
    /// Breaks it: everything on it fails.
    pub fn cut(&self) {
        self.change(Condition::Cut);
    }

    /// Nothing moves on it any more.
    pub fn freeze(&self) {
        self.change(Condition::Frozen);
    }

    /// It is good again.
    pub fn mend(&self) {
        self.change(Condition::Good);
    }

    /// The manager at its end is killed. For good.
    pub fn kill(&self) {
        self.0.send_replace(Condition::Dead);
    }

    fn change(&self, to: Condition) {
        self.0.send_if_modified(|now| {
            let changes = *now != Condition::Dead && *now != to;
            if changes {
                *now = to;
            }
            changes
        });
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(*self.0.borrow(), Condition::Cut | Condition::Dead)
    }

    /// Whether nothing moves on it.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        *self.0.borrow() == Condition::Frozen
    }

    /// Waits until something else holds than now. Cancel safe.
    pub async fn changed(&self) {
        let mut condition = self.0.subscribe();
        // The sender is in `self`.
        drop(condition.changed().await);
    }

    /// Waits while nothing moves; false when the line is broken.
    async fn pass(&self) -> bool {
        let mut condition = self.0.subscribe();
        // The sender is in `self`.
        drop(condition.wait_for(|now| *now != Condition::Frozen).await);
        !self.is_cut()
    }
}

/// One manager's view of the [`Queue`].
#[derive(Clone, Debug)]
pub struct MemorySource {
    queue: Queue,
    line: Line,
}

impl Queue {
    /// A queue into which these jobs come at their times from now on.
    #[must_use]
    pub fn new(jobs: &[JobPlan]) -> Self {
        let now = Instant::now();
        let job = |plan: &JobPlan| {
            let job = MemoryJob {
                plan: plan.clone(),
                given: 0,
                accepted: false,
                trace: Vec::new(),
                verdicts: Vec::new(),
                verdict: None,
                cancelled: None,
                aborted: None,
                lost_trace: false,
                due: now + plan.arrives,
                given_at: None,
                rejections: 0,
                hesitations: 0,
            };
            (plan.id, job)
        };
        Self(Arc::new(Mutex::new(State {
            jobs: jobs.iter().map(job).collect(),
            away: None,
            silent: None,
            forbids: None,
            slow: None,
            lost_answers: 0,
            changes: watch::Sender::new(0),
            wrongs: Vec::new(),
        })))
    }

    /// A manager's way to it.
    #[must_use]
    pub fn source(&self, line: Line) -> MemorySource {
        MemorySource { queue: self.clone(), line }
    }

    /// All jobs as they stand.
    #[must_use]
    pub fn jobs(&self) -> Vec<MemoryJob> {
        self.0.lock().jobs.values().cloned().collect()
    }

    /// What managers did that they must not do.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.0.lock().wrongs.clone()
    }

    /// Waits until nothing more is to come of any job. Cancel safe.
    pub async fn all_over(&self) {
        let mut changes = self.0.lock().changes.subscribe();
        // The sender is in `self`.
        drop(changes.wait_for(|_| self.0.lock().jobs.values().all(MemoryJob::is_over)).await);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let changes = {
            let mut state = self.0.lock();
            change(&mut state);
            state.changes.clone()
        };
        changes.send_modify(|count| *count += 1);
    }

    /// Answers with an error for so long.
    pub fn away(&self, time: Duration) {
        self.change(|state| state.away = Some(Instant::now() + time));
    }

    /// Answers nothing for so long.
    pub fn silent(&self, time: Duration) {
        self.change(|state| state.silent = Some(Instant::now() + time));
    }

    /// Answers 403 for so long.
    pub fn forbid(&self, time: Duration) {
        self.change(|state| state.forbids = Some(Instant::now() + time));
    }

    /// Answers late by this, for ten times as long.
    pub fn slow(&self, by: Duration) {
        self.change(|state| state.slow = Some((Instant::now() + by * 10, by)));
    }

    /// Loses the next so many answers after it has done what was asked for.
    pub fn lose_answers(&self, count: u32) {
        self.change(|state| state.lost_answers += count);
    }

    /// Everything works again.
    pub fn recover(&self) {
        self.change(|state| {
            (state.away, state.silent, state.forbids, state.slow) = (None, None, None, None);
            state.lost_answers = 0;
        });
    }

    /// Changes a job that is not over; whether there was one.
    fn with(&self, id: JobId, change: impl FnOnce(&mut MemoryJob)) {
        self.change(|state| {
            if let Some(job) = state.jobs.get_mut(&id).filter(|job| !job.is_over()) {
                change(job);
            }
        });
    }

    /// Loses bytes at the end of a trace.
    pub fn lose_trace(&self, id: JobId, bytes: usize) {
        self.with(id, |job| {
            let keep = job.trace.len().saturating_sub(bytes);
            job.lost_trace |= keep < job.trace.len();
            job.trace.truncate(keep);
        });
    }

    /// Rejects the trace once although it is right.
    pub fn reject_trace(&self, id: JobId) {
        self.with(id, |job| job.rejections += 1);
    }

    /// Asks for patience so many times before it takes the verdict.
    pub fn hesitate(&self, id: JobId, times: u32) {
        self.with(id, |job| job.hesitations += times);
    }

    /// Cancels a job.
    pub fn cancel(&self, id: JobId) {
        self.with(id, |job| {
            job.cancelled.get_or_insert_with(Instant::now);
        });
    }

    /// Wants nothing more of a job.
    pub fn abort(&self, id: JobId) {
        self.with(id, |job| job.aborted = Some(Instant::now()));
    }
}

fn unavailable(message: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, message)
}

/// A ticket names the job and the time it was handed out, as GitLab's job token does.
fn ticket(id: JobId, given: u32) -> Ticket {
    Ticket(Secret::new(format!("{id}/{given}")))
}

impl MemorySource {
    fn wrong(&self, what: String) {
        self.queue.0.lock().wrongs.push(what);
    }

    /// What lies between a request and its effect.
    async fn on_the_way(&self) -> Result<(), SourceError> {
        let give_up = Instant::now() + PATIENCE;
        match timeout_at(give_up, self.way()).await {
            Ok(result) => result,
            Err(_) => Err(unavailable("no answer within a minute")),
        }
    }

    async fn way(&self) -> Result<(), SourceError> {
        if *self.line.0.borrow() == Condition::Dead {
            self.wrong("a manager spoke after it was killed".into());
        }
        if !self.line.pass().await {
            return Err(unavailable("connection reset"));
        }
        // Never at once: real requests take their time, and so give others theirs.
        sleep(Duration::from_millis(5)).await;
        loop {
            let now = Instant::now();
            let wait = {
                let state = self.queue.0.lock();
                if state.away.is_some_and(|until| now < until) {
                    return Err(unavailable("502 Bad Gateway"));
                }
                if state.forbids.is_some_and(|until| now < until) {
                    return Err(SourceError::new(SourceErrorKind::Forbidden, "403 Forbidden"));
                }
                state.silent.filter(|until| now < *until)
            };
            let Some(until) = wait else { break };
            sleep_until(until).await;
        }
        let slow = self.queue.0.lock().slow;
        if let Some((until, by)) = slow
            && Instant::now() < until
        {
            sleep(by).await;
        }
        match self.line.pass().await {
            true => Ok(()),
            false => Err(unavailable("connection reset")),
        }
    }

    /// What lies between the effect and the answer.
    async fn way_back(&self) -> Result<(), SourceError> {
        let lost = {
            let mut state = self.queue.0.lock();
            let lost = state.lost_answers > 0;
            state.lost_answers = state.lost_answers.saturating_sub(1);
            lost
        };
        if lost || !self.line.pass().await {
            return Err(unavailable("the connection broke before the answer came"));
        }
        Ok(())
    }

    /// Asks something about a job; `None` when the ticket is of no more use.
    fn ask<T>(&self, of: &Ticket, act: impl FnOnce(&mut MemoryJob) -> T) -> Option<T> {
        let mut state = self.queue.0.lock();
        let (id, given) = of.0.expose().split_once('/')?;
        let (id, given): (u64, u32) = (id.parse().ok()?, given.parse().ok()?);
        let job = state.jobs.get_mut(&JobId(id))?;
        let told = (job.given == given && !job.is_over()).then(|| act(job));
        trace!(id, given, current = job.given, over = job.is_over(), heard = told.is_some());
        let changes = state.changes.clone();
        drop(state);
        changes.send_modify(|count| *count += 1);
        told
    }

    /// The same about a job of which the source knows that it runs.
    fn ask_running<T>(&self, of: &Ticket, act: impl FnOnce(&mut MemoryJob) -> T) -> Option<T> {
        self.ask(of, |job| job.accepted.then(|| act(job))).flatten()
    }

    fn hand_out(&self) -> Option<Offer> {
        let now = Instant::now();
        let mut state = self.queue.0.lock();
        let job = state.jobs.values_mut().find(|job| {
            let free = job.given_at.is_none_or(|at| !job.accepted && now >= at + UNACCEPTED);
            !job.is_over() && job.due <= now && free
        })?;
        if job.cancelled.is_some() {
            // Cancelled while nobody had it: GitLab does not hand it out.
            job.verdict = Some((Outcome::Cancelled, now));
            job.verdicts.push((Outcome::Cancelled, None));
            return None;
        }
        job.given += 1;
        job.given_at = Some(now);
        Some(Offer { job: offer(&job.plan), ticket: ticket(job.plan.id, job.given) })
    }

    /// When there may be a job for somebody who asks.
    fn next_due(&self) -> Option<Instant> {
        let state = self.queue.0.lock();
        let open = state.jobs.values().filter(|job| !job.is_over() && !job.accepted);
        open.map(|job| job.given_at.map_or(job.due, |at| at + UNACCEPTED)).min()
    }
}

fn reply(job: &MemoryJob) -> Reply {
    let directive = match job.cancelled {
        Some(_) => Directive::Cancel,
        None => Directive::Continue,
    };
    Reply { directive, interval: None }
}

const NOT_WANTED: Reply = Reply { directive: Directive::Abort, interval: None };

fn offer(plan: &JobPlan) -> Job {
    let step = |name: &str, script: &super::script::Script| Step {
        name: name.to_owned(),
        script: vec![script.command()],
    };
    let after = plan.after_script.as_ref().map(|script| step("after_script", script));
    let steps = std::iter::once(step("script", &plan.script)).chain(after).collect();
    let project = Project {
        id: 7,
        name: "widgets".into(),
        path: "group/widgets".into(),
        ..Project::default()
    };
    Job {
        name: format!("job {}", plan.id),
        project,
        steps,
        image: Some(Image { name: "build:1".into(), ..Image::default() }),
        timeout: plan.timeout,
        features: SourceFeatures::default(),
        url: Some(format!("https://source.example/jobs/{}", plan.id)),
        ..Job::empty(plan.id)
    }
}

#[async_trait]
impl JobSource for MemorySource {
    fn id(&self) -> SourceId {
        SourceId("https://source.example#memory".into())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        self.on_the_way().await?;
        let give_up = Instant::now() + HELD_BACK;
        let mut changes = self.queue.0.lock().changes.subscribe();
        loop {
            changes.mark_unchanged();
            let offer = self.hand_out();
            if let Some(offer) = offer {
                self.way_back().await?;
                return Ok(Polled::job(offer));
            }
            let due = self.next_due().map_or(give_up, |due| due.min(give_up));
            tokio::select! {
                biased;
                () = self.line.changed() => self.way_back().await?,
                () = sleep_until(due) => {}
                changed = changes.changed() => drop(changed),
            }
            if Instant::now() >= give_up {
                return Ok(Polled::nothing());
            }
        }
    }

    async fn accept(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        self.on_the_way().await?;
        let told = self.ask(ticket, |job| {
            job.accepted = true;
            reply(job)
        });
        self.way_back().await?;
        Ok(told.unwrap_or(NOT_WANTED))
    }

    async fn append(
        &self,
        ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        self.on_the_way().await?;
        let told = self.ask_running(ticket, |job| {
            let has = Offset(job.trace.len() as u64);
            // As GitLab: what does not begin where the trace ends is refused, and says where it ends.
            if from != has {
                return Appended::Elsewhere { has, reply: reply(job) };
            }
            chunks.iter().for_each(|chunk| job.trace.extend_from_slice(chunk));
            Appended::Stored(reply(job))
        });
        self.way_back().await?;
        Ok(told.unwrap_or(Appended::Stored(NOT_WANTED)))
    }

    async fn touch(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        self.on_the_way().await?;
        // For GitLab it is the same request as the one that accepts a job.
        let told = self.ask(ticket, |job| {
            job.accepted = true;
            reply(job)
        });
        self.way_back().await?;
        Ok(told.unwrap_or(NOT_WANTED))
    }

    async fn finish(
        &self,
        ticket: &Ticket,
        conclusion: &Conclusion,
    ) -> Result<Finished, SourceError> {
        self.on_the_way().await?;
        let told = self.ask_running(ticket, |job| {
            job.verdicts.push((conclusion.outcome.clone(), conclusion.trace));
            let has = TraceSummary::of(&job.trace);
            if job.rejections > 0 && conclusion.trace.is_some() {
                job.rejections -= 1;
                return Finished::TraceRejected;
            }
            if conclusion.trace.is_some_and(|trace| trace != has) {
                return Finished::TraceRejected;
            }
            if job.hesitations > 0 {
                job.hesitations -= 1;
                return Finished::Pending { interval: None };
            }
            job.verdict = Some((conclusion.outcome.clone(), Instant::now()));
            Finished::Done
        });
        self.way_back().await?;
        // Who says it again after a lost answer gets what GitLab says: the job does not run.
        Ok(told.unwrap_or(Finished::Done))
    }
}
