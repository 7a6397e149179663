//! `podwright run`: from a configuration to a running manager, how it changes, and how it stops.

mod boot_verify;
mod fleet;
mod plan;
mod rotation;
mod settings;
mod signals;
mod single;

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use runner_core::manager::{Control, Manager, Observer, StopHandle, StopLevel};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::config::{Config, FileWatch, OnTerminate};
use crate::logging::JobLines;
use crate::metrics::{ConfigEvent, Metrics, Pages, ProcessState, ServeError};
use crate::sessions::{Addresses, Registry, SessionServer};
use crate::traces::{Exporter, OtlpSettings, Recorder};
use crate::{logging, system_id, version};

use fleet::Fleet;
pub(crate) use fleet::gitlab_settings;
pub(crate) use plan::plan_settings;
use rotation::Rotation;
use settings::Settings;
pub(crate) use settings::{Overrides, read};
use signals::{Asked, Signals};
pub(crate) use single::{Single, run_single};

/// What `run` is told.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) config: PathBuf,
    pub(crate) overrides: Overrides,
    /// Change to this directory first.
    pub(crate) working_directory: Option<PathBuf>,
}

/// Runs jobs until told to stop.
///
/// Exit code 0 after a clean stop, 1 when it cannot start, was told to stop twice, or did not end in
/// time.
pub(crate) fn run(options: RunOptions) -> ExitCode {
    let overrides = &options.overrides;
    logging::start(
        overrides.log_level.unwrap_or_default(),
        overrides.log_format.unwrap_or_default(),
    );
    let failed = |error: anyhow::Error| {
        error!("Service run failed: {error:#}");
        ExitCode::FAILURE
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(anyhow!(error).context("cannot start")),
    };
    let code = runtime.block_on(serve(options)).map_or_else(failed, |()| ExitCode::SUCCESS);
    runtime.block_on(logging::sentry::finish());
    code
}

/// Everything that the loop looks after.
struct Service {
    settings: Settings,
    fleet: Fleet,
    metrics: Arc<Metrics>,
    control: Control,
    stop: StopHandle,
    watch: FileWatch,
    rotation: Rotation,
    system_id: String,
    phase: Phase,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    /// Until then.
    Ending(Instant),
}

async fn serve(options: RunOptions) -> anyhow::Result<()> {
    // Before anything else: a signal that comes early must not kill without a word.
    let mut signals = Signals::install()?;
    if let Some(directory) = &options.working_directory {
        std::env::set_current_dir(directory)
            .with_context(|| format!("cannot change to {}", directory.display()))?;
    }
    info!(
        revision = version::REVISION,
        version = version::VERSION,
        "Starting multi-runner from {}...",
        options.config.display()
    );
    let metrics = Arc::new(Metrics::default());
    let mut settings = Settings::new(options.config.clone(), options.overrides);
    // Before it is read: a file that comes in between must be noticed.
    let mut watch = FileWatch::new(settings.files());
    settings.load()?;
    watch.set_files(settings.files());
    metrics.config(ConfigEvent::Loaded);
    let system_id = system_id::of(&options.config)?;
    let pages = serve_pages(&settings.listen_address(), &metrics).await?;

    let sessions = serve_sessions(settings.config()).await?;
    let (sessions, session_task) = sessions.unzip();

    let (manager, stop) = Manager::new(1);
    let exporter = start_traces(&metrics);
    let mut observers: Vec<Arc<dyn Observer>> =
        vec![Arc::clone(&metrics) as _, Arc::new(JobLines::new(Arc::clone(&metrics)))];
    observers.extend(exporter.as_ref().map(|exporter| Arc::new(Recorder::new(exporter)) as _));
    let manager = manager.observer(Arc::new(observers));
    let control = manager.control();
    let mut fleet = Fleet::new(system_id.clone(), Arc::clone(&metrics)).with_sessions(sessions);
    if let Some(config) = settings.config() {
        let roster = fleet.apply(config).await;
        if !verified(&fleet, config, &mut signals).await? {
            return Ok(());
        }
        control.set(roster);
    }
    metrics.set_state(ProcessState::Running);
    let mut service = Service {
        settings,
        fleet,
        metrics,
        control,
        stop,
        watch,
        rotation: Rotation::default(),
        system_id,
        phase: Phase::Running,
    };
    let ended = service.run(manager, signals).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    // Last, so that terminals stay usable while jobs are finished.
    drop((session_task, pages));
    ended
}

/// Runs the jobs that come before all others. `false`: a signal came first.
async fn verified(fleet: &Fleet, config: &Config, signals: &mut Signals) -> anyhow::Result<bool> {
    let canaries = fleet.canaries(config).await?;
    if canaries.is_empty() {
        return Ok(true);
    }
    let stop = CancellationToken::new();
    let mut verified = pin!(boot_verify::verify(canaries, &stop));
    loop {
        tokio::select! {
            result = &mut verified => return result.map(|()| !stop.is_cancelled()),
            asked = signals.next() => match asked {
                // It is read again anyway as soon as it changes.
                Asked::Reload => {}
                Asked::Drain(signal) | Asked::Terminate(signal) if stop.is_cancelled() => {
                    bail!("forced exit with stop signal: {signal}")
                }
                Asked::Drain(signal) | Asked::Terminate(signal) => {
                    warn!("stop-signal" = signal, "boot verify is given up");
                    stop.cancel();
                }
            },
        }
    }
}

