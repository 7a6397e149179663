//! Requests and limits, and how far jobs may change them.

use std::collections::BTreeMap;

use super::Quantity;
use super::mistakes::Mistakes;
use super::raw::RawSettings;

/// Requests and limits of a container, by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `resources.requests`.
    pub requests: BTreeMap<String, String>,
    /// `resources.limits`.
    pub limits: BTreeMap<String, String>,
}

/// Whose resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consumer {
    /// `build`.
    Build,
    /// `helper`, and the init container.
    Helper,
    /// Each service.
    Service,
    /// The pod as a whole.
    Pod,
}

impl Consumer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Build, Self::Helper, Self::Service, Self::Pod];

    /// What the keys begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Build => "",
            Self::Helper => "helper_",
            Self::Service => "service_",
            Self::Pod => "pod_",
        }
    }
}

/// A key of a resource, and the most that a job may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Whose.
    pub consumer: Consumer,
    /// `cpu`, `memory`, `ephemeral-storage`.
    pub resource: &'static str,
    /// Whether it is a limit; else a request.
    pub is_limit: bool,
    /// The key, e.g. `helper_cpu_limit`. The ceiling's own ends in `_overwrite_max_allowed`.
    pub key: String,
    /// The job's variable: `KUBERNETES_` and the key in capitals.
    pub variable: String,
    /// The most; empty: jobs have no say.
    pub most: String,
}

/// A key's name and its value, and the ceiling's value.
type Row<'a> = (&'static str, &'a str, &'a str);

macro_rules! rows {
    ($raw:ident: $($key:ident $most:ident),* $(,)?) => {
        vec![$((stringify!($key), $raw.$key.as_str(), $raw.$most.as_str())),*]
    };
}

fn rows(raw: &RawSettings, consumer: Consumer) -> Vec<Row<'_>> {
    match consumer {
        Consumer::Build => rows![raw:
            cpu_limit cpu_limit_overwrite_max_allowed,
            cpu_request cpu_request_overwrite_max_allowed,
            memory_limit memory_limit_overwrite_max_allowed,
            memory_request memory_request_overwrite_max_allowed,
            ephemeral_storage_limit ephemeral_storage_limit_overwrite_max_allowed,
            ephemeral_storage_request ephemeral_storage_request_overwrite_max_allowed,
        ],
        Consumer::Helper => rows![raw:
            helper_cpu_limit helper_cpu_limit_overwrite_max_allowed,
            helper_cpu_request helper_cpu_request_overwrite_max_allowed,
            helper_memory_limit helper_memory_limit_overwrite_max_allowed,
            helper_memory_request helper_memory_request_overwrite_max_allowed,
            helper_ephemeral_storage_limit helper_ephemeral_storage_limit_overwrite_max_allowed,
            helper_ephemeral_storage_request helper_ephemeral_storage_request_overwrite_max_allowed,
        ],
        Consumer::Service => rows![raw:
            service_cpu_limit service_cpu_limit_overwrite_max_allowed,
            service_cpu_request service_cpu_request_overwrite_max_allowed,
            service_memory_limit service_memory_limit_overwrite_max_allowed,
            service_memory_request service_memory_request_overwrite_max_allowed,
            service_ephemeral_storage_limit service_ephemeral_storage_limit_overwrite_max_allowed,
            service_ephemeral_storage_request
                service_ephemeral_storage_request_overwrite_max_allowed,
        ],
        Consumer::Pod => rows![raw:
            pod_cpu_limit pod_cpu_limit_overwrite_max_allowed,
            pod_cpu_request pod_cpu_request_overwrite_max_allowed,
            pod_memory_limit pod_memory_limit_overwrite_max_allowed,
            pod_memory_request pod_memory_request_overwrite_max_allowed,
        ],
    }
}

