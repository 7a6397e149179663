//! A pod of the official chart: its volumes, scripts and variables, around a container of our image.

use std::path::{Path, PathBuf};

use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec};
use runner_testkit::gitlab::{Finished, GitLab, GitLabBuilder, JobSpec};

use crate::PATIENCE;
use crate::container::{Container, Image, Running};

/// The image of jobs.
const IMAGE: &str = "debian:test";

/// As which user the container runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The chart's default.
pub(crate) const CHART: User = User { uid: 100, gid: 65533 };

pub(crate) struct Pod {
    pub(crate) gitlab: GitLab,
    pub(crate) cluster: Cluster,
    pub(crate) image: Image,
    directory: tempfile::TempDir,
}

impl Pod {
    pub(crate) async fn new() -> Option<Self> {
        Self::with(GitLab::builder()).await
    }

    pub(crate) async fn with(gitlab: GitLabBuilder) -> Option<Self> {
        let image = Image::named("official-chart")?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gitlab = gitlab.start().await.unwrap();
        let cluster = Cluster::start(ClusterSettings::default()).unwrap();
        // The agent that jobs get is the image's own, under the name that the image has for itself.
        let own = own_name(&image);
        cluster.register_image(&own, ImageSpec::volume(image.path("/")));
        cluster.register_image(IMAGE, ImageSpec::present());
        let directory = tempfile::tempdir().unwrap();
        let pod = Self { gitlab, cluster, image, directory };
        for name in ["configmaps", "secrets", "home"] {
            std::fs::create_dir(pod.path(name)).unwrap();
        }
        open(&pod.path("home"));
        open(pod.directory.path());
        for (name, text) in [
            ("entrypoint", include_str!("official/entrypoint")),
            ("register-the-runner", include_str!("official/register-the-runner")),
            ("check-live", include_str!("official/check-live")),
            ("pre-entrypoint-script", ""),
            (
                "config.toml",
                "concurrent = 10\ncheck_interval = 1\nlog_level = \"info\"\nlisten_address = \"127.0.0.1:0\"\n",
            ),
        ] {
            pod.configmap(name, text);
        }
        pod.configmap("kubeconfig", &pod.cluster.kubeconfig());
        pod.configmap("config.template.toml", &pod.template());
        pod.secret("runner-token", pod.gitlab.runner_token());
        pod.secret("runner-registration-token", "");
        Some(pod)
    }

    /// What users write into `runners.config`. It names no agent: the image has one.
    fn template(&self) -> String {
        format!(
            "[[runners]]\n[runners.kubernetes]\nkubeconfig = \"/configmaps/kubeconfig\"\nnamespace = \"{}\"\n\
             image = \"{IMAGE}\"\nhelper_image = \"{IMAGE}\"\nmanager_lease_duration = 1\n",
            self.cluster.namespace(),
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn configmap(&self, name: &str, text: &str) {
        put(&self.path("configmaps").join(name), text);
    }

    pub(crate) fn secret(&self, name: &str, text: &str) {
        put(&self.path("secrets").join(name), text);
    }

    /// The container as the chart's Deployment describes it.
    pub(crate) fn container(&self, user: User) -> Container {
        self.container_in(user, &self.path("home"))
    }

    /// One of another pod: with another emptyDir.
    pub(crate) fn container_in(&self, user: User, home: &Path) -> Container {
        let at = match user.uid {
            0 => "/etc/gitlab-runner",
            _ => "/home/gitlab-runner/.gitlab-runner",
        };
        // The image has no such directory: runc makes it, in the image that it has unpacked.
        self.image
            .container(user.uid, user.gid)
            .args(&["/usr/bin/dumb-init", "--", "/bin/bash", "/configmaps/entrypoint"])
            .env("CI_SERVER_URL", &self.gitlab.url())
            .env("RUNNER_EXECUTOR", "kubernetes")
            .env("REGISTER_LOCKED", "true")
            .env("RUNNER_TAG_LIST", "")
            .env("SESSION_SERVER_ADDRESS", "")
            .mount(&self.path("configmaps"), "/configmaps")
            .mount(&self.path("secrets"), "/secrets")
            .mount_writable(home, at)
            .empty("/tmp")
    }

    pub(crate) async fn start(&self) -> Running {
        let running = self.container(CHART).start();
        self.polled(&running).await;
        running
    }

    /// Waits until it asks for jobs.
    pub(crate) async fn polled(&self, running: &Running) {
        running.says("Starting").await;
        let asked =
            || self.gitlab.requests().iter().any(|request| request.path.ends_with("/jobs/request"));
        crate::until("a request for a job", asked).await;
    }

    /// One job, to its end.
    pub(crate) async fn job(&self) -> Finished {
        let job = self.gitlab.enqueue(JobSpec::new("unit").script(["echo from the pod"]));
        job.wait_finished(PATIENCE).await.unwrap()
    }
}

/// The name that was given to the build.
pub(crate) fn own_name(image: &Image) -> String {
    let env = image.process()["env"].as_array().unwrap();
    let mut names = env.iter().filter_map(|entry| entry.as_str());
    names.find_map(|entry| entry.strip_prefix("PODWRIGHT_AGENT_IMAGE=")).unwrap().to_owned()
}

fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// For any uid, as an emptyDir is.
fn open(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}