/// Sends a trace of each job, where the environment says where to.
fn start_traces(metrics: &Metrics) -> Option<Exporter> {
    // Without traces, jobs still run.
    let settings = match OtlpSettings::of(|name| std::env::var(name).ok()) {
        Ok(settings) => settings?,
        Err(error) => {
            error!("no traces: {error}");
            return None;
        }
    };
    match Exporter::start(settings) {
        Ok(exporter) => {
            metrics.traces(exporter.dropped());
            info!("a trace of each job is sent");
            Some(exporter)
        }
        Err(error) => {
            error!(%error, "no traces: the HTTP client could not be set up");
            None
        }
    }
}

/// The session server, where there is to be one.
async fn serve_sessions(
    config: Option<&Config>,
) -> anyhow::Result<Option<(Arc<Registry>, AbortOnDropHandle<()>)>> {
    let Some(config) = config else { return Ok(None) };
    let Some(addresses) = Addresses::of(&config.session_server)? else { return Ok(None) };
    // All managers of a configuration come to the same.
    let cluster = config.runners.iter().find_map(|runner| runner.kubernetes.as_ref());
    let server = SessionServer::start(&addresses, cluster).await?;
    let registry = server.registry();
    Ok(Some((registry, AbortOnDropHandle::new(tokio::spawn(server.serve())))))
}

/// The pages, for as long as the result lives.
async fn serve_pages(
    address: &str,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<AbortOnDropHandle<()>>> {
    if address.is_empty() {
        info!("listen_address not defined, metrics & debug endpoints disabled");
        return Ok(None);
    }
    match Pages::bind(address).await {
        Ok(pages) => {
            let address = pages.address().map(tracing::field::display);
            info!(address, "Metrics server listening");
            let task = tokio::spawn(pages.serve(Arc::clone(metrics)));
            Ok(Some(AbortOnDropHandle::new(task)))
        }
        // As GitLab Runner: a nonsensical address costs the pages, a taken one the start.
        Err(error @ ServeError::Address(_)) => {
            error!("{error}; metrics & debug endpoints disabled");
            Ok(None)
        }
        Err(error) => bail!(anyhow!(error)),
    }
}

impl Service {
    async fn run(&mut self, manager: Manager, mut signals: Signals) -> anyhow::Result<()> {
        let mut running = Box::pin(manager.run());
        loop {
            let phase = self.phase;
            let overdue = async {
                match phase {
                    Phase::Ending(until) => sleep_until(until).await,
                    _ => std::future::pending().await,
                }
            };
            let renewal = self.settings.config().and_then(|config| self.rotation.due_in(config));
            let renewal = async {
                match renewal.filter(|_| phase == Phase::Running) {
                    // Looked at again once a day: a clock may be set.
                    Some(wait) => sleep(wait.min(Duration::from_secs(24 * 3600))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut running => break,
                asked = signals.next() => self.asked(asked).await?,
                () = overdue => bail!("shutdown timed out"),
                () = self.watch.changed(), if phase == Phase::Running => self.reload().await,
                () = renewal => {
                    self.rotation.renew(&mut self.settings, &self.system_id, &self.metrics).await;
                    self.reload().await;
                }
            }
        }
        info!("All workers stopped.");
        if self.phase == Phase::Draining
            && self.settings.config().is_some_and(|config| config.unregister_on_stop)
        {
            self.fleet.unregister().await;
        }
        info!("Can exit now!");
        Ok(())
    }

    async fn asked(&mut self, asked: Asked) -> anyhow::Result<()> {
        let timeout = self.settings.config().map(|config| config.shutdown_timeout);
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        match (asked, self.phase) {
            (Asked::Reload, _) => self.reload().await,
            (Asked::Drain(signal) | Asked::Terminate(signal), Phase::Ending(_)) => {
                bail!("forced exit with stop signal: {signal}")
            }
            (Asked::Drain(signal), Phase::Draining) => {
                warn!("stop-signal" = signal, "[runWait] received stop signal");
            }
            (Asked::Drain(signal), Phase::Running) => {
                warn!("stop-signal" = signal, "[runWait] received stop signal");
                warn!(
                    StopSignal = signal,
                    "Starting graceful shutdown, waiting for builds to finish"
                );
                self.phase = Phase::Draining;
                self.metrics.set_state(ProcessState::Graceful);
                self.stop.stop(StopLevel::Drain);
            }
            (Asked::Terminate(signal), _) => {
                warn!("stop-signal" = signal, "[runWait] received stop signal");
                let what = self.settings.config().map(|config| config.on_terminate);
                let level = match what.unwrap_or_default() {
                    OnTerminate::Leave => StopLevel::Leave,
                    OnTerminate::Stop => StopLevel::Stop,
                };
                let jobs =
                    if level == StopLevel::Leave { "left to the next manager" } else { "stopped" };
                warn!(
                    StopSignal = signal,
                    "shutdown-timeout" = ?timeout,
                    "Starting forceful shutdown; running jobs are {jobs}"
                );
                self.phase = Phase::Ending(Instant::now() + timeout);
                self.metrics.set_state(ProcessState::Forceful);
                self.stop.stop(level);
            }
        }
        Ok(())
    }

    /// Reads the configuration. A broken one is an error in the log, and changes nothing.
    async fn reload(&mut self) {
        match self.settings.load() {
            Ok(config) => {
                self.metrics.config(ConfigEvent::Loaded);
                self.control.set(self.fleet.apply(config).await);
                self.watch.set_files(self.settings.files());
            }
            Err(error) => {
                self.metrics.config(ConfigEvent::LoadingError);
                error!("Failed to load config: {error:#}; the one before stays in force");
            }
        }
    }
}
