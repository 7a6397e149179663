//! Rules that are about more than one key.

use proptest::prelude::*;
use regex::Regex;
use rstest::rstest;
use runner_core::job::Image;
use serde_json::{Value, json};

use crate::world::{at, job, job_with, pod, see, settings, try_pod, variable};

const HELPER: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper";

#[rstest]
#[case::plain("", "x86_64-latest")]
#[case::alpine_adds_nothing("helper_image_flavor = \"alpine\"", "x86_64-latest")]
#[case::flavor("helper_image_flavor = \"ubuntu\"", "ubuntu-x86_64-latest")]
#[case::nodes("node_selector = { \"kubernetes.io/arch\" = \"arm64\" }", "arm64-latest")]
#[case::arm("node_selector = { \"kubernetes.io/arch\" = \"armv7l\" }", "arm-latest")]
#[case::other("node_selector = { \"kubernetes.io/arch\" = \"s390x\" }", "s390x-latest")]
fn k8s_12_the_helper_image_follows_flavor_and_nodes(#[case] toml: &str, #[case] tag: &str) {
    let pod = pod(&job(), toml);
    let expected = json!(format!("{HELPER}:{tag}"));
    assert_eq!(at(&pod, "spec/containers/helper/image"), Some(&expected));
}

#[test]
fn k8s_12_the_jobs_own_nodes_count_too_and_windows_is_refused() {
    let toml = "node_selector_overwrite_allowed = \".*\"";
    let of = |value: &str| job_with(&[("KUBERNETES_NODE_SELECTOR_1", value)]);
    let arm = pod(&of("kubernetes.io/arch=aarch64"), toml);
    let expected = json!(format!("{HELPER}:arm64-latest"));
    assert_eq!(at(&arm, "spec/containers/helper/image"), Some(&expected));
    let refused = try_pod(&of("kubernetes.io/os=windows"), toml).unwrap_err();
    assert!(refused.contains("windows") && refused.contains("linux only"), "{refused}");
}

#[test]
fn k8s_21_nothing_and_zero_are_no_requests() {
    let pod = pod(&job(), "cpu_request = \"0\"\nmemory_limit = \"0Mi\"\nhelper_cpu_limit = \"\"");
    for container in ["build", "helper", "svc-0"] {
        assert_eq!(at(&pod, &format!("spec/containers/{container}/resources")), None);
    }
    assert_eq!(at(&pod, "spec/resources"), None);
}

#[test]
fn k8s_24_labels_are_cleaned_cut_and_the_runners_own_are_protected() {
    let long = "x".repeat(80);
    let mut job = job_with(&[("LONG", &long), ("CI_PROJECT_NAMESPACE", "group/sub")]);
    job.project.name = "-Über widgets_".into();
    let toml = r#"[pod_labels]
        long = "$LONG"
        odd = "-a b/c-"
        "runner.gitlab.com" = "mine"
        "Project.Runner.GitLab.com/id" = "mine"
        "manager.runner.gitlab.com/name" = "mine""#;
    let pod = pod(&job, toml);
    let label =
        |key: &str| at(&pod, &format!("metadata/labels/{}", key.replace('/', "~"))).cloned();
    assert_eq!(label("long"), Some(json!("x".repeat(63))));
    assert_eq!(label("odd"), Some(json!("a_b_c")));
    assert_eq!(label("runner.gitlab.com"), None);
    assert_eq!(label("Project.Runner.GitLab.com/id"), None);
    assert_eq!(label("manager.runner.gitlab.com/name"), Some(json!("blue_runner")));
    assert_eq!(label("project.runner.gitlab.com/id"), Some(json!("7")));
    assert_eq!(label("project.runner.gitlab.com/name"), Some(json!("ber_widgets")));
    assert_eq!(label("project.runner.gitlab.com/namespace"), Some(json!("group_sub")));
    assert_eq!(label("pod"), label("job.runner.gitlab.com/pod"));
}

