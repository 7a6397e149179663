//! `run-single`: one runner without a file, one job after the other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use runner_core::manager::{
    JobLabel, JobUpdate, Observer, RunnerLabel, RunnerUpdate, StopHandle, StopLevel,
};
use tokio::time::{Instant, sleep_until};
use toml::{Table, Value};
use tracing::info;

use super::file::Opened;
use super::flags::RunnerFlags;
use crate::config::{self, Config, Severity};
use crate::run::{Single, run_single};

/// Run jobs of one runner, one after the other, without a file.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunSingle {
    /// File with the runner of --runner.
    #[arg(long, short, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take the runner of this name from the file.
    #[arg(long, short, default_value = "", hide_default_value = true, requires = "config")]
    runner: String,
    /// End after so many jobs; 0: never.
    #[arg(long, default_value_t = 0)]
    max_builds: u64,
    /// End after so many seconds without a job; 0: never.
    #[arg(long, default_value_t = 0)]
    wait_timeout: u64,
    #[command(flatten)]
    flags: RunnerFlags,
}

impl RunSingle {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.single_config()?;
        let runner = config.runners.first().context("there is no runner")?;
        if let Some(fault) = &runner.fault {
            bail!("{fault}");
        }
        let watch = Arc::new(Limits {
            most: self.max_builds,
            patience: Some(Duration::from_secs(self.wait_timeout)).filter(|time| !time.is_zero()),
            state: Mutex::new(Counts { taken: 0, running: 0, idle_since: Instant::now() }),
            stop: Mutex::new(None),
        });
        Ok(run_single(Single { config, limits: watch }))
    }

    fn single_config(&self) -> anyhow::Result<Config> {
        if !self.runner.is_empty() {
            let path = self.config.clone().context("--runner needs --config")?;
            let mut config = Opened::read(&path)?.config;
            config.runners.retain(|runner| runner.name == self.runner);
            ensure!(
                !config.runners.is_empty(),
                "{} has no runner {:?}",
                path.display(),
                self.runner
            );
            config.runners.truncate(1);
            config.concurrent = 1;
            return Ok(config);
        }
        let mut runner = self.flags.0.clone();
        for needed in ["url", "token", "executor"] {
            let given =
                runner.get(needed).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            ensure!(given, "--{needed} is needed");
        }
        runner.entry("name").or_insert_with(|| crate::environment::host_name().into());
        let mut file = Table::new();
        file.insert("runners".into(), Value::Array(vec![Value::Table(runner)]));
        let reading = config::read_from_environment(&file.to_string());
        let errors: Vec<String> =
            reading.findings.of(Severity::Error).map(|finding| finding.message.clone()).collect();
        reading.config.with_context(|| errors.join("; "))
    }
}

/// When a single runner ends by itself.
pub(crate) struct Limits {
    most: u64,
    patience: Option<Duration>,
    state: Mutex<Counts>,
    stop: Mutex<Option<StopHandle>>,
}

struct Counts {
    taken: u64,
    running: u64,
    idle_since: Instant,
}

impl Limits {
    /// What ends the manager.
    pub(crate) fn stop_with(&self, stop: StopHandle) {
        *self.stop.lock() = Some(stop);
    }

    fn drain(&self) {
        if let Some(stop) = &*self.stop.lock() {
            stop.stop(StopLevel::Drain);
        }
    }

    /// Waits until there has been no job for too long, and ends the manager then.
    pub(crate) async fn idle(&self) {
        let Some(patience) = self.patience else { return std::future::pending().await };
        loop {
            let (running, until) = {
                let state = self.state.lock();
                (state.running, state.idle_since + patience)
            };
            if running == 0 && Instant::now() >= until {
                info!("no job for {} seconds", patience.as_secs());
                self.drain();
                return std::future::pending().await;
            }
            // While a job runs, a later look finds a later time.
            sleep_until(until.max(Instant::now() + Duration::from_millis(100))).await;
        }
    }
}

impl Observer for Limits {
    fn update(&self, _job: &JobLabel, update: &JobUpdate) {
        let mut state = self.state.lock();
        match update {
            JobUpdate::Received => {
                (state.taken, state.running) = (state.taken + 1, state.running + 1);
                if state.taken == self.most {
                    drop(state);
                    self.drain();
                }
            }
            JobUpdate::Adopted { .. } => state.running += 1,
            JobUpdate::Released => {
                state.running = state.running.saturating_sub(1);
                state.idle_since = Instant::now();
            }
            _ => {}
        }
    }

    fn runner(&self, _runner: RunnerLabel<'_>, _update: &RunnerUpdate) {}
}
