//! The manager against a source and an executor in memory, with paused time.

mod memory;
mod visits;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::executor::{JobPhase, Remarks, Stop};
use runner_core::ids::Offset;
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::outcome::{Infra, InfraKind, Outcome, TraceSummary};
use runner_core::source::{Directive, JobSource};

use crate::memory::{OneLeftBehind, Script, World, noise};

#[tokio::test(start_paused = true)]
async fn a_jobs_trace_and_verdict_reach_the_source_and_nothing_is_left() {
    let world = World::new(|_| {});
    world.run(Script::says("hello\n", Outcome::Exited(37)), 60, async {}).await;
    assert_eq!(world.trace(), b"hello\n");
    let verdict = world.only_verdict();
    assert_eq!(verdict.outcome, Outcome::Exited(37));
    assert_eq!(verdict.trace, Some(TraceSummary::of(b"hello\n")));
    assert_eq!(world.log.lock().disposed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_trace_goes_through_a_small_window_without_loss() {
    let trace = noise(5_000_000);
    let world = World::new(|_| {});
    world.run(Script::says(trace.clone(), Outcome::Exited(0)), 60, async {}).await;
    assert!(world.trace() == trace);
    assert!(world.log.lock().most_unasked <= 1024 * 1024);
    let pieces = world.source.state.lock().pieces;
    assert!(pieces < 50, "{pieces} pieces for 5 MB");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_a_part_already_gets_only_the_rest() {
    let trace = noise(100_000);
    let world = World::new(|state| state.trace = trace[..60_000].to_vec());
    world.run(Script::says(trace.clone(), Outcome::Exited(0)), 60, async {}).await;
    assert!(world.trace() == trace);
    assert_eq!(world.only_verdict().trace, Some(TraceSummary::of(&trace)));
}

#[tokio::test(start_paused = true)]
async fn api_a_rejected_trace_is_sent_again_from_the_beginning() {
    let trace = noise(70_000);
    let world = World::new(|state| state.rejections = 2);
    world.run(Script::says(trace.clone(), Outcome::Exited(0)), 120, async {}).await;
    assert!(world.trace() == trace);
    assert_eq!(world.only_verdict().trace, Some(TraceSummary::of(&trace)));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_rejects_every_trace_gets_the_verdict_without_a_checksum() {
    let world = World::new(|state| state.rejections = u32::MAX);
    world.run(Script::says("x\n", Outcome::Exited(0)), 120, async {}).await;
    assert_eq!(world.only_verdict().trace, None);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_for_long_gets_everything_when_it_is_back() {
    let world = World::new(|state| state.away = true);
    let back = async {
        tokio::time::sleep(Duration::from_secs(50 * 60)).await;
        world.source.state.lock().away = false;
    };
    world.run(Script::says("late\n", Outcome::Exited(0)), 3600, back).await;
    assert_eq!(world.trace(), b"late\n");
    assert!(world.only_verdict().outcome.is_success());
}

#[tokio::test(start_paused = true)]
async fn manager_80_a_source_that_never_comes_back_is_given_up_after_an_hour() {
    let world = World::new(|state| state.away = true);
    let lines = Lines::default();
    // While there is one subscriber alone, tracing asks that of the thread that comes to a line first, which may
    // be another test's and have none; then nobody hears that line any more.
    let _second = tracing::Dispatch::new(Lines::default());
    let _said = tracing::subscriber::set_default(lines.clone());
    world.run(Script::says("late\n", Outcome::Exited(0)), 2 * 3600, async {}).await;
    assert!(world.source.state.lock().verdicts.is_empty());
    assert_eq!(world.log.lock().disposed, 1);
    // An adopted job's, too.
    let lines = lines.0.lock();
    let last = lines.iter().find(|line| line.contains("did not take the verdict")).unwrap();
    assert!(last.contains("https://source.example/jobs/1"), "{last}");
}

/// GitLab Runner offers it ten times within about a minute, and an outage of two costs the job.
#[tokio::test(start_paused = true)]
async fn manager_80_a_verdict_is_offered_ever_more_rarely_while_the_source_is_away() {
    let world = World::new(|state| state.away = true);
    let silent = Script::says("", Outcome::Exited(0));
    world.run(silent, 2 * 3600, async {}).await;
    let state = world.source.state.lock();
    assert!(state.verdicts.is_empty());
    // Pauses of 1, 2, 4 … 60 s, each up to half shorter or longer.
    assert!((45..130).contains(&state.offers), "{}", state.offers);
}

#[tokio::test(start_paused = true)]
async fn manager_80_a_verdict_that_the_source_does_not_take_holds_up_no_end() {
    let world = World::new(|state| state.away = true);
    let begin = tokio::time::Instant::now();
    world.run(Script::says("", Outcome::Exited(0)), 300, async {}).await;
    assert!(begin.elapsed() < Duration::from_secs(301), "{:?}", begin.elapsed());
    assert!(world.source.state.lock().offers > 1, "it was tried");
    assert_eq!(world.log.lock().disposed, 0, "the next manager says it");
}

/// What the operator's log says.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!("{field}={value:?} "));
        });
        self.0.lock().push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn api_a_silent_job_is_kept_alive_every_thirty_seconds() {
    let mut script = Script::says("", Outcome::Exited(0));
    script.outcome = None;
    let world = World::new(|_| {});
    world.run(script, 100, async {}).await;
    // One when it was adopted, then one every 30 s.
    assert_eq!(world.source.state.lock().touches, 4);
    assert_eq!(world.log.lock().disposed, 0, "left to the next manager");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_stopped_once_and_reports_what_it_came_to() {
    let mut script = Script::says("running\n", Outcome::Exited(0));
    script.outcome = None;
    let world = World::new(|state| {
        state.directives = vec![Directive::Continue, Directive::Cancel, Directive::Cancel].into()
    });
    world.run(script, 120, async {}).await;
    assert_eq!(world.log.lock().stops, [Stop::Cancel]);
    assert_eq!(world.only_verdict().outcome, Outcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_job_is_removed_without_another_word() {
    let mut script = Script::says("running\n", Outcome::Exited(0));
    script.outcome = None;
    let world =
        World::new(|state| state.directives = vec![Directive::Continue, Directive::Abort].into());
    world.run(script, 120, async {}).await;
    assert!(world.source.state.lock().verdicts.is_empty());
    assert_eq!(world.log.lock().disposed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_adopted_job_that_the_source_no_longer_wants_is_removed() {
    let world = World::new(|state| state.gone = true);
    world.run(Script::says("x\n", Outcome::Exited(0)), 60, async {}).await;
    assert!(world.trace().is_empty());
    assert_eq!(world.log.lock().disposed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_that_the_source_could_not_be_told_of_is_left_to_the_next_manager() {
    let world = World::new(|state| {
        state.directives.push_back(Directive::Cancel);
        state.away_then = true;
    });
    let script =
        || Script { phase: JobPhase::Reserved, ..Script::says("not started", Outcome::Exited(0)) };
    world.run(script(), 60, async {}).await;
    assert_eq!(world.log.lock().disposed, 0, "nobody else would know of it");
    let decided = world.log.lock().remarks.last().and_then(|remarks| remarks.outcome.clone());
    assert_eq!(decided, Some(Outcome::Cancelled), "and it was not forgotten");
    {
        let mut state = world.source.state.lock();
        (state.away, state.away_then) = (false, false);
        state.directives.push_back(Directive::Cancel);
    }
    world.run(script(), 60, async {}).await;
    assert_eq!(world.only_verdict().outcome, Outcome::Cancelled);
    assert_eq!(world.log.lock().disposed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_another_manager_has_refused_is_never_started() {
    let quota = Outcome::Infra(Infra::new(InfraKind::System, "no quota"));
    let script = Script {
        phase: JobPhase::Reserved,
        remarks: Remarks {
            after: Some((Offset(0), Bytes::from_static(b"no quota\n"))),
            outcome: Some(quota.clone()),
            ..Remarks::default()
        },
        ..Script::says("it runs\n", Outcome::Exited(0))
    };
    // The source has the beginning of what that manager said.
    let world = World::new(|state| state.trace = b"no qu".to_vec());
    world.run(script, 60, async {}).await;
    assert_eq!(world.trace(), b"no quota\n");
    assert_eq!(world.only_verdict().outcome, quota);
    assert_eq!(world.log.lock().disposed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_leaves_does_not_wait_for_a_source_that_is_away() {
    let world = World::new(|state| state.away = true);
    let script = Script { phase: JobPhase::Reserved, ..Script::says("x", Outcome::Exited(0)) };
    let begin = tokio::time::Instant::now();
    world.run(script, 60, async {}).await;
    assert!(begin.elapsed() < Duration::from_secs(61), "{:?}", begin.elapsed());
    assert_eq!(world.log.lock().disposed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_pod_is_gone_says_so_after_what_the_source_has() {
    let mut script = Script::says("never seen", Outcome::Exited(0));
    script.lost = true;
    script.outcome = Some(Outcome::Infra(Infra::new(InfraKind::System, "the pod was deleted")));
    let world = World::new(|state| state.trace = b"half a line".to_vec());
    world.run(script, 60, async {}).await;
    let trace = String::from_utf8(world.trace()).unwrap();
    assert!(trace.starts_with("half a line"), "{trace}");
    assert!(trace.contains("Job failed (system failure): the pod was deleted"), "{trace}");
    let verdict = world.only_verdict();
    assert_eq!(verdict.trace, None, "no checksum rather than a wrong one");
    assert!(matches!(verdict.outcome, Outcome::Infra(_)));
    assert_eq!(world.log.lock().remarks.len(), 1, "stored before it was said");
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_manager_decided_stands() {
    let mut script = Script::says("never seen", Outcome::Exited(0));
    script.lost = true;
    let decided = Outcome::Infra(Infra::new(InfraKind::System, "evicted"));
    script.remarks = Remarks {
        before: Bytes::from_static(b"wait\n"),
        after: Some((Offset(3), Bytes::from_static(b"evicted\n"))),
        outcome: Some(decided.clone()),
    };
    let world = World::new(|state| state.trace = b"wait\nabcevi".to_vec());
    world.run(script, 60, async {}).await;
    assert_eq!(world.trace(), b"wait\nabcevicted\n");
    assert_eq!(world.only_verdict().outcome, decided);
}

#[tokio::test(start_paused = true)]
async fn manager_31_a_manager_that_is_told_to_stop_its_jobs_reports_them_as_interrupted() {
    let mut script = Script::says("running\n", Outcome::Exited(0));
    script.outcome = None;
    let world = World::new(|_| {});
    let executor = Arc::new(OneLeftBehind { script, log: Arc::clone(&world.log) });
    let (manager, stop) = Manager::new(1);
    let source: Arc<dyn JobSource> = Arc::clone(&world.source) as _;
    let running = tokio::spawn(manager.runner(Runner::new("test", source, executor)).run());
    tokio::time::sleep(Duration::from_secs(20)).await;
    stop.stop(StopLevel::Stop);
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert_eq!(world.log.lock().stops, [Stop::Abort]);
    let verdict = world.only_verdict();
    let Outcome::Infra(infra) = verdict.outcome else { panic!("{verdict:?}") };
    assert_eq!(infra.kind, InfraKind::Interrupted);
    let trace = String::from_utf8(world.trace()).unwrap();
    assert!(trace.contains("aborted: the runner was told to stop"), "{trace}");
    assert_eq!(verdict.trace, Some(TraceSummary::of(&world.trace())));
    assert_eq!(world.log.lock().disposed, 1);
}