/// Names as authors write them: any text, and a good share of what labels are not allowed.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-_./ A-Za-z0-9äß日]{0,90}",
        "(feature|renovate|users)/[-_.#!()a-z0-9]{0,80}",
        "[-_.]{0,70}[a-z]?[-_.]{0,70}",
        // References of variables, which are taken apart once and not again.
        "[$]{1,2}[{]?(CI_JOB_NAME|CI_PROJECT_NAMESPACE|x)[}]?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Operators like labels of branches and job names; the API server refuses a pod for one wrong character.
    #[test]
    fn k8s_24_labels_of_any_branch_and_job_are_legal(
        reference in name(),
        job_name in name(),
        project in name(),
        namespace in name(),
    ) {
        let variables = [
            ("CI_COMMIT_REF_NAME", reference.as_str()),
            ("CI_JOB_NAME", &job_name),
            ("CI_PROJECT_NAME", &project),
            ("CI_PROJECT_NAMESPACE", &namespace),
            ("CI_PROJECT_ROOT_NAMESPACE", &namespace),
        ];
        let mut job = job_with(&variables);
        job.name.clone_from(&job_name);
        job.project.name.clone_from(&project);
        job.project.reference.clone_from(&reference);
        let toml = r#"[pod_labels]
            branch = "$CI_COMMIT_REF_NAME"
            job = "$CI_JOB_NAME"
            both = "${CI_COMMIT_REF_NAME}-${CI_JOB_NAME}"
            prefixed = "b-$CI_COMMIT_REF_NAME"
            path = "$CI_PROJECT_NAMESPACE/$CI_PROJECT_NAME""#;
        let pod = pod(&job, toml);
        // As the API server checks them (`validation.IsValidLabelValue`).
        let legal = Regex::new("^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$").unwrap();
        let labels = pod["metadata"]["labels"].as_object().unwrap();
        prop_assert!(labels.contains_key("both"));
        for (key, value) in labels {
            let value = value.as_str().unwrap();
            prop_assert!(value.len() <= 63 && legal.is_match(value), "{key}: {value:?}");
        }
    }
}

#[test]
fn k8s_24_annotations_of_the_settings_may_replace_the_runners() {
    let toml = "pod_annotations = { \"job.runner.gitlab.com/ref\" = \"of $TEAM\" }";
    let pod = pod(&job(), toml);
    let annotation =
        |key: &str| at(&pod, &format!("metadata/annotations/job.runner.gitlab.com~{key}"));
    assert_eq!(annotation("ref"), Some(&json!("of blue")));
    assert_eq!(annotation("name"), Some(&json!("unit tests")));
    assert_eq!(annotation("timeout"), Some(&json!("1h0m0s")));
    assert_eq!(annotation("id"), Some(&json!("42")));
}

#[test]
fn k8s_26_a_pods_name_is_a_label_with_a_stem_of_54_and_8_characters() {
    let pod = pod(&job(), "");
    let name = at(&pod, "metadata/name").and_then(Value::as_str).unwrap();
    let (stem, suffix) = name.rsplit_once('-').unwrap();
    assert!(stem.len() <= 54 && suffix.len() == 8, "{name}");
    assert!(stem.starts_with("runner-t0k3n-"), "{name}");
    assert!(
        name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
        "{name}"
    );
}

#[test]
fn k8s_29_each_container_has_its_own_context_and_falls_back_to_what_all_have() {
    let toml = "privileged = true\n[pod_security_context]\nrun_as_user = 5\n\
                [helper_container_security_context]\nprivileged = false\nrun_as_user = 6";
    let pod = pod(&job(), toml);
    let field = |container: &str, field: &str| {
        at(&pod, &format!("spec/containers/{container}/securityContext/{field}")).cloned()
    };
    for (container, privileged, user) in
        [("build", true, 5), ("helper", false, 6), ("svc-0", true, 5)]
    {
        assert_eq!(field(container, "privileged"), Some(json!(privileged)), "{container}");
        assert_eq!(field(container, "runAsUser"), Some(json!(user)), "{container}");
        assert_eq!(field(container, "allowPrivilegeEscalation"), None, "{container}");
    }
}

