//! The manager against a source and an executor in memory, with paused time.
//!
//! The executor's job is a byte string and an end; the source stores what it is given and can be
//! told to be away, to stand elsewhere, to cancel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::executor::{
    Executor, ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, JobRequest,
    Remarks, Stop,
};
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::outcome::{Infra, InfraKind, Outcome, TraceSummary};
use runner_core::session::{
    Door, DoorError, PortStream, SessionKey, Sessions, Terminal, Visitor, Visitors,
};
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};
use tokio::sync::Notify;

/// Stores traces and verdicts; its behaviour is set by the test.
#[derive(Default)]
struct MemorySource {
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    trace: Vec<u8>,
    verdicts: Vec<Conclusion>,
    away: bool,
    /// Answers to give before anything else.
    directives: VecDeque<Directive>,
    /// It goes away with the last of them.
    away_then: bool,
    rejections: u32,
    pieces: usize,
    touches: usize,
    gone: bool,
}

impl MemorySource {
    fn reply(state: &mut SourceState) -> Reply {
        let directive = state.directives.pop_front().unwrap_or_default();
        state.away |= state.away_then && state.directives.is_empty();
        Reply { directive, interval: None }
    }

    fn check(state: &SourceState) -> Result<(), SourceError> {
        if state.away {
            return Err(SourceError::new(SourceErrorKind::Unavailable, "away"));
        }
        Ok(())
    }
}

#[async_trait]
impl JobSource for MemorySource {
    fn id(&self) -> SourceId {
        SourceId("memory".to_owned())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        std::future::pending().await
    }

    fn session(&self, _ticket: &Ticket) -> Option<SessionKey> {
        Some(SessionKey { id: "session".to_owned(), token: "secret".into(), ports: Vec::new() })
    }

    async fn accept(&self, _ticket: &Ticket) -> Result<Reply, SourceError> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        Ok(Self::reply(&mut state))
    }

    async fn append(
        &self,
        _ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        assert!(state.verdicts.is_empty(), "trace after the verdict");
        let has = Offset(state.trace.len() as u64);
        if from != has {
            return Ok(Appended::Elsewhere { has, reply: Self::reply(&mut state) });
        }
        state.pieces += 1;
        for chunk in chunks {
            assert!(!chunk.is_empty());
            state.trace.extend_from_slice(&chunk);
        }
        Ok(Appended::Stored(Self::reply(&mut state)))
    }

    async fn touch(&self, _ticket: &Ticket) -> Result<Reply, SourceError> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        state.touches += 1;
        if state.gone {
            return Ok(Reply { directive: Directive::Abort, interval: None });
        }
        Ok(Self::reply(&mut state))
    }

    async fn finish(
        &self,
        _ticket: &Ticket,
        conclusion: &Conclusion,
    ) -> Result<Finished, SourceError> {
        let mut state = self.state.lock();
        Self::check(&state)?;
        if let Some(summary) = conclusion.trace
            && (summary != TraceSummary::of(&state.trace) || state.rejections > 0)
        {
            state.rejections = state.rejections.saturating_sub(1);
            state.trace.clear();
            return Ok(Finished::TraceRejected);
        }
        state.verdicts.push(conclusion.clone());
        Ok(Finished::Done)
    }
}

/// What a job does: says these bytes, then ends like this.
#[derive(Clone)]
struct Script {
    trace: Bytes,
    /// `None`: it runs until it is stopped.
    outcome: Option<Outcome>,
    /// Whether its trace can be had at all.
    lost: bool,
    phase: JobPhase,
    remarks: Remarks,
}

impl Script {
    fn says(trace: impl Into<Bytes>, outcome: Outcome) -> Self {
        Self {
            trace: trace.into(),
            outcome: Some(outcome),
            lost: false,
            phase: JobPhase::Started,
            remarks: Remarks::default(),
        }
    }
}

#[derive(Default)]
struct Log {
    stops: Vec<Stop>,
    remarks: Vec<Remarks>,
    disposed: usize,
    most_unasked: u64,
}

struct ScriptHandle {
    script: Script,
    log: Arc<Mutex<Log>>,
    changed: Arc<Notify>,
    position: u64,
    until: u64,
    told_finishing: bool,
}

