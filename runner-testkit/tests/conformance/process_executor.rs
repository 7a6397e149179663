//! A small executor that keeps its promises, and knows ways not to.
//!
//! Each script stage is a `sh`; what belongs to a job is in [`Jobs`], which outlives every executor as
//! a cluster would.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use runner_core::executor::{
    Executor, ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, JobRequest,
    Remarks, Stop,
};
use runner_core::ids::{JobId, Offset};
use runner_core::outcome::{Outcome, TimeLimit, TraceSummary};
use runner_core::plan::{Operation, Plan, When};
use runner_core::source::Ticket;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::watch;

/// How this executor breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    LosesAByte,
    DoublesAByte,
    SucceedsWithoutProof,
    IgnoresCancel,
    RunsTwice,
    Leaks,
    ResumesAtTheWrongOffset,
    Hangs,
    Reorders,
    DropsTheTail,
    ForgetsRemarks,
    PushesTrace,
    LetsTheLoserWrite,
    LosesEventsWhenDropped,
    IgnoresTheDeadline,
}

/// What there is of jobs.
pub(crate) type Jobs = Arc<Mutex<BTreeMap<JobId, Arc<Running>>>>;

/// One job.
pub(crate) struct Running {
    ticket: Ticket,
    plan: Plan,
    kept: Mutex<Kept>,
    state: watch::Sender<State>,
    stop: watch::Sender<Option<Stop>>,
    /// Set by the test: whatever runs is gone, and so is what it wrote down.
    pub(crate) destroyed: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    epoch: u64,
    started: bool,
    remarks: Remarks,
}

#[derive(Default)]
struct State {
    trace: Vec<u8>,
    outcome: Option<Outcome>,
}

pub(crate) struct ProcessExecutor {
    pub(crate) jobs: Jobs,
    pub(crate) defect: Defect,
}

struct Handle {
    id: JobId,
    jobs: Jobs,
    job: Arc<Running>,
    defect: Defect,
    epoch: u64,
    position: u64,
    until: u64,
    running: bool,
    finishing: bool,
    held: Option<JobEvent>,
}

impl ProcessExecutor {
    fn handle(&self, id: JobId, job: Arc<Running>, epoch: u64) -> Box<dyn JobHandle> {
        Box::new(Handle {
            id,
            jobs: Arc::clone(&self.jobs),
            job,
            defect: self.defect,
            epoch,
            position: 0,
            until: 0,
            running: false,
            finishing: false,
            held: None,
        })
    }
}

#[async_trait]
impl Executor for ProcessExecutor {
    async fn reserve<'a>(
        &self,
        request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError> {
        let job = Arc::new(Running {
            ticket: request.ticket.clone(),
            plan: request.plan.clone(),
            kept: Mutex::default(),
            state: watch::Sender::new(State::default()),
            stop: watch::Sender::new(None),
            destroyed: watch::Sender::new(false),
        });
        self.jobs.lock().insert(request.job.id, Arc::clone(&job));
        Ok(self.handle(request.job.id, job, 0))
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        let jobs = self.jobs.lock();
        let claimed = jobs.iter().map(|(id, job)| {
            let mut kept = job.kept.lock();
            kept.epoch += 1;
            self.handle(*id, Arc::clone(job), kept.epoch)
        });
        Ok(claimed.collect())
    }
}

impl Running {
    /// Runs the plan's scripts, as a pod would: whoever looks.
    async fn run(self: Arc<Self>, defect: Defect) {
        let mut outcome = Outcome::Exited(0);
        let mut stop = self.stop.subscribe();
        let mut destroyed = self.destroyed.subscribe();
        let limit = self.plan.timeout;
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        for stage in &self.plan.stages {
            let Operation::Script(script) = &stage.operation else { continue };
            let after = stage.when == When::AfterScript;
            let abort = *stop.borrow() == Some(Stop::Abort);
            if !(outcome.is_success() || after && !abort) {
                continue;
            }
            let mut child = Command::new("sh");
            child.arg("-c").arg(script.commands.join("\n")).kill_on_drop(true);
            child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            child.process_group(0);
            let mut child = child.spawn().unwrap();
            let mut output = child.stdout.take().unwrap();
            let ended = tokio::select! {
                status = self.relay(&mut output, &mut child) => status,
                _ = stop.wait_for(|stop| stop.is_some()), if !after && defect != Defect::IgnoresCancel => Outcome::Cancelled,
                () = &mut deadline, if defect != Defect::IgnoresTheDeadline => Outcome::TimedOut(TimeLimit::Job(limit)),
                _ = destroyed.wait_for(|destroyed| *destroyed) => return,
            };
            if outcome.is_success() {
                outcome = ended;
            }
        }
        self.state.send_modify(|state| state.outcome = Some(outcome));
    }

