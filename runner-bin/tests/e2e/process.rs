//! Managers that are processes of their own, so that they can be killed.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::world::World;

/// `podwright run`.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl World {
    /// Starts a manager as an operator does, with a directory and so a system id of its own.
    pub(crate) fn process(&self) -> Process {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory().join(format!("manager-{number}"));
        std::fs::create_dir(&directory).unwrap();
        let (config, log) = (directory.join("config.toml"), directory.join("log"));
        std::fs::write(&config, self.config()).unwrap();
        let output = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_podwright"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Process { child, log }
    }

    fn config(&self) -> String {
        let settings = &self.settings;
        let quoted = |text: &str| toml::Value::from(text).to_string();
        format!(
            "concurrent = {}\ncheck_interval = 1\nlog_level = \"debug\"\n\
             [[runners]]\nname = \"e2e\"\nurl = {}\ntoken = {}\nexecutor = \"kubernetes\"\n\
             [runners.kubernetes]\nkubeconfig = {}\nnamespace = {}\nimage = {}\n\
             helper_image = {}\nagent_image = {}\npoll_timeout = {}\n\
             manager_lease_duration = {}\n",
            self.concurrent,
            quoted(&self.gitlab.url()),
            quoted(self.gitlab.runner_token()),
            quoted(&settings.kubeconfig),
            quoted(&settings.namespace),
            quoted(&settings.image),
            quoted(&settings.helper_image),
            quoted(&settings.agent_image),
            settings.poll_timeout,
            settings.manager_lease_duration,
        )
    }
}

impl Process {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal and waits for the end.
    pub(crate) async fn end_by(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end after {signal:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The most memory that it has had in RAM at once, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
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
