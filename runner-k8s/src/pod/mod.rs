//! The pod of a job, as a pure function of job, settings and what the cluster can do.
//!
//! Owns what is in the pod; does not own how it is created, nor what happens to it later. The result
//! is JSON as it is sent: typed structs would drop fields that are newer than they are.
//!
//! ```text
//!   helper (first: sources are cloned while the build image is pulled)   plan, state, link
//!   build                                                                      link (read-only)
//!   svc-0 …                                                              neither
//!   all: repo, configured volumes; helper and build: agent
//! ```

mod adapt;
mod budget;
mod companions;
mod containers;
mod environment;
mod fallbacks;
mod images;
mod json;
mod metadata;
mod patch;
mod services;
mod user;
mod volumes;

use std::time::Duration;

use runner_core::ids::JobId;
use runner_core::job::Job;
use runner_core::outcome::{Infra, InfraKind};
use runner_core::plan::Plan;
use runner_core::planner::PlanLookup;
use runner_core::secret::Secret;
use serde_json::{Map, Value, json};

use self::environment::Masks;
use crate::names::{Names, RunnerIdentity};
use crate::settings::{KubernetesSettings, Misfit, Resources, misfit};

pub use adapt::adapt;
pub(crate) use budget::budget;
pub(crate) use companions::{Around, around};
pub use containers::{BUILD, HELPER};
pub use fallbacks::Fallbacks;
pub(crate) use fallbacks::with_policy;
pub use json::PodJson;
pub(crate) use user::{build_user, remarks};
pub(crate) use volumes::PLAN as PLAN_VOLUME;

/// Where the agent program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentDelivery {
    /// An image volume: nothing is copied and nothing waits. Kubernetes 1.33, on by default later.
    ImageVolume,
    /// An init container copies it, on clusters and nodes that cannot mount images.
    InitContainer,
}

/// What the cluster can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// How to deliver the agent.
    pub agent: AgentDelivery,
    /// Whether containers have restart rules (Kubernetes 1.35): a killed helper starts again.
    pub restart_rules: bool,
}

/// Everything a pod is made of.
#[derive(Clone, Copy, Debug)]
pub struct PodInput<'a> {
    /// Settings of the executor.
    pub settings: &'a KubernetesSettings,
    /// Whose pod it is.
    pub runner: &'a RunnerIdentity,
    /// The job.
    pub job: &'a Job,
    /// Its plan: directories, timeouts, variables.
    pub lookup: &'a PlanLookup<'a>,
    /// Its names.
    pub names: &'a Names,
    /// How the plan is stored.
    pub items: &'a PlanItems,
}

/// Which Secrets hold the plan, and the pull credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanItems {
    /// Secret and keys, in order.
    pub secrets: Vec<(String, Vec<String>)>,
    /// Secret of the registries' logins.
    pub pull_secret: Option<String>,
}

/// A pod, and what must stand in the job record for it.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltPod {
    /// The pod.
    pub pod: PodJson,
    /// Values of environment variables that may be secret, by key in the record's Secret.
    pub secret_environment: Vec<(String, Secret)>,
    /// Pull policies that are left when the first one fails.
    pub fallbacks: Fallbacks,
}

/// Why no pod can be made: the job or the settings ask for something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PodError(pub String);

impl<'a> PodInput<'a> {
    /// The job's plan.
    pub fn plan(&self) -> &'a Plan {
        self.lookup.plan()
    }
}

impl PodError {
    /// The same as the job's outcome.
    pub fn infra(&self) -> Infra {
        Infra::new(InfraKind::Configuration, self.0.clone())
    }
}

/// The feature flag with which images' own entry points run.
const HONOR_ENTRYPOINT: &str = "FF_KUBERNETES_HONOR_ENTRYPOINT";

/// The feature flag without which `pod_spec` has no effect.
const PATCHES: &str = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION";

/// The feature flag, on by default, that lets Kubernetes end pods that take too long.
const DEADLINE: &str = "FF_USE_POD_ACTIVE_DEADLINE_SECONDS";

/// Time after the plan's own deadlines until Kubernetes ends the pod: the agent must always be the
/// first to notice, because only it can write a verdict.
const DEADLINE_SLACK: Duration = Duration::from_secs(60);

/// Largest pod as JSON: etcd takes objects of 1.5 MiB, and the API server adds its own fields.
const LARGEST_POD: usize = 1 << 20;

