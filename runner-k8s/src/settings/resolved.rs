//! What the settings mean: checked, with defaults, nothing optional without a meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use runner_core::secret::Secret;
use serde_json::{Map, Value};

use super::quantity::{is_quantity, is_zero};
use super::raw::{RawSettings, RawVolume};
use super::security;

/// Image of `helper` when none is set.
pub const DEFAULT_HELPER_IMAGE: &str =
    "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-latest";
/// How long a manager may be silent: half of what a node may. Its jobs go on meanwhile; only their
/// logs wait.
const LEASE: Duration = Duration::from_secs(20);
/// How long all containers may take to start: GitLab Runner's default of `poll_timeout`.
pub const DEFAULT_POLL_TIMEOUT: Duration = Duration::from_secs(180);

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// `host` is set.
    Host {
        /// URL.
        url: String,
        /// CA bundle; `None`: the system's roots.
        ca_file: Option<String>,
        /// Client certificate and key.
        certificate: Option<(String, String)>,
        /// Token.
        token: Option<Secret>,
    },
    /// In-cluster where that is possible, else a kubeconfig.
    Discover {
        /// Use this kubeconfig and nothing else.
        kubeconfig: Option<String>,
        /// Its context.
        context: Option<String>,
        /// Token that replaces the discovered one. GitLab Runner ignores it in a cluster because
        /// the token file wins there; here it takes effect (better).
        token: Option<Secret>,
    },
}

/// When the kubelet asks the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the node has no such image.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// From GitLab Runner's or Kubernetes' spelling.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "always" | "Always" => Some(Self::Always),
            "if-not-present" | "IfNotPresent" => Some(Self::IfNotPresent),
            "never" | "Never" => Some(Self::Never),
            _ => None,
        }
    }

    /// As the Kubernetes API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Requests and limits of a container, by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `resources.requests`.
    pub requests: BTreeMap<String, String>,
    /// `resources.limits`.
    pub limits: BTreeMap<String, String>,
}

/// A taint that is tolerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Key; empty: every key.
    pub key: String,
    /// Value; `None`: every value.
    pub value: Option<String>,
    /// Effect; empty: every effect.
    pub effect: String,
}

/// A volume that all containers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name in the pod.
    pub name: String,
    /// Where it is mounted; `$VAR` allowed.
    pub mount_path: String,
    /// Part of the volume; `$VAR` allowed.
    pub sub_path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Passed on as it is.
    pub mount_propagation: String,
    /// What it is.
    pub source: VolumeSource,
}

/// Kinds of [`Volume`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A directory of the node.
    HostPath(String),
    /// A claim by name; `$VAR` allowed.
    Claim,
    /// Keys of a config map to paths; empty: all.
    ConfigMap(BTreeMap<String, String>),
    /// Keys of a Secret to paths; empty: all.
    Secret(BTreeMap<String, String>),
    /// Scratch space.
    EmptyDir {
        /// `Memory`, or empty for disk.
        medium: String,
        /// Quantity, or empty.
        size_limit: String,
    },
}

/// The checked settings.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the keys of the raw settings")]
pub struct KubernetesSettings {
    pub connection: Connection,
    pub namespace: String,
    pub image: Option<String>,
    pub helper_image: String,
    pub agent_image: String,
    pub allowed_images: Vec<String>,
    pub allowed_services: Vec<String>,
    pub pull_policies: Vec<PullPolicy>,
    pub allowed_pull_policies: Vec<PullPolicy>,
    pub image_pull_secrets: Vec<String>,
    pub use_service_account_image_pull_secrets: bool,
    pub build: Resources,
    pub helper: Resources,
    pub service: Resources,
    pub pod_labels: BTreeMap<String, String>,
    pub pod_annotations: BTreeMap<String, String>,
    pub node_selector: BTreeMap<String, String>,
    pub tolerations: Vec<Toleration>,
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
    pub poll_timeout: Duration,
    /// How long a manager may show no sign of life before others take its jobs over. Default 20 s.
    pub lease: Duration,
    pub termination_grace: Option<i64>,
    pub cleanup_grace: Option<i64>,
    /// What is odd but does no harm, for the operator's log.
    pub warnings: Vec<String>,
}

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Key below `[runners.kubernetes]`.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// All mistakes in the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsErrors(pub Vec<SettingsError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}[runners.kubernetes] {}: {}", error.key, error.message)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Mistakes(Vec<SettingsError>);

