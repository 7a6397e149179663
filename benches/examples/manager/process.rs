//! The manager's process, and what the system says about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The manager, killed at the end.
pub(crate) struct Manager {
    child: Child,
    log: PathBuf,
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Manager {
    /// `podwright run` with this file; its log is written beside it.
    pub(crate) fn start(config: &Path) -> Self {
        let here = std::env::current_exe().expect("this program");
        let program = here.ancestors().nth(2).map(|target| target.join("podwright"));
        let program: PathBuf = program.filter(|program| program.exists()).expect(
            "the manager's program should be beside this one: run `cargo build --release` first",
        );
        let path = config.with_file_name("log");
        let log = fs::File::create(&path).expect("a file");
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn();
        Self { child: child.expect("the manager starts"), log: path }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// For a panic: the last lines of the log.
    pub(crate) fn last_words(&self) -> Vec<String> {
        self.log().lines().rev().take(20).map(str::to_owned).collect()
    }

    /// A number of KiB from `/proc/PID/status`.
    pub(crate) fn status(&self, key: &str) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the manager should be running");
        let line = status.lines().find(|line| line.starts_with(key)).expect("Linux");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Time on processors so far.
    pub(crate) fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(path).expect("the manager should be running");
        let fields = stat.rsplit_once(") ").expect("Linux").1;
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
        // 100 ticks a second, on every Linux that this runs on.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}
