//! The process that runs one job. No manager has to live meanwhile.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;

use runner_core::executor::Stop;
use runner_core::log::{Kind, LogPipeline, Message, Stream, Timestamp};
use runner_core::outcome::{Outcome, StageReport, TimeLimit, Verdict};
use runner_core::plan::{LineLevel, OnFailure, Operation, Plan, PlanVariable, Stage, When};
use runner_core::shell::{Composition, JobStatus, ShellKind, compose};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};

use crate::record::{GROUP, PLAN, Place, STOP};
use crate::watch::{self, Watch};

/// How a manager wants a job to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wish {
    Cancel,
    Abort,
}

impl Wish {
    pub(crate) fn json(self) -> &'static [u8] {
        match self {
            Self::Cancel => b"\"cancel\"",
            Self::Abort => b"\"abort\"",
        }
    }
}

impl From<Stop> for Wish {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancel => Self::Cancel,
            Stop::Abort => Self::Abort,
        }
    }
}

/// Runs the job of this directory to its end; standard output is its trace.
///
/// # Errors
/// When plan, trace or verdict cannot be read or written. There is no verdict then, and the manager
/// says that nobody knows how the job ended.
pub async fn supervise(directory: PathBuf) -> io::Result<()> {
    let place = Place(directory);
    let mut plan = Plan::from_json(&fs::read(place.path(PLAN))?).map_err(io::Error::other)?;
    settle(&place, &mut plan)?;
    let trace = Trace {
        // Ours until we end, and so is its lock.
        file: io::stdout().as_fd().try_clone_to_owned()?.into(),
        pipeline: LogPipeline::new(&plan.log),
        out: Vec::new(),
    };
    let supervisor = Supervisor {
        watch: Watch::new(&place.0, watch::ARRIVALS)?,
        deadline: Instant::now() + plan.timeout,
        shared: HashMap::new(),
        place,
        trace,
        outcome: Outcome::Exited(0),
        entered: false,
        aborted: false,
        stages: Vec::new(),
    };
    supervisor.run(&plan).await
}

/// Finds a place on this machine for what the plan has in a container.
fn settle(place: &Place, plan: &mut Plan) -> io::Result<()> {
    let directory = |name| place.path(name).display().to_string();
    plan.directories.project = directory("work");
    plan.directories.temp = directory("tmp");
    fs::create_dir(&plan.directories.project)?;
    fs::create_dir(&plan.directories.temp)?;
    let project = plan.directories.project.clone().into();
    plan.variables.push(PlanVariable { key: "CI_PROJECT_DIR".into(), value: project, file: false });
    for variable in plan.variables.iter().filter(|variable| variable.file) {
        let path = place.path("tmp").join(&variable.key);
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(variable.value.expose().as_bytes())?;
    }
    Ok(())
}

/// The log: masked, limited and summed up by the same code as everywhere.
struct Trace {
    file: File,
    pipeline: LogPipeline,
    out: Vec<u8>,
}

impl Trace {
    fn write(&mut self, stream: Stream, kind: Kind, input: &[u8]) -> io::Result<()> {
        self.pipeline.write(stream, kind, input, Timestamp::now(), &mut self.out);
        self.flush()
    }

