//! Connection, namespace, images, metadata, identity, time.

use runner_core::job::Image;
use runner_k8s::settings::{Connection, HelperImage};
use serde_json::{Value, json};

use super::{Case, Lands, case, elsewhere, pod};
use crate::world::Seen;

const BUILD: &str = "spec/containers/build";

pub(super) fn cases() -> Vec<Case> {
    let mut out = connection();
    out.extend(namespace());
    out.extend(images());
    out.extend(users_and_policies());
    out.extend(metadata());
    out.extend(identity());
    out.extend(time());
    out.extend(without_effect());
    out
}

/// The connection, without its secrets.
fn link(seen: &Seen) -> Value {
    match &seen.settings.connection {
        Connection::Host { url, ca_file, certificate, token } => json!({
            "host": url,
            "ca_file": ca_file,
            "certificate": certificate,
            "token": token.as_ref().map(|token| token.expose()),
        }),
        Connection::Discover { kubeconfig, context, token } => json!({
            "kubeconfig": kubeconfig,
            "context": context,
            "token": token.as_ref().map(|token| token.expose()),
        }),
    }
}

fn connection() -> Vec<Case> {
    const CLIENT: &str = "the client of the API server";
    let tls =
        "host = \"https://k8s\"\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\nca_file = \"ca.pem\"";
    let with_tls = json!({
        "host": "https://k8s",
        "ca_file": "ca.pem",
        "certificate": ["c.pem", "k.pem"],
        "token": null,
    });
    let discover = |field: &str| {
        let mut out = json!({ "kubeconfig": null, "context": null, "token": null });
        out[field] = json!("x");
        out
    };
    let mut out: Vec<Case> = ["host", "cert_file", "key_file", "ca_file"]
        .iter()
        .map(|key| elsewhere(key, tls, CLIENT, link, with_tls.clone()))
        .collect();
    out.extend([
        elsewhere("context", "context = \"x\"", CLIENT, link, discover("context")),
        elsewhere("kubeconfig", "kubeconfig = \"x\"", CLIENT, link, discover("kubeconfig")),
        elsewhere("bearer_token", "bearer_token = \"x\"", CLIENT, link, discover("token")),
        elsewhere(
            "bearer_token_overwrite_allowed",
            "bearer_token_overwrite_allowed = true",
            "the client of this job",
            |seen| json!(seen.token.as_ref().map(|token| token.expose())),
            json!("mine"),
        )
        .variable("KUBERNETES_BEARER_TOKEN", "mine"),
    ]);
    out
}

fn namespace() -> Vec<Case> {
    let path = "metadata/namespace";
    vec![
        pod("namespace", "namespace = \"ci\"", path, json!("ci")),
        pod("namespace_per_job", "namespace_per_job = true", path, json!("ci-job-42")),
        pod(
            "namespace_overwrite_allowed",
            "namespace_overwrite_allowed = \"^ci-\"",
            path,
            json!("ci-blue"),
        )
        .variable("KUBERNETES_NAMESPACE_OVERWRITE", "ci-$TEAM"),
    ]
}

fn images() -> Vec<Case> {
    let image = |container: &str| format!("spec/containers/{container}/image");
    let helper = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper";
    vec![
        pod("image", "image = \"alpine:$TAG\"", &image("build"), json!("alpine:12"))
            .job(|job| job.image = None),
        pod("helper_image", "helper_image = \"h:$TAG\"", &image("helper"), json!("h:12")),
        pod(
            "helper_image_flavor",
            "helper_image_flavor = \"ubi-$TEAM\"",
            &image("helper"),
            json!(format!("{helper}:ubi-blue-x86_64-latest")),
        ),
        // Kubernetes' word would be amd64, which is what an absent key means.
        elsewhere(
            "helper_image_autoset_arch_and_os",
            "helper_image_autoset_arch_and_os = true\nhelper_image_flavor = \"f\"",
            "the tag of the default helper image",
            |seen| match &seen.settings.helper_image {
                HelperImage::Default { arch, .. } => json!(arch),
                HelperImage::Named(_) => Value::Null,
            },
            json!(std::env::consts::ARCH),
        ),
        pod(
            "agent_image",
            "agent_image = \"agent:1\"",
            "spec/volumes/podwright-agent/image/reference",
            json!("agent:1"),
        ),
        case(
            "allowed_images",
            "allowed_images = [\"r.example/**\"]",
            Lands::Refusal("\"debian:12\" is not allowed by this runner; allowed: r.example/**"),
        ),
        case(
            "allowed_services",
            "allowed_services = [\"postgres:*\"]",
            Lands::Refusal("\"redis:7\" is not allowed by this runner; allowed: postgres:*"),
        ),
        pod(
            "image_pull_secrets",
            "image_pull_secrets = [\"one\", \"two\"]",
            "spec/imagePullSecrets",
            json!([{ "name": "one" }, { "name": "two" }]),
        ),
        elsewhere(
            "use_service_account_image_pull_secrets",
            "image_pull_secrets = [\"one\"]\nuse_service_account_image_pull_secrets = true",
            "spec.imagePullSecrets is left out",
            |seen| json!(seen.built.pod.to_value()["spec"].get("imagePullSecrets").is_none()),
            json!(true),
        ),
    ]
}

