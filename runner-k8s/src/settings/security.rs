//! Security contexts, from GitLab Runner's keys to the fields of the Kubernetes API.

use serde_json::{Map, Value, json};

use super::mistakes::Mistakes;
use super::raw::{RawContainerSecurity, RawPodSecurity, RawProfile, RawSettings};

fn put(out: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        out.insert(key.to_owned(), value.into());
    }
}

/// A profile that Kubernetes would refuse is dropped with a warning, as GitLab Runner does.
fn profile(raw: Option<&RawProfile>, key: &str, mistakes: &mut Mistakes) -> Option<Value> {
    let raw = raw?;
    match (raw.r#type.as_str(), raw.localhost_profile.as_str()) {
        ("", _) => None,
        (kind @ ("RuntimeDefault" | "Unconfined"), _) => Some(json!({ "type": kind })),
        ("Localhost", "") => {
            mistakes.warn(key, "type \"Localhost\" needs localhost_profile; it is left out");
            None
        }
        ("Localhost", file) => Some(json!({ "type": "Localhost", "localhostProfile": file })),
        (other, _) => {
            let message = format!(
                "{other:?} is not one of RuntimeDefault, Localhost, Unconfined; the profile is left out"
            );
            mistakes.warn(&format!("{key}.type"), message);
            None
        }
    }
}

fn selinux(kind: &str) -> Option<Value> {
    (!kind.is_empty()).then(|| json!({ "type": kind }))
}

/// Users and groups are not negative; `-1` would be refused with every pod.
fn ids<'r>(key: &str, ids: impl IntoIterator<Item = (&'r str, i64)>, mistakes: &mut Mistakes) {
    for (name, id) in ids {
        if !(0..=i64::from(i32::MAX)).contains(&id) {
            mistakes.value(&format!("{key}.{name}"), id, "0 to 2147483647");
        }
    }
}

/// `spec.securityContext`; empty when nothing is set.
pub(super) fn pod(raw: &RawPodSecurity, mistakes: &mut Mistakes) -> Map<String, Value> {
    let mut out = Map::new();
    let key = "pod_security_context";
    let own = [
        ("fs_group", raw.fs_group),
        ("run_as_group", raw.run_as_group),
        ("run_as_user", raw.run_as_user),
    ];
    let own = own.into_iter().filter_map(|(name, id)| id.map(|id| (name, id)));
    let groups = raw.supplemental_groups.iter().map(|id| ("supplemental_groups", *id));
    ids(key, own.chain(groups), mistakes);
    put(&mut out, "fsGroup", raw.fs_group);
    put(&mut out, "runAsGroup", raw.run_as_group);
    put(&mut out, "runAsNonRoot", raw.run_as_non_root);
    put(&mut out, "runAsUser", raw.run_as_user);
    let groups = &raw.supplemental_groups;
    put(&mut out, "supplementalGroups", (!groups.is_empty()).then(|| json!(groups)));
    put(&mut out, "seLinuxOptions", selinux(&raw.selinux_type));
    put(
        &mut out,
        "seccompProfile",
        profile(raw.seccomp_profile.as_ref(), &format!("{key}.seccomp_profile"), mistakes),
    );
    put(
        &mut out,
        "appArmorProfile",
        profile(raw.app_armor_profile.as_ref(), &format!("{key}.app_armor_profile"), mistakes),
    );
    out
}

/// Rules in order: default drop of `NET_RAW`, `cap_add`, `cap_drop`, and a container's own lists
/// replace what came before. Lists are sorted: GitLab Runner's order is random, which makes equal
/// jobs look different (better).
fn capabilities(all: &RawSettings, raw: &RawContainerSecurity) -> Option<Value> {
    let mut add: Vec<String> = all.cap_add.clone();
    let mut drop: Vec<String> = all.cap_drop.clone();
    if !add.iter().any(|name| name == "NET_RAW") && !drop.iter().any(|name| name == "NET_RAW") {
        drop.push("NET_RAW".to_owned());
    }
    add.retain(|name| !drop.contains(name));
    if let Some(own) = &raw.capabilities {
        if !own.add.is_empty() {
            add = own.add.clone();
        }
        if !own.drop.is_empty() {
            drop = own.drop.clone();
        }
    }
    for list in [&mut add, &mut drop] {
        list.sort_unstable();
        list.dedup();
    }
    let mut out = Map::new();
    put(&mut out, "add", (!add.is_empty()).then(|| json!(add)));
    put(&mut out, "drop", (!drop.is_empty()).then(|| json!(drop)));
    (!out.is_empty()).then_some(Value::Object(out))
}

/// A container's `securityContext`.
pub(super) fn container(
    all: &RawSettings,
    raw: &RawContainerSecurity,
    key: &str,
    mistakes: &mut Mistakes,
) -> Map<String, Value> {
    let mut out = Map::new();
    let own = [("run_as_user", raw.run_as_user), ("run_as_group", raw.run_as_group)];
    ids(key, own.into_iter().filter_map(|(name, id)| id.map(|id| (name, id))), mistakes);
    put(&mut out, "capabilities", capabilities(all, raw));
    put(&mut out, "privileged", raw.privileged.or(all.privileged));
    let escalation = raw.allow_privilege_escalation.or(all.allow_privilege_escalation);
    put(&mut out, "allowPrivilegeEscalation", escalation);
    let pod = &all.pod_security_context;
    put(&mut out, "runAsUser", raw.run_as_user.or(pod.run_as_user));
    put(&mut out, "runAsGroup", raw.run_as_group.or(pod.run_as_group));
    put(&mut out, "runAsNonRoot", raw.run_as_non_root);
    put(&mut out, "readOnlyRootFilesystem", raw.read_only_root_filesystem);
    put(&mut out, "seLinuxOptions", selinux(&raw.selinux_type));
    match raw.proc_mount.to_ascii_lowercase().as_str() {
        "" => {}
        "default" => put(&mut out, "procMount", Some("Default")),
        "unmasked" => put(&mut out, "procMount", Some("Unmasked")),
        other => {
            let message = format!("{other:?} is neither default nor unmasked; it is left out");
            mistakes.warn(&format!("{key}.proc_mount"), message);
        }
    }
    put(
        &mut out,
        "seccompProfile",
        profile(raw.seccomp_profile.as_ref(), &format!("{key}.seccomp_profile"), mistakes),
    );
    put(
        &mut out,
        "appArmorProfile",
        profile(raw.app_armor_profile.as_ref(), &format!("{key}.app_armor_profile"), mistakes),
    );
    out
}