#[async_trait]
impl JobHandle for ScriptHandle {
    fn id(&self) -> JobId {
        JobId(1)
    }

    fn ticket(&self) -> Ticket {
        Ticket("ticket".into())
    }

    fn place(&self) -> String {
        "memory/1".to_owned()
    }

    fn url(&self) -> Option<String> {
        Some("https://source.example/jobs/1".to_owned())
    }

    fn phase(&self) -> JobPhase {
        self.script.phase
    }

    fn door(&self) -> Option<Arc<dyn Door>> {
        Some(Arc::new(Wall))
    }

    fn remarks(&self) -> Remarks {
        self.script.remarks.clone()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        self.script.phase = JobPhase::Started;
        Ok(())
    }

    async fn event(&mut self) -> JobEvent {
        loop {
            let length = self.script.trace.len() as u64;
            if self.position < self.until.min(length) && !self.script.lost {
                let end = self.until.min(length).min(self.position + 7000);
                let bytes = self.script.trace.slice(self.position as usize..end as usize);
                let offset = Offset(self.position);
                self.position = end;
                let mut log = self.log.lock();
                log.most_unasked = log.most_unasked.max(self.until - self.position);
                return JobEvent::Trace { offset, bytes };
            }
            let stopped = self.log.lock().stops.iter().max().copied();
            let outcome = match (&self.script.outcome, stopped) {
                (Some(outcome), _) => Some(outcome.clone()),
                (None, Some(_)) => Some(Outcome::Cancelled),
                (None, None) => None,
            };
            if let Some(outcome) = outcome {
                if self.position >= length || self.script.lost {
                    let own = TraceSummary::of(&self.script.trace);
                    return JobEvent::Ended(JobEnd {
                        outcome,
                        trace: (!self.script.lost).then_some(own),
                        stages: Vec::new(),
                        explained: !self.script.lost,
                        detail: None,
                    });
                }
                if !self.told_finishing {
                    self.told_finishing = true;
                    return JobEvent::Finishing;
                }
            }
            self.changed.notified().await;
        }
    }

    async fn follow(&mut self, from: Offset, until: Offset) {
        self.position = from.0;
        self.until = until.0;
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError> {
        self.log.lock().stops.push(stop);
        Ok(())
    }

    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
        self.log.lock().remarks.push(remarks.clone());
        self.script.remarks = remarks;
        Ok(())
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        self.log.lock().disposed += 1;
        Ok(())
    }
}

/// Hands out one job that was left behind.
struct OneLeftBehind {
    script: Script,
    log: Arc<Mutex<Log>>,
}

#[async_trait]
impl Executor for OneLeftBehind {
    async fn reserve<'a>(
        &self,
        _request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError> {
        Err(ExecutorError::new(ExecutorErrorKind::Unavailable, "not in this test"))
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        Ok(vec![Box::new(ScriptHandle {
            script: self.script.clone(),
            log: Arc::clone(&self.log),
            changed: Arc::new(Notify::new()),
            position: 0,
            until: 0,
            told_finishing: false,
        })])
    }
}

struct World {
    source: Arc<MemorySource>,
    log: Arc<Mutex<Log>>,
}

impl World {
    fn new(set: impl FnOnce(&mut SourceState)) -> Self {
        let source = MemorySource::default();
        set(&mut source.state.lock());
        Self { source: Arc::new(source), log: Arc::default() }
    }

    /// Runs a manager on this job for a while (of paused time), `meanwhile` at its side.
    async fn run(&self, script: Script, seconds: u64, meanwhile: impl Future<Output = ()>) {
        let executor = Arc::new(OneLeftBehind { script, log: Arc::clone(&self.log) });
        let (manager, stop) = Manager::new(1);
        let source: Arc<dyn JobSource> = Arc::clone(&self.source) as _;
        let running = manager.runner(Runner::new("test", source, executor)).run();
        let ending = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stop.stop(StopLevel::Leave);
        };
        tokio::join!(running, ending, meanwhile);
    }

    fn trace(&self) -> Vec<u8> {
        self.source.state.lock().trace.clone()
    }

    fn only_verdict(&self) -> Conclusion {
        let verdicts = self.source.state.lock().verdicts.clone();
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts[0].clone()
    }
}

