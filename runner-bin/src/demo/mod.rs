//! A whole pipeline in one process: a GitLab stand-in, the ordinary manager, and a simulated cluster
//! whose containers are local processes; or the same on a real cluster.
//!
//! What stands in for what is said at the beginning of its output; everything between GitLab's API
//! and the API server is the real thing.

mod pipeline;
mod screen;
mod table;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use runner_core::ids::SourceId;
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::source::JobSource;
use runner_gitlab::{GitLabSettings, GitLabSource, short_token};
use runner_k8s::names::manager_id;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use runner_testkit::cluster::{self, ClusterSettings, ImageSpec};
use runner_testkit::gitlab::{Finished, GitLab};

use pipeline::Pipeline;
use screen::Screen;

/// Longest time for the whole pipeline.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest time until everything is gone after the last job.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// The cluster to run the demo on.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) kubeconfig: String,
    pub(crate) agent_image: String,
    pub(crate) image: String,
    pub(crate) helper_image: String,
    pub(crate) namespace: String,
}

/// Runs the demo, on a cluster if there is one.
#[expect(clippy::print_stderr, reason = "a person is watching")]
pub(crate) fn run(cluster: Option<Cluster>, listen: SocketAddr) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("podwright demo: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(demo(cluster, listen)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwright demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(cluster: Option<Cluster>, listen: SocketAddr) -> anyhow::Result<()> {
    let directory = tempfile::tempdir().context("there is no place for temporary files")?;
    let gitlab = GitLab::builder().bind(listen).start().await;
    let gitlab =
        gitlab.with_context(|| format!("the GitLab stand-in cannot listen on {listen}"))?;
    let pipeline = Pipeline::example()?;
    let jobs = pipeline.enqueue(&gitlab).await?;
    screen::line(format_args!(
        "GitLab stand-in at {}; jobs run {}",
        gitlab.url(),
        match &cluster {
            Some(cluster) => format!("in pods of namespace {}", cluster.namespace),
            None => "in the pods of a simulated cluster, as local processes".to_owned(),
        }
    ));

    let settings = GitLabSettings::new(gitlab.url(), gitlab.runner_token(), "s_demo00000000");
    let source = Arc::new(GitLabSource::new(settings)?);
    let (simulation, cluster) = match cluster {
        Some(cluster) => (None, cluster),
        None => {
            let (simulation, cluster) = simulate(directory.path())?;
            (Some(simulation), cluster)
        }
    };
    let executor = Arc::new(on_cluster(&cluster, source.id()).await?);
    let mut runner = Runner::new("demo", Arc::clone(&source) as _, Arc::clone(&executor) as _);
    runner.artifacts = Some(source);
    runner.check_interval = Duration::from_millis(200);
    runner.plan.runner_name = "demo".to_owned();
    runner.plan.short_token = short_token(gitlab.runner_token());
    runner.plan.manager_host = "podwright demo".to_owned();
    runner.plan.system_id = "s_demo00000000".to_owned();

    let screen = Screen::new();
    let (manager, stop) = Manager::new(2);
    let running = tokio::spawn(manager.runner(runner).observer(screen.clone()).run());
    let mut finished: Vec<Finished> = Vec::new();
    for job in &jobs {
        finished.push(job.wait_finished(PATIENCE).await.context("a job did not end in time")?);
    }
    stop.stop(StopLevel::Drain);
    running.await.context("the manager ended unexpectedly")?;

    table::print(&screen, &jobs, &finished, &gitlab, executor.requests());
    let violations = gitlab.violations();
    ensure!(violations.is_empty(), "GitLab's rules were broken: {violations:?}");
    for (job, end) in jobs.iter().zip(&finished) {
        ensure!(end.state.as_str() == "success", "{} should have succeeded: {end:?}", job.name());
        ensure!(end.checksum_ok == Some(true), "{}: the log's checksum is wrong", job.name());
    }
    if let Some(simulation) = &simulation {
        nothing_is_left(simulation).await?;
    }
    Ok(())
}

/// A cluster in this process, with this program as the agent.
fn simulate(directory: &Path) -> anyhow::Result<(cluster::Cluster, Cluster)> {
    const AGENT: &str = "podwright-agent:demo";
    const IMAGE: &str = "this-machine:demo";
    let simulation = cluster::Cluster::start(ClusterSettings::default())?;
    let program = std::env::current_exe().context("this program's own path is not known")?;
    let agent = ImageSpec::agent(&directory.join("agent"), &program);
    simulation.register_image(AGENT, agent.context("the agent's image cannot be made")?);
    simulation.register_image(IMAGE, ImageSpec::present());
    let kubeconfig = directory.join("kubeconfig");
    std::fs::write(&kubeconfig, simulation.kubeconfig())?;
    let cluster = Cluster {
        kubeconfig: kubeconfig.display().to_string(),
        agent_image: AGENT.to_owned(),
        image: IMAGE.to_owned(),
        helper_image: IMAGE.to_owned(),
        namespace: simulation.namespace().to_owned(),
    };
    Ok((simulation, cluster))
}

/// Waits until the simulated kubelet has ended what was deleted.
async fn nothing_is_left(simulation: &cluster::Cluster) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + CLEAN_UP;
    loop {
        let left = simulation.leftovers();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < deadline, "something is left: {left:?}");
        // The simulation has no event for it, and this is no job's way.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn on_cluster(cluster: &Cluster, source: SourceId) -> anyhow::Result<KubernetesExecutor> {
    // The way a config.toml goes, so that the demo shows what it does.
    let mut table = toml::Table::new();
    for (key, value) in [
        ("kubeconfig", &cluster.kubeconfig),
        ("agent_image", &cluster.agent_image),
        ("image", &cluster.image),
        ("helper_image", &cluster.helper_image),
        ("namespace", &cluster.namespace),
    ] {
        table.insert(key.to_owned(), value.clone().into());
    }
    let raw: RawSettings = toml::Value::Table(table).try_into()?;
    let identity = RunnerIdentity {
        source,
        name: "demo".to_owned(),
        short_token: "demo".to_owned(),
        manager: manager_id("demo"),
    };
    let executor = KubernetesExecutor::connect(KubernetesSettings::resolve(&raw)?, identity).await;
    executor.context("the cluster cannot be used")
}
