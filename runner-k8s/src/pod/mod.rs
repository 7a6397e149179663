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
mod text;
mod user;
mod volumes;

use std::time::Duration;

use runner_core::ids::JobId;
use runner_core::job::Job;
use runner_core::outcome::{Infra, InfraKind};
use runner_core::plan::Plan;
use runner_core::planner::PlanLookup;
use runner_core::secret::Secret;
use serde_json::{Map, Value};

use self::environment::{Environment, Masks};
use self::text::Text;
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
    let environment = Environment::new(input, lookup, &masks);
    let mut services = services::services(input, lookup, &environment, &masks)?;
    let own = [(BUILD, &settings.build), (HELPER, &settings.helper)];
    fits(&own.into_iter().chain(services.resources()).collect::<Vec<_>>(), &settings.pod)?;
    let volumes = volumes::Volumes::new(input, lookup)?;

    let mut containers = vec![
        containers::helper(input, &volumes, lookup)?,
        containers::build(input, &volumes, &image, lookup, &environment)?,
    ];
    containers.extend(services.containers(input, &volumes)?);

    let mut out = Text::with_capacity(2048);
    out.open('{');
    // The agent waits for the build image's pull as part of the job's time, so this counts from the
    // pod's start and includes the wait.
    let active = plan.timeout + plan.hold + settings.poll_timeout + DEADLINE_SLACK;
    out.text("restartPolicy", "Never");
    // Without it nothing but the agent's own deadlines and the manager ends the pod.
    if lookup.setting(DEADLINE) != Some("false") {
        out.key("activeDeadlineSeconds");
        out.number(active.as_secs().max(1));
    }
    out.key("volumes");
    out.raw(volumes.declared.as_str());
    put_scheduling(&mut out, settings);
    if let Some(grace) = settings.grace(plan) {
        out.key("terminationGracePeriodSeconds");
        out.number(grace);
    }
    if !settings.pod_security.is_empty() {
        out.key("securityContext");
        out.object(&settings.pod_security);
    }
    if !settings.use_service_account_image_pull_secrets {
        let own = input.items.pull_secret.iter();
        put_pull_secrets(&mut out, settings.image_pull_secrets.iter().chain(own));
    }
    services.put_host_aliases(&mut out, &settings.host_aliases);
    if let Some(policy) = settings.dns_policy {
        out.text("dnsPolicy", policy);
    }
    for (key, value) in [("dnsConfig", &settings.dns_config), ("affinity", &settings.affinity)] {
        if let Some(value) = value {
            out.key(key);
            out.value(value);
        }
    }
    containers::put_resources(&mut out, &settings.pod);
    let spec = json::Spec { fields: out, containers };
    let metadata = metadata::metadata(input, lookup);
    let patches = match lookup.setting(PATCHES) {
        Some("true") => &settings.pod_spec[..],
        _ => &[],
    };
    let pod = json::pod(&metadata, &spec, patches)?;
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

fn put_pull_secrets<'n>(out: &mut Text, names: impl Iterator<Item = &'n String>) {
    let mut names = names.peekable();
    if names.peek().is_none() {
        return;
    }
    out.key("imagePullSecrets");
    out.open('[');
    for name in names {
        out.open('{');
        out.text("name", name);
        out.close('}');
    }
    out.close(']');
}

/// Where pods of these settings may run, as fields of `spec`.
pub(crate) fn scheduling(settings: &KubernetesSettings) -> Map<String, Value> {
    let mut out = Text::default();
    out.open('{');
    put_scheduling(&mut out, settings);
    out.close('}');
    serde_json::from_str(out.as_str()).expect("it was written as an object")
}

fn put_scheduling(out: &mut Text, settings: &KubernetesSettings) {
    out.text_if_any("schedulerName", &settings.scheduler_name);
    out.text_if_any("serviceAccountName", &settings.service_account);
    out.text_if_any("priorityClassName", &settings.priority_class_name);
    let runtime_class = settings.runtime_class_name.as_deref().unwrap_or_default();
    out.text_if_any("runtimeClassName", runtime_class);
    if let Some(mount) = settings.automount_service_account_token {
        out.key("automountServiceAccountToken");
        out.flag(mount);
    }
    if !settings.node_selector.is_empty() {
        out.key("nodeSelector");
        out.open('{');
        settings.node_selector.iter().for_each(|(key, value)| out.text(key, value));
        out.close('}');
    }
    if settings.tolerations.is_empty() {
        return;
    }
    out.key("tolerations");
    out.open('[');
    for toleration in &settings.tolerations {
        out.open('{');
        out.text_if_any("key", &toleration.key);
        out.text("operator", if toleration.value.is_some() { "Equal" } else { "Exists" });
        if let Some(value) = &toleration.value {
            out.text("value", value);
        }
        out.text_if_any("effect", &toleration.effect);
        out.close('}');
    }
    out.close(']');
}

/// The job's number in a pod's labels.
pub fn job_of_labels(labels: &std::collections::BTreeMap<String, String>) -> Option<JobId> {
    labels.get(crate::names::JOB_LABEL)?.parse().ok().map(JobId)
}