impl Mistakes {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(SettingsError { key: key.to_owned(), message: message.into() });
    }

    fn quantity(&mut self, key: &str, text: &str) -> Option<String> {
        if text.is_empty() || is_zero(text) {
            return None;
        }
        if is_quantity(text) {
            return Some(text.to_owned());
        }
        self.add(key, format!("{text:?} is not a quantity; write for example 500m, 2 or 1Gi"));
        None
    }

    fn resources(&mut self, prefix: &str, values: [&str; 6]) -> Resources {
        let mut out = Resources::default();
        let names = ["cpu", "memory", "ephemeral_storage"];
        for (index, name) in names.into_iter().enumerate() {
            let resource = name.replace('_', "-");
            let limit = self.quantity(&format!("{prefix}{name}_limit"), values[2 * index]);
            let request = self.quantity(&format!("{prefix}{name}_request"), values[2 * index + 1]);
            out.limits.extend(limit.map(|value| (resource.clone(), value)));
            out.requests.extend(request.map(|value| (resource, value)));
        }
        out
    }

    fn policies(&mut self, key: &str, entries: Vec<&str>) -> Vec<PullPolicy> {
        let mut out = Vec::new();
        for entry in entries {
            match PullPolicy::parse(entry) {
                Some(policy) => out.push(policy),
                None => {
                    self.add(key, format!("{entry:?} is not one of always, if-not-present, never"))
                }
            }
        }
        out
    }
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn connection(raw: &RawSettings, mistakes: &mut Mistakes) -> Connection {
    let token = (!raw.bearer_token.is_empty()).then(|| raw.bearer_token.clone());
    if raw.host.is_empty() {
        return Connection::Discover {
            kubeconfig: text(&raw.kubeconfig),
            context: text(&raw.context),
            token,
        };
    }
    let certificate = match (text(&raw.cert_file), text(&raw.key_file), text(&raw.ca_file)) {
        (None, _, _) => None,
        (Some(cert), Some(key), Some(_)) => Some((cert, key)),
        (Some(_), _, _) => {
            mistakes.add("cert_file", "needs key_file and ca_file beside it");
            None
        }
    };
    Connection::Host { url: raw.host.clone(), ca_file: text(&raw.ca_file), certificate, token }
}

fn tolerations(raw: &RawSettings) -> Vec<Toleration> {
    raw.node_tolerations
        .iter()
        .map(|(taint, effect)| {
            let (key, value) = match taint.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (taint.as_str(), None),
            };
            Toleration { key: key.to_owned(), value, effect: effect.clone() }
        })
        .collect()
}

fn volumes(raw: &RawSettings, mistakes: &mut Mistakes) -> Vec<Volume> {
    let kinds = [
        ("host_path", &raw.volumes.host_path),
        ("secret", &raw.volumes.secret),
        ("pvc", &raw.volumes.pvc),
        ("config_map", &raw.volumes.config_map),
        ("empty_dir", &raw.volumes.empty_dir),
    ];
    let mut out = Vec::new();
    for (kind, list) in kinds {
        for (index, volume) in list.iter().enumerate() {
            let key = format!("volumes.{kind}[{index}]");
            for (name, value) in [("name", &volume.name), ("mount_path", &volume.mount_path)] {
                if value.is_empty() {
                    mistakes.add(&format!("{key}.{name}"), "must be set");
                }
            }
            if !volume.size_limit.is_empty() && !is_quantity(&volume.size_limit) {
                let message = format!("{:?} is not a quantity", volume.size_limit);
                mistakes.add(&format!("{key}.size_limit"), message);
            }
            out.push(resolve_volume(kind, volume));
        }
    }
    out
}

fn resolve_volume(kind: &str, raw: &RawVolume) -> Volume {
    let source = match kind {
        "host_path" => {
            VolumeSource::HostPath(text(&raw.host_path).unwrap_or_else(|| raw.mount_path.clone()))
        }
        "pvc" => VolumeSource::Claim,
        "config_map" => VolumeSource::ConfigMap(raw.items.clone()),
        "secret" => VolumeSource::Secret(raw.items.clone()),
        _ => VolumeSource::EmptyDir {
            medium: raw.medium.clone(),
            size_limit: raw.size_limit.clone(),
        },
    };
    Volume {
        name: raw.name.clone(),
        mount_path: raw.mount_path.clone(),
        sub_path: raw.sub_path.clone(),
        read_only: raw.read_only,
        mount_propagation: raw.mount_propagation.clone(),
        source,
    }
}