/// Makes the pod of a job, for a cluster that can do everything; see `adapt`.
///
/// # Errors
/// No image, an image that is not allowed, a pull policy that is not allowed, an alias that is no
/// host name.
pub fn build_pod(input: &PodInput<'_>) -> Result<BuiltPod, PodError> {
    let PodInput { settings, lookup, .. } = *input;
    let plan = lookup.plan();
    let image = images::build_image(settings, input.job, lookup)?;
    let masks = Masks::of(plan);
    let environment = environment::environment(input, lookup, &masks);
    let mut services = services::services(input, lookup, &environment, &masks)?;
    let own = [(BUILD, &settings.build), (HELPER, &settings.helper)];
    fits(&own.into_iter().chain(services.resources()).collect::<Vec<_>>(), &settings.pod)?;
    let volumes = volumes::Volumes::new(input, lookup)?;

    let mut containers = vec![
        containers::helper(input, &volumes, lookup)?,
        containers::build(input, &volumes, &image, lookup, &environment)?,
    ];
    containers.extend(services.containers(input, &volumes)?);

    let mut spec = Map::new();
    // The agent waits for the build image's pull as part of the job's time, so this counts from the
    // pod's start and includes the wait.
    let active = plan.timeout + plan.hold + settings.poll_timeout + DEADLINE_SLACK;
    spec.insert("restartPolicy".into(), json!("Never"));
    // Without it nothing but the agent's own deadlines and the manager ends the pod.
    if lookup.setting(DEADLINE) != Some("false") {
        spec.insert("activeDeadlineSeconds".into(), json!(active.as_secs().max(1)));
    }
    spec.insert("volumes".into(), Value::Array(volumes.declared));
    scheduling(settings, &mut spec);
    if let Some(grace) = settings.grace(plan) {
        spec.insert("terminationGracePeriodSeconds".into(), json!(grace));
    }
    if !settings.pod_security.is_empty() {
        spec.insert("securityContext".into(), Value::Object(settings.pod_security.clone()));
    }
    if !settings.use_service_account_image_pull_secrets {
        let own = input.items.pull_secret.iter();
        let names: Vec<_> =
            settings.image_pull_secrets.iter().chain(own).map(|n| json!({ "name": n })).collect();
        if !names.is_empty() {
            spec.insert("imagePullSecrets".into(), Value::Array(names));
        }
    }
    let network = [
        ("hostAliases", services.host_aliases(&settings.host_aliases)),
        ("dnsPolicy", settings.dns_policy.map(Value::from)),
        ("dnsConfig", settings.dns_config.clone()),
        ("affinity", settings.affinity.clone()),
    ];
    spec.extend(network.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    containers::put_resources(&mut spec, &settings.pod);
    let spec = json::Spec { fields: spec, containers };
    let metadata = metadata::metadata(input, lookup);
    let length = spec.length();
    let is_patched = !settings.pod_spec.is_empty() && lookup.setting(PATCHES) == Some("true");
    let pod = match is_patched {
        false => json::pod(&metadata, &spec, length),
        true => {
            let mut spec = json::tree(&spec);
            patch::apply(&mut spec, &settings.pod_spec)?;
            json::pod(&metadata, &spec, length)
        }
    };
    let size = pod.as_str().len();
    if size > LARGEST_POD {
        return Err(PodError(format!(
            "the job is too large: its pod takes {size} bytes, at most {LARGEST_POD} are possible; use \
             fewer or shorter variables for its services"
        )));
    }
    let mut policies = services.pull_policies(input)?;
    policies.push((HELPER.to_owned(), containers::helper_policies(input)));
    policies.push((BUILD.to_owned(), containers::build_policies(input)?));
    Ok(BuiltPod {
        pod,
        secret_environment: services.secret_environment(),
        fallbacks: Fallbacks::after_first(policies),
    })
}

/// Containers must fit into what the pod as a whole may have.
fn fits(containers: &[(&str, &Resources)], pod: &Resources) -> Result<(), PodError> {
    let resources: Vec<_> = containers.iter().map(|(_, resources)| *resources).collect();
    let Some(Misfit { resource, container, pod: (kind, most) }) = misfit(&resources, pod) else {
        return Ok(());
    };
    let who = match container.and_then(|at| containers.get(at)) {
        Some((name, _)) => format!("the {resource} limit of the container {name:?} is"),
        None => format!("what the job's containers request of {resource} is together"),
    };
    Err(PodError(format!(
        "{who} more than the whole pod may have: pod_{resource}_{kind} of this runner is {most:?} \
         (KUBERNETES_POD_{}_{} may change it where the runner allows that)",
        resource.to_uppercase(),
        kind.to_uppercase()
    )))
}

pub(crate) fn scheduling(settings: &KubernetesSettings, spec: &mut Map<String, Value>) {
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            spec.insert(key.to_owned(), json!(value));
        }
    };
    text("schedulerName", &settings.scheduler_name);
    text("serviceAccountName", &settings.service_account);
    text("priorityClassName", &settings.priority_class_name);
    text("runtimeClassName", settings.runtime_class_name.as_deref().unwrap_or_default());
    if let Some(mount) = settings.automount_service_account_token {
        spec.insert("automountServiceAccountToken".into(), json!(mount));
    }
    if !settings.node_selector.is_empty() {
        spec.insert("nodeSelector".into(), json!(settings.node_selector));
    }
    let tolerations: Vec<_> = settings
        .tolerations
        .iter()
        .map(|toleration| {
            let mut out = Map::new();
            if !toleration.key.is_empty() {
                out.insert("key".into(), json!(toleration.key));
            }
            let operator = if toleration.value.is_some() { "Equal" } else { "Exists" };
            out.insert("operator".into(), json!(operator));
            if let Some(value) = &toleration.value {
                out.insert("value".into(), json!(value));
            }
            if !toleration.effect.is_empty() {
                out.insert("effect".into(), json!(toleration.effect));
            }
            Value::Object(out)
        })
        .collect();
    if !tolerations.is_empty() {
        spec.insert("tolerations".into(), Value::Array(tolerations));
    }
}

/// The job's number in a pod's labels.
pub fn job_of_labels(labels: &std::collections::BTreeMap<String, String>) -> Option<JobId> {
    labels.get(crate::names::JOB_LABEL)?.parse().ok().map(JobId)
}
