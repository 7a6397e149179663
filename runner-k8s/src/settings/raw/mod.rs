//! `[runners.kubernetes]` as it is written: GitLab Runner's key names, everything optional, nothing
//! checked beyond its type. Unknown keys are the configuration reader's business.
//!
//! Each key's comment says what it means, its unit, what an absent key means and where it lands in
//! the pod. A value survives TOML → settings → TOML.

mod containers;
mod kinds;
mod scheduling;
mod security;
mod tables;
mod volumes;

use std::collections::BTreeMap;

use runner_core::secret::Secret;

pub use containers::{
    RawAutoscaler, RawAutoscalerPolicy, RawDnsConfig, RawDnsOption, RawExec, RawHandler, RawHeader,
    RawHostAlias, RawHttpGet, RawLifecycle, RawPodPatch, RawService, RawTcpSocket, RawWarmPods,
};
pub use kinds::{OneOrMany, RawDuration};
pub use scheduling::{
    RawAffinity, RawLabelSelector, RawNodeAffinity, RawNodeSelector, RawNodeTerm, RawPodAffinity,
    RawPodTerm, RawPreferredNode, RawPreferredPods, RawRequirement,
};
pub use security::{RawCapabilities, RawContainerSecurity, RawPodSecurity, RawProfile};
use tables::table;
pub use volumes::{RawClaim, RawCsi, RawEmptyDir, RawFiles, RawHostPath, RawNfs, RawVolumes};

const PULL_POLICIES: &[&str] = &["always", "if-not-present", "never"];

