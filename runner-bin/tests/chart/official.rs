//! A Deployment as the official chart makes it (`manager-cli-chart.md` 7.2 to 7.6: fields, volumes, probes, scripts; the chart itself
//! is not used), with our image, on a real cluster.
//!
//! `PODWRIGHT_E2E_OFFICIAL_IMAGE`: the image's target `official-chart`, as the cluster knows it.

use runner_testkit::gitlab::{GitLab, JobSpec, JobState};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{Cluster, Dry, PATIENCE};
use crate::render::{chart, documents};

const NAME: &str = "gitlab-runner";

fn scripts(template: &str) -> Value {
    json!({
        "entrypoint": include_str!("../image/official/entrypoint"),
        "register-the-runner": include_str!("../image/official/register-the-runner"),
        "check-live": include_str!("../image/official/check-live"),
        "pre-entrypoint-script": "",
        "config.toml": "concurrent = 10\ncheck_interval = 1\nlog_level = \"info\"\nlisten_address = \":9252\"\n",
        "config.template.toml": template,
    })
}

/// With the values that are beside the chart.
fn deployment(image: &str, gitlab: &str, revision: &str) -> Value {
    let read = |file: &str| {
        let path = chart().join("../official-chart").join(file);
        documents(&std::fs::read_to_string(path).unwrap()).remove(0)
    };
    let (values, handover) = (read("values.yaml"), read("handover.yaml"));
    let probe = |command: Value| {
        // The chart waits a minute for the first one; a test has no time for that.
        json!({
            "exec": { "command": command }, "initialDelaySeconds": 2, "periodSeconds": 2,
            "timeoutSeconds": 4, "failureThreshold": 3,
        })
    };
    let mut pod_security = json!({ "runAsUser": 100, "fsGroup": 65533 });
    // Not of the chart: the test's namespace is `restricted`.
    pod_security["seccompProfile"] = json!({ "type": "RuntimeDefault" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": NAME },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": NAME } },
            "template": {
                "metadata": { "labels": { "app": NAME }, "annotations": { "checksum/configmap": revision } },
                "spec": {
                    "serviceAccountName": NAME,
                    "terminationGracePeriodSeconds": 3600,
                    "securityContext": pod_security,
                    "containers": [{
                        "name": NAME,
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["/usr/bin/dumb-init", "--", "/bin/bash", "/configmaps/entrypoint"],
                        "securityContext": values["securityContext"],
                        "lifecycle": handover["deploymentLifecycle"],
                        "env": [
                            { "name": "CI_SERVER_URL", "value": gitlab },
                            { "name": "RUNNER_EXECUTOR", "value": "kubernetes" },
                            { "name": "REGISTER_LOCKED", "value": "true" },
                            { "name": "RUNNER_TAG_LIST", "value": "" },
                            { "name": "KUBERNETES_NAMESPACE",
                              "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                            { "name": "SESSION_SERVER_ADDRESS", "value": "" },
                        ],
                        "livenessProbe": probe(json!(["/bin/bash", "/configmaps/check-live", "3"])),
                        "readinessProbe": probe(json!(["/usr/bin/pgrep", "gitlab.*runner"])),
                        "ports": [{ "name": "metrics", "containerPort": 9252 }],
                        "volumeMounts": [
                            { "name": "projected-secrets", "mountPath": "/secrets" },
                            { "name": "etc-gitlab-runner",
                              "mountPath": "/home/gitlab-runner/.gitlab-runner" },
                            { "name": "configmaps", "mountPath": "/configmaps" },
                            values["volumeMounts"][0],
                        ],
                    }],
                    "volumes": [
                        { "name": "runner-secrets", "emptyDir": { "medium": "Memory" } },
                        { "name": "etc-gitlab-runner", "emptyDir": { "medium": "Memory" } },
                        { "name": "projected-secrets", "projected": { "sources": [{ "secret": {
                            "name": NAME,
                            "items": [{ "key": "runner-token", "path": "runner-token" }],
                        } }] } },
                        { "name": "configmaps", "configMap": { "name": NAME } },
                        values["volumes"][0],
                    ],
                },
            },
        },
    })
}

