//! `run-single`: a manager of one runner, without a file, without pages.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use runner_core::manager::{Manager, StopLevel};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::fleet::Fleet;
use super::signals::{Asked, Signals};
use crate::commands::Limits;
use crate::config::{Config, OnTerminate};
use crate::metrics::Metrics;
use crate::system_id;

/// What is run.
pub(crate) struct Single {
    pub(crate) config: Config,
    pub(crate) limits: Arc<Limits>,
}

/// Runs jobs until a limit or a signal ends it.
pub(crate) fn run_single(single: Single) -> ExitCode {
    let result = tokio::runtime::Runtime::new()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(serve(single)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(single: Single) -> anyhow::Result<()> {
    let Single { config, limits } = single;
    let mut signals = Signals::install()?;
    let (manager, stop) = Manager::new(1);
    limits.stop_with(stop.clone());
    let manager = manager.observer(Arc::clone(&limits) as _);
    // Kept in memory only: there is no file beside which it could be.
    let mut fleet = Fleet::new(system_id::random(), Arc::new(Metrics::default()));
    let roster = fleet.apply(&config).await;
    if roster.runners.is_empty() {
        bail!("the runner cannot be set up");
    }
    manager.control().set(roster);
    let mut running = Box::pin(manager.run());
    let mut deadline: Option<Instant> = None;
    loop {
        let overdue = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut running => return Ok(()),
            () = limits.idle() => {}
            () = overdue => bail!("shutdown timed out"),
            asked = signals.next() => match asked {
                Asked::Reload => {}
                Asked::Drain(_) | Asked::Terminate(_) if deadline.is_some() => {
                    bail!("forced exit with a second stop signal")
                }
                Asked::Drain(signal) => {
                    warn!(StopSignal = signal, "Starting graceful shutdown, waiting for builds to finish");
                    stop.stop(StopLevel::Drain);
                }
                Asked::Terminate(signal) => {
                    warn!(StopSignal = signal, "Starting forceful shutdown");
                    deadline = Some(Instant::now() + config.shutdown_timeout);
                    stop.stop(match config.on_terminate {
                        OnTerminate::Leave => StopLevel::Leave,
                        OnTerminate::Stop => StopLevel::Stop,
                    });
                }
            },
        }
    }
}
