//! One job in a manager's hands: it looks at the job's files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::executor::{
    ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, Remarks, Stop,
};
use runner_core::ids::{JobId, Offset};
use runner_core::outcome::Outcome;
use runner_core::source::Ticket;
use tokio::process::Command;
use tokio::time::timeout;

use crate::executor::unavailable;
use crate::record::{Place, Record, STOP};
use crate::supervisor::Wish;
use crate::watch::{self, Watch};

/// Most bytes of trace in one event.
const PIECE: u64 = 64 * 1024;
/// How long a job that is thrown away may take to end; its processes are killed at once.
const ENDS: Duration = Duration::from_secs(10);

pub(crate) struct Follower {
    program: PathBuf,
    place: Place,
    record: Record,
    watch: Option<Watch>,
    position: Offset,
    until: Offset,
    running: bool,
    finishing: bool,
}

impl Follower {
    pub(crate) fn new(program: PathBuf, place: Place, record: Record) -> Self {
        Self {
            program,
            place,
            record,
            watch: None,
            position: Offset::ZERO,
            until: Offset::ZERO,
            running: false,
            finishing: false,
        }
    }

    fn is_ours(&self) -> io::Result<bool> {
        Ok(self.place.record()?.is_none_or(|record| record.epoch == self.record.epoch))
    }

    fn superseded(&self) -> ExecutorError {
        let message = format!("job {} was claimed by another manager", self.record.job);
        ExecutorError::new(ExecutorErrorKind::Superseded, message)
    }

    fn spawn(&self, trace: File) -> io::Result<()> {
        let complaints = File::create(self.place.path("supervisor.log"))?;
        let mut command = Command::new(&self.program);
        command.arg(&self.place.0).stdin(Stdio::null()).stdout(trace).stderr(complaints);
        // Not ended by what ends this program. Dropped here: tokio collects its status.
        command.process_group(0).spawn().map(drop)
    }

    /// The next event, if there is one already.
    fn look(&mut self) -> io::Result<Option<JobEvent>> {
        if !self.is_ours()? {
            return Ok(Some(JobEvent::Superseded));
        }
        // In this order: who is dead now has written down by now whatever it will write.
        let alive = self.place.is_alive();
        let verdict = self.place.end()?;
        let trace = self.place.trace()?;
        let length = trace.metadata()?.len();
        if !std::mem::replace(&mut self.running, true) {
            return Ok(Some(JobEvent::Running));
        }
        let Offset(position) = self.position;
        let wanted = length.min(self.until.0);
        if position < wanted {
            let mut bytes = vec![0; (wanted - position).min(PIECE) as usize];
            trace.read_exact_at(&mut bytes, position)?;
            let offset = self.position;
            self.position = offset.advance(bytes.len());
            return Ok(Some(JobEvent::Trace { offset, bytes: bytes.into() }));
        }
        if alive && verdict.is_none() {
            return Ok(None);
        }
        if position < length {
            let told = std::mem::replace(&mut self.finishing, true);
            return Ok((!told).then_some(JobEvent::Finishing));
        }
        let Some(verdict) = verdict else {
            return Ok(Some(lost("the supervisor ended without a verdict".to_owned())));
        };
        Ok(Some(JobEvent::Ended(JobEnd {
            outcome: verdict.outcome,
            trace: Some(verdict.trace),
            stages: verdict.stages,
            // The manager adds the line that says how the job ended.
            explained: false,
            detail: None,
        })))
    }

    /// Waits until the supervisor has ended.
    async fn dead(&self) -> io::Result<()> {
        let watch = Watch::new(&self.place.0, watch::ALL)?;
        while self.place.is_alive() {
            watch.changed().await?;
        }
        Ok(())
    }
}

/// The end of a job that nobody saw.
fn lost(detail: String) -> JobEvent {
    JobEvent::Ended(JobEnd {
        outcome: Outcome::Unknown,
        trace: None,
        stages: Vec::new(),
        explained: false,
        detail: Some(detail),
    })
}

#[async_trait]
impl JobHandle for Follower {
    fn id(&self) -> JobId {
        self.record.job
    }

    fn ticket(&self) -> Ticket {
        self.record.ticket.clone()
    }

    fn place(&self) -> String {
        self.place.0.display().to_string()
    }

    fn phase(&self) -> JobPhase {
        self.place.phase()
    }

    fn remarks(&self) -> Remarks {
        self.record.remarks.clone()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        let failed = |error| unavailable("cannot start the job's supervisor", error);
        if !self.is_ours().map_err(failed)? {
            return Err(self.superseded());
        }
        match self.place.begin() {
            Ok(trace) => self.spawn(trace).map_err(|error| {
                // Nothing runs: the next try may make it again.
                let _ = fs::remove_file(self.place.path("trace"));
                failed(error)
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn event(&mut self) -> JobEvent {
        loop {
            // Under watch before the first look: what comes in between is seen at the next one.
            if self.watch.is_none() {
                match Watch::new(&self.place.0, watch::ALL) {
                    Ok(watch) => self.watch = Some(watch),
                    Err(error) => return lost(error.to_string()),
                }
            }
            match self.look() {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(error) => return lost(error.to_string()),
            }
            let Some(watch) = &self.watch else { continue };
            if let Err(error) = watch.changed().await {
                return lost(error.to_string());
            }
        }
    }

    async fn follow(&mut self, from: Offset, until: Offset) {
        (self.position, self.until) = (from, until);
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError> {
        let wish = Wish::from(stop);
        let failed = |error| unavailable("cannot tell the job to stop", error);
        if self.place.read(STOP).map_err(failed)?.is_some_and(|told: Wish| told >= wish) {
            return Ok(());
        }
        self.place.write(STOP, wish.json()).map_err(failed)
    }

    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
        let said = remarks.clone();
        let kept = self.place.change(self.record.epoch, |record| record.remarks = said);
        match kept.map_err(|error| unavailable("cannot write a remark down", error))? {
            true => self.record.remarks = remarks,
            false => return Err(self.superseded()),
        }
        Ok(())
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        let failed = |error| unavailable("cannot remove what is left of the job", error);
        if !self.is_ours().map_err(failed)? {
            return Err(self.superseded());
        }
        if self.place.is_alive() {
            self.stop(Stop::Abort).await?;
            let dead = timeout(ENDS, self.dead()).await;
            dead.unwrap_or_else(|late| Err(late.into())).map_err(failed)?;
        }
        self.place.remove().map_err(failed)
    }
}
