//! From GitLab's queue to the verdict: the stand-in, the ordinary manager, the real agent program as
//! local processes.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::sync::Arc;
use std::time::Duration;

use runner_core::manager::{Manager, Runner, StopLevel};
use runner_gitlab::{GitLabSettings, GitLabSource};
use runner_testkit::gitlab::{Artifact, Finished, GitLab, JobRef, JobSpec, Variable};
use runner_testkit::local::LocalExecutor;
use tokio::task::JoinHandle;

/// Longer than any job here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    gitlab: GitLab,
    executor: LocalExecutor,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::over(GitLab::start().await.unwrap())
    }

    fn over(gitlab: GitLab) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let agent = [env!("CARGO_BIN_EXE_podwright").to_owned(), "agent".to_owned()];
        let executor = LocalExecutor::new(directory.path().join("jobs"), agent);
        Self { gitlab, executor, _directory: directory }
    }

    /// A manager of its own: another system id, nothing shared but GitLab and the executor's records.
    fn manager(&self, system_id: &str) -> (JoinHandle<()>, runner_core::manager::StopHandle) {
        let settings =
            GitLabSettings::new(self.gitlab.url(), self.gitlab.runner_token(), system_id);
        let source = Arc::new(GitLabSource::new(settings).unwrap());
        let executor = Arc::new(self.executor.clone());
        let mut runner = Runner::new("test", Arc::clone(&source) as _, executor);
        runner.artifacts = Some(source);
        runner.check_interval = Duration::from_millis(50);
        runner.plan.grace = Duration::from_secs(2);
        // A silent job hears of a cancel with the next sign of life.
        runner.relay.keep_alive = Duration::from_secs(1);
        let (manager, stop) = Manager::new(4);
        (tokio::spawn(manager.runner(runner).run()), stop)
    }

    /// Runs these jobs to their end and makes sure that nothing is left and no rule was broken.
    async fn run(&self, jobs: &[JobRef]) -> Vec<Finished> {
        let (running, stop) = self.manager("s_first0000000");
        let mut ends = Vec::new();
        for job in jobs {
            ends.push(job.wait_finished(PATIENCE).await.unwrap());
        }
        stop.stop(StopLevel::Drain);
        running.await.unwrap();
        self.check();
        ends
    }

    fn check(&self) {
        assert!(self.gitlab.violations().is_empty(), "{:?}", self.gitlab.violations());
        assert!(self.executor.leftovers().is_empty());
    }

    async fn run_one(&self, spec: JobSpec) -> Finished {
        let job = self.gitlab.enqueue(spec);
        self.run(&[job]).await.remove(0)
    }
}

fn text(end: &Finished) -> String {
    String::from_utf8_lossy(&end.trace).into_owned()
}

#[tokio::test]
async fn a_script_that_fails_is_reported_with_reason_and_exit_code() {
    let world = World::new().await;
    let end = world.run_one(JobSpec::new("test").script(["echo going", "exit 37"])).await;
    assert_eq!(end.state.as_str(), "failed", "{}", text(&end));
    assert_eq!(end.failure_reason.as_deref(), Some("script_failure"));
    assert_eq!(end.exit_code, Some(37));
    assert_eq!(end.checksum_ok, Some(true));
}

#[tokio::test]
async fn a_masked_variable_never_reaches_gitlab() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .with(Variable::new("PASSWORD", "hunter2-hunter2").masked())
        .script(["echo \"it is $PASSWORD\"", "printf hunter2-; sleep 0.1; echo hunter2"]);
    let end = world.run_one(spec).await;
    assert_eq!(end.state.as_str(), "success", "{}", text(&end));
    assert!(text(&end).contains("it is [MASKED]"), "{}", text(&end));
    assert!(!text(&end).contains("hunter2-hunter2"));
}

#[tokio::test]
async fn a_job_that_is_cancelled_at_gitlab_stops_and_runs_after_script() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .script(["echo started", "sleep 1000"])
        .after_script(["echo after: $CI_JOB_STATUS"]);
    let job = world.gitlab.enqueue(spec);
    let (running, stop) = world.manager("s_first0000000");
    job.wait_trace("started", PATIENCE).await.unwrap();
    job.cancel();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert!(text(&end).contains("after: canceled"), "{}", text(&end));
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
    world.check();
}