fn users_and_policies() -> Vec<Case> {
    let user = |user: &'static str| {
        move |job: &mut runner_core::job::Job| {
            job.image =
                Some(Image { name: "debian".into(), user: Some(user.into()), ..Image::default() });
        }
    };
    let policy = format!("{BUILD}/imagePullPolicy");
    vec![
        pod(
            "allowed_users",
            "allowed_users = [\"0\"]",
            &format!("{BUILD}/securityContext/runAsUser"),
            json!(0),
        )
        .job(user("0")),
        pod(
            "allowed_groups",
            "allowed_groups = [\"0\"]",
            &format!("{BUILD}/securityContext/runAsGroup"),
            json!(0),
        )
        .job(user("5:0")),
        pod("pull_policy", "pull_policy = [\"always\", \"never\"]", &policy, json!("Always")),
        pod(
            "allowed_pull_policies",
            "allowed_pull_policies = [\"never\"]",
            &policy,
            json!("Never"),
        )
        .job(|job| {
            job.image = Some(Image {
                name: "debian".into(),
                pull_policies: vec!["always".into(), "never".into()],
                ..Image::default()
            });
            job.services.clear();
        }),
    ]
}

fn metadata() -> Vec<Case> {
    vec![
        pod(
            "pod_labels",
            "pod_labels = { team = \"$TEAM\" }",
            "metadata/labels/team",
            json!("blue"),
        ),
        pod(
            "pod_labels_overwrite_allowed",
            "pod_labels_overwrite_allowed = \"^a=\"",
            "metadata/labels/a",
            json!("blue"),
        )
        .variable("KUBERNETES_POD_LABELS_1", "a=$TEAM"),
        pod(
            "pod_annotations",
            "pod_annotations = { \"x.example/note\" = \"of $TEAM\" }",
            "metadata/annotations/x.example~note",
            json!("of blue"),
        ),
        pod(
            "pod_annotations_overwrite_allowed",
            "pod_annotations_overwrite_allowed = \".*\"",
            "metadata/annotations/a",
            json!("b=c"),
        )
        .variable("KUBERNETES_POD_ANNOTATIONS_1", "a=b=c"),
    ]
}

fn identity() -> Vec<Case> {
    vec![
        pod("service_account", "service_account = \"ci\"", "spec/serviceAccountName", json!("ci")),
        pod(
            "service_account_overwrite_allowed",
            "service_account_overwrite_allowed = \"^ci\"",
            "spec/serviceAccountName",
            json!("ci-blue"),
        )
        .variable("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "ci-blue"),
        pod(
            "automount_service_account_token",
            "automount_service_account_token = false",
            "spec/automountServiceAccountToken",
            json!(false),
        ),
    ]
}

fn time() -> Vec<Case> {
    vec![
        elsewhere(
            "poll_timeout",
            "poll_timeout = 60",
            "how long the start may take, and with it activeDeadlineSeconds",
            |seen| json!(seen.settings.poll_timeout.as_secs()),
            json!(60),
        ),
        elsewhere(
            "cleanup_grace_period_seconds",
            "cleanup_grace_period_seconds = 7",
            "gracePeriodSeconds of the pod's deletion",
            |seen| json!(seen.settings.cleanup_grace),
            json!(7),
        ),
        elsewhere(
            "cleanup_resources_timeout",
            "cleanup_resources_timeout = \"1m30s\"",
            "how long the clean-up may take",
            |seen| json!(seen.settings.cleanup_timeout.as_secs()),
            json!(90),
        ),
        pod(
            "pod_termination_grace_period_seconds",
            "pod_termination_grace_period_seconds = 5",
            "spec/terminationGracePeriodSeconds",
            json!(5),
        ),
        pod(
            "pod_disruption_policy",
            "pod_disruption_policy = \"finish\"",
            "spec/terminationGracePeriodSeconds",
            json!(3600),
        ),
        elsewhere(
            "resource_availability_check_max_attempts",
            "resource_availability_check_max_attempts = -1",
            "how often is looked for what pods need",
            |seen| json!(seen.settings.availability_attempts),
            json!(5),
        ),
        elsewhere(
            "manager_lease_duration",
            "manager_lease_duration = 40",
            "how long a manager may be silent",
            |seen| json!(seen.settings.lease.as_secs()),
            json!(40),
        ),
        elsewhere(
            "max_waiting_pods",
            "max_waiting_pods = 3",
            "when no more jobs are taken",
            |seen| json!(seen.settings.max_waiting_pods),
            json!(3),
        ),
        elsewhere(
            "publish_all_pod_events",
            "publish_all_pod_events = true",
            "events on the pod for what is usual",
            |seen| json!(seen.settings.publish_all_pod_events),
            json!(true),
        ),
        elsewhere(
            "print_pod_warning_events",
            "print_pod_warning_events = false",
            "what the job's log says of events",
            |seen| json!(seen.settings.print_pod_warning_events),
            json!(false),
        ),
        elsewhere(
            "pod_disruption_budget",
            "pod_disruption_budget = true",
            "a PodDisruptionBudget beside the pod",
            |seen| json!(seen.settings.pod_disruption_budget),
            json!(true),
        ),
    ]
}

fn without_effect() -> Vec<Case> {
    [
        ("poll_interval", "1"),
        ("retry_limit", "3"),
        ("retry_backoff_max", "1000"),
        ("retry_limits", "{ timeout = 3 }"),
        ("logs_base_dir", "\"/logs\""),
        ("scripts_base_dir", "\"/scripts\""),
        ("suspend_pvc_size", "\"1Gi\""),
        ("suspend_pvc_storage_class", "\"fast\""),
    ]
    .iter()
    .map(|(key, value)| case(key, &format!("{key} = {value}"), Lands::Nowhere))
    .collect()
}
