//! `podwright run`: from a configuration to a running manager, and how it stops.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use runner_core::manager::{Manager, Runner, StopHandle, StopLevel};
use runner_core::secret::Secret;
use runner_core::source::JobSource;
use runner_gitlab::{GitLabSettings, GitLabSource, short_token};
use runner_k8s::names::manager_id;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::config::{self, Config, LogFormat, LogLevel, RunnerConfig, Severity, Surroundings};
use crate::{logging, system_id};

/// Runs jobs until told to stop.
///
/// Exit code 0 after a clean stop, 1 when it cannot start or was told to stop twice.
pub(crate) fn run(file: &Path) -> ExitCode {
    let config = match load(file) {
        Ok(config) => config,
        Err(error) => {
            logging::start(LogLevel::Info, LogFormat::Runner);
            error!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(config, file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(file: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the configuration {}", file.display()))?;
    let surroundings = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        file: &|path| std::fs::read_to_string(path),
    };
    let reading = config::read(&text, &surroundings);
    let Some(config) = reading.config else {
        let all: Vec<String> =
            reading.findings.of(Severity::Error).map(ToString::to_string).collect();
        bail!("{} cannot be used: {}", file.display(), all.join("; "))
    };
    logging::start(config.log_level.unwrap_or_default(), config.log_format.unwrap_or_default());
    for finding in reading.findings.0 {
        warn!("{}: {finding}", file.display());
    }
    Ok(config)
}

async fn serve(config: Config, file: &Path) -> anyhow::Result<()> {
    let system_id = system_id::of(file)?;
    let (mut manager, stop) = Manager::new(config.concurrent);
    for runner in config.runners {
        let name = runner.name.clone();
        let runner = build(runner, &config.check_interval, &system_id)
            .await
            .with_context(|| format!("runner {name:?} cannot be set up"))?;
        info!(runner = name, "runner ready");
        manager = manager.runner(runner);
    }
    // Installed before anything runs: a signal that comes early must not kill jobs.
    let signals = Signals::install()?;
    info!(version = env!("CARGO_PKG_VERSION"), system_id, "podwright runs");
    tokio::select! {
        () = manager.run() => {
            info!("all jobs are finished or left to the next manager");
            Ok(())
        }
        error = signals.obey(stop) => Err(error),
    }
}

async fn build(
    config: RunnerConfig,
    check_interval: &std::time::Duration,
    system_id: &str,
) -> anyhow::Result<Runner> {
    let mut gitlab = GitLabSettings::new(config.url, config.token.clone(), system_id);
    gitlab.tls.ca_file = config.tls.ca;
    gitlab.debug_trace_disabled = config.debug_trace_disabled;
    let source = Arc::new(GitLabSource::new(gitlab)?);

    let settings = config.kubernetes.context("no settings")?;
    let short_token = short_token(config.token.expose());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let identity = RunnerIdentity {
        source: source.id(),
        name: config.name.clone(),
        short_token: short_token.clone(),
        manager: manager_id(&host),
    };
    let lines = vec![format!("Using Kubernetes namespace: {}", settings.namespace)];
    let executor = KubernetesExecutor::connect(settings, identity).await?;

    let mut runner = Runner::new(config.name.clone(), Arc::clone(&source) as _, Arc::new(executor));
    runner.artifacts = Some(source);
    runner.limit = config.limit;
    runner.check_interval = *check_interval;
    let plan = &mut runner.plan;
    plan.runner_name = config.name;
    plan.short_token = short_token;
    plan.system_id = system_id.to_owned();
    plan.manager_host = host;
    plan.environment = config.environment;
    plan.pre_build_script = config.pre_build_script;
    plan.post_build_script = config.post_build_script;
    plan.feature_flags = config.feature_flags.into_iter().collect();
    plan.output_limit = config.output_limit;
    plan.clone_url = config.clone_url;
    plan.debug_trace_disabled = config.debug_trace_disabled;
    plan.executor_lines = lines;
    if let Some(directory) = config.builds_dir {
        plan.builds_dir = directory;
    }
    if let Some(directory) = config.cache_dir {
        plan.cache_dir = directory;
    }
    Ok(runner)
}

struct Signals {
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Obeys signals until the second request to leave, which is the error.
    ///
    /// Unlike GitLab Runner's, a TERM leaves running jobs running: they go on in their pods.
    async fn obey(mut self, stop: StopHandle) -> anyhow::Error {
        let mut leaving = false;
        loop {
            tokio::select! {
                _ = self.quit.recv() => {
                    info!("SIGQUIT: no new jobs; ending when the running ones are done");
                    stop.stop(StopLevel::Drain);
                    continue;
                }
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if leaving {
                return anyhow::anyhow!("told to stop a second time; ending at once");
            }
            info!("told to stop: no new jobs, running ones are left to the next manager");
            leaving = true;
            stop.stop(StopLevel::Leave);
        }
    }
}
