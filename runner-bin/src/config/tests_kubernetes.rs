//! What is said about `[runners.kubernetes]`: the nested keys too, each with its line.

use rstest::rstest;

use super::tests::read;
use super::{Severity, effective, schema};

/// A runner whose executor's settings begin on line 6.
fn with(kubernetes: &str) -> String {
    let runner = "[[runners]]\nurl = \"https://gitlab.example\"\ntoken = \"t\"\n\
                  executor = \"kubernetes\"\n[runners.kubernetes]\nnamespace = \"ci\"\n";
    format!("{runner}{kubernetes}")
}

const EMPTY_DIR: &str = "[[runners.kubernetes.volumes.empty_dir]]";

#[rstest]
// Not known, with the name that was meant.
#[case("imgae = \"x\"", Severity::Warning, 7, "`imgae`", "did you mean `image`?")]
#[case("[runners.kubernetes.volume]", Severity::Warning, 7, "volume", "did you mean `volumes`?")]
#[case(
    "[[runners.kubernetes.volumes.empty_dir]]\nname = \"a\"\nmount_path = \"/a\"\nsize_limt = \"1Gi\"",
    Severity::Warning,
    10,
    "volumes.empty_dir[0].size_limt",
    "did you mean `size_limit`?"
)]
#[case(
    "[[runners.kubernetes.volumes.ephemeral]]\nname = \"a\"",
    Severity::Warning,
    7,
    "volumes.ephemeral",
    "is not known and has no effect"
)]
#[case(
    "[runners.kubernetes.build_container_security_context]\nallowPrivilegeEscalation = false",
    Severity::Warning,
    8,
    "allowPrivilegeEscalation",
    "is not known"
)]
#[case(
    "[runners.kubernetes.affinity.node_affinity]\nrequired_during_scheduling = 1",
    Severity::Warning,
    8,
    "affinity.node_affinity.required_during_scheduling",
    "is not known"
)]
// Of the wrong kind.
#[case("cpu_limit = 2", Severity::Error, 7, "cpu_limit", "an integer is not a string in quotes")]
#[case("pull_policy = 3", Severity::Error, 7, "pull_policy", "a string or a list of strings")]
#[case("pull_policy = [\"always\", 3]", Severity::Error, 7, "pull_policy[1]", "a string in quotes")]
#[case(
    "[[runners.kubernetes.volumes.host_path]]\nname = \"a\"\nread_only = \"yes\"",
    Severity::Error,
    9,
    "volumes.host_path[0].read_only",
    "true or false"
)]
#[case("cleanup_resources_timeout = \"5 min\"", Severity::Error, 7, "\"5 min\"", "a duration")]
// Out of range.
#[case("cpu_limit = \"lots\"", Severity::Fault, 7, "cpu_limit", "\"lots\" is not possible")]
#[case(
    "pod_termination_grace_period_seconds = -1",
    Severity::Fault,
    7,
    "pod_termination_grace_period_seconds",
    "\"-1\" is not possible; allowed: seconds, 0 or more"
)]
#[case(
    "[[runners.kubernetes.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution]]\n\
     weight = 101",
    Severity::Fault,
    8,
    "weight",
    "1 to 100"
)]
#[case("pull_policy = \"often\"", Severity::Fault, 7, "\"often\"", "always, if-not-present, never")]
#[case("namespace_overwrite_allowed = \"ci-(\"", Severity::Fault, 7, "\"ci-(\"", "unclosed group")]
// Missing: the line is that of the table.
#[case(
    "[[runners.kubernetes.volumes.nfs]]\nname = \"a\"\nmount_path = \"/a\"\npath = \"/e\"",
    Severity::Fault,
    7,
    "volumes.nfs[0].server",
    "must be set"
)]
// Contradictions.
#[case(
    "cpu_limit = \"1\"\ncpu_request = \"1500m\"",
    Severity::Fault,
    8,
    "cpu_request",
    "\"1500m\" is not possible; allowed: at most cpu_limit, 1"
)]
#[case(
    "privileged = true\nallow_privilege_escalation = false",
    Severity::Fault,
    8,
    "allow_privilege_escalation",
    "exclude each other"
)]
#[case(
    "pull_policy = \"always\"\nallowed_pull_policies = [\"never\"]",
    Severity::Warning,
    8,
    "allowed_pull_policies",
    "nothing in common with pull_policy (always)"
)]
#[case("ca_file = \"ca.pem\"", Severity::Warning, 7, "ca_file", "no effect without host")]
#[case(
    "use_service_account_image_pull_secrets = true\nimage_pull_secrets = [\"a\"]",
    Severity::Warning,
    8,
    "image_pull_secrets",
    "no effect with use_service_account_image_pull_secrets"
)]
#[case(
    "helper_image = \"h\"\nhelper_image_flavor = \"ubuntu\"",
    Severity::Warning,
    8,
    "helper_image_flavor",
    "no effect with helper_image"
)]
// What GitLab Runner leaves out, and says so to nobody.
#[case("dns_policy = \"cluster\"", Severity::Warning, 7, "dns_policy", "cluster-first")]
#[case(
    "[runners.kubernetes.pod_security_context.seccomp_profile]\ntype = \"runtime/default\"",
    Severity::Warning,
    8,
    "pod_security_context.seccomp_profile.type",
    "RuntimeDefault, Localhost, Unconfined"
)]
// On purpose without effect.
#[case("poll_interval = 5", Severity::Note, 7, "poll_interval", "no effect: nothing is polled")]
#[case(
    "[[runners.kubernetes.services]]\nname = \"pg\"\nsuspend_data_path = \"/data\"",
    Severity::Note,
    9,
    "services[0].suspend_data_path",
    "environments cannot be suspended"
)]
fn manager_03_a_key_of_the_executor_is_named_with_its_line_and_what_would_be_right(
    #[case] kubernetes: &str,
    #[case] severity: Severity,
    #[case] line: usize,
    #[case] key: &str,
    #[case] words: &str,
) {
    let key = key.trim_matches('`');
    let reading = read(&with(kubernetes));
    let findings = &reading.findings.0;
    let worst: Vec<_> = findings.iter().filter(|finding| finding.severity == severity).collect();
    let [finding] = worst.as_slice() else { panic!("not one of {severity:?}: {findings:#?}") };
    assert_eq!(finding.line, Some(line), "{finding}");
    assert!(finding.message.contains(key) && finding.message.contains(words), "{finding}");
    assert!(findings.iter().all(|other| other.severity <= severity), "{findings:#?}");
}

