//! A GitLab stand-in, a simulated cluster, and managers between them that are processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Rule};
use runner_testkit::gitlab::{Endpoint, GitLab, GitLabBuilder};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const IMAGE: &str = "debian:test";
const AGENT: &str = "podwright-agent:test";

pub(crate) struct House {
    pub(crate) gitlab: GitLab,
    pub(crate) cluster: Cluster,
    directory: tempfile::TempDir,
}

/// A manager.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(GitLab::builder()).await
    }

    pub(crate) async fn with(gitlab: GitLabBuilder) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gitlab = gitlab.start().await.unwrap();
        let cluster = Cluster::start(ClusterSettings::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_podwright"));
        let agent = ImageSpec::agent(&directory.path().join("agent"), program).unwrap();
        cluster.register_image(AGENT, agent);
        cluster.register_image(IMAGE, ImageSpec::present());
        std::fs::write(directory.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
        Self { gitlab, cluster, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Managers may do everything in their namespace from now on. Without this, only what they need.
    pub(crate) fn allow_everything(&self) {
        let namespace = self.cluster.namespace();
        let token = self.cluster.add_service_account(namespace, "mighty", Rule::everything());
        std::fs::write(self.path("kubeconfig"), self.cluster.kubeconfig_for(&token)).unwrap();
    }

    /// The configuration of managers.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    pub(crate) fn write(&self, text: &str) {
        self.write_to("config.toml", text);
    }

    /// Another manager's configuration.
    pub(crate) fn write_to(&self, name: &str, text: &str) {
        // As a good editor does: no reader sees half of it.
        std::fs::write(self.path("config.new"), text).unwrap();
        std::fs::rename(self.path("config.new"), self.path(name)).unwrap();
    }

    /// A `[[runners]]` entry with these lines in it.
    pub(crate) fn runner(&self, name: &str, lines: &str) -> String {
        format!(
            "[[runners]]\nname = \"{name}\"\nurl = \"{}\"\nexecutor = \"kubernetes\"\n{lines}\n\
             [runners.kubernetes]\nkubeconfig = {:?}\nnamespace = \"{}\"\nimage = \"{IMAGE}\"\n\
             helper_image = \"{IMAGE}\"\nagent_image = \"{AGENT}\"\nmanager_lease_duration = 1\n",
            self.gitlab.url(),
            self.path("kubeconfig"),
            self.cluster.namespace(),
        )
    }

    /// The usual one.
    pub(crate) fn one(&self) -> String {
        self.runner("one", &format!("token = \"{}\"", self.gitlab.runner_token()))
    }

    pub(crate) fn start(&self) -> Process {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, arguments: &[&str]) -> Process {
        self.run(&self.config(), "log", arguments, &[])
    }

    pub(crate) fn start_in(&self, environment: &[(&str, &str)]) -> Process {
        self.run(&self.config(), "log", &[], environment)
    }

    /// A second manager with this configuration and a log of its own.
    pub(crate) fn start_from(&self, name: &str) -> Process {
        self.run(&self.path(name), &format!("{name}.log"), &[], &[])
    }

    fn run(
        &self,
        config: &Path,
        log: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let log = self.path(log);
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_podwright"))
            .args(["run", "--config"])
            .arg(config)
            .args(arguments)
            .env_remove("LISTEN_ADDRESS")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Process { child, log }
    }

    /// Waits until GitLab was asked for jobs so many times.
    pub(crate) async fn polls(&self, count: u64) {
        let asked = || self.gitlab.request_counts().get(&Endpoint::RequestJob).copied();
        until(&format!("{count} requests for a job"), || asked().unwrap_or(0) >= count).await;
    }
}

/// Waits for something to become true.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Process {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until this is in the log.
    pub(crate) async fn says(&self, text: &str) {
        until(&format!("{text:?} in the log"), || self.log().contains(text)).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; the exit code.
    pub(crate) async fn end(&mut self) -> Option<i32> {
        let mut status = None;
        until("the manager's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Where its pages are.
    pub(crate) async fn pages(&self) -> String {
        self.says("Metrics server listening").await;
        let log = self.log();
        let at = log.split("Metrics server listening").nth(1).unwrap();
        let port: String = at
            .split_once("127.0.0.1:")
            .unwrap()
            .1
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        format!("http://127.0.0.1:{port}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; a test that failed must not leave it.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- the manager's log\n{}", self.log());
        }
    }
}
