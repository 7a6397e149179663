//! Settings that are refused: the message names the key, what it says and what it may say.

use rstest::rstest;

use crate::world::{resolve, settings};

const QUANTITY: &str = "a quantity such as 500m, 2 or 1Gi";
const PROPAGATION: &str = "None, HostToContainer, Bidirectional";
const REQUIRED: &str = "required_during_scheduling_ignored_during_execution";
const PREFERRED: &str = "preferred_during_scheduling_ignored_during_execution";

fn refused(toml: &str, key: &str, value: &str, allowed: &str) {
    let errors = resolve(toml).unwrap_err();
    let [error] = errors.0.as_slice() else { panic!("{toml}: {errors:#?}") };
    assert_eq!(error.key, key, "{error:?}");
    assert_eq!(error.value.as_deref().unwrap_or_default(), value, "{error:?}");
    assert!(error.allowed.contains(allowed), "{error:?}");
    let whole = errors.to_string();
    for part in [key, value, allowed, "[runners.kubernetes]"] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
}

#[rstest]
#[case("memory_limit = \"1GB\"", "memory_limit", "1GB", QUANTITY)]
#[case("helper_cpu_request = \"-1\"", "helper_cpu_request", "-1", QUANTITY)]
#[case("pod_memory_request = \"1 Gi\"", "pod_memory_request", "1 Gi", QUANTITY)]
#[case(
    "service_cpu_limit_overwrite_max_allowed = \"x\"",
    "service_cpu_limit_overwrite_max_allowed",
    "x",
    QUANTITY
)]
#[case(
    "service_ephemeral_storage_request = \"2Gi\"\nservice_ephemeral_storage_limit = \"1Gi\"",
    "service_ephemeral_storage_request",
    "2Gi",
    "at most service_ephemeral_storage_limit, 1Gi"
)]
#[case("pull_policy = \"often\"", "pull_policy", "often", "always, if-not-present, never")]
#[case(
    "allowed_pull_policies = [\"Sometimes\"]",
    "allowed_pull_policies",
    "Sometimes",
    "always, if-not-present, never"
)]
#[case(
    "host = \"https://k\"\ncert_file = \"c.pem\"",
    "cert_file",
    "c.pem",
    "only with key_file and ca_file"
)]
#[case(
    "pod_labels_overwrite_allowed = \"(\"",
    "pod_labels_overwrite_allowed",
    "(",
    "a regular expression (unclosed group)"
)]
#[case(
    "cleanup_grace_period_seconds = -3",
    "cleanup_grace_period_seconds",
    "-3",
    "seconds, 0 or more"
)]
#[case("cleanup_resources_timeout = \"soon\"", "cleanup_resources_timeout", "soon", "90s or 5m")]
#[case("dns_policy = \"none\"", "dns_policy", "none", "only with dns_config.nameservers")]
#[case(
    "node_tolerations = { a = \"Never\" }",
    "node_tolerations.\"a\"",
    "Never",
    "NoSchedule, PreferNoSchedule, NoExecute"
)]
#[case(
    "host_aliases = [{ ip = \"nas\", hostnames = [\"a\"] }]",
    "host_aliases[0].ip",
    "nas",
    "an IPv4 or IPv6 address"
)]
#[case(
    "host_aliases = [{ ip = \"::1\", hostnames = [\"A_b\"] }]",
    "host_aliases[0].hostnames",
    "A_b",
    "a host name"
)]
#[case(
    "pod_security_context = { run_as_user = -1 }",
    "pod_security_context.run_as_user",
    "-1",
    "0 to 2147483647"
)]
#[case(
    "helper_container_security_context = { run_as_group = 3000000000 }",
    "helper_container_security_context.run_as_group",
    "3000000000",
    "0 to 2147483647"
)]
#[case(
    "pod_spec = [{ patch = \"a: 1\", patch_type = \"smp\" }]",
    "pod_spec[0].patch_type",
    "smp",
    "strategic, merge, json"
)]
#[case(
    "pod_spec = [{ patch = \"a: 1\", patch_path = \"p.yaml\" }]",
    "pod_spec[0].patch_path",
    "p.yaml",
    "only without patch"
)]
#[case("pod_spec = [{ name = \"x\" }]", "pod_spec[0]", "", "needs patch or patch_path")]
fn k8s_01_a_value_that_cannot_be_is_refused(
    #[case] toml: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    refused(toml, key, value, allowed);
}

