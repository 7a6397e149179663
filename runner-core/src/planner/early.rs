//! What has to be known before a job is planned: its variables as far as they are known, and how
//! its secrets are to be fetched.

use super::error::PlanError;
use super::resolve_flags;
use super::settings::PlanSettings;
use super::variables::{Assembly, VariableSet, assemble, expand_all};
use crate::job::Job;
use crate::plan::RetryPauses;

/// How a job's secrets are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretSettings {
    /// How often, 1 to 10 (`SECRETS_RETRIEVAL_ATTEMPTS`).
    pub attempts: u32,
    /// Pauses between attempts.
    pub pauses: RetryPauses,
    /// A value that is not there fails the job (`FF_SECRET_RESOLVING_FAILS_IF_MISSING`); else it is
    /// empty.
    pub missing_fails: bool,
}

/// A job's variables without those that depend on its directories and its secrets, expanded, and
/// what they say about fetching secrets. What is odd about them is said by [`plan`](super::plan).
///
/// # Errors
/// When the variables are too long once references are replaced.
pub fn before_secrets(
    job: &Job,
    settings: &PlanSettings,
) -> Result<(VariableSet, SecretSettings), PlanError> {
    let flags = resolve_flags(job, settings, &mut Vec::new());
    let assembly = Assembly { job, settings, flags: &flags, directories: None };
    let variables = expand_all(&assemble(assembly))?;
    let attempts = variables.setting("SECRETS_RETRIEVAL_ATTEMPTS");
    // Not a number: the default. A number out of range: the nearest in range.
    let attempts = attempts.and_then(|raw| raw.parse::<i64>().ok()).unwrap_or(1).clamp(1, 10);
    let settings = SecretSettings {
        attempts: u32::try_from(attempts).unwrap_or(1),
        pauses: retry_pauses(&flags),
        missing_fails: flags.is_on("FF_SECRET_RESOLVING_FAILS_IF_MISSING"),
    };
    Ok((variables, settings))
}

/// Pauses between attempts at a stage.
pub(super) fn retry_pauses(flags: &super::flags::Flags) -> RetryPauses {
    match flags.is_on("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY") {
        true => RetryPauses::Exponential,
        false => RetryPauses::Short,
    }
}