#[tokio::test]
async fn an_archive_that_is_too_large_for_gitlab_fails_the_job_and_says_its_size() {
    let gitlab = GitLab::builder().artifact_limit(1000).start().await.unwrap();
    let world = World::over(gitlab);
    let spec = JobSpec::new("test")
        .script(["head -c 100000 /dev/urandom > big"])
        .artifact(Artifact::archive(["big", "missing"]));
    let job = world.gitlab.enqueue(spec);
    let (running, stop) = world.manager("s_first0000000");
    let end = job.wait_finished(PATIENCE).await.unwrap();
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
    let text = text(&end);
    assert_eq!(end.state.as_str(), "failed", "{text}");
    assert!(text.contains("WARNING: missing: no matching files"), "{text}");
    assert!(text.contains("413") && text.contains("bytes, more than the server takes"), "{text}");
}

#[tokio::test]
async fn a_manager_that_is_gone_in_the_middle_is_followed_by_one_that_finishes_the_job() {
    let world = World::new().await;
    let script = "i=0; while [ $i -lt 100 ]; do echo line $i of many; i=$((i+1)); sleep 0.02; done";
    let job = world.gitlab.enqueue(JobSpec::new("test").script([script]));
    let (first, _stop) = world.manager("s_first0000000");
    job.wait_trace("line 3 of many", PATIENCE).await.unwrap();
    // No good-bye: its tasks end where they are, as with a killed process.
    first.abort();
    let _ = first.await;

    let (second, stop) = world.manager("r_second000000");
    let end = job.wait_finished(PATIENCE).await.unwrap();
    stop.stop(StopLevel::Drain);
    second.await.unwrap();
    let text = text(&end);
    assert_eq!(end.state.as_str(), "success", "{text}");
    assert_eq!(end.checksum_ok, Some(true));
    // The echoed command holds the words too, with `$i` in place of a number.
    let lines =
        (0..100).filter(|line| text.matches(&format!("line {line} of many\n")).count() == 1);
    assert_eq!(lines.count(), 100, "each line once: {text}");
    world.check();
}

#[tokio::test]
async fn a_gitlab_that_is_away_for_a_while_gets_everything_afterwards() {
    let world = World::new().await;
    let job = world.gitlab.enqueue(JobSpec::new("test").script([
        "echo started",
        "sleep 1",
        "echo ended",
    ]));
    let (running, stop) = world.manager("s_first0000000");
    job.wait_trace("started", PATIENCE).await.unwrap();
    world.gitlab.away(Duration::from_secs(4)).await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
    assert_eq!(end.state.as_str(), "success", "{}", text(&end));
    assert_eq!(end.checksum_ok, Some(true));
    world.check();
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_failed_and_not_lost() {
    let world = World::new().await;
    let spec = JobSpec::new("test").script(["true"]).patch(|job| job["steps"] = "rm -rf /".into());
    let end = world.run_one(spec).await;
    assert_eq!(end.state.as_str(), "failed");
    assert_eq!(end.failure_reason.as_deref(), Some("runner_system_failure"));
    assert!(text(&end).contains("cannot be understood"), "{}", text(&end));
}

#[tokio::test]
async fn thirty_jobs_at_once_all_end_as_they_should() {
    let world = World::new().await;
    let jobs: Vec<JobRef> = (0..30)
        .map(|number| {
            let code = number % 3;
            let script = format!("echo job {number}; exit {code}");
            world.gitlab.enqueue(JobSpec::new(format!("job-{number}")).script([script]))
        })
        .collect();
    let ends = world.run(&jobs).await;
    for (number, end) in ends.iter().enumerate() {
        let expected = if number % 3 == 0 { "success" } else { "failed" };
        assert_eq!(end.state.as_str(), expected, "job {number}: {}", text(end));
        assert_eq!(end.checksum_ok, Some(true), "job {number}");
    }
}
