//! The official chart itself, where somebody has it: rendered with the values of `deploy/official-chart` and installed on a real
//! cluster with its own scripts, probes and stop.
//!
//! `PODWRIGHT_OFFICIAL_CHART`: the chart's directory or archive (`helm pull gitlab/gitlab-runner`). It is not part of this project.

use std::process::Command;

use runner_testkit::gitlab::{GitLab, JobSpec, JobState};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Dry, PATIENCE};
use crate::render::{chart, documents};
use crate::values::of_kind;

const NAME: &str = "gitlab-runner";

/// What `helm template` makes of the chart with our values, those in `files`, and these.
fn objects(namespace: &str, files: &[&str], own: &Value) -> Option<Vec<Value>> {
    let helm = crate::variable("PODWRIGHT_HELM")?;
    let official = crate::variable("PODWRIGHT_OFFICIAL_CHART")?;
    let directory = tempfile::tempdir().unwrap();
    let last = directory.path().join("own.json");
    std::fs::write(&last, own.to_string()).unwrap();
    let mut command = Command::new(helm);
    command.args(["template", NAME, &official, "--namespace", namespace]);
    for file in files {
        command.arg("--values").arg(chart().join("../official-chart").join(file));
    }
    let output = command.arg("--values").arg(last).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(documents(&String::from_utf8(output.stdout).unwrap()))
}

#[test]
fn manager_65_the_official_chart_takes_our_values() {
    let own = json!({ "gitlabUrl": "http://gitlab.example", "runnerToken": "glrt-x" });
    for more in [None, Some("handover.yaml"), Some("least-rights.yaml")] {
        let files: Vec<&str> = [Some("values.yaml"), more].into_iter().flatten().collect();
        let Some(objects) = objects("ci", &files, &own) else { return };
        let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let image = container["image"].as_str().unwrap();
        assert!(image.starts_with("docker.io/podwright/official-chart:"), "{image}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/tmp"), "{mounts:?}");
        let stop = container["lifecycle"]["preStop"]["exec"]["command"].to_string();
        let hands_over = more == Some("handover.yaml");
        assert_eq!(stop.contains("kill -TERM 1"), hands_over, "{stop}");
        assert_eq!(stop.contains("unregister"), !hands_over, "{stop}");
        if more == Some("least-rights.yaml") {
            let rules = of_kind(&objects, "Role")["rules"].to_string();
            assert!(rules.contains("coordination.k8s.io") && !rules.contains('*'), "{rules}");
        }
    }
}

#[tokio::test]
async fn manager_65_manager_69_manager_70_the_official_chart_runs_jobs_with_its_own_scripts() {
    let Some(image) = crate::variable("PODWRIGHT_E2E_OFFICIAL_IMAGE") else { return };
    let Some(job_image) = crate::variable("PODWRIGHT_E2E_IMAGE") else { return };
    if crate::variable("PODWRIGHT_OFFICIAL_CHART").is_none() {
        return;
    }
    let Some(cluster) = Cluster::new("itself").await else { return };
    let token = format!("glrt-{}", cluster.namespace);
    let gitlab = GitLab::builder().bind((cluster.host, 0).into()).runner_token(token);
    let gitlab = gitlab.start().await.unwrap();
    let (registry, rest) = image.split_once('/').unwrap();
    let (name, tag) = rest.rsplit_once(':').unwrap();
    let of = |concurrent: u32| {
        // Probes that do not wait a minute, and what the standard `restricted` wants.
        let probe = json!({ "initialDelaySeconds": 2, "periodSeconds": 2 });
        let own = json!({
            "gitlabUrl": gitlab.url(),
            "runnerToken": gitlab.runner_token(),
            "image": { "registry": registry, "image": name, "tag": tag },
            "concurrent": concurrent,
            "checkInterval": 1,
            "livenessProbe": probe,
            "podSecurityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "runners": { "config": format!(
                "[[runners]]\n[runners.kubernetes]\nimage = {job_image:?}\npoll_timeout = 120\n\
                 allow_privilege_escalation = false\ncap_drop = [\"ALL\"]\n\
                 [runners.kubernetes.pod_security_context]\nrun_as_user = 1000\nrun_as_non_root = true\n\
                 [runners.kubernetes.pod_security_context.seccomp_profile]\ntype = \"RuntimeDefault\"\n"
            ) },
        });
        let files = ["values.yaml", "handover.yaml", "least-rights.yaml"];
        objects(&cluster.namespace, &files, &own).unwrap()
    };
    for object in of(10) {
        cluster.apply(&object, Dry::No).await.unwrap();
    }
    let before = cluster.rolled_out(NAME).await;
    let short = gitlab.enqueue(JobSpec::new("short").script(["echo from the pod"]));
    let end = short.wait_finished(PATIENCE).await.unwrap();
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert_eq!(end.state, JobState::Success, "{trace}\n{}", cluster.log(&before[0]).await);

    // Longer than three probes.
    gitlab.away(std::time::Duration::from_secs(10)).await;
    let during = cluster.rolled_out(NAME).await;
    let statuses = during[0].status.as_ref().unwrap().container_statuses.as_ref().unwrap();
    assert_eq!(statuses[0].restart_count, 0, "{}", cluster.log(&before[0]).await);

    let long = gitlab.enqueue(JobSpec::new("long").script(["echo begun; sleep 20; echo ended"]));
    long.wait_trace("begun", PATIENCE).await.unwrap();
    for object in of(11) {
        cluster.apply(&object, Dry::No).await.unwrap();
    }
    let after = cluster.rolled_out(NAME).await;
    assert_ne!(before[0].metadata.uid, after[0].metadata.uid);
    let end = long.wait_finished(PATIENCE).await.unwrap();
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert_eq!(end.state, JobState::Success, "{trace}\n{}", cluster.log(&after[0]).await);
    assert_eq!(trace.matches(" ended\n").count(), 1, "{trace}");
    assert_eq!(gitlab.violations(), []);
    cluster.remove().await;
}