impl KubernetesSettings {
    /// Checks the raw settings and fills in defaults.
    ///
    /// # Errors
    /// Every mistake with its key, not only the first.
    pub fn resolve(raw: &RawSettings) -> Result<Self, SettingsErrors> {
        let mut mistakes = Mistakes::default();
        let mut warnings = Vec::new();
        let connection = connection(raw, &mut mistakes);
        if raw.namespace.is_empty() {
            warnings.push("namespace is not set, \"default\" is used".to_owned());
        }
        let build = [
            &raw.cpu_limit,
            &raw.cpu_request,
            &raw.memory_limit,
            &raw.memory_request,
            &raw.ephemeral_storage_limit,
            &raw.ephemeral_storage_request,
        ];
        let helper = [
            &raw.helper_cpu_limit,
            &raw.helper_cpu_request,
            &raw.helper_memory_limit,
            &raw.helper_memory_request,
            &raw.helper_ephemeral_storage_limit,
            &raw.helper_ephemeral_storage_request,
        ];
        let service = [
            &raw.service_cpu_limit,
            &raw.service_cpu_request,
            &raw.service_memory_limit,
            &raw.service_memory_request,
            &raw.service_ephemeral_storage_limit,
            &raw.service_ephemeral_storage_request,
        ];
        let as_str = |list: [&'_ String; 6]| list.map(|text| text.clone());
        let (build, helper, service) = (as_str(build), as_str(helper), as_str(service));
        let build = mistakes.resources("", build.each_ref().map(String::as_str));
        let helper = mistakes.resources("helper_", helper.each_ref().map(String::as_str));
        let service = mistakes.resources("service_", service.each_ref().map(String::as_str));
        let pull_policies = mistakes.policies("pull_policy", raw.pull_policy.entries());
        let allowed = raw.allowed_pull_policies.iter().map(String::as_str).collect();
        let allowed_pull_policies = mistakes.policies("allowed_pull_policies", allowed);
        let volumes = volumes(raw, &mut mistakes);
        let context =
            |own, key, warnings: &mut Vec<String>| security::container(raw, own, key, warnings);
        let settings = Self {
            connection,
            namespace: text(&raw.namespace).unwrap_or_else(|| "default".to_owned()),
            image: text(&raw.image),
            helper_image: text(&raw.helper_image).unwrap_or_else(|| DEFAULT_HELPER_IMAGE.into()),
            agent_image: text(&raw.agent_image)
                .unwrap_or_else(|| concat!("podwright/agent:", env!("CARGO_PKG_VERSION")).into()),
            allowed_images: raw.allowed_images.clone(),
            allowed_services: raw.allowed_services.clone(),
            pull_policies,
            allowed_pull_policies,
            image_pull_secrets: raw.image_pull_secrets.clone(),
            use_service_account_image_pull_secrets: raw.use_service_account_image_pull_secrets,
            build,
            helper,
            service,
            pod_labels: raw.pod_labels.clone(),
            pod_annotations: raw.pod_annotations.clone(),
            node_selector: raw.node_selector.clone(),
            tolerations: tolerations(raw),
            priority_class_name: raw.priority_class_name.clone(),
            scheduler_name: raw.scheduler_name.clone(),
            runtime_class_name: raw.runtime_class_name.clone(),
            service_account: raw.service_account.clone(),
            automount_service_account_token: raw.automount_service_account_token,
            pod_security: security::pod(&raw.pod_security_context, &mut warnings),
            init_security: context(
                &raw.init_permissions_container_security_context,
                "init_permissions_container_security_context",
                &mut warnings,
            ),
            build_security: context(
                &raw.build_container_security_context,
                "build_container_security_context",
                &mut warnings,
            ),
            helper_security: context(
                &raw.helper_container_security_context,
                "helper_container_security_context",
                &mut warnings,
            ),
            service_security: context(
                &raw.service_container_security_context,
                "service_container_security_context",
                &mut warnings,
            ),
            volumes,
            lease: u64::try_from(raw.manager_lease_duration)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map_or(LEASE, Duration::from_secs),
            poll_timeout: u64::try_from(raw.poll_timeout)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map_or(DEFAULT_POLL_TIMEOUT, Duration::from_secs),
            termination_grace: raw.pod_termination_grace_period_seconds,
            cleanup_grace: raw.cleanup_grace_period_seconds,
            warnings,
        };
        if mistakes.0.is_empty() { Ok(settings) } else { Err(SettingsErrors(mistakes.0)) }
    }
}
