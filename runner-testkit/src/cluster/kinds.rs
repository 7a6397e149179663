//! The kinds of objects that the simulated API server keeps.

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    /// Plural, as in the path.
    pub(super) resource: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespaced: bool,
}

const fn core(resource: &'static str, kind: &'static str) -> Kind {
    Kind { group: "", version: "v1", resource, kind, namespaced: true }
}

pub(super) static PODS: Kind = core("pods", "Pod");
pub(super) static SECRETS: Kind = core("secrets", "Secret");
pub(super) static CONFIG_MAPS: Kind = core("configmaps", "ConfigMap");
pub(super) static EVENTS: Kind = core("events", "Event");
pub(super) static SERVICE_ACCOUNTS: Kind = core("serviceaccounts", "ServiceAccount");
pub(super) static RESOURCE_QUOTAS: Kind = core("resourcequotas", "ResourceQuota");
pub(super) static NAMESPACES: Kind =
    Kind { group: "", version: "v1", resource: "namespaces", kind: "Namespace", namespaced: false };
pub(super) static NODES: Kind =
    Kind { group: "", version: "v1", resource: "nodes", kind: "Node", namespaced: false };
pub(super) static LEASES: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    resource: "leases",
    kind: "Lease",
    namespaced: true,
};

pub(super) static DEPLOYMENTS: Kind = Kind {
    group: "apps",
    version: "v1",
    resource: "deployments",
    kind: "Deployment",
    namespaced: true,
};
pub(super) static PRIORITY_CLASSES: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1",
    resource: "priorityclasses",
    kind: "PriorityClass",
    namespaced: false,
};
pub(super) static BUDGETS: Kind = Kind {
    group: "policy",
    version: "v1",
    resource: "poddisruptionbudgets",
    kind: "PodDisruptionBudget",
    namespaced: true,
};

pub(super) static ALL: [&Kind; 12] = [
    &PODS,
    &SECRETS,
    &CONFIG_MAPS,
    &EVENTS,
    &SERVICE_ACCOUNTS,
    &RESOURCE_QUOTAS,
    &NAMESPACES,
    &NODES,
    &LEASES,
    &DEPLOYMENTS,
    &PRIORITY_CLASSES,
    &BUDGETS,
];

impl Kind {
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(super) fn find(group: &str, version: &str, resource: &str) -> Option<&'static Kind> {
        ALL.into_iter().find(|k| k.group == group && k.version == version && k.resource == resource)
    }
}
