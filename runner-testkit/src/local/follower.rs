//! One local job in a manager's hands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use runner_core::executor::{
    ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, Remarks, Stop,
};
use runner_core::ids::{JobId, Offset};
use runner_core::layout;
use runner_core::outcome::{Infra, InfraKind, Outcome, Verdict};
use runner_core::source::Ticket;
use runner_core::wire::{
    AgentFrame, AnswerFrame, Beat, Hello, ManagerCodec, ManagerFrame, RefusalReason, StageFrame,
    StopFrame, StopMode, WIRE_VERSION, Want,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::codec::Framed;

use super::record::Record;

/// How often this side says that it is there.
const BEAT: Duration = Duration::from_secs(15);
/// How long an agent may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a new agent may take to listen.
const STARTS: Duration = Duration::from_secs(30);

type Session = Framed<UnixStream, ManagerCodec>;

pub(super) struct LocalHandle {
    agent: Vec<String>,
    shell: PathBuf,
    directory: PathBuf,
    record: Record,
    session: Option<Session>,
    position: Offset,
    until: Offset,
    stop: Option<StopMode>,
    verdict: Option<Verdict>,
    told: Told,
    beat: Instant,
    heard: Instant,
    give_up: Option<Instant>,
    superseded: bool,
}

/// What the manager has been told already.
#[derive(Default)]
struct Told {
    running: bool,
    finishing: bool,
    stages: usize,
    /// Changes seen in this session.
    seen: usize,
}

impl LocalHandle {
    pub(super) fn new(
        agent: Vec<String>,
        shell: PathBuf,
        directory: PathBuf,
        record: Record,
    ) -> Self {
        let now = Instant::now();
        Self {
            agent,
            shell,
            directory,
            record,
            session: None,
            position: Offset::ZERO,
            until: Offset::ZERO,
            stop: None,
            verdict: None,
            told: Told::default(),
            beat: now,
            heard: now,
            give_up: None,
            superseded: false,
        }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.directory.join(part)
    }

    /// Starts one of the agent's two processes, so that it outlives this manager.
    pub(super) fn spawn(&self, role: &str) -> io::Result<()> {
        let (program, before) = self
            .agent
            .split_first()
            .ok_or_else(|| io::Error::other("the executor was given no agent program"))?;
        let log = fs::File::create(self.path(&format!("{role}.log")))?;
        let child = Command::new(program)
            .args(before)
            .arg(role)
            .arg("--root")
            .arg(self.path("root"))
            .arg("--plan")
            .arg(self.path("plan"))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--link")
            .arg(self.path("link"))
            .arg("--shell")
            .arg(&self.shell)
            .arg("--termination-log")
            .arg(self.path(&format!("{role}.end")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the agent ended at once"))?;
        // Dropped here: tokio collects its status, and it goes on without this manager.
        fs::write(self.path(&format!("{role}.pid")), pid.to_string())
    }

    fn pid(&self, role: &str) -> Option<Pid> {
        pid_in(&self.path(&format!("{role}.pid")))
    }

    /// Ends both of the agent's processes.
    pub(super) fn kill(&self) {
        for role in ["serve", "supervise"] {
            if let Some(pid) = self.pid(role).filter(|_| self.is_alive(role)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn is_alive(&self, role: &str) -> bool {
        self.pid(role).is_some_and(|pid| test_kill_process(pid).is_ok() && !is_zombie(pid))
    }

    /// Opens a session, or says that there will never be one.
    async fn connect(&mut self) -> Result<(), JobEvent> {
        let give_up = *self.give_up.get_or_insert(Instant::now() + STARTS);
        loop {
            let socket = self.path("state").join(layout::CONTROL);
            if let Ok(stream) = UnixStream::connect(socket).await {
                let mut session = Framed::new(stream, ManagerCodec);
                let hello = Hello {
                    version: WIRE_VERSION,
                    job: self.record.job,
                    epoch: self.record.epoch,
                    from: self.position,
                    until: self.until,
                };
                if session.send(ManagerFrame::Hello(hello)).await.is_ok() {
                    if let Some(mode) = self.stop {
                        let _ = session.send(ManagerFrame::Stop(StopFrame { mode })).await;
                    }
                    let now = Instant::now();
                    (self.heard, self.beat, self.give_up) = (now, now + BEAT, None);
                    self.told.seen = 0;
                    self.session = Some(session);
                    return Ok(());
                }
            }
            if !self.is_alive("supervise") || Instant::now() > give_up {
                return Err(self.lost());
            }
            // There is no event for "somebody listens now" on a unix socket.
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The end of a job whose supervisor is gone without having been released.
    fn lost(&self) -> JobEvent {
        let last_words = fs::read_to_string(self.path("supervise.end")).unwrap_or_default();
        let outcome = match serde_json::from_str::<Verdict>(&last_words) {
            Ok(verdict) if !verdict.outcome.is_success() => verdict.outcome,
            _ => Outcome::Infra(Infra::new(
                InfraKind::System,
                "the job's supervisor was killed before it could report a verdict",
            )),
        };
        JobEvent::Ended(JobEnd {
            outcome,
            trace: None,
            stages: Vec::new(),
            explained: false,
            detail: Some(format!(
                "supervise is gone; its last words: {last_words:?}; its log: {:?}",
                fs::read_to_string(self.path("supervise.log")).unwrap_or_default()
            )),
        })
    }

    /// The end of a job whose agent will not speak with this program.
    fn refused_for_good(&self, reason: RefusalReason, message: String) -> JobEvent {
        JobEvent::Ended(JobEnd {
            outcome: Outcome::Infra(Infra::new(
                InfraKind::System,
                "the job's agent does not accept this runner",
            )),
            trace: None,
            stages: Vec::new(),
            explained: false,
            detail: Some(format!("{reason:?}: {message}")),
        })
    }

    fn on_frame(&mut self, frame: AgentFrame) -> Option<JobEvent> {
        self.heard = Instant::now();
        match frame {
            AgentFrame::Welcome(_) => {
                (!std::mem::replace(&mut self.told.running, true)).then_some(JobEvent::Running)
            }
            AgentFrame::Refused(refused) => {
                self.session = None;
                match refused.reason {
                    RefusalReason::Superseded => self.superseded = true,
                    // It starts: the next session is welcome.
                    RefusalReason::NotReady => {}
                    // It would say the same again, for ever.
                    reason => return Some(self.refused_for_good(reason, refused.message)),
                }
                None
            }
            AgentFrame::Trace { offset, bytes } => {
                // Pieces that were on their way before `follow` jumped are not wanted.
                (offset == self.position).then(|| {
                    self.position = offset.advance(bytes.len());
                    JobEvent::Trace { offset, bytes }
                })
            }
            AgentFrame::Stage(stage) => {
                self.told.seen += 1;
                if self.told.seen <= self.told.stages {
                    return None;
                }
                self.told.stages = self.told.seen;
                Some(match stage {
                    StageFrame::Started { name } => JobEvent::StageStarted { name },
                    StageFrame::Finished(report) => JobEvent::StageFinished(report),
                })
            }
            AgentFrame::Verdict(verdict) => {
                self.verdict = Some(verdict);
                None
            }
            AgentFrame::Ask(ask) => Some(JobEvent::Asked(ask)),
            _ => None,
        }
    }

    /// What follows from what is known, without asking anybody.
    fn conclusion(&mut self) -> Option<JobEvent> {
        let verdict = self.verdict.as_ref()?;
        if self.position >= verdict.trace.length {
            return Some(JobEvent::Ended(JobEnd {
                outcome: verdict.outcome.clone(),
                trace: Some(verdict.trace),
                stages: verdict.stages.clone(),
                explained: true,
                detail: None,
            }));
        }
        (!std::mem::replace(&mut self.told.finishing, true)).then_some(JobEvent::Finishing)
    }

    async fn send(&mut self, frame: ManagerFrame) {
        if let Some(session) = &mut self.session
            && session.send(frame).await.is_err()
        {
            // The next event opens another one.
            self.session = None;
        }
    }
}

fn pid_in(path: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

#[async_trait]
impl JobHandle for LocalHandle {
    fn id(&self) -> JobId {
        self.record.job
    }

    fn ticket(&self) -> Ticket {
        self.record.ticket.clone()
    }

    fn place(&self) -> String {
        self.directory.display().to_string()
    }

    fn phase(&self) -> JobPhase {
        self.record.phase()
    }

    fn remarks(&self) -> Remarks {
        self.record.remarks()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        if self.record.started {
            return Ok(());
        }
        self.spawn("supervise").and_then(|()| self.spawn("serve")).map_err(|error| {
            ExecutorError::new(
                ExecutorErrorKind::Unavailable,
                format!("cannot start the agent program {:?}", self.agent),
            )
            .caused_by(error)
        })?;
        self.record.started = true;
        self.record.write(&self.directory).map_err(super::unavailable)
    }

    async fn event(&mut self) -> JobEvent {
        loop {
            if self.superseded {
                // The new owner follows it; this one is told when it next tries to say something.
                std::future::pending::<()>().await;
            }
            if let Some(event) = self.conclusion() {
                return event;
            }
            if self.session.is_none()
                && let Err(ended) = self.connect().await
            {
                return ended;
            }
            let Some(session) = &mut self.session else { continue };
            tokio::select! {
                frame = session.next() => match frame {
                    Some(Ok(frame)) => {
                        if let Some(event) = self.on_frame(frame) {
                            return event;
                        }
                    }
                    _ => self.session = None,
                },
                () = sleep_until(self.beat) => {
                    self.beat = Instant::now() + BEAT;
                    self.send(ManagerFrame::Beat(Beat::default())).await;
                }
                () = sleep_until(self.heard + SILENCE) => self.session = None,
            }
        }
    }

    async fn follow(&mut self, from: Offset, until: Offset) {
        let jump = (from != self.position).then_some(from);
        (self.position, self.until) = (from, until);
        self.send(ManagerFrame::Want(Want { from: jump, until })).await;
    }

    async fn answer(&mut self, answer: AnswerFrame) {
        self.send(ManagerFrame::Answer(answer)).await;
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError> {
        let mode = match stop {
            Stop::Cancel => StopMode::Cancel,
            Stop::Abort => StopMode::Abort,
        };
        self.stop = self.stop.max(Some(mode));
        self.send(ManagerFrame::Stop(StopFrame { mode })).await;
        Ok(())
    }

    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
        let current = Record::read(&self.directory).map_err(super::unavailable)?;
        if current.is_some_and(|current| current.epoch > self.record.epoch) {
            return Err(ExecutorError::new(
                ExecutorErrorKind::Superseded,
                "another manager has the job",
            ));
        }
        self.record.set_remarks(remarks);
        self.record.write(&self.directory).map_err(super::unavailable)
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        if self.is_alive("supervise") {
            if self.verdict.is_none() {
                self.send(ManagerFrame::Stop(StopFrame { mode: StopMode::Abort })).await;
                // Its verdict is of no interest any more, only its end is.
                let _ = timeout(Duration::from_secs(5), async {
                    while self.verdict.is_none() && self.session.is_some() {
                        self.event().await;
                    }
                })
                .await;
            }
            self.send(ManagerFrame::Release).await;
        }
        self.kill();
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(super::unavailable(error)),
            _ => Ok(()),
        }
    }
}
