//! The image of Podwright's own chart: manager without a shell script around it, and default helper.

use std::os::unix::fs::PermissionsExt as _;

use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec};
use runner_testkit::gitlab::{GitLab, JobSpec, JobState};

use crate::PATIENCE;
use crate::container::Image;
use crate::pod::own_name;

#[tokio::test]
async fn the_manager_runs_jobs_as_any_user_with_nothing_to_write_to() {
    let Some(image) = Image::named("podwright") else { return };
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
    let mut running = image
        .container(1_000_660_000, 0)
        .args(&["/usr/bin/podwright", "run", "--config", "/config/config.toml"])
        .mount(&config, "/config")
        .mount(&machine, "/etc/machine-id")
        .start();
    let job = gitlab.enqueue(JobSpec::new("unit").script(["echo from the pod"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);
    running.signal("TERM");
    assert_eq!(running.end().await, Some(0), "{}", running.log());
    assert!(!running.log().contains("system id"), "{}", running.log());
    assert_eq!(gitlab.violations(), []);
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
