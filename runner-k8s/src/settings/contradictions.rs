//! Settings that make no sense together. What the API server would refuse with every pod is a
//! mistake; what merely loses to another key is a warning.

use super::mistakes::Mistakes;
use super::raw::{OneOrMany, RawContainerSecurity, RawSettings, RawVolumes};

pub(super) fn check(raw: &RawSettings, mistakes: &mut Mistakes) {
    connection(raw, mistakes);
    images(raw, mistakes);
    if raw.namespace_per_job && !raw.namespace_overwrite_allowed.is_empty() {
        mistakes.warn("namespace_overwrite_allowed", "has no effect with namespace_per_job");
    }
    let containers = [
        (
            "init_permissions_container_security_context",
            &raw.init_permissions_container_security_context,
        ),
        ("build_container_security_context", &raw.build_container_security_context),
        ("helper_container_security_context", &raw.helper_container_security_context),
        ("service_container_security_context", &raw.service_container_security_context),
    ];
    for (key, own) in containers {
        escalation(raw, own, key, mistakes);
    }
    propagation(raw, mistakes);
}

/// The API server lets only privileged containers change the node's mounts, and every container
/// mounts every volume.
fn propagation(raw: &RawSettings, mistakes: &mut Mistakes) {
    let own = [&raw.build_container_security_context, &raw.helper_container_security_context];
    if own.iter().all(|own| own.privileged.or(raw.privileged) == Some(true)) {
        return;
    }
    let RawVolumes { host_path, pvc, empty_dir, .. } = &raw.volumes;
    let host_path = host_path.iter().map(|volume| &volume.mount_propagation).enumerate();
    let pvc = pvc.iter().map(|volume| &volume.mount_propagation).enumerate();
    let empty_dir = empty_dir.iter().map(|volume| &volume.mount_propagation).enumerate();
    let all = host_path.map(|(at, word)| ("host_path", at, word));
    let all = all.chain(pvc.map(|(at, word)| ("pvc", at, word)));
    let all = all.chain(empty_dir.map(|(at, word)| ("empty_dir", at, word)));
    for (kind, at, word) in all.filter(|(_, _, word)| *word == "Bidirectional") {
        let key = format!("volumes.{kind}[{at}].mount_propagation");
        mistakes.value(&key, word, "Bidirectional only with privileged = true for all containers");
    }
}

fn connection(raw: &RawSettings, mistakes: &mut Mistakes) {
    let with_host = [("context", &raw.context), ("kubeconfig", &raw.kubeconfig)];
    let without_host =
        [("cert_file", &raw.cert_file), ("key_file", &raw.key_file), ("ca_file", &raw.ca_file)];
    let (useless, why): (&[_], _) = match raw.host.is_empty() {
        false => (&with_host, "has no effect with host"),
        true => (&without_host, "has no effect without host"),
    };
    for (key, _) in useless.iter().filter(|(_, value)| !value.is_empty()) {
        mistakes.warn(key, why);
    }
    if !raw.host.is_empty() && raw.cert_file.is_empty() && !raw.key_file.is_empty() {
        mistakes.warn("key_file", "has no effect without cert_file");
    }
}

fn images(raw: &RawSettings, mistakes: &mut Mistakes) {
    if !raw.helper_image.is_empty() {
        if !raw.helper_image_flavor.is_empty() {
            mistakes.warn("helper_image_flavor", "has no effect with helper_image");
        }
        if raw.helper_image_autoset_arch_and_os {
            mistakes.warn("helper_image_autoset_arch_and_os", "has no effect with helper_image");
        }
    }
    if raw.use_service_account_image_pull_secrets && !raw.image_pull_secrets.is_empty() {
        let why = "has no effect with use_service_account_image_pull_secrets";
        mistakes.warn("image_pull_secrets", why);
    }
    // GitLab Runner says so in each job that names no policy of its own, after it was started.
    let allowed = OneOrMany::Many(raw.allowed_pull_policies.clone());
    let allowed = allowed.entries();
    let own = raw.pull_policy.entries();
    if !allowed.is_empty() && !own.iter().any(|policy| allowed.contains(policy)) {
        let own = if own.is_empty() { "not set".to_owned() } else { own.join(", ") };
        let message = format!(
            "has nothing in common with pull_policy ({own}), so every job is refused in which an \
             image has no policy of its own"
        );
        mistakes.warn("allowed_pull_policies", message);
    }
}

/// The API server's rule: who is privileged cannot be kept from getting more rights.
fn escalation(all: &RawSettings, own: &RawContainerSecurity, table: &str, mistakes: &mut Mistakes) {
    let allowed = own.allow_privilege_escalation.or(all.allow_privilege_escalation);
    let privileged = own.privileged.or(all.privileged);
    if allowed != Some(false) || privileged != Some(true) {
        return;
    }
    let key = match (own.allow_privilege_escalation, own.privileged) {
        (Some(_), _) => format!("{table}.allow_privilege_escalation"),
        (None, Some(_)) => format!("{table}.privileged"),
        (None, None) => "allow_privilege_escalation".to_owned(),
    };
    let rule = "privileged = true and allow_privilege_escalation = false exclude each other";
    // With both set for all containers it would be said four times.
    if mistakes.errors.iter().all(|error| error.key != key) {
        mistakes.rule(&key, rule);
    }
}
