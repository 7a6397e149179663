//! Security contexts: the pod's, and those of four kinds of containers.

use serde_json::{Value, json};

use super::{Case, pod};

pub(super) fn cases() -> Vec<Case> {
    let build = "spec/containers/build/securityContext";
    let mut out = vec![
        pod("privileged", "privileged = true", &format!("{build}/privileged"), json!(true)),
        pod(
            "allow_privilege_escalation",
            "allow_privilege_escalation = false",
            &format!("{build}/allowPrivilegeEscalation"),
            json!(false),
        ),
        pod(
            "cap_add",
            "cap_add = [\"B\", \"A\"]",
            &format!("{build}/capabilities/add"),
            json!(["A", "B"]),
        ),
        pod(
            "cap_drop",
            "cap_drop = [\"ALL\"]",
            &format!("{build}/capabilities/drop"),
            json!(["ALL", "NET_RAW"]),
        ),
    ];
    let table = "pod_security_context";
    let place = "spec/securityContext";
    for (key, toml, api, value) in [
        ("fs_group", "7", "fsGroup", json!(7)),
        ("run_as_group", "7", "runAsGroup", json!(7)),
        ("run_as_non_root", "true", "runAsNonRoot", json!(true)),
        ("run_as_user", "7", "runAsUser", json!(7)),
        ("supplemental_groups", "[7, 8]", "supplementalGroups", json!([7, 8])),
        ("selinux_type", "\"t\"", "seLinuxOptions/type", json!("t")),
    ] {
        out.push(field(table, key, toml, place, api, value));
    }
    out.extend(profiles(table, place));
    for (table, place) in [
        ("init_permissions_container_security_context", "spec/initContainers/init-permissions"),
        ("build_container_security_context", "spec/containers/build"),
        ("helper_container_security_context", "spec/containers/helper"),
        ("service_container_security_context", "spec/containers/svc-0"),
    ] {
        out.extend(container(table, &format!("{place}/securityContext")));
    }
    out
}

fn field(table: &str, key: &str, toml: &str, place: &str, api: &str, value: Value) -> Case {
    let toml = format!("[{table}]\n{key} = {toml}");
    pod(&format!("{table}.{key}"), &toml, &format!("{place}/{api}"), value)
}

fn container(table: &str, place: &str) -> Vec<Case> {
    let mut out: Vec<Case> = [
        ("capabilities.add", "[\"B\", \"A\"]", "capabilities/add", json!(["A", "B"])),
        ("capabilities.drop", "[\"ALL\"]", "capabilities/drop", json!(["ALL"])),
        ("privileged", "false", "privileged", json!(false)),
        ("allow_privilege_escalation", "true", "allowPrivilegeEscalation", json!(true)),
        ("run_as_user", "7", "runAsUser", json!(7)),
        ("run_as_group", "7", "runAsGroup", json!(7)),
        ("run_as_non_root", "true", "runAsNonRoot", json!(true)),
        ("read_only_root_filesystem", "true", "readOnlyRootFilesystem", json!(true)),
        ("selinux_type", "\"t\"", "seLinuxOptions/type", json!("t")),
        ("proc_mount", "\"unmasked\"", "procMount", json!("Unmasked")),
    ]
    .into_iter()
    .map(|(key, toml, api, value)| field(table, key, toml, place, api, value))
    .collect();
    out.extend(profiles(table, place));
    out
}

fn profiles(table: &str, place: &str) -> Vec<Case> {
    let mut out = Vec::new();
    for (name, api) in
        [("seccomp_profile", "seccompProfile"), ("app_armor_profile", "appArmorProfile")]
    {
        let toml =
            format!("[{table}.{name}]\ntype = \"Localhost\"\nlocalhost_profile = \"p.json\"");
        for (key, field, value) in
            [("type", "type", "Localhost"), ("localhost_profile", "localhostProfile", "p.json")]
        {
            let path = format!("{place}/{api}/{field}");
            out.push(pod(&format!("{table}.{name}.{key}"), &toml, &path, json!(value)));
        }
    }
    out
}
