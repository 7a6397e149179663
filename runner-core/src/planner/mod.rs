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

mod directories;
mod error;
pub mod flags;
mod header;
mod job_settings;
mod repository;
mod settings;
mod stages;
#[cfg(test)]
mod tests;
mod values;
pub mod variables;

pub use error::PlanError;
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
use crate::plan::{Companions, LogSettings, Operation, PLAN_VERSION, Plan};

/// Flags that change what a job does, and that this release knows by name only.
const WITHOUT_EFFECT: &[&str] = &[
    "FF_ENABLE_BASH_EXIT_CODE_CHECK",
    "FF_SCRIPT_SECTIONS",
    "FF_ENABLE_JOB_CLEANUP",
    "FF_SCRIPT_TO_STEP_MIGRATION",
    "FF_CONCRETE",
    "FF_SUSPENDABLE_ENVIRONMENTS",
];

/// Plans a job.
///
/// What is merely odd about the job's settings becomes a warning in the plan's header.
///
/// # Errors
/// When the job asks for something that cannot be, or `transfers` do not fit it; see
/// [`PlanError::infra`] for how the job ends then.
pub fn plan(job: &Job, settings: &PlanSettings, transfers: Transfers) -> Result<Plan, PlanError> {
    let mut warnings = Vec::new();
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
    let stages = Stages { job, settings, job_settings: &job_settings, variables: &variables }
        .plan(transfers)?;
    let credentials = stages.iter().filter_map(|stage| match &stage.operation {
        Operation::GetSources(sources) => sources.login.as_ref().map(|login| &login.password),
        _ => None,
    });
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
        header: header::header(settings, &flags, warnings),
        directories,
        stages,
        log,
        timeout: job_timeout(job),
        hold: settings.hold,
        grace: settings.grace,
        companions: Companions { logs: job_settings.debug_services, ..Companions::default() },
        entrypoint: None,
    })
}

fn resolve_flags(job: &Job, settings: &PlanSettings, warnings: &mut Vec<String>) -> Flags {
    let of_job: Vec<_> = job.variables.iter().map(|v| (v.key.as_str(), v.value.expose())).collect();
    let flags = Flags::resolve(&settings.feature_flags, &of_job, &environment(settings), warnings);
    for name in WITHOUT_EFFECT.iter().filter(|name| flags.is_on(name)) {
        warnings.push(format!("{name} is on, but has no effect in this version"));
    }
    flags
}