#[rstest]
#[case::add_and_drop("cap_add = [\"A\", \"B\"]\ncap_drop = [\"B\", \"C\"]", json!({ "add": ["A"], "drop": ["B", "C", "NET_RAW"] }))]
#[case::own_add_keeps_the_drop(
    "cap_add = [\"A\"]\n[build_container_security_context.capabilities]\nadd = [\"Z\"]",
    json!({ "add": ["Z"], "drop": ["NET_RAW"] })
)]
#[case::own_drop_takes_the_default_one_away(
    "cap_add = [\"A\"]\n[build_container_security_context.capabilities]\ndrop = [\"Z\"]",
    json!({ "add": ["A"], "drop": ["Z"] })
)]
fn k8s_30_capability_lists_are_merged_in_order(#[case] toml: &str, #[case] expected: Value) {
    let pod = pod(&job(), toml);
    assert_eq!(at(&pod, "spec/containers/build/securityContext/capabilities"), Some(&expected));
}

#[rstest]
#[case("allowed_users = [\"1000\", \"ci\"]", "1000", Ok(1000))]
#[case(
    "allowed_users = [\"1000\"]",
    "1001",
    Err("allowed_users of this runner does not allow 1001; allowed: 1000")
)]
#[case("allowed_users = [\"00\"]", "0", Ok(0))]
#[case("", "0", Err("allowed: all but 0"))]
#[case(
    "allowed_groups = [\"7\"]",
    "5:8",
    Err("allowed_groups of this runner does not allow 8; allowed: 7")
)]
fn k8s_32_only_listed_users_and_groups(
    #[case] toml: &str,
    #[case] user: &str,
    #[case] expected: Result<u32, &str>,
) {
    let mut job = job();
    job.image.as_mut().unwrap().user = Some(user.into());
    job.services[0].user = Some(user.into());
    match (try_pod(&job, toml), expected) {
        (Ok(pod), Ok(uid)) => {
            for container in ["build", "svc-0"] {
                let path = format!("spec/containers/{container}/securityContext/runAsUser");
                assert_eq!(at(&pod, &path), Some(&json!(uid)));
            }
            assert_eq!(at(&pod, "spec/containers/helper/securityContext/runAsUser"), None);
        }
        (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
        (got, expected) => panic!("{got:?}, not {expected:?}"),
    }
}

#[test]
fn k8s_34_a_claim_that_is_mounted_twice_is_one_volume() {
    let toml = "[[volumes.pvc]]\nname = \"c\"\nmount_path = \"/a\"\nsub_path = \"one\"\n\
                [[volumes.pvc]]\nname = \"c\"\nmount_path = \"/b\"\nsub_path = \"two\"";
    let pod = pod(&job(), toml);
    let count = |list: &Value| list.as_array().unwrap().iter().filter(|v| v["name"] == "c").count();
    assert_eq!(count(at(&pod, "spec/volumes").unwrap()), 1);
    assert_eq!(count(at(&pod, "spec/containers/build/volumeMounts").unwrap()), 2);
}

#[rstest]
#[case("pvc", "/builds", true)]
#[case("host_path", "/builds", true)]
#[case("empty_dir", "/builds", false)]
#[case("pvc", "/builds/sub", false)]
fn k8s_35_a_builds_volume_that_outlives_the_pod_is_shared_by_jobs(
    #[case] kind: &str,
    #[case] path: &str,
    #[case] shared: bool,
) {
    let toml = format!("[[volumes.{kind}]]\nname = \"v\"\nmount_path = \"{path}\"");
    assert_eq!(settings(&toml).shares_builds("/builds"), shared);
}

#[test]
fn k8s_33_k8s_36_every_container_mounts_every_volume_in_gitlab_runners_order() {
    let base = |kind: &str, more: &str| {
        format!(
            "[[volumes.{kind}]]\nname = \"{}\"\nmount_path = \"/{kind}\"\n{more}\n",
            kind.replace('_', "-")
        )
    };
    let toml: String = [
        ("nfs", "server = \"n\"\npath = \"/\""),
        ("csi", "driver = \"d\""),
        ("empty_dir", ""),
        ("config_map", ""),
        ("pvc", ""),
        ("secret", ""),
        ("host_path", ""),
    ]
    .map(|(kind, more)| base(kind, more))
    .concat();
    let pod = pod(&job(), &toml);
    for container in ["build", "helper", "svc-0"] {
        let mounts = at(&pod, &format!("spec/containers/{container}/volumeMounts")).unwrap();
        let names: Vec<_> = mounts
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| mount["name"].as_str().unwrap())
            .collect();
        let expected =
            ["host-path", "secret", "pvc", "config-map", "empty-dir", "csi", "nfs", "repo"];
        assert_eq!(names[..8], expected, "{container}");
    }
    // The path on the node is the one in the pod when none is given.
    assert_eq!(at(&pod, "spec/volumes/host-path/hostPath/path"), Some(&json!("/host_path")));
}