fn noise(length: usize) -> Bytes {
    (0..length).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>().into()
}

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
async fn a_source_that_never_comes_back_is_given_up_after_an_hour() {
    let world = World::new(|state| state.away = true);
    let lines = Lines::default();
    let _said = tracing::subscriber::set_default(lines.clone());
    world.run(Script::says("late\n", Outcome::Exited(0)), 2 * 3600, async {}).await;
    assert!(world.source.state.lock().verdicts.is_empty());
    assert_eq!(world.log.lock().disposed, 1);
    // An adopted job's, too.
    let lines = lines.0.lock();
    let last = lines.iter().find(|line| line.contains("did not take the verdict")).unwrap();
    assert!(last.contains("https://source.example/jobs/1"), "{last}");
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

/// Nobody gets anywhere by it.
struct Wall;

#[async_trait]
impl Door for Wall {
    async fn terminal(&self) -> Result<Box<dyn Terminal>, DoorError> {
        Err(DoorError::Closed("it is a wall".to_owned()))
    }

    async fn port(&self, _port: u16) -> Result<Box<dyn PortStream>, DoorError> {
        Err(DoorError::Closed("it is a wall".to_owned()))
    }
}

/// Puts somebody into every job at once.
#[derive(Default)]
struct Full {
    inside: Mutex<Option<Visitor>>,
    open: Arc<Mutex<Vec<String>>>,
}

struct Opened(Arc<Mutex<Vec<String>>>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

impl Sessions for Full {
    fn open(
        &self,
        _job: JobId,
        key: SessionKey,
        _door: Arc<dyn Door>,
        visitors: Visitors,
    ) -> Box<dyn Send + Sync> {
        *self.inside.lock() = Some(visitors.enter());
        self.open.lock().push(key.id);
        Box::new(Opened(Arc::clone(&self.open)))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1800)
    }
}

/// Runs a job with somebody inside who leaves after `stay`; how long it took.
async fn visited(world: &World, stay: Duration) -> Duration {
    let sessions = Arc::new(Full::default());
    let script = Script::says("hello\n", Outcome::Exited(0));
    let executor = Arc::new(OneLeftBehind { script, log: Arc::clone(&world.log) });
    let (manager, stop) = Manager::new(1);
    let source: Arc<dyn JobSource> = Arc::clone(&world.source) as _;
    let mut runner = Runner::new("test", source, executor);
    runner.sessions = Some(Arc::clone(&sessions) as _);
    let began = tokio::time::Instant::now();
    let running = tokio::spawn(manager.runner(runner).run());
    let leave = async {
        tokio::time::sleep(stay).await;
        sessions.inside.lock().take();
        std::future::pending::<()>().await;
    };
    let over = async {
        while world.log.lock().disposed == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = leave => {}
        () = over => {}
    }
    assert!(sessions.open.lock().is_empty(), "nobody may come in after the end");
    stop.stop(StopLevel::Leave);
    running.await.expect("the manager does not panic");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn manager_61_a_job_that_is_over_waits_for_a_terminal_to_be_closed() {
    let world = World::new(|_| {});
    let took = visited(&world, Duration::from_secs(600)).await;
    assert!((600..610).contains(&took.as_secs()), "{took:?}");
    let trace = String::from_utf8(world.trace()).unwrap();
    assert!(trace.contains("Terminal is connected, will time out in 1800s"), "{trace}");
    let verdict = world.only_verdict();
    assert_eq!(verdict.outcome, Outcome::Exited(0));
    assert_eq!(verdict.trace, Some(TraceSummary::of(trace.as_bytes())));
    assert!(world.source.state.lock().touches >= 19, "the source hears of it meanwhile");
}

#[tokio::test(start_paused = true)]
async fn manager_61_a_job_waits_for_a_terminal_no_longer_than_the_session_timeout() {
    let world = World::new(|_| {});
    let took = visited(&world, Duration::from_secs(99_999)).await;
    assert!((1800..1810).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn manager_61_a_cancelled_job_waits_for_no_terminal() {
    let world = World::new(|state| {
        state.directives = [Directive::Continue, Directive::Continue, Directive::Cancel].into();
    });
    let took = visited(&world, Duration::from_secs(99_999)).await;
    assert!(took < Duration::from_secs(60), "{took:?}");
}
