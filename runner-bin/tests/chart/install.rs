//! The chart on a real cluster: accepted, installed, upgraded while jobs run.
//!
//! `PODWRIGHT_E2E_MANAGER_IMAGE`: Podwright's image as the cluster knows it. `PODWRIGHT_E2E_IMAGE`: an image of jobs.

use std::time::Duration;

use runner_testkit::gitlab::{GitLab, JobSpec, JobState};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::{Cluster, Dry, PATIENCE};
use crate::render::{documents, helm, rendered};
use crate::values::of_kind;

#[tokio::test]
async fn a_real_api_server_takes_every_object() {
    let Some(cluster) = Cluster::new("dry").await else { return };
    let (mut taken, mut foreign) = (0, 0);
    for name in crate::FILES {
        for mut object in rendered(name) {
            if object["metadata"].get("namespace").is_some() {
                object["metadata"]["namespace"] = json!(cluster.namespace);
            }
            match cluster.apply(&object, Dry::Run).await {
                Some(_) => taken += 1,
                None => foreign += 1,
            }
        }
    }
    // ExternalSecret and the two monitors, which need their operators.
    assert_eq!((taken > 20, foreign), (true, 3));

    // The manager's pod may run where the standard is `restricted`.
    let objects = rendered("default");
    let template = &of_kind(&objects, "Deployment")["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "pod", "namespace": cluster.namespace },
        "spec": template["spec"],
    });
    pod["spec"]["serviceAccountName"] = json!("default");
    cluster.apply(&pod, Dry::Run).await.unwrap();
    cluster.remove().await;
}

/// What is installed, and GitLab beside it.
pub(crate) struct Installed {
    pub(crate) cluster: Cluster,
    pub(crate) gitlab: GitLab,
    helm: String,
    image: String,
    job_image: String,
}

impl Installed {
    pub(crate) async fn new(what: &str) -> Option<Self> {
        let helm = crate::variable("PODWRIGHT_HELM")?;
        let image = crate::variable("PODWRIGHT_E2E_MANAGER_IMAGE")?;
        let job_image = crate::variable("PODWRIGHT_E2E_IMAGE")?;
        let cluster = Cluster::new(what).await?;
        let gitlab = GitLab::builder()
            .bind((cluster.host, 0).into())
            .runner_token(format!("glrt-{}", cluster.namespace))
            .start()
            .await
            .unwrap();
        cluster.secret("gitlab-runner", "runner-token", gitlab.runner_token()).await;
        Some(Self { cluster, gitlab, helm, image, job_image })
    }

    fn objects(&self, values: &Value) -> Vec<Value> {
        let (registry, rest) = self.image.split_once('/').unwrap();
        let (image, tag) = rest.rsplit_once(':').unwrap();
        let mut all = json!({
            "gitlabUrl": self.gitlab.url(),
            "image": { "registry": registry, "image": image, "tag": tag },
            "concurrent": 60,
            "checkInterval": 1,
            "runners": {
                "secret": "gitlab-runner",
                "config": format!(
                    "[[runners]]\n  request_concurrency = 5\n  [runners.kubernetes]\n    image = {:?}\n    \
                     poll_timeout = 120\n    allow_privilege_escalation = false\n    \
                     cap_drop = [\"ALL\"]\n    [runners.kubernetes.pod_security_context]\n      \
                     run_as_user = 1000\n      run_as_non_root = true\n      \
                     [runners.kubernetes.pod_security_context.seccomp_profile]\n        type = \"RuntimeDefault\"\n",
                    self.job_image,
                ),
            },
        });
        merge(&mut all, values);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("values.json");
        std::fs::write(&file, all.to_string()).unwrap();
        let arguments = ["--values", file.to_str().unwrap()];
        documents(&helm(&self.helm, "pool", &self.cluster.namespace, &arguments).unwrap())
    }

    /// `helm upgrade --install`.
    pub(crate) async fn install(&self, values: &Value) {
        for object in self.objects(values) {
            self.cluster.apply(&object, Dry::No).await.unwrap();
        }
    }

    async fn logs(&self) -> String {
        let mut out = String::new();
        for pod in self.cluster.pods("app=pool-podwright").await {
            out += &self.cluster.log(&pod).await;
        }
        out
    }
}

fn merge(into: &mut Value, from: &Value) {
    match from {
        Value::Object(entries) => {
            for (key, value) in entries {
                merge(&mut into[key], value);
            }
        }
        other => *into = other.clone(),
    }
}

