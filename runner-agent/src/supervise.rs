//! PID 1 of the helper container: runs the job.
//!
//! ```text
//!   plan ──► Supervisor::run ──► stages in helper ─┐
//!                 │       └────► Builder (scripts) ─┼─► Recorder ──► sessions ──► managers
//!                 └─ deadlines, wishes ─────────────┘
//! ```

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use runner_core::layout;
use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome, StageReport, TimeLimit, Verdict};
use runner_core::plan::{BuildUser, GitStrategy, Operation, Place, Plan, PlanReadError, Stage};
use rustix::process::Signal;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::builder::{Builder, Door, Ending, SocketDoor};
use crate::clock::{in_words, now_ms};
use crate::companions::BUILD;
use crate::control::{Control, Wish};
use crate::journal::Running;
use crate::link::{Order, RunId};
use crate::plan_file;
use crate::process::{
    ExitStatus, Reaper, become_reaper_of_descendants, protect_memory, signal_group,
};
use crate::recorder::Recorder;
use crate::session::{Callers, ManagerSocket, serve_managers};
use crate::stages::{Context, StageFailure, ownership};
use crate::standing::{Standing, is_user_step};
use crate::summary::{self, Facts};
use crate::usage::Usage;
use crate::waiting::{PLAN_FILE, wait_for_plan};
use crate::words::{self, describe, wished_outcome};

/// How long the build container may take to start after the helper: its image may still be pulled.
/// The executor's own limit for that is shorter; this one only bounds the wait.
const BUILD_STARTS: Duration = Duration::from_secs(60 * 60);
/// Longest termination message that the kubelet keeps.
const TERMINATION_MESSAGE: usize = 4096;

