//! From a job to what the agent runs: pure functions, no I/O, no clock.
//!
//! ```text
//!   Job ─────────┐   flags ─► variables ─► directories ─► variables again, with directories
//!   PlanSettings ┼──────────► job settings, header, masks
//!   Transfers ───┘            stages ─► Plan
//! ```
//!
//! Owns: which variables there are and what they mean to the runner, where things lie, which stages
//! run when. Does not own: shell text ([`shell`](crate::shell), in the agent), images and pods (the
//! executor), addresses of archives (the [`ArtifactStore`](crate::artifact::ArtifactStore)).

mod caches;
mod directories;
mod early;
mod error;
pub mod flags;
mod header;
mod inputs;
mod job_settings;
mod repository;
mod scripts;
mod settings;
mod sources;
mod stages;
pub(crate) use stages::STEP;
#[cfg(test)]
mod tests;
mod values;
pub mod variables;

pub use early::{SecretSettings, before_secrets};
pub use error::PlanError;
pub use inputs::InputError;
pub use settings::{PlanSettings, Transfers};
pub use values::{GoDuration, parse_duration};
pub use variables::{PlanLookup, VariableSet, expand};

use self::flags::Flags;
use self::job_settings::{JobSettings, job_timeout};
use self::stages::Stages;
use self::variables::{
    Assembly, assemble, environment, expand_all, masks, plan_variables, token_prefixes,
};
use crate::job::Job;
use crate::plan::{Companions, Disruption, LogSettings, Operation, PLAN_VERSION, Plan, Summary};

/// Puts a job's inputs into its texts, unless a flag says not to. To be done before anything else
/// reads them: [`plan`], and whoever needs the image's name.
///
/// # Errors
/// When a text refers to something that is not there, or cannot be evaluated; see
/// [`PlanError::infra`].
pub fn interpolate(job: &mut Job, settings: &PlanSettings) -> Result<(), PlanError> {
    // What is odd about flags is said by `plan`.
    if resolve_flags(job, settings, &mut Vec::new()).is_on("FF_ENABLE_JOB_INPUTS_INTERPOLATION") {
        inputs::interpolate(job)?;
    }
    Ok(())
}

/// Plans a job.
///
/// What is merely odd about the job's settings becomes a warning in the plan's header.
///
/// ```
/// use runner_core::ids::JobId;
/// use runner_core::job::{Job, Step, Variable};
/// use runner_core::plan::{Operation, When};
/// use runner_core::planner::{PlanSettings, Transfers, plan};
///
/// let mut job = Job::new(JobId(7), "unit tests", ["make check"]);
/// job.steps.push(Step::new("after_script", ["make clean"]));
/// job.variables.push(Variable::new("TOKEN", "s3cret-value").secret());
///
/// let plan = plan(&job, &PlanSettings::default(), Transfers::default())?;
/// let scripts: Vec<_> = plan
///     .stages
///     .iter()
///     .filter_map(|stage| match &stage.operation {
///         Operation::Script(script) => Some((script.commands.join("; "), stage.when)),
///         _ => None,
///     })
///     .collect();
/// assert_eq!(scripts[0], ("make check".to_owned(), When::Success));
/// assert_eq!(scripts[1], ("make clean".to_owned(), When::AfterScript));
/// // What must not be in the log is known before the first byte of it.
/// assert!(plan.log.masks.iter().any(|mask| mask.expose() == "s3cret-value"));
/// # Ok::<(), runner_core::planner::PlanError>(())
/// ```
///
/// # Errors
/// When the job asks for something that cannot be, or `transfers` do not fit it; see
/// [`PlanError::infra`] for how the job ends then.
pub fn plan(job: &Job, settings: &PlanSettings, transfers: Transfers) -> Result<Plan, PlanError> {
    if let Some(refusal) = &job.refusal {
        return Err(PlanError::Refused(refusal.clone()));
    }
    let mut warnings = Vec::new();
    let mut transfers = transfers;
    let preface = std::mem::take(&mut transfers.preface);
    let flags = resolve_flags(job, settings, &mut warnings);

    // The directory may be chosen by a variable that refers to others, and others refer to the
    // directory; so the list is made twice.
    let assembly = Assembly { job, settings, flags: &flags, directories: None };
    let early = assemble(assembly);
    let strategy = job_settings::strategy(job, early.expanded_setting("GIT_STRATEGY")?.as_deref());
    let clone_path = early.expanded_setting("GIT_CLONE_PATH")?;
    let directories = directories::directories(job, settings, clone_path.as_deref(), strategy)?;
    drop(early);
    let all = assemble(Assembly { directories: Some(&directories), ..assembly });
    let variables = expand_all(&all)?;
    drop(all);

    let job_settings = JobSettings::read(job, settings, &variables, &mut warnings);
    let stages =
        Stages { job, settings, flags: &flags, job_settings: &job_settings, variables: &variables }
            .plan(transfers)?;
    let credentials = stages.iter().filter_map(|stage| match &stage.operation {
        Operation::GetSources(sources) => sources.login.as_ref().map(|login| &login.password),
        _ => None,
    });
    let image = job.image.as_ref().map_or("", |image| image.name.as_str());
    let image = variables.expand(image)?;
    let log = LogSettings {
        masks: masks(&variables, credentials),
        token_prefixes: token_prefixes(&flags, &job.features),
        timestamps: flags.is_on("FF_TIMESTAMPS"),
        sections: job.features.trace_sections,
        limit: settings.output_limit,
    };
    Ok(Plan {
        version: PLAN_VERSION,
        job: job.id,
        variables: plan_variables(&variables, &mut warnings),
        header: header::header(settings, &flags, &image, preface, warnings),
        directories,
        stages,
        log,
        build_user: None,
        timeout: job_timeout(job),
        hold: settings.hold,
        grace: settings.grace,
        companions: Companions { logs: job_settings.debug_services, ..Companions::default() },
        entrypoint: None,
        disruption: Disruption::default(),
        retry: early::retry_pauses(&flags),
        notices: job.notices.clone(),
        summary: job_settings
            .summary
            .then_some(Summary { queued: job.waited, received_ms: settings.received_ms }),
    })
}

fn resolve_flags(job: &Job, settings: &PlanSettings, warnings: &mut Vec<String>) -> Flags {
    let of_job: Vec<_> = job.variables.iter().map(|v| (v.key.as_str(), v.value.expose())).collect();
    let flags = Flags::resolve(&settings.feature_flags, &of_job, &environment(settings), warnings);
    warnings.extend(flags.refusals());
    flags
}
