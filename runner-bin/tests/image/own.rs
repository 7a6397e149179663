//! The image of Podwright's own chart: manager without a shell script around it, and default helper.

use std::os::unix::fs::PermissionsExt as _;

use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec};
use runner_testkit::gitlab::{GitLab, JobSpec, JobState};

use crate::PATIENCE;
use crate::container::{Image, Running};
use crate::pod::own_name;

/// A manager of the own chart, a GitLab and a simulated cluster.
struct World {
    gitlab: GitLab,
    running: Running,
    // Both live as long as the manager.
    _cluster: Cluster,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let image = Image::named("podwright")?;
        let gitlab = GitLab::start().await.unwrap();
        let cluster = Cluster::start(ClusterSettings::default()).unwrap();
        cluster.register_image(&own_name(&image), ImageSpec::volume(image.path("/")));
        cluster.register_image("debian:test", ImageSpec::present());
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("kubeconfig"), cluster.kubeconfig()).unwrap();
        std::fs::write(config.join("runner-token"), gitlab.runner_token()).unwrap();
        let text = format!(
            "concurrent = 2\ncheck_interval = 1\n[[runners]]\nname = \"own\"\nurl = \"{}\"\n\
             token_file = \"/config/runner-token\"\nexecutor = \"kubernetes\"\n[runners.kubernetes]\n\
             kubeconfig = \"/config/kubeconfig\"\nnamespace = \"{}\"\nimage = \"debian:test\"\n\
             helper_image = \"debian:test\"\n",
            gitlab.url(),
            cluster.namespace(),
        );
        std::fs::write(config.join("config.toml"), text).unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // The chart mounts the pod's uid there, so that a restarted container is the same manager to GitLab.
        let machine = directory.path().join("machine-id");
        std::fs::write(&machine, "0f2c1d9e-0000-4000-8000-000000000001").unwrap();
        let running = image
            .container(1_000_660_000, 0)
            .args(&["/usr/bin/podwright", "run", "--config", "/config/config.toml"])
            .mount(&config, "/config")
            .mount(&machine, "/etc/machine-id")
            .start();
        Some(Self { gitlab, running, _cluster: cluster, _directory: directory })
    }
}

#[tokio::test]
async fn the_manager_runs_jobs_as_any_user_with_nothing_to_write_to() {
    let Some(mut world) = World::new().await else { return };
    let job = world.gitlab.enqueue(JobSpec::new("unit").script(["echo from the pod"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);
    world.running.signal("TERM");
    assert_eq!(world.running.end().await, Some(0), "{}", world.running.log());
    assert!(!world.running.log().contains("system id"), "{}", world.running.log());
    assert_eq!(world.gitlab.violations(), []);
}

/// `drainOnStop`: the hook of the chart, as it is rendered.
#[tokio::test]
async fn the_charts_hook_lets_jobs_end_before_the_manager_does() {
    let Some(mut world) = World::new().await else { return };
    let rendered = include_str!("../../../deploy/chart/ci/everything.rendered.yaml");
    let line = rendered.lines().find(|line| line.contains("kill -QUIT 1")).unwrap();
    let hook: Vec<String> =
        serde_saphyr::from_str(line.trim().strip_prefix("command:").unwrap()).unwrap();
    let script =
        "echo begun; i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep 0.01; done; echo over";
    let job = world.gitlab.enqueue(JobSpec::new("long").script([script]));
    job.wait_trace("O begun\n", PATIENCE).await.unwrap();
    let hook: Vec<&str> = hook.iter().map(String::as_str).collect();
    world.running.exec(&hook).await;
    // It came back when its container ended, and that did so after the job.
    assert!(job.state().is_final(), "{}", world.running.log());
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);
    assert_eq!(world.running.end().await, Some(0), "{}", world.running.log());
}

/// As `helper`: any user, a read-only root, everything that it writes in volumes.
#[rstest::rstest]
#[case::root(0)]
#[case::any(4711)]
#[tokio::test]
async fn manager_82_the_helper_clones_over_http_and_has_submodules_and_lfs(#[case] uid: u32) {
    let Some(image) = Image::named("podwright") else { return };
    let gitlab = GitLab::start().await.unwrap();
    let repo = gitlab.repo("group/app").commit("first", [("README", "hello\n")]).create();
    let repo = repo.await.unwrap();
    // The stand-in shows its repositories to running jobs only.
    let job = gitlab.enqueue(JobSpec::new("clone").repo(&repo));
    take(&gitlab).await;
    let address = gitlab.addr();
    let script = format!(
        "set -e; cd /builds; git clone -q http://gitlab-ci-token:{}@{address}/group/app.git app; cat app/README; \
         cd app; git submodule status; git lfs version; git lfs install --local",
        job.token(),
    );
    let builds = tempfile::tempdir().unwrap();
    std::fs::set_permissions(builds.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let container = image.container(uid, 0).args(&["/sh", "-c", &script]);
    let done = container.mount_writable(builds.path(), "/builds").run().await;
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(done.out.contains("hello\n") && done.out.contains("git-lfs/"), "{}", done.out);
}

/// Takes the job as a runner does that knows nothing of two-phase commit.
async fn take(gitlab: &GitLab) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let body = serde_json::json!({ "token": gitlab.runner_token(), "info": {} });
    let request = reqwest::Client::new()
        .post(format!("{}/api/v4/jobs/request", gitlab.url()))
        .header("RUNNER-TOKEN", gitlab.runner_token())
        .header("User-Agent", "helper")
        .json(&body);
    assert_eq!(request.send().await.unwrap().status(), 201);
}
