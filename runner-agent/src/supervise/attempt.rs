//! One attempt at a stage, in helper or in the build container.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::Duration;

use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::{BuildUser, GitStrategy, Operation, Place, Stage};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::interruption::{interruption, never_comes};
use super::job::Supervisor;
use crate::builder::{Door, Ending};
use crate::clock::now_ms;
use crate::control::Wish;
use crate::journal::Running;
use crate::link::{Order, RunId};
use crate::process::{ExitStatus, signal_group};
use crate::stages::{Context, StageFailure, ownership};
use crate::standing::is_user_step;

/// How long the build container may take to start after the helper: its image may still be pulled.
/// The executor's own limit for that is shorter; this one only bounds the wait.
const BUILD_STARTS: Duration = Duration::from_secs(60 * 60);

/// How one attempt at a stage ended.
pub(super) enum Attempt {
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
    /// One attempt, with its deadlines and the wish to stop.
    pub(super) async fn attempt(
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
        if self.standing.entered && !is_user_step(stage) {
            // A cancel after the user's steps has no effect on what follows them, and what follows
            // them is to be saved when the pod is told to end.
            self.obeyed = self.obeyed.max(Some(Wish::Interrupt));
        }
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
            end = interruption(job_deadline, stage_deadline, &mut self.wishes, self.obeyed, obeys) => end,
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
            end = interruption(job_deadline, stage_deadline, &mut self.wishes, self.obeyed, obeys) => {
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
        let mut kill_at = None;
        loop {
            let kill_time = async {
                match kill_at {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = kill_time => {
                    kill_at = None;
                    end_it.send_replace(Ending { stop: true, kill: true });
                }
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
                end = interruption(job_deadline, stage_deadline, &mut self.wishes, self.obeyed, obeys),
                    if ended_by.is_none() =>
                {
                    let kill = matches!(end, Attempt::Wished(Wish::Abort));
                    end_it.send_replace(Ending { stop: true, kill });
                    // With little time, half of it is for saving.
                    kill_at = self.control.gives_up_at().map(|at| {
                        let now = Instant::now();
                        now + at.saturating_duration_since(now) / 2
                    });
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
