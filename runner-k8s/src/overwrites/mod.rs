//! What a job's variables change in the settings: `KUBERNETES_*`.
//!
//! Owns the variables' names, their gates and ceilings. The result is settings again, so that nothing
//! after this has to know where a value comes from. Everything is decided before anything is created
//! in the cluster.
//!
//! ```text
//!   KubernetesSettings ┐
//!   variables of Plan  ┴─► settings of this job, remarks for its log │ or OverwriteError
//! ```

mod families;
mod resources;
mod scalars;

use std::borrow::Cow;

use runner_core::job::Job;
use runner_core::outcome::{Infra, InfraKind};
use runner_core::plan::{HeaderLine, Plan};
use runner_core::planner::PlanLookup;
use runner_core::secret::Secret;

use crate::settings::KubernetesSettings;

pub use resources::service_resources;

/// The settings as they are for one job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSettings<'s> {
    /// With the job's overwrites; borrowed when there are none.
    pub settings: Cow<'s, KubernetesSettings>,
    /// The job's own token for the API server.
    pub token: Option<Secret>,
    /// What the job's log says about it.
    pub remarks: Vec<HeaderLine>,
}

/// A variable asks for what the settings do not allow, or for what nobody understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} = {value:?} {problem}")]
pub struct OverwriteError {
    /// The job's variable.
    pub variable: String,
    /// What it says; what is masked in the log is masked here.
    pub value: String,
    /// What is wrong, which setting says so, and what is allowed.
    pub problem: String,
}

impl OverwriteError {
    /// The same as the job's outcome.
    pub fn infra(&self) -> Infra {
        Infra::new(InfraKind::Configuration, self.to_string())
    }
}

/// What every variable for the executor begins with.
const PREFIX: &str = "KUBERNETES_";

/// Applies a job's variables.
///
/// # Errors
/// The first variable that is refused.
pub fn for_job<'s>(
    settings: &'s KubernetesSettings,
    job: &Job,
    lookup: &PlanLookup<'_>,
) -> Result<JobSettings<'s>, OverwriteError> {
    let plan = lookup.plan();
    let asks = plan.variables.iter().any(|variable| variable.key.starts_with(PREFIX));
    let mut out =
        JobSettings { settings: Cow::Borrowed(settings), token: None, remarks: Vec::new() };
    if settings.namespace_per_job {
        out.settings.to_mut().namespace = format!("ci-job-{}", job.id);
    }
    if asks {
        let mut overwrites = Overwrites {
            plan,
            lookup,
            settings: out.settings.into_owned(),
            token: None,
            remarks: Vec::new(),
        };
        overwrites.scalars()?;
        overwrites.families()?;
        overwrites.resources()?;
        let Overwrites { settings, token, remarks, .. } = overwrites;
        out = JobSettings { settings: Cow::Owned(settings), token, remarks };
    }
    Ok(out)
}

struct Overwrites<'p> {
    plan: &'p Plan,
    lookup: &'p PlanLookup<'p>,
    settings: KubernetesSettings,
    token: Option<Secret>,
    remarks: Vec<HeaderLine>,
}

impl<'p> Overwrites<'p> {
    /// A variable's value, expanded once more, as GitLab Runner does; empty means not set.
    fn value(&self, variable: &str) -> Result<Option<String>, OverwriteError> {
        let Some(text) = self.lookup.setting(variable) else { return Ok(None) };
        let text = self.lookup.expand(text).map_err(|error| OverwriteError {
            variable: variable.to_owned(),
            value: shown(self.plan, text),
            problem: error.to_string(),
        })?;
        Ok((!text.is_empty()).then_some(text))
    }

    fn refuse(&self, variable: &str, value: &str, problem: impl Into<String>) -> OverwriteError {
        OverwriteError {
            variable: variable.to_owned(),
            value: shown(self.plan, value),
            problem: problem.into(),
        }
    }

    /// The log says what was overwritten.
    fn accepted(&mut self, variable: &str, key: &str, value: &str) {
        let value = shown(self.plan, value);
        self.remarks.push(HeaderLine::plain(format!("{key} is {value:?} ({variable})")));
    }

    /// GitLab Runner says this only to the operator, at debug level (better).
    fn without_effect(&mut self, variable: &str, setting: &str) {
        self.remarks.push(HeaderLine::warning(format!(
            "{variable} has no effect: {setting} is not set for this runner"
        )));
    }
}

/// A value for a message, which is printed by a manager that masks nothing.
fn shown(plan: &Plan, value: &str) -> String {
    let masked = plan.log.masks.iter().any(|mask| {
        let mask = mask.expose().trim();
        !mask.is_empty() && value.contains(mask)
    });
    match value.char_indices().nth(100) {
        _ if masked => "[MASKED]".to_owned(),
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}
