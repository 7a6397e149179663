//! What the settings mean: checked, with defaults, nothing optional without a meaning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runner_core::job::Image;
use runner_core::plan::{Disruption, OnDisruption, Plan};
use runner_core::planner::{GoDuration, parse_duration};
use serde_json::{Map, Value};

use super::autoscaler::{Autoscaler, autoscaler};
use super::connection::{Connection, connection, text};
use super::gates::{Gates, gates};
use super::images::{HelperImage, PullPolicy, helper_image, ids, policies};
use super::mistakes::{Mistakes, SettingsErrors, SettingsWarning};
use super::network;
use super::patches::{PodPatch, patches};
use super::raw::RawSettings;
use super::resources::{Ceiling, Consumer, Resources, check_pod, resources};
use super::scheduling::{Toleration, affinity, tolerations};
use super::security;
use super::services::{ServicesWait, services};
use super::volumes::{Volume, volumes};
use super::warm::{WarmPods, warm_pods};
use super::{contradictions, metadata, without_effect};

/// Fewer than an autoscaler adds nodes for at once, more than a scheduler is late with.
const MAX_WAITING_PODS: usize = 10;
/// How long a manager may be silent: half of what a node may. Its jobs go on meanwhile; only their
/// logs wait.
const LEASE: Duration = Duration::from_secs(20);
/// How long all containers may take to start: GitLab Runner's default of `poll_timeout`.
pub const DEFAULT_POLL_TIMEOUT: Duration = Duration::from_secs(180);
/// GitLab Runner's default of `cleanup_resources_timeout`.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(300);
/// What a negative `resource_availability_check_max_attempts` means in GitLab Runner.
const AVAILABILITY_ATTEMPTS: u32 = 5;

/// The checked settings.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the keys of the raw settings")]
#[non_exhaustive]
pub struct KubernetesSettings {
    pub connection: Connection,
    pub namespace: String,
    pub namespace_per_job: bool,
    /// What jobs may overwrite. Shared: settings are copied for each job that overwrites something,
    /// and a copied expression searches with memory that it first has to get.
    pub gates: Arc<Gates>,
    pub image: Option<String>,
    pub helper_image: HelperImage,
    pub agent_image: String,
    pub allowed_images: Vec<String>,
    pub allowed_services: Vec<String>,
    /// Empty: all but 0.
    pub allowed_users: Vec<u32>,
    /// Empty: all but 0.
    pub allowed_groups: Vec<u32>,
    pub pull_policies: Vec<PullPolicy>,
    pub allowed_pull_policies: Vec<PullPolicy>,
    pub image_pull_secrets: Vec<String>,
    pub use_service_account_image_pull_secrets: bool,
    pub build: Resources,
    pub helper: Resources,
    pub service: Resources,
    pub pod: Resources,
    /// Every resource key that a job can overwrite, and how far.
    pub ceilings: Arc<[Ceiling]>,
    pub pod_labels: BTreeMap<String, String>,
    pub pod_annotations: BTreeMap<String, String>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
    /// `spec.affinity`.
    pub affinity: Option<Value>,
    pub priority_class_name: String,
    pub scheduler_name: String,
    pub runtime_class_name: Option<String>,
    pub service_account: String,
    pub automount_service_account_token: Option<bool>,
    pub pod_security: Map<String, Value>,
    pub init_security: Map<String, Value>,
    pub build_security: Map<String, Value>,
    pub helper_security: Map<String, Value>,
    pub service_security: Map<String, Value>,
    pub volumes: Vec<Volume>,
    /// Services of every job, before its own.
    pub services: Vec<Image>,
    /// How long services with `HEALTHCHECK_TCP_PORT` are waited for.
    pub services_wait: ServicesWait,
    /// `spec.hostAliases`, after the services' own.
    pub host_aliases: Vec<Value>,
    /// `spec.dnsPolicy`.
    pub dns_policy: Option<&'static str>,
    /// `spec.dnsConfig`.
    pub dns_config: Option<Value>,
    /// `lifecycle` of build, helper and services.
    pub lifecycle: Option<Value>,
    pub pod_spec: Vec<PodPatch>,
    pub poll_timeout: Duration,
    /// How long a manager may show no sign of life before others take its jobs over. Default 20 s.
    pub lease: Duration,
    /// Pods that may wait for a node before no job is taken; 0: any number. Default 10.
    pub max_waiting_pods: usize,
    /// Events on pods also for what is usual. Default no.
    pub publish_all_pod_events: bool,
    pub termination_grace: Option<i64>,
    /// What becomes of a job whose pod is told to end.
    pub on_disruption: OnDisruption,
    pub cleanup_grace: Option<i64>,
    pub cleanup_timeout: Duration,
    /// How often to look again for what pods need before a pod is made; 0: not even once.
    pub availability_attempts: u32,
    pub print_pod_warning_events: bool,
    pub pod_disruption_budget: bool,
    /// Pods that keep room for jobs.
    pub autoscaler: Option<Autoscaler>,
    /// Pods that are ready before their job is there.
    pub warm_pods: Vec<WarmPods>,
    /// What is odd but does no harm, for the operator's log.
    pub warnings: Vec<SettingsWarning>,
}