/// How `supervise` is set up.
#[derive(Clone, Debug)]
pub struct SuperviseOptions {
    /// Directory with `plan.0`, `plan.1`, ….
    pub plan: PathBuf,
    /// Directory for spool, journal and control socket.
    pub state: PathBuf,
    /// Directory for the build container's socket.
    pub link: PathBuf,
    /// Put before all directories of the plan, when this is not a container.
    pub root: Option<String>,
    /// Where the kubelet reads the last words.
    pub termination_log: PathBuf,
    /// There is no plan yet: a manager brings it, within this time.
    pub wait: Option<Duration>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// The plan's files cannot be read.
    #[error("cannot read the plan in {path}")]
    PlanFiles {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The plan is none.
    #[error(transparent)]
    Plan(#[from] PlanReadError),
    /// Trace or journal cannot be written.
    #[error("cannot keep the job's log and state")]
    Keep(#[from] io::Error),
}

/// Runs the job, keeps trace and verdict until a manager says that the source has them, or until
/// the plan's time for that is over.
///
/// # Errors
/// When there is no usable plan or no place for the trace.
pub async fn supervise(options: &SuperviseOptions, reaper: Reaper) -> Result<(), SuperviseError> {
    protect_memory()?;
    // Who was started here shall not pass for somebody from outside by losing its parent, not even
    // where containers share a process namespace.
    become_reaper_of_descendants()?;
    ownership::share_with_group();
    fs::create_dir_all(&options.state)?;
    // Before anything else: who comes now does not have to try again later.
    let door = SocketDoor::listen(options.link.join(layout::SOCKET))?;
    let socket = options.state.join(layout::CONTROL);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    let mut first = None;
    if let Some(patience) = options.wait
        && !options.state.join(PLAN_FILE).exists()
    {
        first = tokio::select! {
            waited = wait_for_plan(&listener, &options.state, patience) => waited?,
            () = terminated() => None,
        };
        if first.is_none() {
            return Ok(());
        }
    }
    let directory = if options.wait.is_some() { &options.state } else { &options.plan };
    let plan = plan_file::read(directory, options.root.as_deref())?;
    let recorder = Recorder::open(&options.state, &plan.log)?;
    let control = Control::new(&plan, recorder);
    let mut terminated = signal(SignalKind::terminate())?;
    let interrupted = async {
        while terminated.recv().await.is_some() {
            control.wish(Wish::Interrupt);
        }
    };
    let surroundings = Surroundings {
        door,
        callers: ManagerSocket { listener, first },
        termination_log: &options.termination_log,
    };
    tokio::select! {
        result = supervise_in(surroundings, &plan, &control, &reaper) => Ok(result?),
        () = interrupted => Ok(()),
    }
}

/// What a supervisor has around it; in a pod these are sockets.
#[derive(Debug)]
pub struct Surroundings<'a, D, C> {
    /// Where the build container comes in.
    pub door: D,
    /// Where managers come in.
    pub callers: C,
    /// Where the kubelet reads the last words.
    pub termination_log: &'a Path,
}

/// Runs the job of this plan, or goes on where an earlier supervisor was killed, and keeps trace and
/// verdict as [`supervise`] does. It installs nothing in its process, so that any number can run in
/// one.
///
/// # Errors
/// When trace or journal cannot be written.
pub async fn supervise_in<D: Door, C: Callers>(
    surroundings: Surroundings<'_, D, C>,
    plan: &Plan,
    control: &Rc<Control>,
    reaper: &Reaper,
) -> io::Result<()> {
    let Surroundings { door, callers, termination_log } = surroundings;
    let job = async {
        let known = control.recorder.borrow().state().verdict.clone();
        let verdict = match known {
            Some(verdict) => verdict,
            None => {
                let builder = Builder::new(door, Rc::clone(control));
                Supervisor::new(plan, control, reaper, builder).run().await?
            }
        };
        // The watch on the pod shows it even to a manager that may not exec.
        let _ = fs::write(termination_log, last_words(&verdict));
        let _ = timeout(plan.hold, control.released()).await;
        Ok(())
    };
    tokio::select! {
        result = job => result,
        () = serve_managers(callers, Rc::clone(control)) => Ok(()),
    }
}

/// Waits for the order to end; PID 1 gets none that it does not ask for.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// The verdict for the termination message: without the stages where they do not fit.
fn last_words(verdict: &Verdict) -> Vec<u8> {
    let whole = serde_json::to_vec(verdict).unwrap_or_default();
    if whole.len() <= TERMINATION_MESSAGE {
        return whole;
    }
    let mut short = Verdict { stages: Vec::new(), ..verdict.clone() };
    if let Outcome::Infra(infra) = &mut short.outcome {
        let end = infra.message.floor_char_boundary(1024);
        infra.message.truncate(end);
    }
    serde_json::to_vec(&short).unwrap_or_default()
}

struct Supervisor<'a, D: Door> {
    plan: &'a Plan,
    control: &'a Rc<Control>,
    reaper: &'a Reaper,
    builder: Builder<D>,
    standing: Standing,
    deadline: Instant,
    wishes: watch::Receiver<Option<Wish>>,
    /// A wish to cancel that has been obeyed; it is obeyed once.
    cancelled: bool,
    /// Something in the checkout may not be the job's own user's yet.
    to_hand_over: bool,
    /// The job knows whose its checkout is.
    told_owner: bool,
    /// How long stages waited for the build container.
    build_wait: Option<Duration>,
    /// The plan's notices are in the trace.
    noticed: bool,
}

/// How one attempt at a stage ended.
enum Attempt {
    Done,
    Failed(Outcome),
    /// The stage's own deadline.
    StageTime(Duration),
    /// The job's deadline.
    JobTime,
    /// Somebody wants the job to end.
    Wished(Wish),
    /// There is nowhere to write to: no verdict can be kept either.
    Lost(io::Error),
}

impl<'a, D: Door> Supervisor<'a, D> {
    fn new(
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
            cancelled: false,
            to_hand_over: true,
            told_owner: false,
            build_wait: None,
            noticed: false,
        }
    }