table! {
    /// The table `[runners.kubernetes]`.
    RawSettings {
        // Connection.

        /// URL of the API server. Default: in-cluster, else the kubeconfig.
        host: String,
        /// Context of the kubeconfig. Default: its current one.
        context: String,
        /// Podwright's own: the kubeconfig to use. Default: `KUBECONFIG`, else `~/.kube/config`.
        kubeconfig: String,
        /// Client certificate (PEM), with `host`; needs `key_file` and `ca_file`. Default: none.
        cert_file: String,
        /// Key of `cert_file` (PEM). Default: none.
        key_file: String,
        /// CA bundle (PEM), with `host`. Default: the system's.
        ca_file: String,
        /// Token for the API; replaces the discovered one. Default: none.
        bearer_token: Secret,
        /// Whether jobs may use a token of their own, `KUBERNETES_BEARER_TOKEN`. Default: false.
        bearer_token_overwrite_allowed: bool [default("false")],

        // Namespace.

        /// Namespace of all objects. Default: `default`, with a warning.
        namespace: String [default("\"default\"")],
        /// Regular expression (found anywhere in the value) of what jobs may put into
        /// `KUBERNETES_NAMESPACE_OVERWRITE`. Default: nothing.
        namespace_overwrite_allowed: String,
        /// Each job gets a namespace `ci-job-<id>` of its own. Default: false.
        namespace_per_job: bool [default("false")],

        // Images.

        /// Image of jobs that name none; `$VAR` allowed. Default: none.
        image: String,
        /// Image of `helper`, which needs `git`; `$VAR` allowed. Default: GitLab Runner's helper image
        /// for `helper_image_flavor` and the node's architecture.
        helper_image: String,
        /// Prefix of the default helper image's tag; `$VAR` allowed. Default: `alpine`, which adds
        /// none.
        helper_image_flavor: String [default("\"alpine\"")],
        /// The default helper image is for the manager's architecture rather than amd64. Default:
        /// false.
        helper_image_autoset_arch_and_os: bool [default("false")],
        /// Podwright's own: the image that holds the agent. Default: the one of this release.
        agent_image: String
                [default(concat!("\"podwright/agent:", env!("CARGO_PKG_VERSION"), "\""))],
        /// Globs of images that jobs may use; `image` and the helper image always are. Default: all.
        allowed_images: Vec<String>,
        /// The same for services, also for those of `services`. Default: all.
        allowed_services: Vec<String>,
        /// Numbers of users that jobs may ask for in `image: kubernetes: user`. Default: all but 0.
        allowed_users: Vec<String>,
        /// The same for groups.
        allowed_groups: Vec<String>,
        /// `always`, `if-not-present`, `never`, or a list of them, tried in order: `imagePullPolicy`.
        /// Default: the cluster's.
        pull_policy: OneOrMany [known(PULL_POLICIES)],
        /// Which of them jobs may ask for. Default: those of `pull_policy`.
        allowed_pull_policies: Vec<String> [known(PULL_POLICIES)],
        /// Names that come first in `spec.imagePullSecrets`. Default: none.
        image_pull_secrets: Vec<String>,
        /// Leaves `spec.imagePullSecrets` to the service account. Default: false.
        use_service_account_image_pull_secrets: bool [default("false")],

        // Resources: quantities such as `500m`, `2` or `1Gi`; empty and zero mean not set. A ceiling is the most that
        // the job variable may say; without one it has no effect.

        /// `limits.cpu` of `build`.
        cpu_limit: String,
        /// Ceiling of `KUBERNETES_CPU_LIMIT`.
        cpu_limit_overwrite_max_allowed: String,
        /// `requests.cpu` of `build`.
        cpu_request: String,
        /// Ceiling of `KUBERNETES_CPU_REQUEST`.
        cpu_request_overwrite_max_allowed: String,
        /// `limits.memory` of `build`.
        memory_limit: String,
        /// Ceiling of `KUBERNETES_MEMORY_LIMIT`.
        memory_limit_overwrite_max_allowed: String,
        /// `requests.memory` of `build`.
        memory_request: String,
        /// Ceiling of `KUBERNETES_MEMORY_REQUEST`.
        memory_request_overwrite_max_allowed: String,
        /// `limits.ephemeral-storage` of `build`.
        ephemeral_storage_limit: String,
        /// Ceiling of `KUBERNETES_EPHEMERAL_STORAGE_LIMIT`.
        ephemeral_storage_limit_overwrite_max_allowed: String,
        /// `requests.ephemeral-storage` of `build`.
        ephemeral_storage_request: String,
        /// Ceiling of `KUBERNETES_EPHEMERAL_STORAGE_REQUEST`.
        ephemeral_storage_request_overwrite_max_allowed: String,
        /// `limits.cpu` of each service.
        service_cpu_limit: String,
        /// Ceiling of `KUBERNETES_SERVICE_CPU_LIMIT`.
        service_cpu_limit_overwrite_max_allowed: String,
        /// `requests.cpu` of each service.
        service_cpu_request: String,
        /// Ceiling of `KUBERNETES_SERVICE_CPU_REQUEST`.
        service_cpu_request_overwrite_max_allowed: String,
        /// `limits.memory` of each service.
        service_memory_limit: String,
        /// Ceiling of `KUBERNETES_SERVICE_MEMORY_LIMIT`.
        service_memory_limit_overwrite_max_allowed: String,
        /// `requests.memory` of each service.
        service_memory_request: String,
        /// Ceiling of `KUBERNETES_SERVICE_MEMORY_REQUEST`.
        service_memory_request_overwrite_max_allowed: String,
        /// `limits.ephemeral-storage` of each service.
        service_ephemeral_storage_limit: String,
        /// Ceiling of `KUBERNETES_SERVICE_EPHEMERAL_STORAGE_LIMIT`.
        service_ephemeral_storage_limit_overwrite_max_allowed: String,
        /// `requests.ephemeral-storage` of each service.
        service_ephemeral_storage_request: String,
        /// Ceiling of `KUBERNETES_SERVICE_EPHEMERAL_STORAGE_REQUEST`.
        service_ephemeral_storage_request_overwrite_max_allowed: String,
        /// `limits.cpu` of `helper` and the init container.
        helper_cpu_limit: String,
        /// Ceiling of `KUBERNETES_HELPER_CPU_LIMIT`.
        helper_cpu_limit_overwrite_max_allowed: String,
        /// `requests.cpu` of `helper` and the init container.
        helper_cpu_request: String,
        /// Ceiling of `KUBERNETES_HELPER_CPU_REQUEST`.
        helper_cpu_request_overwrite_max_allowed: String,
        /// `limits.memory` of `helper` and the init container.
        helper_memory_limit: String,
        /// Ceiling of `KUBERNETES_HELPER_MEMORY_LIMIT`.
        helper_memory_limit_overwrite_max_allowed: String,
        /// `requests.memory` of `helper` and the init container.
        helper_memory_request: String,
        /// Ceiling of `KUBERNETES_HELPER_MEMORY_REQUEST`.
        helper_memory_request_overwrite_max_allowed: String,
        /// `limits.ephemeral-storage` of `helper` and the init container.
        helper_ephemeral_storage_limit: String,
        /// Ceiling of `KUBERNETES_HELPER_EPHEMERAL_STORAGE_LIMIT`.
        helper_ephemeral_storage_limit_overwrite_max_allowed: String,
        /// `requests.ephemeral-storage` of `helper` and the init container.
        helper_ephemeral_storage_request: String,
        /// Ceiling of `KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST`.
        helper_ephemeral_storage_request_overwrite_max_allowed: String,
        /// `limits.cpu` of the pod: `spec.resources`.
        pod_cpu_limit: String,
        /// Ceiling of `KUBERNETES_POD_CPU_LIMIT`.
        pod_cpu_limit_overwrite_max_allowed: String,
        /// `requests.cpu` of the pod: `spec.resources`.
        pod_cpu_request: String,
        /// Ceiling of `KUBERNETES_POD_CPU_REQUEST`.
        pod_cpu_request_overwrite_max_allowed: String,
        /// `limits.memory` of the pod: `spec.resources`.
        pod_memory_limit: String,
        /// Ceiling of `KUBERNETES_POD_MEMORY_LIMIT`.
        pod_memory_limit_overwrite_max_allowed: String,
        /// `requests.memory` of the pod: `spec.resources`.
        pod_memory_request: String,
        /// Ceiling of `KUBERNETES_POD_MEMORY_REQUEST`.
        pod_memory_request_overwrite_max_allowed: String,

        // Metadata.

        /// `metadata.labels`; values: `$VAR` allowed, cleaned to what Kubernetes takes. Keys of the
        /// runner's own domains are left out. Default: none.
        pod_labels: BTreeMap<String, String>,
        /// Regular expression of `key=value` in `KUBERNETES_POD_LABELS_*`. Default: nothing.
        pod_labels_overwrite_allowed: String,
        /// `metadata.annotations`; values: `$VAR` allowed. Default: none.
        pod_annotations: BTreeMap<String, String>,
        /// Regular expression of `key=value` in `KUBERNETES_POD_ANNOTATIONS_*`. Default: nothing.
        pod_annotations_overwrite_allowed: String,

        // Scheduling.

        /// `spec.nodeSelector`; `kubernetes.io/arch` also chooses the default helper image. Default:
        /// none.
        node_selector: BTreeMap<String, String>,
        /// Regular expression of `key=value` in `KUBERNETES_NODE_SELECTOR_*`. Default: nothing.
        node_selector_overwrite_allowed: String,
        /// `key` or `key=value` to effect: `spec.tolerations`. An empty effect means all effects, an
        /// empty key all taints. Default: none.
        node_tolerations: BTreeMap<String, String>,
        /// Regular expression of `key=value:effect` in `KUBERNETES_NODE_TOLERATIONS_*`. Default:
        /// nothing.
        node_tolerations_overwrite_allowed: String,
        /// `spec.affinity`. Default: none.
        affinity: Option<RawAffinity>,
        /// `spec.priorityClassName`. Default: the cluster's.
        priority_class_name: String,
        /// `spec.schedulerName`. Default: the cluster's.
        scheduler_name: String,
        /// `spec.runtimeClassName`. Default: the cluster's.
        runtime_class_name: Option<String>,

        // Identity.

        /// `spec.serviceAccountName`. Default: the namespace's `default`.
        service_account: String,
        /// Regular expression of `KUBERNETES_SERVICE_ACCOUNT_OVERWRITE`. Default: nothing.
        service_account_overwrite_allowed: String,
        /// `spec.automountServiceAccountToken`. Default: the service account's.
        automount_service_account_token: Option<bool>,

        // Security.

        /// `privileged` of every container that has none of its own. Default: not set.
        privileged: Option<bool>,
        /// `allowPrivilegeEscalation`, the same. Default: not set.
        allow_privilege_escalation: Option<bool>,
        /// Capabilities that every container gets. Default: none.
        cap_add: Vec<String>,
        /// Capabilities that no container gets; wins over `cap_add`. `NET_RAW` is dropped unless one of
        /// the two names it.
        cap_drop: Vec<String>,
        /// `spec.securityContext`. Default: none.
        pod_security_context: RawPodSecurity,
        /// `securityContext` of the init container, where there is one.
        init_permissions_container_security_context: RawContainerSecurity,
        /// `securityContext` of `build`.
        build_container_security_context: RawContainerSecurity,
        /// `securityContext` of `helper`.
        helper_container_security_context: RawContainerSecurity,
        /// `securityContext` of each service.
        service_container_security_context: RawContainerSecurity,

        // Volumes, services, network, hooks, patches.

        /// Volumes that all containers mount. Default: none.
        volumes: RawVolumes,
        /// Services of every job, before its own. Default: none.
        services: Vec<RawService>,
        /// Podwright's own (and of GitLab Runner's Docker executor): seconds that a job waits for
        /// the ports of services with `HEALTHCHECK_TCP_PORT`; then it goes on with a warning. 0: as
        /// long as the deadlines of its first stage and of the job allow (default); negative: not at
        /// all.
        wait_for_services_timeout: i64 [default("0")],
        /// `spec.hostAliases`, after the services' own. Default: none.
        host_aliases: Vec<RawHostAlias>,
        /// `none`, `default`, `cluster-first` or `cluster-first-with-host-net`: `spec.dnsPolicy`.
        /// Default: the cluster's, which is `ClusterFirst`.
        dns_policy: String
                [known(&["none", "default", "cluster-first", "cluster-first-with-host-net"])],
        /// `spec.dnsConfig`. Default: none.
        dns_config: Option<RawDnsConfig>,
        /// `lifecycle` of build, helper and services. Default: none.
        container_lifecycle: Option<RawLifecycle>,
        /// Changes of the finished `spec`. Default: none.
        pod_spec: Vec<RawPodPatch>,

        // Time.

        /// Seconds. Accepted and ignored: nothing is polled.
        poll_interval: i64
                [ignored("nothing is polled: the executor watches its pods")],
        /// Seconds until all containers must have started; not positive: 180.
        poll_timeout: i64 [default("180")],
        /// Accepted and ignored: requests are repeated until a deadline, not a number of times.
        retry_limit: i64
                [ignored("requests to the API server are repeated until a deadline of the job")],
        /// Milliseconds. Accepted and ignored, for the same reason.
        retry_backoff_max: i64
                [ignored("requests to the API server are repeated until a deadline of the job")],
        /// Accepted and ignored, for the same reason.
        retry_limits: BTreeMap<String, i64>
                [ignored("requests to the API server are repeated until a deadline of the job")],
        /// Seconds that a pod gets when it is deleted: `gracePeriodSeconds`. Default: 1, the job is
        /// over by then.
        cleanup_grace_period_seconds: Option<i64> [default("1")],
        /// How long the clean-up of a job may take before it is left to the next look. Default: 5m.
        cleanup_resources_timeout: RawDuration [default("\"5m\"")],
        /// Seconds: `spec.terminationGracePeriodSeconds`. Default: the cluster's, which is 30; with
        /// `pod_disruption_policy = "finish"` the job's timeout.
        pod_termination_grace_period_seconds: Option<i64>,
        /// Podwright's own: what becomes of a job whose pod is told to end (a drained node, a spot
        /// notice, a deletion). `stop`: its steps stop at once, then caches and artifacts that are kept
        /// whatever happens are saved. `finish`: it goes on until the last quarter of the grace (at
        /// most two minutes), which is for saving. Default: `finish` where
        /// `pod_termination_grace_period_seconds` is set, since it is set for that; else `stop`.
        pod_disruption_policy: String [default("\"stop\"")],
        /// How often to look again, every 5 s, for `service_account` and `image_pull_secrets` before a
        /// job's pod is made; 0: not at all (default), negative: 5.
        resource_availability_check_max_attempts: i64 [default("0")],
        /// Podwright's own: seconds after which a manager that shows no sign of life is taken for dead
        /// and its jobs are taken over; not positive: 20.
        manager_lease_duration: i64 [default("20")],
        /// Podwright's own: while so many pods of this runner wait for a node, its quota refuses one or
        /// the API server does not answer, no job is taken that another runner could have; 0: jobs are
        /// taken whatever is known, as GitLab Runner does. Negative or not set: 10, so that an
        /// autoscaler has something to see.
        max_waiting_pods: Option<i64>,
        /// Podwright's own: also make events on the pod when its job runs and when it has succeeded,
        /// not only when it is taken over, stopped or not successful. Default: false.
        publish_all_pod_events: bool [default("false")],

        // The rest.

        /// Accepted and ignored: the log is in a volume that no other container sees.
        logs_base_dir: String
                [ignored("the log is in a volume that no other container sees")],
        /// Accepted and ignored: scripts are not written into the pod's volumes.
        scripts_base_dir: String
                [ignored("scripts are not written into volumes of the pod")],
        /// Whether warnings of Kubernetes about the pod are shown in the job's log. Default: true.
        print_pod_warning_events: Option<bool> [default("true")],
        /// A PodDisruptionBudget keeps the pod from being evicted. Default: false.
        pod_disruption_budget: bool [default("false")],
        /// Accepted and ignored: environments cannot be suspended in this release.
        suspend_pvc_size: String
                [ignored("environments cannot be suspended in this release")],
        /// Accepted and ignored, for the same reason.
        suspend_pvc_storage_class: String
                [ignored("environments cannot be suspended in this release")],
        /// Pods that keep room for jobs. Default: none.
        autoscaler: Option<RawAutoscaler>,
        /// Podwright's own: pods that are ready before their job is there. Default: none.
        warm_pods: Vec<RawWarmPods>,
    }
}
