//! Executors, whole and broken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rstest::rstest;
use runner_core::executor::Executor;
use runner_core::ids::JobId;
use runner_testkit::conformance::{self, ExecutorPromise, Report, Site, Verdict};

use crate::process_executor::{Defect, Jobs, ProcessExecutor};

struct Processes {
    jobs: Jobs,
    defect: Defect,
    directory: tempfile::TempDir,
}

impl Processes {
    fn with(defect: Defect) -> Self {
        Self { jobs: Jobs::default(), defect, directory: tempfile::tempdir().unwrap() }
    }
}

#[async_trait]
impl Site for Processes {
    async fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(ProcessExecutor { jobs: Arc::clone(&self.jobs), defect: self.defect })
    }

    async fn leftovers(&self) -> Vec<String> {
        self.jobs.lock().keys().map(|id| format!("job {id}")).collect()
    }

    async fn destroy(&self, job: JobId) -> bool {
        self.jobs.lock()[&job].destroyed.send_replace(true);
        true
    }

    fn shared_directory(&self) -> Option<PathBuf> {
        Some(self.directory.path().to_owned())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(match self.defect {
            Defect::Hangs | Defect::Leaks | Defect::IgnoresCancel | Defect::IgnoresTheDeadline => 4,
            _ => 60,
        })
    }
}

#[tokio::test]
async fn an_executor_that_keeps_its_promises_is_found_to() {
    let report = conformance::executor(&Processes::with(Defect::None)).await;
    report.assert_kept();
    for promise in ExecutorPromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

#[rstest]
#[case(Defect::LosesAByte, ExecutorPromise::TraceIsWhole, "is next")]
#[case(Defect::DoublesAByte, ExecutorPromise::TraceIsWhole, "a piece of the trace begins at")]
#[case(Defect::SucceedsWithoutProof, ExecutorPromise::LostIsNoSuccess, "ended as a success")]
#[case(Defect::IgnoresCancel, ExecutorPromise::CancelStops, "took longer than 4 s")]
#[case(Defect::RunsTwice, ExecutorPromise::RunsOnce, "it ran 3 times")]
#[case(Defect::Leaks, ExecutorPromise::NothingIsLeft, "left: [\"job 12\"]")]
#[case(
    Defect::ResumesAtTheWrongOffset,
    ExecutorPromise::RunningIsFound,
    "begins at 19999, and 20000 is"
)]
#[case(
    Defect::ResumesAtTheWrongOffset,
    ExecutorPromise::TraceIsSeekable,
    "begins at 33332, and 33333 is"
)]
#[case(Defect::Hangs, ExecutorPromise::TraceIsWhole, "took longer than 4 s")]
#[case(Defect::Reorders, ExecutorPromise::TraceIsWhole, "where line")]
#[case(Defect::DropsTheTail, ExecutorPromise::TraceIsWhole, "the trace has the first")]
#[case(Defect::ForgetsRemarks, ExecutorPromise::RemarksSurvive, "said before")]
#[case(Defect::PushesTrace, ExecutorPromise::TraceIsNotPushed, "only 100 were asked for")]
#[case(Defect::LetsTheLoserWrite, ExecutorPromise::LoserIsRefused, "its remark was taken")]
#[case(Defect::LosesEventsWhenDropped, ExecutorPromise::EventsAreCancelSafe, "is next")]
#[case(Defect::IgnoresTheDeadline, ExecutorPromise::DeadlineStops, "took longer than 4 s")]
#[tokio::test]
async fn a_broken_executor_is_caught(
    #[case] defect: Defect,
    #[case] promise: ExecutorPromise,
    #[case] seen: &str,
) {
    let check = conformance::executor_check(&Processes::with(defect), promise).await;
    let Verdict::Broken(text) = &check.verdict else { panic!("{defect:?}: {check:?}") };
    assert!(text.contains(seen), "{defect:?}: {text}");
    let report = Report { checks: vec![check] }.to_string();
    assert!(report.starts_with("executor: 1 of 1 promises broken\n  BROKEN    "), "{report}");
    let alone = format!("conformance::executor_check(&subject, ExecutorPromise::{promise:?})");
    assert!(report.contains(&alone), "{report}");
}