    fn say(&mut self, message: &Message) -> io::Result<()> {
        self.write(Stream::Runner, Kind::Out, message.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Passes on what a script says until it has closed its outputs and ended. Cancel safe.
    async fn relay(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let (mut said, mut complained) = (vec![0; 8192], vec![0; 8192]);
        while let (Some(out), Some(err)) = (&mut child.stdout, &mut child.stderr) {
            tokio::select! {
                read = out.read(&mut said) => match read? {
                    0 => child.stdout = None,
                    length => self.write(Stream::Job, Kind::Out, &said[..length])?,
                },
                read = err.read(&mut complained) => match read? {
                    0 => child.stderr = None,
                    length => self.write(Stream::Job, Kind::Err, &complained[..length])?,
                },
            }
        }
        while let Some(out) = &mut child.stdout {
            match out.read(&mut said).await? {
                0 => child.stdout = None,
                length => self.write(Stream::Job, Kind::Out, &said[..length])?,
            }
        }
        while let Some(err) = &mut child.stderr {
            match err.read(&mut complained).await? {
                0 => child.stderr = None,
                length => self.write(Stream::Job, Kind::Err, &complained[..length])?,
            }
        }
        child.wait().await
    }
}

struct Supervisor {
    place: Place,
    watch: Watch,
    trace: Trace,
    deadline: Instant,
    /// When the limits that stages share are over.
    shared: HashMap<u32, Instant>,
    outcome: Outcome,
    /// A user's step has begun.
    entered: bool,
    aborted: bool,
    stages: Vec<StageReport>,
}

impl Supervisor {
    async fn run(mut self, plan: &Plan) -> io::Result<()> {
        for line in &plan.header {
            self.trace.say(&match line.level {
                LineLevel::Plain => Message::plain(&line.text),
                LineLevel::Info => Message::info(&line.text),
                LineLevel::Warning => Message::warning(&line.text),
                LineLevel::Error => Message::error(&line.text),
                LineLevel::Heading => Message::heading(&line.text),
                // Its source shows no sections.
                LineLevel::SectionStart | LineLevel::SectionEnd => continue,
            })?;
        }
        for stage in &plan.stages {
            if self.is_due(stage.when) {
                self.stage(plan, stage).await?;
            }
        }
        let Self { place, mut trace, outcome, stages, .. } = self;
        let summary = trace.pipeline.close(Timestamp::now(), &mut trace.out);
        trace.flush()?;
        trace.file.sync_all()?;
        // After the last byte of the trace: whoever sees it has all of it.
        place.conclude(&Verdict { outcome, trace: summary, stages })
    }

    fn is_due(&self, when: When) -> bool {
        let late = matches!(self.outcome, Outcome::TimedOut(TimeLimit::Job(_)));
        match when {
            When::Success => self.outcome.is_success(),
            When::Failure => !self.outcome.is_success() && !late && !self.aborted,
            When::AfterScript => self.entered && !late && !self.aborted,
            When::Always => true,
        }
    }

    async fn stage(&mut self, plan: &Plan, stage: &Stage) -> io::Result<()> {
        // Nothing else has to be done on a machine that is there already; `reserve` saw to that.
        let Operation::Script(script) = &stage.operation else { return Ok(()) };
        if let Some(title) = &stage.title {
            self.trace.say(&Message::heading(title))?;
        }
        let (began, at) = (Instant::now(), Timestamp::now());
        let text = compose(&Composition {
            shell: ShellKind::Posix,
            variables: &plan.variables,
            env_file: &[],
            directories: &plan.directories,
            job_status: self.status(),
            script,
            began: at.as_second(),
        });
        let outcome = self.script(&text, plan, stage).await?;
        self.entered |= stage.when == When::Success;
        self.stages.push(StageReport {
            name: stage.name.clone(),
            started_ms: at.as_millisecond().try_into().unwrap_or_default(),
            took_ms: began.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            outcome: outcome.clone(),
        });
        match (stage.on_failure, outcome.is_success()) {
            (OnFailure::FailsJob, false) if self.outcome.is_success() => self.outcome = outcome,
            (OnFailure::Warns, false) => {
                self.trace.say(&Message::warning(format_args!("{} failed", stage.name)))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn status(&self) -> JobStatus {
        match (&self.outcome, self.entered) {
            (_, false) => JobStatus::Running,
            (Outcome::Exited(0), true) => JobStatus::Success,
            (Outcome::Cancelled, true) => JobStatus::Canceled,
            (Outcome::TimedOut(_), true) => JobStatus::TimedOut,
            (_, true) => JobStatus::Failed,
        }
    }

    /// When this stage's time is over, and what it is called then.
    fn limit(&mut self, plan: &Plan, stage: &Stage) -> (Instant, TimeLimit) {
        let job = (self.deadline, TimeLimit::Job(plan.timeout));
        let Some(timeout) = stage.timeout else { return job };
        let own = Instant::now() + timeout.limit;
        let own = timeout.shared.map_or(own, |group| *self.shared.entry(group).or_insert(own));
        if own < self.deadline { (own, TimeLimit::Stage(timeout.limit)) } else { job }
    }

    async fn script(&mut self, text: &[u8], plan: &Plan, stage: &Stage) -> io::Result<Outcome> {
        // A file without a name: the text holds the job's variables.
        let mut file = tempfile::tempfile()?;
        file.write_all(text)?;
        file.rewind()?;
        let mut command = Command::new("sh");
        command.stdin(file).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let group = group.ok_or_else(|| io::Error::other("the shell has no number"))?;
        self.place.write(GROUP, group.as_raw_nonzero().to_string().as_bytes())?;

        let (until, limit) = self.limit(plan, stage);
        // After a cancel, the stages that come are stopped by nothing less than an abort.
        let least = match stage.when {
            When::Success => Wish::Cancel,
            _ => Wish::Abort,
        };
        let outcome = tokio::select! {
            status = self.trace.relay(&mut child) => return Ok(exited(status?)),
            wish = wish(&self.watch, &self.place, least) => {
                self.aborted = wish? == Wish::Abort;
                Outcome::Cancelled
            }
            () = sleep_until(until) => Outcome::TimedOut(limit),
        };
        if !self.aborted {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::TERM);
            tokio::select! {
                ended = timeout(plan.grace, self.trace.relay(&mut child)) => {
                    if let Ok(ended) = ended {
                        ended?;
                    }
                }
                wish = wish(&self.watch, &self.place, Wish::Abort) => {
                    self.aborted = wish? == Wish::Abort;
                }
            }
        }
        let _ = kill_process_group(group, Signal::KILL);
        Ok(outcome)
    }
}

/// Waits until a manager wants the job to stop, and as urgently as this.
async fn wish(watch: &Watch, place: &Place, least: Wish) -> io::Result<Wish> {
    loop {
        if let Some(wish) = place.read::<Wish>(STOP)?.filter(|wish| *wish >= least) {
            return Ok(wish);
        }
        watch.changed().await?;
    }
}

fn exited(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(signal)) => Outcome::Signalled(signal),
        // waitpid knows nothing else.
        (None, None) => Outcome::Unknown,
    }
}
