//! What a job's variables change, and what they may not.

use rstest::rstest;
use runner_k8s::settings::RawSettings;
use serde_json::{Value, json};

use crate::world::{at, job, job_with, overwritten, pod, try_pod, variable};

const CEILING: &str = "cpu_limit = \"1\"\ncpu_limit_overwrite_max_allowed = \"2\"";

#[rstest]
#[case::below("1500m", CEILING, Ok("1500m"))]
#[case::at_the_ceiling("2000m", CEILING, Ok("2000m"))]
#[case::through_another_variable("${CPUS}", CEILING, Ok("2"))]
#[case::nothing_takes_the_limit_away("0", CEILING, Ok(""))]
#[case::empty_changes_nothing("", CEILING, Ok("1"))]
#[case::no_ceiling_no_say("1500m", "cpu_limit = \"1\"", Ok("1"))]
#[case::above("2001m", CEILING, Err("cpu limit: cpu_limit_overwrite_max_allowed is \"2\""))]
#[case::no_quantity("much", CEILING, Err("is not a quantity such as 500m, 2 or 1Gi"))]
#[case::negative("-1", CEILING, Err("is not a quantity"))]
#[case::less_than_the_request(
    "250m",
    "cpu_request = \"500m\"\ncpu_limit_overwrite_max_allowed = \"2\"",
    Err("the cpu request would be \"500m\" and the limit only \"250m\"")
)]
fn k8s_22_a_resource_may_be_changed_up_to_its_ceiling(
    #[case] value: &str,
    #[case] toml: &str,
    #[case] expected: Result<&str, &str>,
) {
    let variables = [("CPUS", "2"), ("KUBERNETES_CPU_LIMIT", value)];
    match (try_pod(&job_with(&variables), toml), expected) {
        (Ok(pod), Ok(expected)) => {
            let limit = at(&pod, "spec/containers/build/resources/limits/cpu");
            assert_eq!(limit.and_then(Value::as_str).unwrap_or_default(), expected);
        }
        (Err(error), Err(words)) => {
            assert!(error.starts_with("KUBERNETES_CPU_LIMIT = "), "{error}");
            assert!(error.contains(words), "{error}");
        }
        (got, expected) => panic!("{got:?}, not {expected:?}"),
    }
}

/// What the reference lists: 22 variables, each with a ceiling of its own.
#[test]
fn k8s_22_every_resource_variable_is_refused_above_its_ceiling_by_name() {
    let settings = crate::world::settings("");
    assert_eq!(settings.ceilings.len(), 22);
    for ceiling in &*settings.ceilings {
        let most = format!("{}_overwrite_max_allowed", ceiling.key);
        let variable = ceiling.variable.clone();
        let refused = overwritten(&[(&variable, "3")], &format!("{most} = \"2\"")).unwrap_err();
        assert_eq!(refused.variable, variable);
        assert!(refused.problem.contains(&format!("{most} is \"2\"")), "{refused}");
        assert!(overwritten(&[(&variable, "2")], &format!("{most} = \"2\"")).is_ok());
    }
}

