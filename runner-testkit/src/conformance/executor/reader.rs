//! Follows a job as a manager does, and looks at every event on the way.

use runner_core::executor::{JobEnd, JobEvent, JobHandle};
use runner_core::ids::Offset;
use runner_core::outcome::TraceSummary;

use crate::conformance::report::{Finding, broken, ensure};

/// As much as anybody ever asks for.
pub(super) const ALL: Offset = Offset(u64::MAX);

/// What has been heard of a job so far.
pub(super) struct Reader {
    /// Its trace from `from` on.
    pub(super) trace: Vec<u8>,
    from: Offset,
    until: Offset,
    running: bool,
    finishing: bool,
    open: Open,
}

/// Which stage runs.
#[derive(Debug, PartialEq)]
enum Open {
    /// Others may have heard of it before this reader did.
    Unknown,
    None,
    Stage(String),
}

impl Reader {
    /// Asks for the trace between two offsets.
    pub(super) async fn new(handle: &mut dyn JobHandle, from: Offset, until: Offset) -> Self {
        handle.follow(from, until).await;
        Self {
            trace: Vec::new(),
            from,
            until,
            running: false,
            finishing: false,
            open: Open::Unknown,
        }
    }

    /// Where the next byte belongs.
    pub(super) fn position(&self) -> Offset {
        self.from.advance(self.trace.len())
    }

    /// Allows the trace up to here.
    pub(super) async fn allow(&mut self, handle: &mut dyn JobHandle, until: Offset) {
        self.until = until;
        handle.follow(self.position(), until).await;
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.trace.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Takes one event. The end, when it was the last one.
    pub(super) async fn step(
        &mut self,
        handle: &mut dyn JobHandle,
    ) -> Result<Option<JobEnd>, Finding> {
        let event = handle.event().await;
        self.take(event)
    }

    /// Looks at an event.
    pub(super) fn take(&mut self, event: JobEvent) -> Result<Option<JobEnd>, Finding> {
        match event {
            JobEvent::Running => self.running = true,
            JobEvent::Trace { offset, bytes } => {
                let wanted = self.position();
                ensure!(
                    offset == wanted,
                    "a piece of the trace begins at {offset}, and {wanted} is next"
                );
                ensure!(!bytes.is_empty(), "a piece of the trace is empty");
                self.trace.extend_from_slice(&bytes);
                ensure!(
                    self.position() <= self.until,
                    "the trace goes up to {}, and only {} were asked for",
                    self.position(),
                    self.until
                );
            }
            JobEvent::StageStarted { name } => {
                let open = std::mem::replace(&mut self.open, Open::Stage(name.clone()));
                ensure!(
                    !matches!(open, Open::Stage(_)),
                    "stage {name} began before {open:?} was over"
                );
            }
            JobEvent::StageFinished(report) => {
                let open = std::mem::replace(&mut self.open, Open::None);
                ensure!(
                    open == Open::Unknown || open == Open::Stage(report.name.clone()),
                    "stage {} is over, and the one that runs is {open:?}",
                    report.name
                );
            }
            JobEvent::Finishing => {
                let again = std::mem::replace(&mut self.finishing, true);
                ensure!(!again, "`Finishing` came twice");
            }
            JobEvent::Ended(end) => return Ok(Some(end)),
            JobEvent::Superseded => return Err(broken("it said that another manager has the job")),
            // `Waiting`, and what later versions add.
            _ => {}
        }
        Ok(None)
    }

    /// Reads until the trace holds this text.
    pub(super) async fn until_said(
        &mut self,
        handle: &mut dyn JobHandle,
        text: &str,
    ) -> Result<(), Finding> {
        while !self.has(text) {
            if let Some(end) = self.step(handle).await? {
                return Err(broken(format!("the job ended before it said {text:?}: {end:?}")));
            }
        }
        Ok(())
    }

    /// Reads to the end.
    pub(super) async fn ending(&mut self, handle: &mut dyn JobHandle) -> Result<JobEnd, Finding> {
        loop {
            if let Some(end) = self.step(handle).await? {
                return Ok(end);
            }
        }
    }

    /// Whether what was read from the beginning is what the end says about it.
    pub(super) fn compare(&self, end: &JobEnd) -> Result<(), Finding> {
        let Some(said) = end.trace else {
            return Err(broken("the job ran to its end, and its trace is said to be incomplete"));
        };
        let found = TraceSummary::of(&self.trace);
        ensure!(
            said == found,
            "the trace is said to be {said:?}, and what was handed out is {found:?}"
        );
        Ok(())
    }
}
