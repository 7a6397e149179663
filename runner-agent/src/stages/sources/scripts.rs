//! What git in the job's scripts is told through its environment.

use std::path::Path;

use runner_core::plan::{Operation, Plan, PlanVariable};

use super::config::SHARED;
use crate::stages::ownership::Shared;

/// Variables with settings for git (2.31 and later), behind those that the job has made the same way.
/// Files would be in the way of `git config --global`.
pub(crate) fn for_scripts(plan: &Plan, shared: Option<Shared>) -> Vec<PlanVariable> {
    let mut settings = Vec::new();
    // The owner of the checkout is not who runs git in it, and cannot be.
    settings.extend(shared.map(|_| ("safe.directory", "*".to_owned())));
    let everywhere = plan.stages.iter().any(|stage| match &stage.operation {
        Operation::GetSources(sources) => sources.login_in_scripts,
        _ => false,
    });
    let file = Path::new(&plan.directories.temp).join(SHARED).display().to_string();
    settings.extend(everywhere.then_some(("include.path", file)));
    if settings.is_empty() {
        return Vec::new();
    }
    let own = plan.variables.iter().rev().find(|variable| variable.key == "GIT_CONFIG_COUNT");
    let first = own.and_then(|own| own.value.expose().parse::<usize>().ok()).unwrap_or(0);
    let variable =
        |key: String, value: &str| PlanVariable { key, value: value.into(), file: false };
    let count = first + settings.len();
    let mut variables = vec![variable("GIT_CONFIG_COUNT".to_owned(), &count.to_string())];
    for (index, (key, value)) in settings.iter().enumerate() {
        variables.push(variable(format!("GIT_CONFIG_KEY_{}", first + index), key));
        variables.push(variable(format!("GIT_CONFIG_VALUE_{}", first + index), value));
    }
    variables
}