    async fn relay(
        &self,
        output: &mut (impl tokio::io::AsyncRead + Unpin),
        child: &mut tokio::process::Child,
    ) -> Outcome {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut piece).await {
            self.state.send_modify(|state| state.trace.extend_from_slice(&piece[..length]));
        }
        Outcome::Exited(child.wait().await.unwrap().code().unwrap())
    }
}

impl Handle {
    fn end(&self, outcome: Outcome, trace: Option<TraceSummary>) -> JobEvent {
        JobEvent::Ended(JobEnd {
            outcome,
            trace,
            stages: Vec::new(),
            explained: true,
            detail: None,
        })
    }

    /// The next event, if there is one already.
    fn ready(&mut self) -> Option<JobEvent> {
        if !std::mem::replace(&mut self.running, true) {
            return Some(JobEvent::Running);
        }
        let job = Arc::clone(&self.job);
        let state = job.state.borrow();
        if *job.destroyed.borrow() {
            let outcome = match self.defect {
                Defect::SucceedsWithoutProof => Outcome::Exited(0),
                _ => Outcome::Unknown,
            };
            return Some(self.end(outcome, None));
        }
        let length = state.trace.len() as u64;
        let until = if self.defect == Defect::PushesTrace { length } else { self.until };
        if self.defect == Defect::DropsTheTail && self.position > 40_000 {
            let outcome = state.outcome.clone()?;
            let read = &state.trace[..self.position as usize];
            return Some(self.end(outcome, Some(TraceSummary::of(read))));
        }
        if self.position < length.min(until) {
            let end = length.min(until).min(self.position + 3000);
            let mut bytes = state.trace[self.position as usize..end as usize].to_vec();
            let offset = Offset(self.position);
            // Some way into the trace, so that it is not the first piece that is wrong.
            if (40_000..43_000).contains(&self.position) {
                match self.defect {
                    Defect::LosesAByte => drop(bytes.remove(10)),
                    Defect::DoublesAByte => bytes.insert(10, bytes[10]),
                    Defect::Reorders => bytes.reverse(),
                    Defect::Hangs => return None,
                    _ => {}
                }
            }
            self.position = end;
            // What it claims about offsets is right: only the bytes tell.
            return Some(JobEvent::Trace { offset, bytes: bytes.into() });
        }
        let outcome = state.outcome.clone()?;
        if self.position == length {
            return Some(self.end(outcome, Some(TraceSummary::of(&state.trace))));
        }
        (!std::mem::replace(&mut self.finishing, true)).then_some(JobEvent::Finishing)
    }
}

#[async_trait]
impl JobHandle for Handle {
    fn id(&self) -> JobId {
        self.id
    }

    fn ticket(&self) -> Ticket {
        self.job.ticket.clone()
    }

    fn place(&self) -> String {
        format!("process {}", self.id)
    }

    fn phase(&self) -> JobPhase {
        if self.job.kept.lock().started { JobPhase::Started } else { JobPhase::Reserved }
    }

    fn remarks(&self) -> Remarks {
        self.job.kept.lock().remarks.clone()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        let started = std::mem::replace(&mut self.job.kept.lock().started, true);
        if !started || self.defect == Defect::RunsTwice {
            // It belongs to the job: nobody waits for it, its state is told by the channel.
            tokio::spawn(Arc::clone(&self.job).run(self.defect));
        }
        Ok(())
    }

    async fn event(&mut self) -> JobEvent {
        if let Some(event) = self.held.take() {
            return event;
        }
        let mut state = self.job.state.subscribe();
        let mut destroyed = self.job.destroyed.subscribe();
        loop {
            state.borrow_and_update();
            destroyed.borrow_and_update();
            if let Some(event) = self.ready() {
                if self.defect == Defect::LosesEventsWhenDropped {
                    // Taken out of the state, and not yet in the caller's hands.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                return event;
            }
            tokio::select! {
                _ = state.changed() => {}
                _ = destroyed.changed() => {}
            }
        }
    }

    async fn follow(&mut self, from: Offset, until: Offset) {
        let wrong = self.defect == Defect::ResumesAtTheWrongOffset && from.0 > 10_000;
        self.position = if wrong { from.0 - 1 } else { from.0 };
        self.until = until.0;
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError> {
        self.job.stop.send_replace(Some(stop));
        Ok(())
    }

    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
        let mut kept = self.job.kept.lock();
        if kept.epoch != self.epoch && self.defect != Defect::LetsTheLoserWrite {
            return Err(ExecutorError::new(ExecutorErrorKind::Superseded, "somebody else's"));
        }
        if self.defect != Defect::ForgetsRemarks {
            kept.remarks = remarks;
        }
        Ok(())
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        self.job.destroyed.send_replace(true);
        if self.defect != Defect::Leaks {
            self.jobs.lock().remove(&self.id);
        }
        Ok(())
    }
}