#[tokio::test]
async fn manager_65_manager_69_the_official_charts_pod_runs_jobs_and_is_upgraded_in_seconds() {
    let Some(image) = crate::variable("PODWRIGHT_E2E_OFFICIAL_IMAGE") else { return };
    let Some(job_image) = crate::variable("PODWRIGHT_E2E_IMAGE") else { return };
    let Some(cluster) = Cluster::new("official").await else { return };
    let token = format!("glrt-{}", cluster.namespace);
    let gitlab = GitLab::builder().bind((cluster.host, 0).into()).runner_token(token);
    let gitlab = gitlab.start().await.unwrap();
    cluster.secret(NAME, "runner-token", gitlab.runner_token()).await;
    let template = format!(
        "[[runners]]\n[runners.kubernetes]\nimage = {job_image:?}\npoll_timeout = 120\n\
         allow_privilege_escalation = false\ncap_drop = [\"ALL\"]\n\
         [runners.kubernetes.pod_security_context]\nrun_as_user = 1000\nrun_as_non_root = true\n\
         [runners.kubernetes.pod_security_context.seccomp_profile]\ntype = \"RuntimeDefault\"\n"
    );
    let (kind, name) = ("kind", "name");
    let group = "rbac.authorization.k8s.io";
    // The chart's default role: everything in the core group, and nothing else.
    for object in [
        json!({ "apiVersion": "v1", kind: "ServiceAccount", "metadata": { name: NAME } }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", kind: "Role", "metadata": { name: NAME },
                "rules": [{ "apiGroups": [""], "resources": ["*"], "verbs": ["*"] }] }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", kind: "RoleBinding", "metadata": { name: NAME },
                "roleRef": { "apiGroup": group, kind: "Role", name: NAME },
                "subjects": [{ kind: "ServiceAccount", name: NAME, "namespace": cluster.namespace }] }),
        json!({ "apiVersion": "v1", kind: "ConfigMap", "metadata": { name: NAME }, "data": scripts(&template) }),
        deployment(&image, &gitlab.url(), "1"),
    ] {
        cluster.apply(&object, Dry::No).await.unwrap();
    }
    let before = cluster.rolled_out(NAME).await;

    let job = gitlab.enqueue(JobSpec::new("short").script(["echo from the pod"]));
    let end = job.wait_finished(PATIENCE).await.unwrap();
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert_eq!(end.state, JobState::Success, "{trace}\n{}", cluster.log(&before[0]).await);

    // GitLab is away for longer than three probes: nobody is restarted.
    gitlab.away(std::time::Duration::from_secs(15)).await;
    let during = cluster.rolled_out(NAME).await;
    let restarts =
        during[0].status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count;
    assert_eq!(restarts, 0, "{}", cluster.log(&before[0]).await);

    let script = "i=0; while [ $i -lt 600 ]; do echo line $i; i=$((i+1)); sleep 0.1; done";
    let long = gitlab.enqueue(JobSpec::new("long").script([script]));
    long.wait_trace("line 3\n", PATIENCE).await.unwrap();
    let started = Instant::now();
    cluster.apply(&deployment(&image, &gitlab.url(), "2"), Dry::No).await.unwrap();
    let after = cluster.rolled_out(NAME).await;
    eprintln!("the official chart's pod was replaced in {:?}", started.elapsed());
    assert_ne!(before[0].metadata.uid, after[0].metadata.uid);
    assert_eq!(long.state(), JobState::Running);
    let end = long.wait_finished(PATIENCE).await.unwrap();
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert_eq!(end.state, JobState::Success, "{trace}\n{}", cluster.log(&after[0]).await);
    for line in 0..600 {
        let line = format!(" line {line}\n");
        assert_eq!(trace.matches(&line).count(), 1, "{line:?}");
    }
    assert_eq!(gitlab.violations(), []);
    cluster.remove().await;
}