#[rstest]
#[case("pod_labels = { \"a b\" = \"x\" }", "pod_labels", "a b", "a label's key")]
#[case("pod_annotations = { \"/x\" = \"x\" }", "pod_annotations", "/x", "a label's key")]
#[case("node_selector = { \"\" = \"x\" }", "node_selector", "", "a label's key")]
#[case("node_selector = { a = \"$POOL\" }", "node_selector.\"a\"", "$POOL", "up to 63 letters")]
#[case("node_tolerations = { \"=x\" = \"\" }", "node_tolerations", "=x", "key or key=value")]
#[case("node_tolerations = { \"a=b c\" = \"\" }", "node_tolerations", "a=b c", "up to 63 letters")]
#[case("dns_config = { nameservers = [\"dns\"] }", "dns_config.nameservers", "dns", "an IPv4 or")]
#[case(
    "dns_config = { nameservers = [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"1.1.1.4\"] }",
    "dns_config.nameservers",
    "4",
    "at most 3"
)]
#[case(
    "dns_config = { options = [{ value = \"2\" }] }",
    "dns_config.options[0].name",
    "",
    "must be set"
)]
#[case(
    "memory_limit = \"2Gi\"\npod_memory_limit = \"1Gi\"",
    "memory_limit",
    "2Gi",
    "at most pod_memory_limit, 1Gi"
)]
#[case(
    "helper_cpu_limit = \"2\"\npod_cpu_limit = \"1\"",
    "helper_cpu_limit",
    "2",
    "at most pod_cpu_limit, 1"
)]
#[case(
    "cpu_request = \"1\"\nhelper_cpu_request = \"500m\"\npod_cpu_request = \"1\"",
    "pod_cpu_request",
    "1",
    "at least what build and helper request of cpu together"
)]
#[case(
    "memory_limit = \"1Gi\"\nhelper_memory_limit = \"1Gi\"\npod_memory_limit = \"1536Mi\"",
    "pod_memory_limit",
    "1536Mi",
    "at least what build and helper request of memory together"
)]
fn k8s_01_what_the_api_server_would_refuse_in_every_job_is_refused_at_once(
    #[case] toml: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    refused(toml, key, value, allowed);
}

#[test]
fn k8s_33_a_volume_that_changes_the_nodes_mounts_needs_privileged_containers() {
    let volume = "[[volumes.host_path]]\nname = \"v\"\nmount_path = \"/v\"\n\
                  mount_propagation = \"Bidirectional\"";
    let key = "volumes.host_path[0].mount_propagation";
    refused(volume, key, "Bidirectional", "only with privileged = true");
    settings(&format!("privileged = true\n{volume}"));
}

#[test]
fn k8s_21_services_that_do_not_fit_into_the_pod_are_refused_in_the_jobs_log() {
    let toml = "pod_memory_limit = \"1Gi\"\nservice_memory_limit = \"2Gi\"";
    let refused = crate::world::try_pod(&crate::world::job(), toml).unwrap_err();
    for word in ["\"svc-0\"", "memory limit", "pod_memory_limit", "\"1Gi\""] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    let toml = "pod_cpu_request = \"1\"\nservice_cpu_request = \"750m\"\ncpu_request = \"500m\"";
    let refused = crate::world::try_pod(&crate::world::job(), toml).unwrap_err();
    assert!(refused.contains("request of cpu") && refused.contains("KUBERNETES_POD_CPU_REQUEST"));
}

#[rstest]
#[case("nfs", "path = \"/e\"", "server", "", "must be set")]
#[case("nfs", "server = \"nas\"", "path", "", "must be set")]
#[case("csi", "", "driver", "", "must be set")]
#[case("empty_dir", "size_limit = \"big\"", "size_limit", "big", QUANTITY)]
#[case("empty_dir", "mount_propagation = \"Both\"", "mount_propagation", "Both", PROPAGATION)]
#[case("host_path", "mount_propagation = \"x\"", "mount_propagation", "x", PROPAGATION)]
#[case("pvc", "mount_propagation = \"x\"", "mount_propagation", "x", PROPAGATION)]
fn k8s_03_a_volume_that_cannot_be_is_refused(
    #[case] kind: &str,
    #[case] field: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    let toml = format!("[[volumes.{kind}]]\nname = \"v\"\nmount_path = \"/v\"\n{field}");
    refused(&toml, &format!("volumes.{kind}[0].{key}"), value, allowed);
}

