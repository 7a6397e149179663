//! The order of assembly.

use super::expand::{TooLong, expand_within};
use super::{MAX_EXPANDED, TLS_KEY, VariableSet};
use crate::job::{Job, Variable};
use crate::plan::{Directories, PlanVariable};
use crate::planner::flags::{Flags, is_flag};
use crate::planner::job_settings::job_timeout;
use crate::planner::settings::PlanSettings;
use crate::planner::values::shown;
use crate::shell::env_file::is_name;

/// Where `step-runner` looks for what it is to run.
const FUNCTIONS: &str = "STEPS";

/// What the list is made of.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct Assembly<'a> {
    pub(in crate::planner) job: &'a Job,
    pub(in crate::planner) settings: &'a PlanSettings,
    pub(in crate::planner) flags: &'a Flags,
    /// `None`: not known yet; the list is only good for finding out.
    pub(in crate::planner) directories: Option<&'a Directories>,
}

/// The `KEY=value` entries of the runner's `environment`; those without `=` are dropped.
pub(in crate::planner) fn environment(settings: &PlanSettings) -> Vec<(&str, &str)> {
    settings.environment.iter().filter_map(|entry| entry.expose().split_once('=')).collect()
}

/// All variables in order, as they came.
///
/// Feature flags come first and once: copies among the job's variables and in `environment` are
/// left out, so nothing downstream can read another value than the resolved one (GitLab Runner
/// leaves those of `environment` in).
pub(in crate::planner) fn assemble(from: Assembly<'_>) -> VariableSet {
    let Assembly { job, settings, flags, directories } = from;
    let mut list: Vec<Variable> = flags
        .iter()
        .map(|(name, value)| public(name, if value { "true" } else { "false" }))
        .collect();

    if let Some(image) = job.image.as_ref().filter(|image| !image.name.is_empty()) {
        list.push(public("CI_JOB_IMAGE", &image.name));
    }
    list.push(public("CI_RUNNER_SHORT_TOKEN", &settings.short_token));
    for (key, value) in environment(settings) {
        if !is_flag(key) {
            list.push(Variable { public: false, ..public(key, value) });
        }
    }

    list.push(public("CI_BUILDS_DIR", &settings.builds_dir));
    if let Some(directories) = directories {
        list.push(public("CI_PROJECT_DIR", &directories.project));
    }
    list.push(public("CI_CONCURRENT_ID", &settings.slot.to_string()));
    list.push(public("CI_CONCURRENT_PROJECT_ID", &settings.project_slot.to_string()));
    list.push(public("CI_SERVER", "yes"));
    list.push(public("CI_JOB_STATUS", "running"));
    list.push(public("CI_JOB_TIMEOUT", &job_timeout(job).as_secs().to_string()));

    if let Some(ca) = &settings.tls_ca {
        list.push(file("CI_SERVER_TLS_CA_FILE", ca));
    }
    if let Some((certificate, key)) = &settings.tls_client {
        list.push(file("CI_SERVER_TLS_CERT_FILE", certificate));
        list.push(Variable { public: false, ..file(TLS_KEY, key.expose()) });
    }

    let is_secret = |key: &str| job.secrets.iter().any(|request| request.key == key);
    let (secrets, own): (Vec<&Variable>, _) = job
        .variables
        .iter()
        .filter(|variable| !is_flag(&variable.key))
        .partition(|variable| is_secret(&variable.key));
    list.extend(own.into_iter().cloned());

    if let Some(functions) = &job.functions {
        list.push(Variable { raw: true, ..public(FUNCTIONS, functions) });
    }

    list.push(public("CI_DISPOSABLE_ENVIRONMENT", "true"));
    list.push(public("CI_RUNNER_VERSION", &settings.release_version));
    list.push(public("CI_RUNNER_REVISION", &settings.release_revision));
    list.push(public("CI_RUNNER_EXECUTABLE_ARCH", &settings.platform));
    list.extend(secrets.into_iter().cloned());
    if let Some(directories) = directories {
        list.push(public("RUNNER_TEMP_PROJECT_DIR", &directories.temp));
    }

    let temp = directories.map_or("", |directories| directories.temp.as_str());
    VariableSet::new(list, temp)
}

/// One pass over the whole list: what a reference inserts is not expanded itself.
pub(in crate::planner) fn expand_all(unexpanded: &VariableSet) -> Result<VariableSet, TooLong> {
    let mut left = MAX_EXPANDED;
    let mut expanded = Vec::with_capacity(unexpanded.iter().len());
    for variable in unexpanded.iter() {
        let value = if variable.raw || !variable.value.expose().contains('$') {
            variable.value.clone()
        } else {
            let lookup = |name: &str| unexpanded.reference(name);
            expand_within(variable.value.expose(), lookup, left)?.into()
        };
        left = left.checked_sub(value.expose().len()).ok_or(TooLong)?;
        expanded.push(Variable { key: variable.key.clone(), value, ..*variable });
    }
    Ok(VariableSet::new(expanded, unexpanded.temp()))
}

/// The list as the stages get it, with a warning for each name that cannot be a variable of a
/// shell; GitLab Runner's scripts die of those, here they are left out. A file variable's name is
/// a file name too, so nothing that leads out of the temporary directory passes.
pub(in crate::planner) fn plan_variables(
    set: &VariableSet,
    warnings: &mut Vec<String>,
) -> Vec<PlanVariable> {
    let (good, bad): (Vec<_>, Vec<_>) = set.iter().partition(|variable| is_name(&variable.key));
    for variable in bad.iter().take(10) {
        warnings.push(format!(
            "{}: not a name that a shell can export, the variable is left out",
            shown(&variable.key)
        ));
    }
    good.into_iter()
        .map(|variable| PlanVariable {
            key: variable.key.clone(),
            value: variable.value.clone(),
            file: variable.file,
        })
        .collect()
}

fn public(key: &str, value: &str) -> Variable {
    Variable { key: key.to_owned(), value: value.into(), public: true, ..Variable::default() }
}

/// A certificate: a `$` in it means nothing.
fn file(key: &str, content: &str) -> Variable {
    Variable { file: true, raw: true, ..public(key, content) }
}
