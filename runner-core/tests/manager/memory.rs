//! A source and an executor in memory. The executor's job is a byte string and an end; the source stores
//! what it is given and can be told to be away, to stand elsewhere, to cancel.

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
use runner_core::outcome::{Outcome, TraceSummary};
use runner_core::session::{Door, DoorError, PortStream, SessionKey, Terminal};
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};
use tokio::sync::Notify;

/// Stores traces and verdicts; its behaviour is set by the test.
#[derive(Default)]
pub(crate) struct MemorySource {
    pub(crate) state: Mutex<SourceState>,
}

#[derive(Default)]
pub(crate) struct SourceState {
    pub(crate) trace: Vec<u8>,
    pub(crate) verdicts: Vec<Conclusion>,
    /// How often a verdict was offered, also while it was away.
    pub(crate) offers: usize,
    pub(crate) away: bool,
    /// Answers to give before anything else.
    pub(crate) directives: VecDeque<Directive>,
    /// It goes away with the last of them.
    pub(crate) away_then: bool,
    pub(crate) rejections: u32,
    pub(crate) pieces: usize,
    pub(crate) touches: usize,
    pub(crate) gone: bool,
}

impl MemorySource {
    pub(crate) fn reply(state: &mut SourceState) -> Reply {
        let directive = state.directives.pop_front().unwrap_or_default();
        state.away |= state.away_then && state.directives.is_empty();
        Reply { directive, interval: None }
    }

    pub(crate) fn check(state: &SourceState) -> Result<(), SourceError> {
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
        state.offers += 1;
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
pub(crate) struct Script {
    pub(crate) trace: Bytes,
    /// `None`: it runs until it is stopped.
    pub(crate) outcome: Option<Outcome>,
    /// Whether its trace can be had at all.
    pub(crate) lost: bool,
    pub(crate) phase: JobPhase,
    pub(crate) remarks: Remarks,
}

impl Script {
    pub(crate) fn says(trace: impl Into<Bytes>, outcome: Outcome) -> Self {
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
pub(crate) struct Log {
    pub(crate) stops: Vec<Stop>,
    pub(crate) remarks: Vec<Remarks>,
    pub(crate) disposed: usize,
    pub(crate) most_unasked: u64,
}

pub(crate) struct ScriptHandle {
    pub(crate) script: Script,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) position: u64,
    pub(crate) until: u64,
    pub(crate) told_finishing: bool,
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
pub(crate) struct OneLeftBehind {
    pub(crate) script: Script,
    pub(crate) log: Arc<Mutex<Log>>,
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

pub(crate) struct World {
    pub(crate) source: Arc<MemorySource>,
    pub(crate) log: Arc<Mutex<Log>>,
}

impl World {
    pub(crate) fn new(set: impl FnOnce(&mut SourceState)) -> Self {
        let source = MemorySource::default();
        set(&mut source.state.lock());
        Self { source: Arc::new(source), log: Arc::default() }
    }

    /// Runs a manager on this job for a while (of paused time), `meanwhile` at its side.
    pub(crate) async fn run(
        &self,
        script: Script,
        seconds: u64,
        meanwhile: impl Future<Output = ()>,
    ) {
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

    pub(crate) fn trace(&self) -> Vec<u8> {
        self.source.state.lock().trace.clone()
    }

    pub(crate) fn only_verdict(&self) -> Conclusion {
        let verdicts = self.source.state.lock().verdicts.clone();
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts[0].clone()
    }
}

pub(crate) fn noise(length: usize) -> Bytes {
    (0..length).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>().into()
}

/// Nobody gets anywhere by it.
pub(crate) struct Wall;

#[async_trait]
impl Door for Wall {
    async fn terminal(&self) -> Result<Box<dyn Terminal>, DoorError> {
        Err(DoorError::Closed("it is a wall".to_owned()))
    }

    async fn port(&self, _port: u16) -> Result<Box<dyn PortStream>, DoorError> {
        Err(DoorError::Closed("it is a wall".to_owned()))
    }
}
