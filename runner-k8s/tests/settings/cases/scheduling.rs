//! Where the pod may run.

use serde_json::{Value, json};

use super::{Case, pod};

const REQUIRED: &str = "required_during_scheduling_ignored_during_execution";
const PREFERRED: &str = "preferred_during_scheduling_ignored_during_execution";
const REQUIRED_API: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED_API: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn cases() -> Vec<Case> {
    let mut out = vec![
        pod(
            "node_selector",
            "node_selector = { \"x.example/pool\" = \"blue\" }",
            "spec/nodeSelector/x.example~pool",
            json!("blue"),
        ),
        pod(
            "node_selector_overwrite_allowed",
            "node_selector_overwrite_allowed = \"^pool=\"",
            "spec/nodeSelector/pool",
            json!("blue"),
        )
        .variable("KUBERNETES_NODE_SELECTOR_1", "pool=blue"),
        pod(
            "node_tolerations",
            "node_tolerations = { \"dedicated=ci\" = \"NoSchedule\" }",
            "spec/tolerations",
            json!([{ "key": "dedicated", "operator": "Equal", "value": "ci",
                "effect": "NoSchedule" }]),
        ),
        pod(
            "node_tolerations_overwrite_allowed",
            "node_tolerations_overwrite_allowed = \".*\"",
            "spec/tolerations",
            json!([{ "key": "spot", "operator": "Exists", "effect": "NoExecute" }]),
        )
        .variable("KUBERNETES_NODE_TOLERATIONS_1", "spot:NoExecute"),
        pod(
            "priority_class_name",
            "priority_class_name = \"low\"",
            "spec/priorityClassName",
            json!("low"),
        ),
        pod(
            "scheduler_name",
            "scheduler_name = \"bin-packer\"",
            "spec/schedulerName",
            json!("bin-packer"),
        ),
        pod(
            "runtime_class_name",
            "runtime_class_name = \"gvisor\"",
            "spec/runtimeClassName",
            json!("gvisor"),
        ),
    ];
    out.extend(nodes());
    for (side, api) in [("pod_affinity", "podAffinity"), ("pod_anti_affinity", "podAntiAffinity")] {
        out.extend(pods(side, api));
    }
    out
}

/// A case below a table: path of the table, its TOML, where it is in the pod.
fn inner(table: &str, key: &str, toml: String, place: &str, path: &str, value: Value) -> Case {
    pod(&format!("{table}.{key}"), &toml, &format!("{place}/{path}"), value)
}

/// Requirements of a list, in a file that `around` makes of them.
fn requirements(
    table: &str,
    place: &str,
    list: &str,
    api: &str,
    around: impl Fn(&str) -> String,
) -> Vec<Case> {
    // Of its fields only a node's name can be asked about.
    let name = if list == "match_fields" { "metadata.name" } else { "k" };
    let toml =
        around(&format!("{list} = [{{ key = \"{name}\", operator = \"In\", values = [\"v\"] }}]"));
    let at = |field: &str| format!("{api}/0/{field}");
    let key = |field: &str| format!("{list}[].{field}");
    vec![
        inner(table, &key("key"), toml.clone(), place, &at("key"), json!(name)),
        inner(table, &key("operator"), toml.clone(), place, &at("operator"), json!("In")),
        inner(table, &key("values"), toml, place, &at("values"), json!(["v"])),
    ]
}

fn nodes() -> Vec<Case> {
    let mut out = Vec::new();
    let table = "affinity.node_affinity";
    let place = "spec/affinity/nodeAffinity";
    let term = format!("{table}.{REQUIRED}.node_selector_terms[]");
    let preference = format!("{table}.{PREFERRED}[].preference");
    for (list, api) in [("match_expressions", "matchExpressions"), ("match_fields", "matchFields")]
    {
        let around = |inner: &str| format!("[[{table}.{REQUIRED}.node_selector_terms]]\n{inner}");
        let at = format!("{place}/{REQUIRED_API}/nodeSelectorTerms/0");
        out.extend(requirements(&term, &at, list, api, around));
        let around = |inner: &str| {
            format!(
                "[[{table}.{PREFERRED}]]\nweight = 3\n[{table}.{PREFERRED}.preference]\n{inner}"
            )
        };
        let at = format!("{place}/{PREFERRED_API}/0/preference");
        out.extend(requirements(&preference, &at, list, api, around));
    }
    let weight = format!("[[{table}.{PREFERRED}]]\nweight = 3");
    let at = format!("{place}/{PREFERRED_API}/0");
    out.push(inner(&format!("{table}.{PREFERRED}[]"), "weight", weight, &at, "weight", json!(3)));
    out
}

fn pods(side: &str, api: &str) -> Vec<Case> {
    let table = format!("affinity.{side}");
    let place = format!("spec/affinity/{api}");
    let mut out = terms(
        &format!("{table}.{REQUIRED}[]"),
        &format!("{place}/{REQUIRED_API}/0"),
        |inner| format!("[[{table}.{REQUIRED}]]\n{inner}"),
        &format!("{table}.{REQUIRED}"),
    );
    let term = format!("{table}.{PREFERRED}.pod_affinity_term");
    out.extend(terms(
        &format!("{table}.{PREFERRED}[].pod_affinity_term"),
        &format!("{place}/{PREFERRED_API}/0/podAffinityTerm"),
        |inner| format!("[[{table}.{PREFERRED}]]\nweight = 3\n[{term}]\n{inner}"),
        &term,
    ));
    let weight = format!(
        "[[{table}.{PREFERRED}]]\nweight = 3\npod_affinity_term = {{ topology_key = \"z\" }}"
    );
    let at = format!("{place}/{PREFERRED_API}/0");
    out.push(inner(&format!("{table}.{PREFERRED}[]"), "weight", weight, &at, "weight", json!(3)));
    out
}

fn terms(key: &str, place: &str, around: impl Fn(&str) -> String, table: &str) -> Vec<Case> {
    let with = |inner: &str| around(&format!("topology_key = \"zone\"\n{inner}"));
    let mut out = vec![inner(key, "topology_key", with(""), place, "topologyKey", json!("zone"))];
    for (list, api) in [
        ("namespaces", "namespaces"),
        ("match_label_keys", "matchLabelKeys"),
        ("mismatch_label_keys", "mismatchLabelKeys"),
    ] {
        out.push(inner(
            key,
            list,
            with(&format!("{list} = [\"a\"]\nlabel_selector = {{}}")),
            place,
            api,
            json!(["a"]),
        ));
    }
    for (selector, api) in
        [("label_selector", "labelSelector"), ("namespace_selector", "namespaceSelector")]
    {
        let below = format!("{key}.{selector}");
        let at = format!("{place}/{api}");
        let with = |inner: &str| with(&format!("[{table}.{selector}]\n{inner}"));
        // A label is no name of a field.
        let labels = with("match_labels = { app_name = \"db\" }");
        out.push(inner(&below, "match_labels", labels, &at, "matchLabels/app_name", json!("db")));
        out.extend(requirements(&below, &at, "match_expressions", "matchExpressions", with));
    }
    out
}
