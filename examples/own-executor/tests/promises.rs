//! The executor against what an executor promises, and a whole job with it.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use own_executor::Processes;
use runner_core::executor::{Executor, ExecutorErrorKind, JobEvent, JobRequest};
use runner_core::ids::{JobId, Offset};
use runner_core::job::{Artifact, Job, Step, Variable};
use runner_core::outcome::Outcome;
use runner_core::plan::{HttpTransfer, Transfer};
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::source::Ticket;
use runner_testkit::conformance::{self, ExecutorPromise, Site};
use tempfile::TempDir;

struct Machine {
    jobs: TempDir,
    shared: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { jobs: tempfile::tempdir().unwrap(), shared: tempfile::tempdir().unwrap() }
    }

    fn processes(&self) -> Processes {
        Processes::new(self.jobs.path(), env!("CARGO_BIN_EXE_own-executor"))
    }
}

#[async_trait]
impl Site for Machine {
    async fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(self.processes())
    }

    async fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.jobs.path()).unwrap();
        entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
    }

    async fn destroy(&self, job: JobId) -> bool {
        self.processes().destroy(job).unwrap();
        true
    }

    fn shared_directory(&self) -> Option<PathBuf> {
        Some(self.shared.path().to_owned())
    }
}

#[tokio::test]
async fn it_keeps_what_an_executor_promises() {
    let report = conformance::executor(&Machine::new()).await;
    report.assert_kept();
    for promise in ExecutorPromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

/// Trace and outcome of a job.
async fn run(job: &Job) -> (String, Outcome) {
    let machine = Machine::new();
    let plan = plan(job, &PlanSettings::default(), Transfers::default()).unwrap();
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job, plan: &plan, ticket: &ticket, session: None };
    let mut handle = machine.processes().reserve(request).await.unwrap();
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, Offset(u64::MAX)).await;
    let mut trace = Vec::new();
    loop {
        match handle.event().await {
            JobEvent::Trace { bytes, .. } => trace.extend(bytes),
            JobEvent::Ended(end) => {
                handle.dispose().await.unwrap();
                return (String::from_utf8(trace).unwrap(), end.outcome);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_job_has_its_variables_and_its_files_and_its_secrets_are_masked() {
    let script = ["echo \"$GREETING to $(cat \"$FILE\")\"", "pwd", "echo $PASSWORD >&2", "exit 3"];
    let mut job = Job::new(JobId(1), "test", script);
    job.steps.push(Step::new("after_script", ["echo it was ${CI_JOB_STATUS}"]));
    job.variables = vec![
        Variable::new("GREETING", "hello"),
        Variable::new("PASSWORD", "hunter22").secret(),
        Variable::new("FILE", "you").in_file(),
    ];
    let (trace, outcome) = run(&job).await;
    assert_eq!(outcome, Outcome::Exited(3), "{trace}");
    assert!(trace.contains("hello to you\n") && trace.contains("/work\n"), "{trace}");
    assert!(trace.contains("[MASKED]\n") && !trace.contains("hunter22"), "{trace}");
    assert!(trace.contains("it was failed\n"), "{trace}");
}

#[tokio::test]
async fn a_script_that_is_killed_is_no_success() {
    let (_, outcome) = run(&Job::new(JobId(1), "test", ["kill -9 $$"])).await;
    assert_eq!(outcome, Outcome::Signalled(9));
}

#[tokio::test]
async fn a_job_that_cannot_run_here_is_refused_before_anything_of_it_exists() {
    let machine = Machine::new();
    let mut job = Job::new(JobId(1), "test", ["true"]);
    job.artifacts = vec![Artifact { paths: vec!["out/".into()], ..Artifact::default() }];
    let upload = HttpTransfer::new("PUT", "http://localhost:1/", job.timeout);
    let uploads = vec![Some(Transfer::Http(upload))];
    let transfers = Transfers { uploads, ..Transfers::default() };
    let plan = plan(&job, &PlanSettings::default(), transfers).unwrap();
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job: &job, plan: &plan, ticket: &ticket, session: None };
    let Err(error) = machine.processes().reserve(request).await else { panic!("it was taken") };
    let ExecutorErrorKind::Refused(outcome) = error.kind else { panic!("{error:?}") };
    assert!(format!("{outcome:?}").contains("no artifacts"), "{outcome:?}");
    assert_eq!(machine.leftovers().await, Vec::<String>::new());
}
