//! The files beside the chart: values for the official chart, Argo CD.

use serde_json::Value;

use crate::render::{chart, documents, helm, rendered};
use crate::roles::rights;
use crate::values::of_kind;

fn read(path: &str) -> Vec<Value> {
    documents(&std::fs::read_to_string(chart().join("..").join(path)).unwrap())
}

/// Top-level values of the official chart 0.93 that these files may use.
const OFFICIAL: [&str; 9] = [
    "deploymentLifecycle",
    "image",
    "rbac",
    "readinessProbe",
    "securityContext",
    "unregisterRunners",
    "useTini",
    "volumeMounts",
    "volumes",
];

#[test]
fn the_official_charts_values_change_what_they_must_and_nothing_else() {
    for file in ["values", "handover", "least-rights"] {
        let values = read(&format!("official-chart/{file}.yaml")).remove(0);
        for key in values.as_object().unwrap().keys() {
            assert!(OFFICIAL.contains(&key.as_str()), "{file}: {key}");
        }
    }
    let values = read("official-chart/values.yaml").remove(0);
    // The chart makes `registry/image:tag` of them.
    for key in ["registry", "image", "tag"] {
        assert!(values["image"][key].is_string(), "{key}");
    }
    assert_eq!(values["image"]["tag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_official_chart_gets_the_rights_of_our_own() {
    let rules = &read("official-chart/least-rights.yaml")[0]["rbac"];
    assert_eq!(rights(rules), rights(of_kind(&rendered("default"), "Role")));
}

#[test]
fn argo_cds_example_gives_the_chart_values_that_it_takes() {
    let Some(program) = crate::variable("PODWRIGHT_HELM") else { return };
    let application = read("argocd/application.yaml").remove(0);
    let source = &application["spec"]["source"];
    assert_eq!(source["path"], "deploy/chart");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.json");
    std::fs::write(&file, source["helm"]["valuesObject"].to_string()).unwrap();
    let namespace = application["spec"]["destination"]["namespace"].as_str().unwrap();
    let text = helm(&program, "podwright", namespace, &["--values", file.to_str().unwrap()]);
    let objects = documents(&text.unwrap());
    assert_eq!(of_kind(&objects, "Deployment")["spec"]["replicas"], 2);
    of_kind(&objects, "ExternalSecret");
}

#[test]
fn argo_cds_other_example_names_files_that_are_there() {
    let application = read("argocd/official-chart.yaml").remove(0);
    let files = &application["spec"]["sources"][0]["helm"]["valueFiles"];
    for file in files.as_array().unwrap() {
        let path = file.as_str().unwrap().strip_prefix("$podwright/deploy/").unwrap();
        assert!(chart().join("..").join(path).is_file(), "{path}");
    }
}