/// Seconds; what is not positive means the default.
fn seconds(value: i64, default: Duration) -> Duration {
    u64::try_from(value).ok().filter(|value| *value > 0).map_or(default, Duration::from_secs)
}

fn cleanup_timeout(raw: &RawSettings, mistakes: &mut Mistakes) -> Duration {
    let written = &raw.cleanup_resources_timeout.0;
    if written.is_empty() {
        return CLEANUP_TIMEOUT;
    }
    match parse_duration(written) {
        Some(GoDuration::Forward(length)) if !length.is_zero() => length,
        Some(_) => CLEANUP_TIMEOUT,
        None => {
            let allowed = "a duration such as 90s or 5m";
            mistakes.value("cleanup_resources_timeout", written, allowed);
            CLEANUP_TIMEOUT
        }
    }
}

fn on_disruption(raw: &RawSettings, mistakes: &mut Mistakes) -> OnDisruption {
    match raw.pod_disruption_policy.as_str() {
        "finish" => OnDisruption::Finish,
        "stop" => OnDisruption::Stop,
        other => {
            if !other.is_empty() {
                mistakes.value("pod_disruption_policy", other, "stop or finish");
            }
            match raw.pod_termination_grace_period_seconds {
                Some(1..) => OnDisruption::Finish,
                _ => OnDisruption::Stop,
            }
        }
    }
}

impl KubernetesSettings {
    /// The pod's `terminationGracePeriodSeconds`, where it is not the cluster's.
    pub(crate) fn grace(&self, plan: &Plan) -> Option<i64> {
        let job = || i64::try_from(plan.timeout.as_secs()).unwrap_or(i64::MAX);
        match self.on_disruption {
            OnDisruption::Stop => self.termination_grace,
            OnDisruption::Finish => self.termination_grace.or_else(|| Some(job())),
        }
    }

    /// What the agent is to do when a pod with so many services is told to end.
    pub(crate) fn disruption(&self, plan: &Plan, services: usize) -> Disruption {
        let grace = self.grace(plan).and_then(|grace| u64::try_from(grace).ok());
        Disruption {
            policy: self.on_disruption,
            grace: grace.map_or(Disruption::default().grace, Duration::from_secs),
            services: if self.on_disruption == OnDisruption::Finish { services } else { 0 },
        }
    }

