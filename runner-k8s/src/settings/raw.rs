//! `[runners.kubernetes]` as it is written: GitLab Runner's key names, everything optional, nothing
//! checked beyond its type. Unknown keys are the configuration reader's business.

use std::collections::BTreeMap;

use runner_core::secret::Secret;
use serde::Deserialize;

/// A string or a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `pull_policy = "always"`
    One(String),
    /// `pull_policy = ["always", "if-not-present"]`
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// The entries; an empty string is no entry.
    pub fn entries(&self) -> Vec<&str> {
        match self {
            Self::One(one) => vec![one.as_str()],
            Self::Many(many) => many.iter().map(String::as_str).collect(),
        }
        .into_iter()
        .filter(|entry| !entry.is_empty())
        .collect()
    }
}

macro_rules! raw_settings {
    ($($(#[$doc:meta])* $key:ident: $kind:ty,)*) => {
        /// The table `[runners.kubernetes]`.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(default)]
        pub struct RawSettings {
            $($(#[$doc])* pub $key: $kind,)*
        }

        impl RawSettings {
            /// The keys that this release understands, for "unknown key" warnings.
            pub const KEYS: &[&str] = &[$(stringify!($key)),*];
        }
    };
}

raw_settings! {
    /// URL of the API server; empty: in-cluster, then kubeconfig.
    host: String,
    /// Context of the kubeconfig.
    context: String,
    /// Podwright's own: a kubeconfig file to use instead of the default one.
    kubeconfig: String,
    /// Client certificate, with `host`.
    cert_file: String,
    /// Its key.
    key_file: String,
    /// CA bundle, with `host`.
    ca_file: String,
    /// Token for the API.
    bearer_token: Secret,
    /// Namespace of all objects; empty: `default`.
    namespace: String,
    /// Image of jobs that name none.
    image: String,
    /// Image of `helper`; it needs `git`.
    helper_image: String,
    /// Podwright's own: the image that holds the agent.
    agent_image: String,
    /// Globs of images that jobs may use; empty: all.
    allowed_images: Vec<String>,
    /// The same for services.
    allowed_services: Vec<String>,
    /// Pull policies in order of fallback.
    pull_policy: OneOrMany,
    /// Which of them jobs may ask for; empty: those of `pull_policy`.
    allowed_pull_policies: Vec<String>,
    /// Names that come first in the pod's `imagePullSecrets`.
    image_pull_secrets: Vec<String>,
    /// Leaves `imagePullSecrets` to the service account.
    use_service_account_image_pull_secrets: bool,
    /// Build container.
    cpu_limit: String,
    /// Build container.
    cpu_request: String,
    /// Build container.
    memory_limit: String,
    /// Build container.
    memory_request: String,
    /// Build container.
    ephemeral_storage_limit: String,
    /// Build container.
    ephemeral_storage_request: String,
    /// Each service.
    service_cpu_limit: String,
    /// Each service.
    service_cpu_request: String,
    /// Each service.
    service_memory_limit: String,
    /// Each service.
    service_memory_request: String,
    /// Each service.
    service_ephemeral_storage_limit: String,
    /// Each service.
    service_ephemeral_storage_request: String,
    /// Helper container.
    helper_cpu_limit: String,
    /// Helper container.
    helper_cpu_request: String,
    /// Helper container.
    helper_memory_limit: String,
    /// Helper container.
    helper_memory_request: String,
    /// Helper container.
    helper_ephemeral_storage_limit: String,
    /// Helper container.
    helper_ephemeral_storage_request: String,
    /// Labels of the pod.
    pod_labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    pod_annotations: BTreeMap<String, String>,
    /// `spec.nodeSelector`.
    node_selector: BTreeMap<String, String>,
    /// `key` or `key=value` to effect.
    node_tolerations: BTreeMap<String, String>,
    /// `spec.priorityClassName`.
    priority_class_name: String,
    /// `spec.schedulerName`.
    scheduler_name: String,
    /// `spec.runtimeClassName`.
    runtime_class_name: Option<String>,
    /// `spec.serviceAccountName`.
    service_account: String,
    /// `spec.automountServiceAccountToken`.
    automount_service_account_token: Option<bool>,
    /// Default of every container.
    privileged: Option<bool>,
    /// Default of every container.
    allow_privilege_escalation: Option<bool>,
    /// Default capabilities to add.
    cap_add: Vec<String>,
    /// Default capabilities to drop; wins over `cap_add`.
    cap_drop: Vec<String>,
    /// `spec.securityContext`.
    pod_security_context: RawPodSecurity,
    /// Context of init containers.
    init_permissions_container_security_context: RawContainerSecurity,
    /// Context of `build`.
    build_container_security_context: RawContainerSecurity,
    /// Context of `helper`.
    helper_container_security_context: RawContainerSecurity,
    /// Context of services.
    service_container_security_context: RawContainerSecurity,
    /// Volumes in all containers.
    volumes: RawVolumes,
    /// Accepted and ignored: nothing is polled.
    poll_interval: i64,
    /// Seconds until all containers must have started; not positive: 180.
    poll_timeout: i64,
    /// Podwright's own: seconds after which a manager that shows no sign of life is taken for dead
    /// and its jobs are taken over; 0 or absent: 20.
    manager_lease_duration: i64,
    /// `spec.terminationGracePeriodSeconds`.
    pod_termination_grace_period_seconds: Option<i64>,
    /// `gracePeriodSeconds` of the pod's deletion.
    cleanup_grace_period_seconds: Option<i64>,
}

/// `pod_security_context`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys are the fields of the Kubernetes API in snake case")]
pub struct RawPodSecurity {
    pub fs_group: Option<i64>,
    pub run_as_group: Option<i64>,
    pub run_as_non_root: Option<bool>,
    pub run_as_user: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    pub selinux_type: String,
    pub seccomp_profile: Option<RawProfile>,
    pub app_armor_profile: Option<RawProfile>,
}

/// `*_container_security_context`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys are the fields of the Kubernetes API in snake case")]
pub struct RawContainerSecurity {
    pub capabilities: Option<RawCapabilities>,
    pub privileged: Option<bool>,
    pub allow_privilege_escalation: Option<bool>,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    pub run_as_non_root: Option<bool>,
    pub read_only_root_filesystem: Option<bool>,
    pub selinux_type: String,
    pub proc_mount: String,
    pub seccomp_profile: Option<RawProfile>,
    pub app_armor_profile: Option<RawProfile>,
}

/// `capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys are the fields of the Kubernetes API")]
pub struct RawCapabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

/// `seccomp_profile`, `app_armor_profile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys are the fields of the Kubernetes API in snake case")]
pub struct RawProfile {
    pub r#type: String,
    pub localhost_profile: String,
}

/// `[[runners.kubernetes.volumes.KIND]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys are the kinds of volumes")]
pub struct RawVolumes {
    pub host_path: Vec<RawVolume>,
    pub pvc: Vec<RawVolume>,
    pub config_map: Vec<RawVolume>,
    pub secret: Vec<RawVolume>,
    pub empty_dir: Vec<RawVolume>,
}

/// A volume of any kind; which keys mean something depends on the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys are described in the settings' documentation")]
pub struct RawVolume {
    pub name: String,
    pub mount_path: String,
    pub sub_path: String,
    pub read_only: bool,
    pub mount_propagation: String,
    pub host_path: String,
    pub items: BTreeMap<String, String>,
    pub medium: String,
    pub size_limit: String,
}
