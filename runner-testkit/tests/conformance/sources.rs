//! Sources, whole and broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rstest::rstest;
use runner_core::ids::JobId;
use runner_core::source::JobSource;
use runner_testkit::conformance::{self, Counter, Shown, SourcePromise, Verdict};

use crate::queue::{Defect, Queue, QueueSource};

struct Desk {
    queue: Arc<Mutex<Queue>>,
    defect: Defect,
    sources: AtomicUsize,
}

impl Desk {
    fn with(defect: Defect) -> Self {
        Self { queue: Arc::default(), defect, sources: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Counter for Desk {
    async fn source(&self) -> Arc<dyn JobSource> {
        Arc::new(QueueSource {
            queue: Arc::clone(&self.queue),
            defect: self.defect,
            number: self.sources.fetch_add(1, Ordering::Relaxed),
            known: Mutex::default(),
        })
    }

    async fn enqueue(&self) -> JobId {
        // A moment later, as when it comes over a network.
        tokio::task::yield_now().await;
        self.queue.lock().push()
    }

    async fn trace(&self, job: JobId) -> Vec<u8> {
        self.queue.lock().jobs[&job].trace.clone()
    }

    async fn shown(&self, job: JobId) -> Shown {
        match &self.queue.lock().jobs[&job].outcome {
            None => Shown::Unfinished,
            Some(outcome) if outcome.is_success() => Shown::Success,
            Some(_) => Shown::NoSuccess,
        }
    }

    async fn cancel(&self, job: JobId) -> bool {
        self.queue.lock().jobs.get_mut(&job).unwrap().cancelled = true;
        true
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(if self.defect == Defect::None { 60 } else { 3 })
    }
}

#[tokio::test]
async fn a_source_that_keeps_its_promises_is_found_to() {
    let report = conformance::source(&Desk::with(Defect::None)).await;
    report.assert_kept();
    for promise in SourcePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

#[rstest]
#[case(Defect::HasANewIdEachTime, SourcePromise::IdIsStable, "first queue 0, then queue 1")]
#[case(
    Defect::GivesAJobTwice,
    SourcePromise::JobIsGivenOnce,
    "[JobId(1), JobId(1)] were handed out"
)]
#[case(Defect::LosesAJobWithItsPoll, SourcePromise::PollIsCancelSafe, "took longer than 3 s")]
#[case(Defect::KeepsTicketsInMemory, SourcePromise::TicketTravels, "what job is that?")]
#[case(Defect::LosesAByte, SourcePromise::TraceIsStored, "was refused")]
#[case(Defect::DoublesARepetition, SourcePromise::RepetitionIsHarmless, "second\\nsecond\\n")]
#[case(Defect::FillsGaps, SourcePromise::GapIsRefused, "a piece at 100 was answered with Stored")]
#[case(Defect::MixesJobs, SourcePromise::JobsAreApart, "the source has 4")]
#[case(
    Defect::ShowsUnknownAsSuccess,
    SourcePromise::OnlySuccessIsShownAsSuccess,
    "Unknown is shown as Success"
)]
#[case(Defect::ForgetsTheVerdict, SourcePromise::VerdictIsFinal, "it is shown as Unfinished")]
#[case(Defect::HidesCancels, SourcePromise::CancelArrives, "answered with `Continue`")]
#[case(Defect::DropsTheTail, SourcePromise::TraceIsStored, "the trace is")]
#[case(Defect::Hangs, SourcePromise::JobIsGivenOnce, "took longer than 3 s")]
#[tokio::test]
async fn a_broken_source_is_caught(
    #[case] defect: Defect,
    #[case] promise: SourcePromise,
    #[case] seen: &str,
) {
    let check = conformance::source_check(&Desk::with(defect), promise).await;
    let Verdict::Broken(text) = &check.verdict else { panic!("{defect:?}: {check:?}") };
    assert!(text.contains(seen), "{defect:?}: {text}");
}