    /// Checks the raw settings and fills in defaults.
    ///
    /// ```
    /// use runner_k8s::settings::OneOrMany;
    /// use runner_k8s::{KubernetesSettings, RawSettings};
    ///
    /// let raw = RawSettings {
    ///     namespace: "ci".into(),
    ///     cpu_limit: "two".into(),
    ///     pull_policy: OneOrMany::One("sometimes".into()),
    ///     ..RawSettings::default()
    /// };
    /// let mistakes = KubernetesSettings::resolve(&raw).unwrap_err().to_string();
    /// assert!(mistakes.contains("cpu_limit") && mistakes.contains("pull_policy"), "{mistakes}");
    /// ```
    ///
    /// # Errors
    /// Every mistake with its key, not only the first.
    pub fn resolve(raw: &RawSettings) -> Result<Self, SettingsErrors> {
        let mut mistakes = Mistakes::default();
        let connection = connection(raw, &mut mistakes);
        if raw.namespace.is_empty() && !raw.namespace_per_job {
            mistakes.warn("namespace", "is not set, \"default\" is used");
        }
        let mut ceilings = Vec::new();
        let [build, helper, service, pod] =
            Consumer::ALL.map(|consumer| resources(raw, consumer, &mut ceilings, &mut mistakes));
        check_pod(&build, &helper, &pod, &mut mistakes);
        let pull_policies = policies(&mut mistakes, "pull_policy", raw.pull_policy.entries());
        let allowed = raw.allowed_pull_policies.iter().map(String::as_str).collect();
        let allowed_pull_policies = policies(&mut mistakes, "allowed_pull_policies", allowed);
        let context =
            |own, key, mistakes: &mut Mistakes| security::container(raw, own, key, mistakes);
        let attempts = raw.resource_availability_check_max_attempts;
        let settings = Self {
            connection,
            namespace: text(&raw.namespace).unwrap_or_else(|| "default".to_owned()),
            namespace_per_job: raw.namespace_per_job,
            gates: Arc::new(gates(raw, &mut mistakes)),
            image: text(&raw.image),
            helper_image: helper_image(raw),
            agent_image: text(&raw.agent_image)
                .unwrap_or_else(|| concat!("podwright/agent:", env!("CARGO_PKG_VERSION")).into()),
            allowed_images: raw.allowed_images.clone(),
            allowed_services: raw.allowed_services.clone(),
            allowed_users: ids(&mut mistakes, "allowed_users", &raw.allowed_users),
            allowed_groups: ids(&mut mistakes, "allowed_groups", &raw.allowed_groups),
            pull_policies,
            allowed_pull_policies,
            image_pull_secrets: raw.image_pull_secrets.clone(),
            use_service_account_image_pull_secrets: raw.use_service_account_image_pull_secrets,
            build,
            helper,
            service,
            pod,
            ceilings: ceilings.into(),
            pod_labels: raw.pod_labels.clone(),
            pod_annotations: raw.pod_annotations.clone(),
            node_selector: raw.node_selector.clone(),
            tolerations: tolerations(&raw.node_tolerations, &mut mistakes),
            affinity: affinity(raw.affinity.as_ref(), &mut mistakes),
            priority_class_name: raw.priority_class_name.clone(),
            scheduler_name: raw.scheduler_name.clone(),
            runtime_class_name: raw.runtime_class_name.clone(),
            service_account: raw.service_account.clone(),
            automount_service_account_token: raw.automount_service_account_token,
            pod_security: security::pod(&raw.pod_security_context, &mut mistakes),
            init_security: context(
                &raw.init_permissions_container_security_context,
                "init_permissions_container_security_context",
                &mut mistakes,
            ),
            build_security: context(
                &raw.build_container_security_context,
                "build_container_security_context",
                &mut mistakes,
            ),
            helper_security: context(
                &raw.helper_container_security_context,
                "helper_container_security_context",
                &mut mistakes,
            ),
            service_security: context(
                &raw.service_container_security_context,
                "service_container_security_context",
                &mut mistakes,
            ),
            volumes: volumes(&raw.volumes, &mut mistakes),
            services: services(&raw.services),
            services_wait: ServicesWait::of_seconds(raw.wait_for_services_timeout),
            host_aliases: network::host_aliases(&raw.host_aliases, &mut mistakes),
            dns_policy: network::dns_policy(
                &raw.dns_policy,
                raw.dns_config.as_ref(),
                &mut mistakes,
            ),
            dns_config: network::dns_config(raw.dns_config.as_ref(), &mut mistakes),
            lifecycle: network::lifecycle(raw.container_lifecycle.as_ref(), &mut mistakes),
            pod_spec: patches(&raw.pod_spec, &mut mistakes),
            lease: seconds(raw.manager_lease_duration, LEASE),
            publish_all_pod_events: raw.publish_all_pod_events,
            max_waiting_pods: raw
                .max_waiting_pods
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(MAX_WAITING_PODS),
            poll_timeout: seconds(raw.poll_timeout, DEFAULT_POLL_TIMEOUT),
            termination_grace: mistakes.seconds(
                "pod_termination_grace_period_seconds",
                raw.pod_termination_grace_period_seconds,
            ),
            on_disruption: on_disruption(raw, &mut mistakes),
            cleanup_grace: mistakes
                .seconds("cleanup_grace_period_seconds", raw.cleanup_grace_period_seconds),
            cleanup_timeout: cleanup_timeout(raw, &mut mistakes),
            availability_attempts: u32::try_from(attempts).unwrap_or(match attempts {
                ..0 => AVAILABILITY_ATTEMPTS,
                _ => u32::MAX,
            }),
            print_pod_warning_events: raw.print_pod_warning_events.unwrap_or(true),
            pod_disruption_budget: raw.pod_disruption_budget,
            autoscaler: autoscaler(raw.autoscaler.as_ref(), &mut mistakes),
            warm_pods: warm_pods(&raw.warm_pods, &mut mistakes),
            warnings: Vec::new(),
        };
        metadata::check(raw, &mut mistakes);
        contradictions::check(raw, &mut mistakes);
        without_effect::warn(raw, &mut mistakes);
        let Mistakes { errors, warnings } = mistakes;
        if errors.is_empty() {
            Ok(Self { warnings, ..settings })
        } else {
            Err(SettingsErrors(errors))
        }
    }
}