#[test]
fn k8s_37_services_of_the_settings_come_first_and_an_empty_name_is_none() {
    let toml = "services = [{ name = \"pg\" }, { name = \"$NOTHING\" }]";
    let pod = pod(&job(), toml);
    assert_eq!(at(&pod, "spec/containers/svc-0/image"), Some(&json!("pg")));
    assert_eq!(at(&pod, "spec/containers/svc-1/image"), Some(&json!("redis:7")));
    assert_eq!(at(&pod, "spec/containers").unwrap().as_array().unwrap().len(), 4);
}

#[rstest]
#[case("", None)]
#[case("dns_policy = \"default\"", Some("Default"))]
#[case("dns_policy = \"cluster-first\"", Some("ClusterFirst"))]
#[case("dns_policy = \"cluster-first-with-host-net\"", Some("ClusterFirstWithHostNet"))]
#[case("dns_policy = \"none\"\ndns_config = { nameservers = [\"10.0.0.1\"] }", Some("None"))]
fn k8s_44_dns_policies(#[case] toml: &str, #[case] expected: Option<&str>) {
    let pod = pod(&job(), toml);
    assert_eq!(at(&pod, "spec/dnsPolicy").and_then(Value::as_str), expected);
}

#[test]
fn k8s_45_hooks_are_on_build_helper_and_services_but_not_on_init_containers() {
    let toml = "[container_lifecycle.pre_stop.exec]\ncommand = [\"sync\"]";
    let settings = settings(toml);
    let seen = crate::world::see(&job(), &settings).unwrap();
    let pod = crate::world::with_init_container(&seen);
    for container in ["build", "helper", "svc-0"] {
        let hook = at(&pod, &format!("spec/containers/{container}/lifecycle/preStop/exec/command"));
        assert_eq!(hook, Some(&json!(["sync"])), "{container}");
    }
    assert!(at(&pod, "spec/initContainers/init-permissions/lifecycle").is_none());
}

#[test]
fn k8s_46_patches_have_no_effect_without_their_flag() {
    let toml = "pod_spec = [{ patch = \"hostname: a\" }]";
    let of = |value: &str| {
        let mut job = job();
        job.variables.push(variable("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", value));
        at(&pod(&job, toml), "spec/hostname").cloned()
    };
    assert_eq!((of("true"), of("false")), (Some(json!("a")), None));
}

#[test]
fn k8s_20_pull_secrets_of_the_settings_come_before_the_jobs() {
    let seen = |toml: &str| crate::world::see_with_pull_secret(&job(), &settings(toml)).unwrap();
    let of = |toml: &str| at(&seen(toml).built.pod.to_value(), "spec/imagePullSecrets").cloned();
    let names = json!([{ "name": "one" }, { "name": "of-job" }]);
    assert_eq!(of("image_pull_secrets = [\"one\"]"), Some(names));
    assert_eq!(of("use_service_account_image_pull_secrets = true"), None);
}

/// What stays as it is written, `$` and all; what is expanded has its case in the table.
#[test]
fn k8s_05_other_values_are_not_expanded() {
    let toml = r#"
        namespace = "ci"
        service_account = "$TEAM"
        image_pull_secrets = ["$TEAM"]
        host_aliases = [{ ip = "10.0.0.1", hostnames = ["a"] }]
        [[volumes.host_path]]
        name = "a"
        mount_path = "/$TEAM"
        [[volumes.secret]]
        name = "$TEAM"
        mount_path = "/s"
        items = { a = "$TEAM" }
        [[volumes.nfs]]
        name = "n"
        mount_path = "/n"
        server = "$TEAM"
        path = "/$TEAM"
        [[services]]
        name = "pg"
        command = ["$TEAM"]
        entrypoint = ["$TEAM"]
        [container_lifecycle.pre_stop.exec]
        command = ["$TEAM"]
        [[pod_spec]]
        patch = "hostname: $TEAM""#;
    let pod = pod(&job(), toml);
    for path in [
        "spec/serviceAccountName",
        "spec/imagePullSecrets/0/name",
        "spec/volumes/$TEAM/secret/secretName",
        "spec/volumes/$TEAM/secret/items/0/path",
        "spec/volumes/n/nfs/server",
        "spec/containers/svc-0/args/0",
        "spec/containers/svc-0/command/0",
        "spec/containers/build/lifecycle/preStop/exec/command/0",
        "spec/hostname",
    ] {
        assert_eq!(at(&pod, path), Some(&json!("$TEAM")), "{path}");
    }
    // The path in the pod is expanded, the one on the node is not, even when it is the same text.
    assert_eq!(at(&pod, "spec/volumes/a/hostPath/path"), Some(&json!("/$TEAM")));
    assert_eq!(at(&pod, "spec/containers/build/volumeMounts/a/mountPath"), Some(&json!("/blue")));
}

