//! Requests and limits, up to a ceiling.

use std::sync::Arc;

use runner_core::job::Variable;

use super::{OverwriteError, Overwrites, shown};
use crate::settings::{Ceiling, Consumer, KubernetesSettings, Quantity, Resources};
use runner_core::plan::Plan;

impl Overwrites<'_> {
    pub(super) fn resources(&mut self) -> Result<(), OverwriteError> {
        let ceilings = Arc::clone(&self.settings.ceilings);
        let mut changed = Vec::new();
        for ceiling in &*ceilings {
            let variable = ceiling.variable.as_str();
            let Some(value) = self.value(variable)? else { continue };
            if ceiling.most.is_empty() {
                self.without_effect(variable, &most_key(ceiling));
                continue;
            }
            let resources = of(&mut self.settings, ceiling.consumer);
            set(resources, ceiling, &value)
                .map_err(|problem| self.refuse(variable, &value, problem))?;
            self.accepted(variable, &ceiling.key, &value);
            changed.push((ceiling, variable, value));
        }
        for (ceiling, variable, value) in changed {
            let resources = of(&mut self.settings, ceiling.consumer);
            fits(resources, ceiling).map_err(|problem| self.refuse(variable, &value, problem))?;
        }
        Ok(())
    }
}

fn of(settings: &mut KubernetesSettings, consumer: Consumer) -> &mut Resources {
    match consumer {
        Consumer::Build => &mut settings.build,
        Consumer::Helper => &mut settings.helper,
        Consumer::Service => &mut settings.service,
        Consumer::Pod => &mut settings.pod,
    }
}

fn most_key(ceiling: &Ceiling) -> String {
    format!("{}_overwrite_max_allowed", ceiling.key)
}

/// Sets one resource; zero takes it away.
fn set(resources: &mut Resources, ceiling: &Ceiling, value: &str) -> Result<(), String> {
    let asked = Quantity::parse(value)
        .filter(|asked| !asked.is_negative())
        .ok_or("is not a quantity such as 500m, 2 or 1Gi")?;
    // The ceiling was read with the settings.
    let most = Quantity::parse(&ceiling.most).ok_or("cannot be compared with its ceiling")?;
    if asked > most {
        let kind = if ceiling.is_limit { "limit" } else { "request" };
        return Err(format!(
            "is more than this runner allows as {} {kind}: {} is {:?}",
            ceiling.resource,
            most_key(ceiling),
            ceiling.most
        ));
    }
    let map = if ceiling.is_limit { &mut resources.limits } else { &mut resources.requests };
    if crate::settings::is_quantity_of_nothing(value) {
        map.remove(ceiling.resource);
    } else {
        map.insert(ceiling.resource.to_owned(), value.to_owned());
    }
    Ok(())
}

/// GitLab Runner leaves this to the API server, which refuses the pod in its own words.
fn fits(resources: &Resources, ceiling: &Ceiling) -> Result<(), String> {
    let request = resources.requests.get(ceiling.resource);
    let limit = resources.limits.get(ceiling.resource);
    match (request, limit) {
        (Some(request), Some(limit)) if Quantity::parse(request) > Quantity::parse(limit) => {
            Err(format!(
                "does not fit: the {} request would be {request:?} and the limit only {limit:?}",
                ceiling.resource
            ))
        }
        _ => Ok(()),
    }
}

/// The resources of a service: the runner's, with what the job says for all services and what the
/// service's own variables say for itself.
///
/// # Errors
/// When the service asks for more than its ceiling, or for no quantity.
pub fn service_resources(
    settings: &KubernetesSettings,
    own: &[Variable],
    plan: &Plan,
) -> Result<Resources, OverwriteError> {
    let mut resources = settings.service.clone();
    let of_services = settings.ceilings.iter().filter(|c| c.consumer == Consumer::Service);
    let mut changed = Vec::new();
    for ceiling in of_services.filter(|ceiling| !ceiling.most.is_empty()) {
        let name = &ceiling.variable;
        let last = own.iter().rev().find(|variable| variable.key == *name);
        // As they are written: GitLab Runner does not expand them.
        let Some(value) = last.map(|variable| variable.value.expose()).filter(|v| !v.is_empty())
        else {
            continue;
        };
        let refuse =
            |problem| OverwriteError { variable: name.clone(), value: shown(plan, value), problem };
        set(&mut resources, ceiling, value).map_err(refuse)?;
        changed.push((ceiling, name.clone(), value));
    }
    for (ceiling, variable, value) in changed {
        let value = shown(plan, value);
        fits(&resources, ceiling).map_err(|problem| OverwriteError { variable, value, problem })?;
    }
    Ok(resources)
}
