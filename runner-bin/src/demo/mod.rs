//! A whole pipeline in one process: a GitLab stand-in, the ordinary manager, and the agent as local
//! processes.
//!
//! What stands in for what is said at the beginning of its output; everything between GitLab's API
//! and the processes of the job is the real thing.

mod pipeline;
mod screen;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_gitlab::{GitLabSettings, GitLabSource, short_token};
use runner_testkit::gitlab::{Finished, GitLab};
use runner_testkit::local::LocalExecutor;

use pipeline::Pipeline;
use screen::Screen;

/// Longest time for the whole pipeline.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the demo.
#[expect(clippy::print_stderr, reason = "a person is watching")]
pub(crate) fn run() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("podwright demo: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(demo()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwright demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> anyhow::Result<()> {
    let directory = tempfile::tempdir().context("there is no place for temporary files")?;
    let gitlab = GitLab::start().await.context("the GitLab stand-in cannot listen")?;
    let pipeline = Pipeline::example()?;
    let jobs = pipeline.enqueue(&gitlab).await?;
    screen::line(format_args!(
        "GitLab stand-in at {}; jobs run as local processes of the agent (no cluster, no isolation)",
        gitlab.url()
    ));

    let settings = GitLabSettings::new(gitlab.url(), gitlab.runner_token(), "s_demo00000000");
    let source = Arc::new(GitLabSource::new(settings)?);
    let program = std::env::current_exe().context("this program's own path is not known")?;
    let agent = [program.display().to_string(), "agent".to_owned()];
    let executor = Arc::new(LocalExecutor::new(directory.path().join("jobs"), agent));
    let mut runner = Runner::new("demo", Arc::clone(&source) as _, Arc::clone(&executor) as _);
    runner.artifacts = Some(source);
    runner.check_interval = Duration::from_millis(200);
    runner.plan.runner_name = "demo".to_owned();
    runner.plan.short_token = short_token(gitlab.runner_token());
    runner.plan.manager_host = "podwright demo".to_owned();

    let screen = Screen::new();
    let (manager, stop) = Manager::new(2);
    let running = tokio::spawn(manager.runner(runner).observer(screen.clone()).run());
    let mut finished: Vec<Finished> = Vec::new();
    for job in &jobs {
        finished.push(job.wait_finished(PATIENCE).await.context("a job did not end in time")?);
    }
    stop.stop(StopLevel::Drain);
    running.await.context("the manager ended unexpectedly")?;

    table::print(&screen, &jobs, &finished, &gitlab);
    let violations = gitlab.violations();
    ensure!(violations.is_empty(), "GitLab's rules were broken: {violations:?}");
    for (job, end) in jobs.iter().zip(&finished) {
        ensure!(end.state.as_str() == "success", "{} should have succeeded: {end:?}", job.name());
        ensure!(end.checksum_ok == Some(true), "{}: the log's checksum is wrong", job.name());
    }
    ensure!(executor.leftovers().is_empty(), "something is left: {:?}", executor.leftovers());
    Ok(())
}