pub(crate) const NAME: &str = "pool-podwright";

#[tokio::test]
async fn the_chart_is_installed_and_a_job_runs_to_its_end() {
    let Some(world) = Installed::new("install").await else { return };
    let started = Instant::now();
    let session = json!({ "enabled": true, "advertiseAddress": "terminals.example.com:443" });
    let values = json!({ "metrics": { "enabled": true }, "sessionServer": session });
    world.install(&values).await;
    let pods = world.cluster.rolled_out(NAME).await;
    eprintln!("the manager was ready after {:?}", started.elapsed());

    let repo = world.gitlab.repo("group/app").commit("first", [("README", "hello\n")]).create();
    let repo = repo.await.unwrap();
    let spec = JobSpec::new("unit").repo(&repo).script(["cat README", "id -u"]);
    let end = world.gitlab.enqueue(spec).wait_finished(PATIENCE).await.unwrap();
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert_eq!(end.state, JobState::Success, "{trace}\n{}", world.logs().await);
    assert!(trace.contains("hello"), "{trace}");

    // Prometheus reads the pages where the annotations say.
    let status = pods[0].status.as_ref().unwrap();
    let url = format!("http://{}:9252/metrics", status.pod_ip.as_deref().unwrap());
    let page = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(page.contains("gitlab_runner_jobs_total"), "{page}");
    assert!(pods[0].metadata.annotations.as_ref().unwrap().contains_key("prometheus.io/scrape"));

    // So does the session server, with a certificate of its own.
    let url = format!("https://{}:8093/", status.pod_ip.as_deref().unwrap());
    let client = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);

    // A changed value reaches the manager without a restart of its pod.
    let mut changed = values;
    changed["concurrent"] = json!(61);
    world.install(&changed).await;
    let same = world.cluster.rolled_out(NAME).await;
    assert_eq!(same[0].metadata.uid, pods[0].metadata.uid);
    assert_eq!(world.gitlab.violations(), []);
    world.cluster.remove().await;
}

/// Thirty jobs run while the Deployment is upgraded. That takes seconds, and each job ends well with a whole log.
#[tokio::test]
async fn a_rolling_upgrade_with_thirty_running_jobs_takes_seconds() {
    const JOBS: usize = 30;
    let Some(world) = Installed::new("upgrade").await else { return };
    world.install(&json!({})).await;
    let before = world.cluster.rolled_out(NAME).await;

    let script = "i=0; while [ $i -lt 900 ]; do echo line $i; i=$((i+1)); sleep 0.1; done";
    let jobs: Vec<_> = (0..JOBS)
        .map(|number| world.gitlab.enqueue(JobSpec::new(format!("job {number}")).script([script])))
        .collect();
    for job in &jobs {
        job.wait_trace("line 3\n", PATIENCE).await.unwrap();
    }

    let started = Instant::now();
    world.install(&json!({ "podAnnotations": { "version": "2" } })).await;
    let after = world.cluster.rolled_out(NAME).await;
    let took = started.elapsed();
    assert_ne!(before[0].metadata.uid, after[0].metadata.uid);
    let running = jobs.iter().filter(|job| job.state() == JobState::Running).count();
    eprintln!("the upgrade took {took:?} with {running} jobs running at its end");
    assert_eq!(running, JOBS, "the upgrade has to be over before the jobs are");
    assert!(took < Duration::from_secs(60), "{took:?}");

    // The new manager relays on, long before the jobs' ends.
    let sizes: Vec<usize> = jobs.iter().map(|job| job.trace().len()).collect();
    for (job, size) in jobs.iter().zip(sizes) {
        let deadline = Instant::now() + Duration::from_secs(45);
        while job.trace().len() == size {
            assert!(
                Instant::now() < deadline,
                "{} stands still: {}",
                job.name(),
                world.logs().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    eprintln!("all logs went on {:?} after the upgrade began", started.elapsed());

    for job in &jobs {
        let end = job.wait_finished(PATIENCE).await.unwrap();
        let trace = String::from_utf8_lossy(&end.trace).into_owned();
        assert_eq!(end.state, JobState::Success, "{trace}");
        assert_eq!(end.checksum_ok, Some(true));
        for line in 0..900 {
            let line = format!(" line {line}\n");
            assert_eq!(trace.matches(&line).count(), 1, "{}: {line:?}", job.name());
        }
    }
    assert_eq!(world.gitlab.violations(), []);
    world.cluster.remove().await;
}
