//! Kubernetes' patch metadata for `PodSpec`, as data: which lists are merged by which key. It stands
//! in the API types (`patchStrategy`, `patchMergeKey`) and only grows. `retainKeys`, which `volumes`
//! and `resourceClaims` have as well, is about `$retainKeys`, which is obeyed everywhere.

/// What is known of an object's fields. What is not listed follows the rule for its kind: objects are
/// merged, lists and single values replaced.
pub(super) type Fields = &'static [(&'static str, Rule)];

/// How a field is merged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// A list of objects that are told apart by a key.
    ListByKey(&'static str, Fields),
}

use Rule::ListByKey;

/// `PodSpec`.
pub(super) const POD_SPEC: Fields = &[
    ("containers", ListByKey("name", CONTAINER)),
    ("initContainers", ListByKey("name", CONTAINER)),
    ("ephemeralContainers", ListByKey("name", CONTAINER)),
    ("volumes", ListByKey("name", &[])),
    ("imagePullSecrets", ListByKey("name", &[])),
    ("hostAliases", ListByKey("ip", &[])),
    ("topologySpreadConstraints", ListByKey("topologyKey", &[])),
    ("schedulingGates", ListByKey("name", &[])),
    ("resourceClaims", ListByKey("name", &[])),
];

const CONTAINER: Fields = &[
    ("env", ListByKey("name", &[])),
    ("ports", ListByKey("containerPort", &[])),
    ("volumeMounts", ListByKey("mountPath", &[])),
    ("volumeDevices", ListByKey("devicePath", &[])),
];

/// The rule of a field, if it has one.
pub(super) fn rule(fields: Fields, name: &str) -> Option<Rule> {
    fields.iter().find(|(field, _)| *field == name).map(|(_, rule)| *rule)
}