#[test]
fn k8s_96_a_pod_without_root_and_with_a_read_only_root_has_all_it_writes_to() {
    let toml = "[pod_security_context]\nrun_as_user = 1000\nrun_as_non_root = true\n\
                [build_container_security_context]\nread_only_root_filesystem = true\n\
                [helper_container_security_context]\nread_only_root_filesystem = true";
    let mut job = job();
    job.services = vec![Image { name: "redis".into(), ..Image::default() }];
    let pod = pod(&job, toml);
    let mounts = |container: &str| {
        let list = at(&pod, &format!("spec/containers/{container}/volumeMounts")).unwrap();
        let of = |mount: &Value| {
            (mount["mountPath"].as_str().unwrap().to_owned(), mount["readOnly"] == true)
        };
        list.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert!(mounts("build").contains(&("/builds".to_owned(), false)));
    assert!(mounts("helper").contains(&("/builds".to_owned(), false)));
    assert!(mounts("helper").contains(&("/podwright/state".to_owned(), false)));
}

#[test]
fn k8s_20_logins_for_registries_do_not_stand_in_the_pod_even_when_they_are_public() {
    let login = r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#;
    let pod = pod(&job_with(&[("DOCKER_AUTH_CONFIG", login)]), "");
    assert!(!pod.to_string().contains("dTpw"), "{pod:#}");
    let path = "spec/containers/svc-0/env/DOCKER_AUTH_CONFIG/valueFrom/secretKeyRef/key";
    assert_eq!(at(&pod, path), Some(&json!("env.svc-0.0")));
}

#[test]
fn k8s_82_k8s_85_the_pods_deadline_can_be_switched_off() {
    let deadline = |value: &str| {
        let job = job_with(&[("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", value)]);
        at(&pod(&job, ""), "spec/activeDeadlineSeconds").is_some()
    };
    assert!(deadline("true") && !deadline("false"));
}

#[test]
fn k8s_16_the_helpers_image_has_a_second_way_to_be_pulled_too() {
    let toml = "pull_policy = [\"always\", \"if-not-present\"]";
    let mut seen = see(&job(), &settings(toml)).unwrap();
    let pod = seen.built.pod.to_value();
    assert_eq!(at(&pod, "spec/containers/helper/imagePullPolicy"), Some(&json!("Always")));
    let next = seen.built.fallbacks.next("helper");
    assert_eq!(next, Some(Some("IfNotPresent".to_owned())));
    assert_eq!(seen.built.fallbacks.next("helper"), None);
}

#[test]
fn k8s_33_a_medium_that_no_kubelet_knows_is_a_warning() {
    let of = |medium: &str| {
        let toml = "namespace = \"ci\"\n[[volumes.empty_dir]]\nname = \"certs\"\nmount_path = \"/certs\"\nmedium = ";
        settings(&format!("{toml}{medium:?}")).warnings
    };
    for known in ["", "Memory", "HugePages", "HugePages-2Mi"] {
        assert_eq!(of(known), [], "{known}");
    }
    let warnings = of("memory");
    assert_eq!(warnings.len(), 1);
    let text = warnings[0].to_string();
    for word in ["volumes.empty_dir[0].medium", "\"memory\"", "Memory"] {
        assert!(text.contains(word), "{text}");
    }
}
