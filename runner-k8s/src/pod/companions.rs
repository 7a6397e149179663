//! What a job's plan and record have to say about the containers around it.

use std::time::Duration;

use runner_core::plan::{Companions, Disruption, POD_EVENTS, ServicePlan};

use super::containers::starts_by_entrypoint;
use super::environment::{Environment, Masks};
use super::services::services;
use super::{BUILD, PodError, PodInput};
use crate::record::{Listens, POD_PULLS};
use crate::settings::ServicesWait;

/// The feature flag with which all that Kubernetes says about the pod is shown.
pub(crate) const PRINT_EVENTS: &str = "FF_PRINT_POD_EVENTS";

/// See [`around`].
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// For the plan.
    pub(crate) companions: Companions,
    /// For the plan: what to do when the pod is told to end.
    pub(crate) disruption: Disruption,
    /// For the plan: the image's own entry point starts the agent.
    pub(crate) entrypoint: Option<Duration>,
    /// For the record.
    pub(crate) listens: Option<Listens>,
}

/// What is waited for, and what is shown. Independent of how the plan is stored.
///
/// # Errors
/// As [`build_pod`](super::build_pod), and when `HEALTHCHECK_TCP_PORT` is no port.
pub(crate) fn around(input: &PodInput<'_>) -> Result<Around, PodError> {
    let lookup = input.lookup;
    let entrypoint = starts_by_entrypoint(input, lookup).then_some(input.settings.poll_timeout);
    let logs = input.plan().companions.logs;
    // Only their own variables say what is to be checked.
    let masks = Masks::of(input.plan());
    let mut services: Vec<ServicePlan> =
        services(input, lookup, &Environment::default(), &masks)?.plans()?;
    let disruption = input.settings.disruption(input.plan(), services.len());
    let wait = match input.settings.services_wait {
        ServicesWait::UntilDeadline => None,
        ServicesWait::AtMost(limit) => Some(limit),
        ServicesWait::Never => {
            services.iter_mut().for_each(|service| service.ports.clear());
            None
        }
    };
    if !logs {
        services.retain(|service| !service.ports.is_empty());
    }
    let mut containers: Vec<String> = match logs {
        true => services.iter().map(|service| service.name.clone()).collect(),
        false => Vec::new(),
    };
    containers.extend(entrypoint.map(|_| BUILD.to_owned()));
    let events = lookup.setting(PRINT_EVENTS) == Some("true");
    containers.extend(events.then(|| POD_EVENTS.to_owned()));
    containers.extend(input.plan().summary.map(|_| POD_PULLS.to_owned()));
    let limit = input.plan().log.limit;
    Ok(Around {
        companions: match services.is_empty() {
            true => Companions { events, ..Companions::default() },
            false => Companions { services, wait, logs, events },
        },
        disruption,
        entrypoint,
        listens: (!containers.is_empty()).then_some(Listens { containers, limit }),
    })
}
