//! What containers see of volumes.

use http::Method;
use rstest::rstest;
use runner_testkit::cluster::{ImageSpec, Isolation};
use serde_json::json;

use crate::support::{Sim, pod, settings, sim};

#[rstest]
#[tokio::test]
async fn volumes_are_found_at_their_mount_paths(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("tool"), "from the image\n").unwrap();
    sim.cluster.register_image("agent:1", ImageSpec::volume(host.path()));
    let secret =
        json!({"metadata": {"name": "s"}, "stringData": {"plan.0": "zero\n", "ticket": "no\n"}});
    sim.call(Method::POST, &sim.path("secrets"), Some(&secret)).await;
    let map = json!({"metadata": {"name": "c"}, "data": {"key": "configured\n"}});
    sim.call(Method::POST, &sim.path("configmaps"), Some(&map)).await;
    let mut pod = pod(
        "p",
        "cat /bin-of/tool /plan/plan.0 /conf/key; ls /plan; echo x > /scratch/deep/file; cat /scratch/deep/file /host/tool",
    );
    pod["spec"]["volumes"] = json!([
        {"name": "bin", "image": {"reference": "agent:1"}},
        {"name": "plan", "secret": {"secretName": "s", "items": [{"key": "plan.0", "path": "plan.0"}]}},
        {"name": "conf", "configMap": {"name": "c"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "host", "hostPath": {"path": host.path()}},
    ]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "bin", "mountPath": "/bin-of"},
        {"name": "plan", "mountPath": "/plan", "readOnly": true},
        {"name": "conf", "mountPath": "/conf"},
        {"name": "scratch", "mountPath": "/scratch/deep", "subPath": "sub"},
        {"name": "host", "mountPath": "/host"},
    ]);
    let (ended, log) = sim.run(&pod).await;
    let expected = "from the image\nzero\nconfigured\nplan.0\nx\nfrom the image\n";
    assert_eq!(log, expected, "{:#}", ended["status"]);
}

#[tokio::test]
async fn with_namespaces_read_only_is_read_only() {
    let sim = sim();
    if !sim.cluster.has_namespaces() {
        return;
    }
    let host = tempfile::tempdir().unwrap();
    sim.cluster.register_image("agent:1", ImageSpec::volume(host.path()));
    let mut pod = pod(
        "p",
        "touch /image/x 2>/dev/null || echo refused; touch /empty/x 2>/dev/null || echo refused; touch /root-fs 2>/dev/null || echo refused; touch /rw/x && echo fine",
    );
    pod["spec"]["volumes"] = json!([
        {"name": "image", "image": {"reference": "agent:1"}}, {"name": "empty", "emptyDir": {}},
    ]);
    let container = &mut pod["spec"]["containers"][0];
    container["securityContext"] = json!({"readOnlyRootFilesystem": true});
    container["volumeMounts"] = json!([
        {"name": "image", "mountPath": "/image"},
        {"name": "empty", "mountPath": "/empty", "readOnly": true},
        {"name": "empty", "mountPath": "/rw"},
    ]);
    let (_, log) = sim.run(&pod).await;
    let said: Vec<&str> = log.lines().filter(|l| ["refused", "fine"].contains(l)).collect();
    assert_eq!(said, ["refused", "refused", "refused", "fine"], "{log}");
}

#[tokio::test]
async fn a_pod_waits_for_a_secret_that_is_missing() {
    let sim = sim();
    let mut pod = pod("p", "cat /s/a");
    pod["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "late"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "s", "mountPath": "/s"}]);
    sim.create(&pod).await;
    let waiting = |p: &serde_json::Value| !p["status"]["containerStatuses"].is_null();
    let seen = sim.until("p", waiting).await;
    let reason = &seen["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!(reason, "ContainerCreating");
    let secret = json!({"metadata": {"name": "late"}, "stringData": {"a": "at last"}});
    sim.call(Method::POST, &sim.path("secrets"), Some(&secret)).await;
    assert_eq!(sim.until_ended("p").await["status"]["phase"], "Succeeded");
}

#[tokio::test]
async fn plain_mode_names_a_root_in_which_every_mount_is_found() {
    let sim = Sim::start(settings(Isolation::Plain));
    let mut pod = pod("p", "echo here > /v/file; cat $PODWRIGHT_ROOT/v/file");
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    assert_eq!(sim.run(&pod).await.1, "here\n");
}

#[tokio::test]
async fn a_missing_key_in_the_environment_is_a_configuration_error() {
    let sim = sim();
    let mut pod = pod("p", "true");
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}},
    ]);
    sim.create(&pod).await;
    let waiting =
        |p: &serde_json::Value| p["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let seen = sim.until("p", |p| waiting(p)["reason"] == "CreateContainerConfigError").await;
    assert_eq!(waiting(&seen)["message"], "secret \"none\" not found");
}