#[test]
fn manager_03_all_that_is_wrong_is_said_once_in_the_order_of_the_file() {
    let reading = read(&with(&format!(
        "poll_interval = 3\ncpu_limt = \"1\"\nmemory_limit = \"1GB\"\n{EMPTY_DIR}\nname = \"a\"\n"
    )));
    let lines: Vec<_> = reading.findings.0.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [Some(7), Some(8), Some(9), Some(10)], "{:#?}", reading.findings);
}

#[test]
fn keys_are_read_without_regard_to_case_as_in_gitlab_runner() {
    let reading =
        read(&with("Image = \"alpine\"\n[runners.kubernetes.Pod_Labels]\nTeam = \"a\"\n"));
    let settings = reading.config.unwrap().runners.remove(0).kubernetes.unwrap();
    assert_eq!(settings.image.as_deref(), Some("alpine"));
    assert_eq!(settings.pod_labels.keys().collect::<Vec<_>>(), ["Team"]);
}

#[test]
fn the_schema_has_the_executors_keys_in_full() {
    let schema = schema();
    let keys = &schema["properties"]["runners"]["items"]["properties"]["kubernetes"]["properties"];
    assert_eq!(keys["image"]["type"], "string");
    assert_eq!(keys["poll_timeout"]["default"], 180);
    assert_eq!(keys["poll_interval"]["deprecated"], true);
    let term = &keys["affinity"]["properties"]["pod_anti_affinity"]["properties"]["required_during_scheduling_ignored_during_execution"]
        ["items"]["properties"];
    assert_eq!(term["topology_key"]["type"], "string");
    let csi = &keys["volumes"]["properties"]["csi"]["items"]["properties"];
    assert_eq!(csi["volume_attributes"]["additionalProperties"]["type"], "string");
    assert!(csi["driver"]["description"].as_str().unwrap().contains("must be set"));
    assert_eq!(keys["pull_policy"]["anyOf"][1]["items"]["type"], "string");
    assert_eq!(keys["pull_policy"]["examples"][1], "if-not-present");
}

#[test]
fn the_effective_settings_have_the_executors_defaults_and_no_token() {
    let text = with("bearer_token = \"hidden\"\nretry_limit = 3\n");
    let text = text + EMPTY_DIR + "\nname = \"a\"\nmount_path = \"/a\"\n";
    let shown = effective(&read(&text).table);
    for line in [
        "poll_timeout = 180",
        "print_pod_warning_events = true",
        "bearer_token = \"***\"",
        "mount_path = \"/a\"",
        "agent_image = \"podwright/agent:",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    // What has no effect is not in effect.
    assert!(!shown.contains("retry_limit") && !shown.contains("hidden"), "{shown}");
}
