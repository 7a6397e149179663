//! Security contexts: the fields of the Kubernetes API in snake case.

use super::tables::table;

table! {
    /// `pod_security_context`, lands in `spec.securityContext`; no key has a default.
    RawPodSecurity {
        /// Group of the volumes' files: `fsGroup`.
        fs_group: Option<i64>,
        /// `runAsGroup`, also of every container that has none of its own.
        run_as_group: Option<i64>,
        /// `runAsNonRoot`.
        run_as_non_root: Option<bool>,
        /// `runAsUser`, also of every container that has none of its own.
        run_as_user: Option<i64>,
        /// `supplementalGroups`.
        supplemental_groups: Vec<i64>,
        /// `seLinuxOptions.type`.
        selinux_type: String,
        /// `seccompProfile`.
        seccomp_profile: Option<RawProfile>,
        /// `appArmorProfile`.
        app_armor_profile: Option<RawProfile>,
    }
}

table! {
    /// `*_container_security_context`, lands in the container's `securityContext`.
    RawContainerSecurity {
        /// Replaces what follows from `cap_add` and `cap_drop`, each list for itself.
        capabilities: Option<RawCapabilities>,
        /// Default: the runner's `privileged`.
        privileged: Option<bool>,
        /// Default: the runner's `allow_privilege_escalation`.
        allow_privilege_escalation: Option<bool>,
        /// `runAsUser`. Default: that of `pod_security_context`, then (build and services) the
        /// user that the job names.
        run_as_user: Option<i64>,
        /// `runAsGroup`, with the same defaults.
        run_as_group: Option<i64>,
        /// `runAsNonRoot`. Default: not set.
        run_as_non_root: Option<bool>,
        /// `readOnlyRootFilesystem`. Default: not set.
        read_only_root_filesystem: Option<bool>,
        /// `seLinuxOptions.type`. Default: not set.
        selinux_type: String,
        /// `procMount`: `default` or `unmasked`. Default: not set.
        proc_mount: String [known(&["default", "unmasked"])],
        /// `seccompProfile`. Default: not set.
        seccomp_profile: Option<RawProfile>,
        /// `appArmorProfile`. Default: not set.
        app_armor_profile: Option<RawProfile>,
    }
}

table! {
    /// `capabilities`.
    RawCapabilities {
        /// Names without `CAP_`. Default: what follows from `cap_add`.
        add: Vec<String>,
        /// The same. Default: what follows from `cap_drop`.
        drop: Vec<String>,
    }
}

table! {
    /// `seccomp_profile`, `app_armor_profile`.
    RawProfile {
        /// `RuntimeDefault`, `Localhost` or `Unconfined`; empty: no profile.
        r#type: String [known(&["RuntimeDefault", "Localhost", "Unconfined"])],
        /// With `Localhost`: the profile on the node.
        localhost_profile: String,
    }
}
