//! What the values come to, and which ones are refused.

use std::process::Command;

use rstest::rstest;
use serde_json::Value;

use crate::render::{documents, helm, rendered};

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

/// The configuration that the manager of a rendering gets.
fn config(objects: &[Value]) -> String {
    let texts = objects.iter().filter_map(|object| object["stringData"]["config.toml"].as_str());
    let texts: Vec<&str> = texts.collect();
    assert_eq!(texts.len(), 1);
    texts[0].to_owned()
}

#[rstest]
fn the_manager_takes_the_configuration_of_each_rendering(
    #[values("default", "everything", "openshift", "override")] name: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    // What is mounted in the pod, and its environment.
    let secrets = directory.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    for token in ["runner-token", "two"] {
        std::fs::write(secrets.join(token), "glrt-example").unwrap();
    }
    let text = config(&rendered(name)).replace("/secrets/", &format!("{}/", secrets.display()));
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_podwright"))
        .args(["config", "check"])
        .arg(&file)
        .env("TOKEN_ONE", "glrt-one")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn what_register_would_add_is_in_the_configuration() {
    let table = |name: &str| toml::from_str::<toml::Table>(&config(&rendered(name))).unwrap();
    let runner = table("default")["runners"][0].clone();
    assert_eq!(runner["url"].as_str(), Some("https://gitlab.example.com/"));
    assert_eq!(runner["token_file"].as_str(), Some("/secrets/runner-token"));
    assert_eq!(runner["executor"].as_str(), Some("kubernetes"));
    assert_eq!(runner["name"].as_str(), Some("pool-podwright"));
    assert_eq!(runner["kubernetes"]["namespace"].as_str(), Some("ci"));

    // What is there stays; a comment is no table.
    let everything = table("everything");
    let runner = everything["runners"][0].clone();
    assert_eq!(everything["concurrent"].as_integer(), Some(200));
    assert_eq!(everything["unregister_on_stop"].as_bool(), Some(true));
    assert_eq!(runner["name"].as_str(), Some("named here"));
    assert_eq!(runner["request_concurrency"].as_integer(), Some(4));
    assert_eq!(runner["kubernetes"]["namespace"].as_str(), Some("ci-jobs"));
    assert_eq!(runner["kubernetes"]["node_selector"]["disk"].as_str(), Some("ssd"));

    // A table that is not there is made.
    let runner = table("openshift")["runners"][0].clone();
    assert_eq!(runner["environment"][0].as_str(), Some("A=B"));
    assert_eq!(runner["kubernetes"]["namespace"].as_str(), Some("ci"));
}

/// Pod security `restricted`, and nothing to write to.
#[test]
fn the_manager_asks_for_no_rights_on_its_node() {
    for name in crate::FILES {
        let objects = rendered(name);
        let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["runAsNonRoot"], true);
        assert_eq!(container["capabilities"]["drop"][0], "ALL");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert!(pod["hostNetwork"].is_null() && pod["hostPID"].is_null());
    }
}

/// An upgrade starts the new manager before the old one hands its jobs over; health asks nobody else.
#[test]
fn an_upgrade_is_quick_and_an_outage_restarts_nothing() {
    let objects = rendered("default");
    let deployment = &of_kind(&objects, "Deployment")["spec"];
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let pod = &deployment["template"]["spec"];
    assert!(pod["containers"][0]["lifecycle"].is_null());
    assert_eq!(pod["terminationGracePeriodSeconds"], 60);
    assert_eq!(pod["containers"][0]["livenessProbe"]["httpGet"]["path"], "/health/live");
    // Nothing in the pod changes with config.toml: it is read anew, not restarted.
    assert!(deployment["template"]["metadata"]["annotations"].is_null());
}

#[test]
fn no_secret_stands_outside_of_secrets() {
    let objects = rendered("openshift");
    for object in objects.iter().filter(|object| object["kind"] != "Secret") {
        assert!(!object.to_string().contains("glrt-example"), "{object}");
    }
    assert_eq!(of_kind(&objects[1..], "Secret")["stringData"]["runner-token"], "glrt-example");
}

#[rstest]
#[case::no_gitlab(&["--set", "runners.secret=s"], "gitlabUrl is needed")]
#[case::no_token(&["--set", "gitlabUrl=https://g"], "no token")]
#[case::two_runners(
    &["--set", "gitlabUrl=https://g,runners.secret=s", "--set-string", "runners.config=[[runners]]\n[[runners]]\n"],
    "exactly one [[runners]]",
)]
#[case::a_registration_token(&["--set", "gitlabUrl=https://g,runners.secret=s,runnerRegistrationToken=GR1"], "registration tokens")]
#[case::a_typing_error(&["--set", "gitlabURL=https://g"], "gitlabURL")]
#[case::nobody_runs(&["--set", "concurrent=0"], "concurrent")]
#[case::an_unknown_address(
    &["--set", "gitlabUrl=https://g,runners.secret=s,sessionServer.enabled=true"],
    "set publicIP or advertiseAddress",
)]
fn wrong_values_are_refused(#[case] values: &[&str], #[case] words: &str) {
    let Some(program) = crate::variable("PODWRIGHT_HELM") else { return };
    let said = helm(&program, "pool", "ci", values).unwrap_err();
    assert!(said.contains(words), "{said}");
}

#[test]
fn the_pods_image_is_the_agents_and_the_helpers_too() {
    let Some(program) = crate::variable("PODWRIGHT_HELM") else { return };
    let values =
        "gitlabUrl=https://g,runners.secret=s,image.registry=,image.image=own,image.tag=v7";
    let objects = documents(&helm(&program, "r", "ci", &["--set", values]).unwrap());
    let container = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "own:v7");
    for number in [0, 1] {
        assert_eq!(container["env"][number]["value"], "own:v7");
    }
}
