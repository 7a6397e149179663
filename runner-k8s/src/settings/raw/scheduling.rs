//! `affinity`: the fields of the Kubernetes API in snake case, passed on to `spec.affinity`.

use std::collections::BTreeMap;

use super::tables::table;

table! {
    /// `affinity`, lands in `spec.affinity`.
    RawAffinity {
        /// Which nodes. Default: any.
        node_affinity: Option<RawNodeAffinity>,
        /// Near which pods. Default: any.
        pod_affinity: Option<RawPodAffinity>,
        /// Away from which pods. Default: none.
        pod_anti_affinity: Option<RawPodAffinity>,
    }
}

table! {
    /// `affinity.node_affinity`.
    RawNodeAffinity {
        /// Conditions that a node must satisfy. Default: none.
        required_during_scheduling_ignored_during_execution: Option<RawNodeSelector>,
        /// Conditions that make a node better. Default: none.
        preferred_during_scheduling_ignored_during_execution: Vec<RawPreferredNode>,
    }
}

table! {
    /// A node must satisfy at least one of the terms.
    RawNodeSelector {
        /// The terms; at least one.
        node_selector_terms: Vec<RawNodeTerm>,
    }
}

table! {
    /// All requirements of a term must be satisfied.
    RawNodeTerm {
        /// About the node's labels.
        match_expressions: Vec<RawRequirement>,
        /// About the node's fields, e.g. `metadata.name`.
        match_fields: Vec<RawRequirement>,
    }
}

table! {
    /// One requirement.
    RawRequirement {
        /// Label or field.
        key: String,
        /// `In`, `NotIn`, `Exists`, `DoesNotExist`; for nodes also `Gt`, `Lt`.
        operator: String
            [known(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])],
        /// What the operator compares with.
        values: Vec<String>,
    }
}

table! {
    /// A preference among nodes.
    RawPreferredNode {
        /// 1 to 100.
        weight: i64,
        /// Which nodes are preferred.
        preference: RawNodeTerm,
    }
}

table! {
    /// `affinity.pod_affinity` and `affinity.pod_anti_affinity`.
    RawPodAffinity {
        /// Conditions that must be satisfied. Default: none.
        required_during_scheduling_ignored_during_execution: Vec<RawPodTerm>,
        /// Conditions that make a place better. Default: none.
        preferred_during_scheduling_ignored_during_execution: Vec<RawPreferredPods>,
    }
}

table! {
    /// A preference for places near, or away from, pods.
    RawPreferredPods {
        /// 1 to 100.
        weight: i64,
        /// Which pods.
        pod_affinity_term: RawPodTerm,
    }
}

table! {
    /// Pods, and how near is near.
    RawPodTerm {
        /// Labels of the pods.
        label_selector: Option<RawLabelSelector>,
        /// Their namespaces by name. Default: the job's own.
        namespaces: Vec<String>,
        /// Label of nodes that tells places apart; must be set.
        topology_key: String,
        /// Their namespaces by label.
        namespace_selector: Option<RawLabelSelector>,
        /// Labels whose value must be that of the job's pod.
        match_label_keys: Vec<String>,
        /// Labels whose value must not be that of the job's pod.
        mismatch_label_keys: Vec<String>,
    }
}

table! {
    /// Which labels.
    RawLabelSelector {
        /// Label to value.
        match_labels: BTreeMap<String, String>,
        /// Requirements.
        match_expressions: Vec<RawRequirement>,
    }
}