#[test]
fn k8s_23_a_services_own_variables_beat_the_jobs_within_the_same_ceiling() {
    let toml =
        "service_memory_limit = \"1Gi\"\nservice_memory_limit_overwrite_max_allowed = \"4Gi\"";
    let limit = |pod: &Value| at(pod, "spec/containers/svc-0/resources/limits/memory").cloned();
    let of_job = ("KUBERNETES_SERVICE_MEMORY_LIMIT", "2Gi");
    let mut job = job_with(&[of_job]);
    assert_eq!(limit(&pod(&job, toml)), Some(json!("2Gi")));
    job.services[0].variables = vec![variable(of_job.0, "3Gi")];
    assert_eq!(limit(&pod(&job, toml)), Some(json!("3Gi")));
    job.services[0].variables = vec![variable(of_job.0, "5Gi")];
    let refused = try_pod(&job, toml).unwrap_err();
    for word in ["redis:7", of_job.0, "5Gi", "service_memory_limit_overwrite_max_allowed", "4Gi"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    // As it is written.
    job.services[0].variables = vec![variable(of_job.0, "$TAG")];
    assert!(try_pod(&job, toml).unwrap_err().contains("\"$TAG\" is not a quantity"));
}

#[rstest]
#[case::allowed("ci-blue", "^ci-[a-z]+$", Ok("ci-blue"))]
#[case::found_anywhere("my-ci-1", "ci-", Ok("my-ci-1"))]
#[case::expanded("ci-$TEAM", "^ci-blue$", Ok("ci-blue"))]
#[case::empty_changes_nothing("", ".*", Ok("ci"))]
#[case::gate_off("other", "", Ok("ci"))]
#[case::refused("prod", "^ci-", Err("namespace_overwrite_allowed allows what matches \"^ci-\""))]
#[case::no_namespace("A b", ".*", Err("is not the name of a namespace"))]
fn k8s_08_a_namespace_of_the_jobs_own(
    #[case] value: &str,
    #[case] gate: &str,
    #[case] expected: Result<&str, &str>,
) {
    let toml = format!("namespace = \"ci\"\nnamespace_overwrite_allowed = '{gate}'");
    match (overwritten(&[("KUBERNETES_NAMESPACE_OVERWRITE", value)], &toml), expected) {
        (Ok((settings, remarks)), Ok(expected)) => {
            assert_eq!(settings.namespace, expected);
            let told = remarks.iter().any(|line| line.contains("KUBERNETES_NAMESPACE_OVERWRITE"));
            assert_eq!(told, !value.is_empty(), "{remarks:?}");
        }
        (Err(error), Err(words)) => {
            assert_eq!(error.variable, "KUBERNETES_NAMESPACE_OVERWRITE");
            assert!(error.problem.contains(words), "{error}");
        }
        (got, expected) => panic!("{got:?}, not {expected:?}"),
    }
}

#[test]
fn k8s_28_a_service_account_of_the_jobs_own() {
    let toml = "service_account = \"ci\"\nservice_account_overwrite_allowed = \"^ci-\"";
    let name = "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE";
    assert_eq!(overwritten(&[(name, "ci-a")], toml).unwrap().0.service_account, "ci-a");
    let refused = overwritten(&[(name, "root")], toml).unwrap_err().to_string();
    for word in [name, "\"root\"", "service_account_overwrite_allowed", "\"^ci-\""] {
        assert!(refused.contains(word), "{refused}");
    }
    assert!(overwritten(&[(name, "ci-A b")], toml).is_err(), "no name of an account");
}

#[test]
fn k8s_07_a_token_of_the_jobs_own_is_taken_when_it_is_allowed_and_never_shown() {
    let variables = [("KUBERNETES_BEARER_TOKEN", "hunter2")];
    let toml = "bearer_token_overwrite_allowed = true";
    let seen = crate::world::see(&job_with(&variables), &crate::world::settings(toml)).unwrap();
    assert_eq!(seen.token.as_ref().map(|token| token.expose()), Some("hunter2"));
    let (closed, remarks) = overwritten(&variables, "").unwrap();
    assert!(!closed.gates.bearer_token);
    assert!(remarks[0].contains("bearer_token_overwrite_allowed is not set"), "{remarks:?}");
    let said = format!("{:?} {:?} {:?}", seen.remarks, seen.token, remarks);
    assert!(!said.contains("hunter2"), "{said}");
    let raw = RawSettings { bearer_token: "hunter2".into(), ..RawSettings::default() };
    assert!(!format!("{raw:?}").contains("hunter2"));
}

#[rstest]
#[case::one("pod_labels", "KUBERNETES_POD_LABELS_1", "a=b", json!({ "a": "b" }))]
#[case::any_suffix("pod_labels", "KUBERNETES_POD_LABELS_TEAM", "a=b=c", json!({ "a": "b=c" }))]
#[case::later_than_the_settings("pod_labels", "KUBERNETES_POD_LABELS_1", "old=new", json!({ "old": "new" }))]
#[case::annotations("pod_annotations", "KUBERNETES_POD_ANNOTATIONS_1", "a=b c", json!({ "a": "b c" }))]
#[case::nodes("node_selector", "KUBERNETES_NODE_SELECTOR_1", "a=$TEAM", json!({ "a": "blue" }))]
fn k8s_25_entries_of_a_family_are_added(
    #[case] key: &str,
    #[case] name: &str,
    #[case] value: &str,
    #[case] expected: Value,
) {
    let toml = format!("{key} = {{ old = \"kept\" }}\n{key}_overwrite_allowed = \".*\"");
    let (settings, remarks) = overwritten(&[(name, value)], &toml).unwrap();
    let map = match key {
        "pod_labels" => settings.pod_labels,
        "pod_annotations" => settings.pod_annotations,
        _ => settings.node_selector,
    };
    let mut all = json!({ "old": "kept" });
    all.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
    assert_eq!(json!(map), all);
    assert!(remarks.iter().any(|line| line.contains(name)), "{remarks:?}");
}

#[rstest]
#[case("pod_labels", "KUBERNETES_POD_LABELS_1")]
#[case("pod_annotations", "KUBERNETES_POD_ANNOTATIONS_1")]
#[case("node_selector", "KUBERNETES_NODE_SELECTOR_1")]
#[case("node_tolerations", "KUBERNETES_NODE_TOLERATIONS_1")]
fn k8s_25_an_entry_that_the_gate_does_not_let_through_is_refused_and_a_closed_gate_ignores_it(
    #[case] key: &str,
    #[case] name: &str,
) {
    let gate = format!("{key}_overwrite_allowed");
    let refused = overwritten(&[(name, "a=b")], &format!("{gate} = \"^team=\"")).unwrap_err();
    for word in [name, "\"a=b\"", &gate, "\"^team=\""] {
        assert!(refused.to_string().contains(word), "{word}: {refused}");
    }
    let (settings, remarks) = overwritten(&[(name, "a=b")], "").unwrap();
    assert_eq!(settings.pod_labels.len() + settings.node_selector.len(), 0);
    assert!(settings.pod_annotations.is_empty() && settings.tolerations.is_empty());
    assert!(remarks[0].contains(&gate), "{remarks:?}");
}

#[test]
fn k8s_25_an_entry_without_an_equals_sign_is_refused() {
    let refused =
        overwritten(&[("KUBERNETES_POD_LABELS_1", "a")], "pod_labels_overwrite_allowed = \"a\"");
    assert!(refused.unwrap_err().to_string().contains("key=value"));
}

#[test]
fn k8s_25_the_name_of_a_gate_is_no_entry() {
    let name = "KUBERNETES_POD_LABELS_OVERWRITE_ALLOWED";
    let (settings, _) =
        overwritten(&[(name, ".*")], "pod_labels_overwrite_allowed = \".*\"").unwrap();
    assert!(settings.pod_labels.is_empty(), "{:?}", settings.pod_labels);
}

#[rstest]
#[case::key_and_value("a=b:NoSchedule", json!({ "key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule" }))]
#[case::key("a:NoExecute", json!({ "key": "a", "operator": "Exists", "effect": "NoExecute" }))]
#[case::all_effects("a=b", json!({ "key": "a", "operator": "Equal", "value": "b" }))]
#[case::empty_value("a=:PreferNoSchedule", json!({ "key": "a", "operator": "Equal", "value": "", "effect": "PreferNoSchedule" }))]
#[case::everything("", json!({ "operator": "Exists" }))]
fn k8s_27_tolerations_in_five_notations(#[case] value: &str, #[case] expected: Value) {
    let name = "KUBERNETES_NODE_TOLERATIONS_1";
    let toml = "node_tolerations_overwrite_allowed = \".*\"";
    let pod_of = pod(&job_with(&[(name, value)]), toml);
    assert_eq!(at(&pod_of, "spec/tolerations"), Some(&json!([expected])));
    // The same, as the operator writes it.
    let (taint, effect) = value.split_once(':').unwrap_or((value, ""));
    let written = pod(&job(), &format!("node_tolerations = {{ \"{taint}\" = \"{effect}\" }}"));
    assert_eq!(at(&written, "spec/tolerations"), Some(&json!([expected])));
}

#[test]
fn k8s_27_an_effect_that_kubernetes_does_not_have_is_refused() {
    let toml = "node_tolerations_overwrite_allowed = \".*\"";
    let refused = overwritten(&[("KUBERNETES_NODE_TOLERATIONS_1", "a=b:Never")], toml);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("NoSchedule, PreferNoSchedule, NoExecute"), "{refused}");
}

#[test]
fn what_is_masked_in_the_log_is_masked_in_a_refusal() {
    let mut job = job_with(&[("KUBERNETES_CPU_LIMIT", "$SECRET")]);
    let mut secret = variable("SECRET", "hunter2hunter2");
    (secret.public, secret.masked) = (false, true);
    job.variables.push(secret);
    let refused = try_pod(&job, CEILING).unwrap_err();
    assert!(refused.contains("[MASKED]") && !refused.contains("hunter2"), "{refused}");
}