#[rstest]
#[case("host_path", "")]
#[case("pvc", "")]
#[case("config_map", "")]
#[case("secret", "")]
#[case("empty_dir", "")]
#[case("csi", "driver = \"d\"")]
#[case("nfs", "server = \"nas\"\npath = \"/e\"")]
fn k8s_03_a_volume_needs_a_name_and_a_place(#[case] kind: &str, #[case] fields: &str) {
    let table = format!("[[volumes.{kind}]]\n{fields}\n");
    let key = |name: &str| format!("volumes.{kind}[0].{name}");
    refused(&format!("{table}mount_path = \"/v\""), &key("name"), "", "must be set");
    refused(&format!("{table}name = \"v\""), &key("mount_path"), "", "must be set");
}

#[test]
fn two_volumes_of_one_name_are_refused() {
    let toml = "[[volumes.empty_dir]]\nname = \"v\"\nmount_path = \"/a\"\n\
                [[volumes.secret]]\nname = \"v\"\nmount_path = \"/b\"";
    refused(toml, "volumes.empty_dir[0].name", "v", "a name that no other volume has");
}

#[rstest]
#[case("node_affinity", "weight = 0", "weight", "0", "1 to 100")]
#[case(
    "pod_affinity",
    "weight = 101\npod_affinity_term = { topology_key = \"z\" }",
    "weight",
    "101",
    "1 to 100"
)]
#[case("pod_anti_affinity", "weight = 1", "pod_affinity_term.topology_key", "", "must be set")]
#[case(
    "node_affinity",
    "weight = 1\npreference.match_expressions = [{ key = \"a\", operator = \"Is\" }]",
    "preference.match_expressions[0].operator",
    "Is",
    "In, NotIn, Exists, DoesNotExist, Gt, Lt"
)]
#[case(
    "pod_affinity",
    "weight = 1\npod_affinity_term = { topology_key = \"z\", label_selector = { match_expressions = [{ key = \"a\", operator = \"Gt\" }] } }",
    "pod_affinity_term.label_selector.match_expressions[0].operator",
    "Gt",
    "In, NotIn, Exists, DoesNotExist"
)]
fn k8s_27_an_affinity_that_cannot_be_is_refused(
    #[case] side: &str,
    #[case] fields: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    let toml = format!("[[affinity.{side}.{PREFERRED}]]\n{fields}");
    refused(&toml, &format!("affinity.{side}.{PREFERRED}[0].{key}"), value, allowed);
}

#[rstest]
#[case("operator = \"In\"", "values", "needs at least one value")]
#[case("operator = \"Exists\"\nvalues = [\"a\"]", "values", "must have no values")]
#[case("operator = \"Gt\"\nvalues = [\"a\"]", "values", "must be one number")]
fn k8s_27_values_must_fit_their_operator(
    #[case] fields: &str,
    #[case] key: &str,
    #[case] rule: &str,
) {
    let table = format!("affinity.node_affinity.{REQUIRED}.node_selector_terms");
    let toml = format!("[[{table}]]\n[[{table}.match_expressions]]\nkey = \"a\"\n{fields}");
    refused(&toml, &format!("{table}[0].match_expressions[0].{key}"), "", rule);
}

#[rstest]
#[case("match_label_keys = [\"a\"]", "match_label_keys", "", "only with label_selector")]
#[case(
    "label_selector = {}\nmatch_label_keys = [\"a b\"]",
    "match_label_keys",
    "a b",
    "a label's key"
)]
#[case(
    "label_selector = {}\nmatch_label_keys = [\"a\"]\nmismatch_label_keys = [\"a\"]",
    "mismatch_label_keys",
    "a",
    "a key that match_label_keys does not have"
)]
fn k8s_27_label_keys_of_pods_must_make_sense(
    #[case] fields: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    let table = format!("affinity.pod_affinity.{REQUIRED}");
    let toml = format!("[[{table}]]\ntopology_key = \"zone\"\n{fields}");
    refused(&toml, &format!("{table}[0].{key}"), value, allowed);
}