    async fn run(mut self) -> io::Result<Verdict> {
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
        let since_received = |received| Some(Duration::from_millis(state.began_ms? - received));
        let received = settings.received_ms.filter(|ms| state.began_ms.is_some_and(|at| at >= *ms));
        let failed = stages.iter().find(|stage| stage.outcome == *outcome);
        let failure = (!outcome.is_success()).then(|| match failed {
            Some(stage) => format!("{}: {}", stage.name, describe(outcome)),
            None => describe(outcome),
        });
        let facts = Facts {
            queued: settings.queued,
            pod: received.and_then(since_received),
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
                Attempt::Failed(outcome) => (outcome, None),
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
                wish = next_wish(&mut self.wishes, self.cancelled) => {
                    return self.settle(stage, wished_outcome(wish), Some(wish));
                }
            }
            attempt += 1;
        }
    }

    /// Takes note of how a stage ended.
    fn settle(&mut self, stage: &Stage, outcome: Outcome, wished: Option<Wish>) -> io::Result<()> {
        match (&outcome, wished) {
            (Outcome::Exited(0), _) => return Ok(()),
            // Before the build container is there, no step was entered and `after_script` has nowhere
            // to run.
            (_, Some(Wish::Cancel)) if is_user_step(stage) && self.standing.entered => {
                self.cancelled = true;
                self.standing.failure.get_or_insert(outcome);
            }
            (_, Some(wish)) => {
                self.cancelled |= wish == Wish::Cancel;
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

    /// One attempt, with its deadlines and the wish to stop.
    async fn attempt(
        &mut self,
        index: usize,
        stage: &Stage,
        attempt: u32,
        resume: bool,
        stage_deadline: Option<(Instant, Duration)>,
    ) -> Attempt {
        let in_build =
            matches!(stage.operation, Operation::Script(_)) && stage.place == Place::Build;
        if attempt == 2 && !resume {
            match self.clear_worktree(stage) {
                Ok(None) => {}
                Ok(Some(outcome)) => return Attempt::Failed(outcome),
                Err(error) => return Attempt::Lost(error),
            }
        }
        let started = {
            let mut recorder = self.control.recorder.borrow_mut();
            if resume && in_build {
                Ok(())
            } else {
                let running = Running { index, attempt, since_ms: now_ms() };
                let warned = match resume {
                    true => recorder.say(&Message::warning(format_args!(
                        "the helper container was restarted; {} runs again",
                        stage.name
                    ))),
                    false => Ok(()),
                };
                warned.and_then(|()| {
                    recorder.stage_started(running, &stage.name, stage.title.as_deref())
                })
            }
        };
        if let Err(error) = started {
            return Attempt::Lost(error);
        }
        // After an abort or a deadline, what always runs gets the grace and nothing else.
        let job_deadline = match self.standing.halted {
            true => Instant::now() + self.plan.grace,
            false => self.deadline,
        };
        let obeys = !self.standing.halted;
        // A cancel after the user's steps has no effect on what follows them.
        self.cancelled |= self.standing.entered && !is_user_step(stage);
        if in_build {
            self.script(index, stage, attempt, job_deadline, stage_deadline, obeys).await
        } else {
            self.helper(stage, attempt, job_deadline, stage_deadline, obeys).await
        }
    }

    /// What lies in the checkout may be why the first attempt failed.
    fn clear_worktree(&self, stage: &Stage) -> io::Result<Option<Outcome>> {
        match &stage.operation {
            Operation::GetSources(sources)
                if matches!(sources.strategy, GitStrategy::Clone | GitStrategy::Fetch) => {}
            _ => return Ok(None),
        }
        const SECTION: &str = "clear_worktree";
        let title = "Deleting all tracked and untracked files due to source fetch failure";
        self.control.recorder.borrow_mut().section_opened(SECTION, title)?;
        let result = crate::stages::clear_worktree(&self.context());
        self.control.recorder.borrow_mut().section_closed(SECTION)?;
        Ok(result.err().map(|StageFailure(outcome)| outcome))
    }

    fn context(&self) -> Context<'a> {
        Context {
            plan: self.plan,
            control: self.control,
            reaper: self.reaper,
            group: Cell::new(None),
        }
    }

    async fn helper(
        &mut self,
        stage: &Stage,
        attempt: u32,
        job_deadline: Instant,
        stage_deadline: Option<(Instant, Duration)>,
        obeys: bool,
    ) -> Attempt {
        if matches!(stage.operation, Operation::Cleanup) {
            // Nothing of the job writes to the checkout while it is cleaned.
            self.builder.sweep().await;
        }
        let context = self.context();
        self.to_hand_over = match &stage.operation {
            // Made by the job's user, or given to it at the end.
            Operation::GetSources(sources)
                if sources.hooks.before.is_none() && sources.hooks.after.is_none() =>
            {
                self.plan.build_user.is_none() || !ownership::may_give()
            }
            Operation::Prepare { .. } | Operation::UploadArtifacts { .. } => self.to_hand_over,
            _ => true,
        };
        let end = tokio::select! {
            result = crate::stages::run(&context, &stage.operation, attempt) => match result {
                Ok(()) => Attempt::Done,
                Err(StageFailure(outcome)) => Attempt::Failed(outcome),
            },
            end = interruption(job_deadline, stage_deadline, &mut self.wishes, self.cancelled, obeys) => end,
        };
        if let Some(group) = context.group.take() {
            signal_group(group, Signal::KILL);
        }
        end
    }

    async fn script(
        &mut self,
        index: usize,
        stage: &Stage,
        attempt: u32,
        job_deadline: Instant,
        stage_deadline: Option<(Instant, Duration)>,
        obeys: bool,
    ) -> Attempt {
        let Operation::Script(script) = &stage.operation else { return Attempt::Done };
        let mut order = Order {
            run: RunId { stage: index, attempt },
            variables: self.plan.variables.clone(),
            directories: self.plan.directories.clone(),
            job_status: self.standing.job_status(stage),
            script: script.clone(),
            grace: self.plan.grace,
        };
        let waits = Instant::now();
        // Nothing of the script exists yet: whatever ends the job ends this wait at once.
        tokio::select! {
            connected = self.builder.connect(BUILD_STARTS) => {
                if let Err(outcome) = connected {
                    return Attempt::Failed(outcome);
                }
            }
            outcome = never_comes(self.plan, self.control), if !self.builder.has_come() => {
                return Attempt::Failed(outcome);
            }
            end = interruption(job_deadline, stage_deadline, &mut self.wishes, self.cancelled, obeys) => {
                return end;
            }
        }
        self.build_wait.get_or_insert(waits.elapsed());
        if is_user_step(stage) {
            self.standing.entered = true;
        }
        if let Err(error) = self.hand_over(&mut order) {
            return Attempt::Lost(error);
        }
        let (end_it, ending) = watch::channel(Ending::default());
        let run = self.builder.run(&order, ending);
        tokio::pin!(run);
        let mut ended_by = None;
        loop {
            tokio::select! {
                result = &mut run => {
                    return match (ended_by, result) {
                        // Why it was ended says more than how it then ended.
                        (Some(end), _) => end,
                        (None, Ok(Ok(ExitStatus::Exited(0)))) => Attempt::Done,
                        (None, Ok(Ok(ExitStatus::Exited(code)))) => Attempt::Failed(Outcome::Exited(code)),
                        (None, Ok(Ok(ExitStatus::Signalled(signal)))) => Attempt::Failed(Outcome::Signalled(signal)),
                        (None, Ok(Err(message))) => Attempt::Failed(Outcome::Infra(Infra::new(InfraKind::Configuration, message))),
                        (None, Err(outcome)) => Attempt::Failed(outcome),
                    };
                }
                end = interruption(job_deadline, stage_deadline, &mut self.wishes, self.cancelled, obeys),
                    if ended_by.is_none() =>
                {
                    let kill = matches!(end, Attempt::Wished(Wish::Abort));
                    end_it.send_replace(Ending { stop: true, kill });
                    ended_by = Some(end);
                }
            }
        }
    }

    /// Gives the checkout to the user that the job runs as, where this process may; else lets git
    /// work in it at least.
    fn hand_over(&mut self, order: &mut Order) -> io::Result<()> {
        let Some((uid, gid)) = self.builder.user() else { return Ok(()) };
        let project = Path::new(&self.plan.directories.project);
        if uid != 0 {
            let user = BuildUser { uid, gid };
            let expected = self.plan.build_user.is_none_or(|user| user.uid == uid);
            let all = self.to_hand_over || (!expected && !self.told_owner);
            ownership::hand_over(&self.plan.directories, user, all);
        }
        self.to_hand_over = false;
        let first = !std::mem::replace(&mut self.told_owner, true);
        let shared = ownership::Shared::of(project, uid, gid);
        order.variables.extend(crate::stages::for_scripts(self.plan, shared));
        match shared.and_then(|shared| shared.warning(uid)).filter(|_| first) {
            Some(warning) => self.control.recorder.borrow_mut().say(&Message::warning(warning)),
            None => Ok(()),
        }
    }
}

/// Waits until it is certain that the agent of the build container will not come: its container has
/// ended, or the image's entry point has had its time.
async fn never_comes(plan: &Plan, control: &Control) -> Outcome {
    let companions = &control.companions;
    let late = async {
        match plan.entrypoint {
            Some(patience) => {
                companions.started(BUILD).await;
                sleep(patience).await;
                patience
            }
            None => std::future::pending().await,
        }
    };
    let message = tokio::select! {
        status = companions.ended(BUILD) => match plan.entrypoint {
            Some(_) => format!(
                "the entry point of the job's image ended with exit status {status} and did not \
                 start the job's shell: with FF_KUBERNETES_HONOR_ENTRYPOINT it has to run its \
                 arguments, e.g. by `exec \"$@\"`"
            ),
            None => format!("the job's container ended with exit status {status}"),
        },
        patience = late => format!(
            "the entry point of the job's image has not started the job's shell within {}: \
             with FF_KUBERNETES_HONOR_ENTRYPOINT it has to run its arguments, e.g. by `exec \"$@\"`",
            in_words(patience)
        ),
    };
    Outcome::Infra(Infra::new(InfraKind::Configuration, message))
}

/// Waits until something ends the stage from outside.
async fn interruption(
    job_deadline: Instant,
    stage_deadline: Option<(Instant, Duration)>,
    wishes: &mut watch::Receiver<Option<Wish>>,
    cancelled: bool,
    obeys: bool,
) -> Attempt {
    let stage_time = async {
        match stage_deadline {
            Some((deadline, limit)) => {
                sleep_until(deadline).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    let wish = async {
        if obeys { next_wish(wishes, cancelled).await } else { std::future::pending().await }
    };
    tokio::select! {
        biased;
        () = sleep_until(job_deadline) => Attempt::JobTime,
        limit = stage_time => Attempt::StageTime(limit),
        wish = wish => Attempt::Wished(wish),
    }
}

/// Waits for a wish that has not been obeyed yet.
async fn next_wish(wishes: &mut watch::Receiver<Option<Wish>>, cancelled: bool) -> Wish {
    let fresh = |wish: &Option<Wish>| match wish {
        None => false,
        Some(Wish::Cancel) => !cancelled,
        Some(_) => true,
    };
    match wishes.wait_for(fresh).await.map(|wish| *wish) {
        Ok(Some(wish)) => wish,
        // The sender lives as long as the supervisor.
        _ => std::future::pending().await,
    }
}
