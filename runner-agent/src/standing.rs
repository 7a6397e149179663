//! How the job stands: which stages run and what it comes to. Decisions only.

use runner_core::outcome::Outcome;
use runner_core::plan::{OnFailure, Operation, Place, Stage, When};
use runner_core::shell::JobStatus;

/// What has happened so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The first failure that counts.
    pub failure: Option<Outcome>,
    /// A user step was entered.
    pub entered: bool,
    /// Nothing runs any more but what always does.
    pub halted: bool,
    /// Nothing of the user's runs any more; what they want kept of a failure is saved.
    pub interrupted: bool,
}

impl Standing {
    /// Whether a stage runs now.
    pub fn admits(&self, stage: &Stage) -> bool {
        match stage.when {
            When::Always => true,
            _ if self.halted => false,
            When::Success => self.failure.is_none(),
            When::Failure => self.failure.is_some(),
            When::AfterScript => self.entered && !self.interrupted,
        }
    }

    /// Takes note of a stage that failed.
    pub fn failed(&mut self, stage: &Stage, outcome: Outcome) {
        if stage.on_failure == OnFailure::FailsJob {
            self.failure.get_or_insert(outcome);
        }
        if stage.name == "prepare_script" {
            // Without directories no later stage can do anything; GitLab Runner stops here too.
            self.halted = true;
        }
    }

    /// Ends the job whatever stands in the plan; a worse end replaces a milder one.
    pub fn halt(&mut self, outcome: Outcome) {
        self.halted = true;
        if self.failure.as_ref().is_none_or(|known| known.severity() < outcome.severity()) {
            self.failure = Some(outcome);
        }
    }

    /// Ends the user's part of the job, whatever is left of it. What the job wants kept of a failure is
    /// still saved.
    pub fn interrupt(&mut self, outcome: Outcome) {
        self.interrupted = true;
        self.failure.get_or_insert(outcome);
    }

    /// What `CI_JOB_STATUS` says to this stage.
    pub fn job_status(&self, stage: &Stage) -> JobStatus {
        match &self.failure {
            None if stage.when == When::AfterScript => JobStatus::Success,
            None => JobStatus::Running,
            Some(Outcome::Cancelled) => JobStatus::Canceled,
            Some(Outcome::TimedOut(_)) => JobStatus::TimedOut,
            Some(_) => JobStatus::Failed,
        }
    }

    /// How the job ended, when all stages are done.
    pub fn outcome(&self) -> Outcome {
        self.failure.clone().unwrap_or(Outcome::Exited(0))
    }
}

/// Whether this is one of the user's own steps (and not `after_script`).
pub(crate) fn is_user_step(stage: &Stage) -> bool {
    stage.place == Place::Build
        && stage.when == When::Success
        && matches!(stage.operation, Operation::Script(_))
}
