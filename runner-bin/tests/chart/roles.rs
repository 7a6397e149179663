//! The role of the chart.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::render::{chart, documents, rendered};
use crate::values::of_kind;

/// `group/resource verb`, one for each.
pub(crate) fn rights(role: &Value) -> BTreeSet<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut out = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                for verb in list(&rule["verbs"]) {
                    out.insert(format!("{group}/{resource} {verb}"));
                }
            }
        }
    }
    out
}

#[test]
fn the_role_names_each_right_and_none_is_for_everything() {
    for name in ["default", "everything"] {
        let objects = rendered(name);
        for right in rights(of_kind(&objects, "Role")) {
            assert!(!right.contains('*'), "{name}: {right}");
        }
    }
    let objects = rendered("default");
    let rights = rights(of_kind(&objects, "Role"));
    for dangerous in ["escalate", "bind", "impersonate", "deletecollection", "rolebindings"] {
        assert!(!rights.iter().any(|right| right.contains(dangerous)), "{rights:?}");
    }
}

/// Rights stand where the jobs are, and nowhere else unless that is asked for.
#[test]
fn the_role_is_in_the_jobs_namespace() {
    let everything = rendered("everything");
    assert_eq!(of_kind(&everything, "Role")["metadata"]["namespace"], "ci-jobs");
    let subject = &of_kind(&everything, "RoleBinding")["subjects"][0];
    assert_eq!((&subject["name"], &subject["namespace"]), (&"runner".into(), &"ci".into()));
    let cluster = of_kind(&everything, "ClusterRole");
    assert_eq!(cluster["metadata"]["name"], "pool-ci-priority-class");
    assert!(!rendered("default").iter().any(|object| object["kind"] == "ClusterRole"));
}

#[test]
fn a_rule_without_a_key_means_what_it_does_in_the_official_chart() {
    let objects = rendered("openshift");
    let rights = rights(of_kind(&objects, "ClusterRole"));
    assert!(rights.contains("/pods/exec *"), "{rights:?}");
}

/// Nobody's secrets but the jobs' records can be read.
#[test]
fn a_namespace_for_each_job_lets_the_manager_read_no_secret_elsewhere() {
    let objects = rendered("override");
    let everywhere = rights(of_kind(&objects, "ClusterRole"));
    assert!(everywhere.contains("/namespaces create"), "{everywhere:?}");
    let secrets: Vec<_> = everywhere.iter().filter(|right| right.contains("/secrets ")).collect();
    assert_eq!(secrets, ["/secrets create", "/secrets update"]);
    assert!(rights(of_kind(&objects, "Role")).contains("/secrets get"));
}

/// The rights of a kind in one of the files for those who use no chart.
fn of_file(name: &str, kind: &str, role: &str) -> BTreeSet<String> {
    let path = chart().join("../rbac").join(name);
    let objects = documents(&std::fs::read_to_string(path).unwrap());
    let named = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == role;
    rights(objects.iter().find(named).unwrap())
}

/// What the chart adds: events that are written, which a manager does without where its role has none.
fn without_events(rights: BTreeSet<String>) -> BTreeSet<String> {
    rights.into_iter().filter(|right| right != "/events create").collect()
}

#[test]
fn the_charts_roles_are_those_of_the_files_beside_it() {
    let default = rendered("default");
    let role = without_events(rights(of_kind(&default, "Role")));
    assert_eq!(role, of_file("same-namespace.yaml", "Role", "podwright"));
    assert_eq!(role, of_file("other-namespace.yaml", "Role", "podwright"));

    // With every feature: the same, and what single settings need.
    let everything = rendered("everything");
    let mut all = role;
    all.append(&mut of_file("options.yaml", "Role", "podwright-options"));
    assert_eq!(without_events(rights(of_kind(&everything, "Role"))), all);
    let classes = of_file("options.yaml", "ClusterRole", "podwright-priority-class");
    assert_eq!(rights(of_kind(&everything, "ClusterRole")), classes);

    // A namespace for each job.
    let each = rendered("override");
    let file = "namespace-per-job.yaml";
    assert_eq!(rights(of_kind(&each, "Role")), of_file(file, "Role", "podwright"));
    let everywhere = without_events(rights(of_kind(&each, "ClusterRole")));
    assert_eq!(everywhere, of_file(file, "ClusterRole", "podwright"));
}
