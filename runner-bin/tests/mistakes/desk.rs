//! A directory with a `config.toml`, a GitLab, and the program.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_testkit::gitlab::GitLab;
use tokio::time::Instant;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Desk {
    pub(crate) gitlab: GitLab,
    directory: tempfile::TempDir,
}

/// What a command came to.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) log: String,
}

/// A manager that runs.
pub(crate) struct Manager {
    child: Child,
    log: PathBuf,
    _elsewhere: tempfile::TempDir,
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let gitlab = GitLab::builder().start().await.unwrap();
        Self { gitlab, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    /// Writes the file as a good editor does: no reader sees half of it.
    pub(crate) fn write(&self, text: &str) {
        let text = text.replace("URL", &self.gitlab.url());
        let text = text.replace("TOKEN", self.gitlab.runner_token());
        let new = self.directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// The files that are there, with what is in them.
    pub(crate) fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        });
        files.collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podwright"));
        command.env_clear().env("CONFIG_FILE", self.file()).env("HOME", "/nonexistent");
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[]).await
    }

    /// In a thread of its own, so that the stand-in can answer meanwhile.
    pub(crate) async fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), log: text(output.stderr) }
    }

    pub(crate) fn start(&self) -> Manager {
        let elsewhere = tempfile::tempdir().unwrap();
        let log = elsewhere.path().join("log");
        let output = File::create(&log).unwrap();
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(output).spawn().unwrap();
        Manager { child, log, _elsewhere: elsewhere }
    }
}

impl Manager {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) async fn says(&self, text: &str) {
        self.says_after(0, text).await;
    }

    /// Waits until this is in the log, beyond so many bytes of it.
    pub(crate) async fn says_after(&self, from: usize, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log()[from..].contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {}", &self.log()[from..]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended; a test that failed must not leave it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