#[test]
fn k8s_27_a_node_selector_without_terms_is_refused() {
    let table = format!("affinity.node_affinity.{REQUIRED}");
    let key = format!("{table}.node_selector_terms");
    refused(&format!("[{table}]"), &key, "", "at least one entry");
}

#[rstest]
#[case("[post_start]", "post_start", "", "exactly one of exec, http_get, tcp_socket")]
#[case("[pre_stop.exec]", "pre_stop.exec.command", "", "must be set")]
#[case("[pre_stop.http_get]\nport = 0", "pre_stop.http_get.port", "0", "1 to 65535")]
#[case("[pre_stop.tcp_socket]\nport = 65536", "pre_stop.tcp_socket.port", "65536", "1 to 65535")]
#[case(
    "[post_start.http_get]\nport = 80\nscheme = \"http\"",
    "post_start.http_get.scheme",
    "http",
    "HTTP, HTTPS"
)]
#[case(
    "[post_start.exec]\ncommand = [\"a\"]\n[container_lifecycle.post_start.tcp_socket]\nport = 1",
    "post_start",
    "",
    "exactly one of"
)]
fn k8s_45_a_hook_that_cannot_be_is_refused(
    #[case] table: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] allowed: &str,
) {
    let toml = table.replacen('[', "[container_lifecycle.", 1);
    refused(&toml, &format!("container_lifecycle.{key}"), value, allowed);
}

#[rstest]
#[case::both_for_all(
    "privileged = true\nallow_privilege_escalation = false",
    "allow_privilege_escalation"
)]
#[case::one_of_them_in_a_container(
    "allow_privilege_escalation = false\n[build_container_security_context]\nprivileged = true",
    "build_container_security_context.privileged"
)]
#[case::the_other_in_a_container(
    "privileged = true\n[helper_container_security_context]\nallow_privilege_escalation = false",
    "helper_container_security_context.allow_privilege_escalation"
)]
fn k8s_29_privileged_and_no_escalation_exclude_each_other(#[case] toml: &str, #[case] key: &str) {
    refused(toml, key, "", "exclude each other");
}

#[test]
fn k8s_29_a_container_of_its_own_may_be_privileged() {
    settings(
        "allow_privilege_escalation = false\n[build_container_security_context]\n\
         privileged = true\nallow_privilege_escalation = true",
    );
}

/// Left out with a warning, as GitLab Runner does; there only the manager's log says so.
#[rstest]
#[case(
    "seccomp_profile = { type = \"runtime\" }",
    "seccomp_profile.type",
    "RuntimeDefault, Localhost, Unconfined"
)]
#[case(
    "app_armor_profile = { type = \"Localhost\" }",
    "app_armor_profile",
    "needs localhost_profile"
)]
#[case("proc_mount = \"masked\"", "proc_mount", "neither default nor unmasked")]
fn k8s_31_a_profile_that_cannot_be_is_left_out_with_a_warning(
    #[case] field: &str,
    #[case] key: &str,
    #[case] words: &str,
) {
    let settings =
        settings(&format!("namespace = \"ci\"\n[build_container_security_context]\n{field}"));
    let key = format!("build_container_security_context.{key}");
    let [warning] = settings.warnings.as_slice() else { panic!("{:?}", settings.warnings) };
    assert_eq!(warning.key, key);
    assert!(warning.message.contains(words) && warning.message.contains("left out"), "{warning}");
    let only = ["capabilities"];
    assert_eq!(settings.build_security.keys().collect::<Vec<_>>(), only);
}

#[test]
fn k8s_44_a_dns_policy_that_is_none_is_left_out_with_a_warning() {
    let settings = settings("namespace = \"ci\"\ndns_policy = \"cluster\"");
    assert_eq!(settings.dns_policy, None);
    assert!(settings.warnings[0].message.contains("\"cluster\" is not one of none, default"));
}