/// The resources of a consumer; its ceilings are added to `ceilings`.
pub(super) fn resources(
    raw: &RawSettings,
    consumer: Consumer,
    ceilings: &mut Vec<Ceiling>,
    mistakes: &mut Mistakes,
) -> Resources {
    let mut out = Resources::default();
    for (key, value, most) in rows(raw, consumer) {
        let (is_limit, name) = match key.strip_suffix("_limit") {
            Some(name) => (true, name),
            None => (false, key.strip_suffix("_request").unwrap_or(key)),
        };
        let resource = match name.strip_prefix(consumer.prefix()).unwrap_or(name) {
            "cpu" => "cpu",
            "memory" => "memory",
            _ => "ephemeral-storage",
        };
        if let Some(value) = mistakes.quantity(key, value) {
            let map = if is_limit { &mut out.limits } else { &mut out.requests };
            map.insert(resource.to_owned(), value);
        }
        // GitLab Runner notices a bad ceiling only when a job reaches for it. A ceiling of zero
        // means that only zero may be asked for.
        if !super::quantity::is_zero(most) {
            mistakes.quantity(&format!("{key}_overwrite_max_allowed"), most);
        }
        let (key, most) = (key.to_owned(), most.to_owned());
        let variable = format!("KUBERNETES_{}", key.to_uppercase());
        ceilings.push(Ceiling { consumer, resource, is_limit, key, variable, most });
    }
    // The API server would refuse the pod of every job.
    for (resource, request) in &out.requests {
        let more = |limit: &&String| Quantity::parse(request) > Quantity::parse(limit);
        if let Some(limit) = out.limits.get(resource).filter(more) {
            let key = format!("{}{}_request", consumer.prefix(), resource.replace('-', "_"));
            let limit_key = format!("{}{}_limit", consumer.prefix(), resource.replace('-', "_"));
            mistakes.value(&key, request, &format!("at most {limit_key}, {limit}"));
        }
    }
    out
}

/// Something that does not fit into the pod's own resources, by the API server's rules. It refuses
/// such a pod in words that name no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// `cpu` or `memory`.
    pub(crate) resource: &'static str,
    /// Which container asks for too much; `None`: all of them together.
    pub(crate) container: Option<usize>,
    /// What it says of the pod, `limit` or `request`, and how much.
    pub(crate) pod: (&'static str, String),
}

/// Looks for containers that do not fit into their pod.
pub(crate) fn misfit(containers: &[&Resources], pod: &Resources) -> Option<Misfit> {
    let size = |text: &String| Quantity::parse(text);
    for resource in ["cpu", "memory"] {
        let found = |container, kind, most: &String| {
            Some(Misfit { resource, container, pod: (kind, most.clone()) })
        };
        if let Some(most) = pod.limits.get(resource) {
            let too_much = |container: &&Resources| {
                container.limits.get(resource).is_some_and(|limit| size(limit) > size(most))
            };
            if let Some(at) = containers.iter().position(too_much) {
                return found(Some(at), "limit", most);
            }
        }
        // A container that says only how much it may have is taken to ask for all of it.
        let asked = |container: &&Resources| {
            let request = container.requests.get(resource);
            request.or_else(|| container.limits.get(resource)).and_then(size)
        };
        let all: Quantity = containers.iter().filter_map(asked).sum();
        for (kind, map) in [("request", &pod.requests), ("limit", &pod.limits)] {
            if let Some(most) = map.get(resource).filter(|most| Some(all) > size(most)) {
                return found(None, kind, most);
            }
        }
    }
    None
}

/// Says at load what will not fit in any job: `build` and `helper` are always there.
pub(super) fn check_pod(
    build: &Resources,
    helper: &Resources,
    pod: &Resources,
    mistakes: &mut Mistakes,
) {
    let Some(Misfit { resource, container, pod: (kind, most) }) = misfit(&[build, helper], pod)
    else {
        return;
    };
    match container {
        Some(at) => {
            let (prefix, own) = if at == 0 { ("", build) } else { ("helper_", helper) };
            let value = own.limits.get(resource).cloned().unwrap_or_default();
            let allowed = format!("at most pod_{resource}_limit, {most}");
            mistakes.value(&format!("{prefix}{resource}_limit"), value, &allowed);
        }
        None => {
            let allowed = format!("at least what build and helper request of {resource} together");
            mistakes.value(&format!("pod_{resource}_{kind}"), most, &allowed);
        }
    }
}
