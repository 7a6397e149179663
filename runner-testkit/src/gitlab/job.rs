//! One job on the server: what GitLab does when a runner updates it or appends to its trace.
//!
//! Pure: a request goes in, an [`Answer`] comes out. Queueing is in [`super::state`], HTTP in
//! [`super::http`].

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Rule;
use super::server::Settings;
use super::spec::JobSpec;

/// Where a job stands, in GitLab's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Waits for the jobs it needs.
    Created,
    /// In the queue, or handed out and not acknowledged yet.
    Pending,
    /// Acknowledged by a runner.
    Running,
    /// Someone cancelled it; its runner is to stop it gracefully.
    Canceling,
    /// Cancelled.
    Canceled,
    /// Succeeded.
    Success,
    /// Failed.
    Failed,
    /// A job it needs did not succeed.
    Skipped,
}

impl JobState {
    /// As it stands in the `Job-Status` header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Nothing changes it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Canceled | Self::Success | Self::Failed | Self::Skipped)
    }

    fn is_executing(self) -> bool {
        matches!(self, Self::Running | Self::Canceling)
    }
}

/// A file that a job has uploaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredArtifact {
    /// `archive`, `junit`, …
    pub artifact_type: String,
    /// `zip`, `gzip`, …
    pub artifact_format: String,
    /// As sent.
    pub expire_in: Option<String>,
    /// As sent.
    pub filename: String,
    /// The file.
    pub data: Bytes,
}

/// What a `PUT` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) state: Option<String>,
    pub(super) failure_reason: Option<String>,
    pub(super) exit_code: Option<i64>,
    pub(super) checksum: Option<String>,
    pub(super) bytesize: Option<u64>,
}

/// What goes back, before it is HTTP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) job_status: Option<JobState>,
    /// Bytes of trace that are stored.
    pub(super) range: Option<usize>,
    /// Seconds.
    pub(super) interval: Option<u64>,
    pub(super) breaches: Vec<(Rule, String)>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    fn breach(mut self, rule: Rule, detail: impl Into<String>) -> Self {
        self.breaches.push((rule, detail.into()));
        self
    }
}

/// What the runner offered for looking into a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Where.
    pub url: String,
    /// The only certificate to trust, PEM.
    pub certificate: String,
    /// The value of the `Authorization` header.
    pub authorization: String,
}

impl SessionInfo {
    /// `session` of a request for a job.
    pub(super) fn of(request: &serde_json::Value) -> Option<Self> {
        let session = &request["session"];
        let text = |key: &str| session[key].as_str().map(str::to_owned);
        let (url, certificate) = (text("url")?, text("certificate")?);
        Some(Self { url, certificate, authorization: text("authorization")? })
    }
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) spec: JobSpec,
    pub(super) project: u64,
    pub(super) state: JobState,
    pub(super) token: String,
    /// Handed out under two-phase commit until this time; `None` once acknowledged.
    pub(super) waiting: Option<Instant>,
    pub(super) handouts: u32,
    /// The runner said it can cancel gracefully.
    pub(super) graceful: bool,
    pub(super) trace: Vec<u8>,
    /// A test changed the stored trace: what then does not fit is not the client's fault.
    pub(super) tampered: bool,
    pub(super) verdict: Option<Update>,
    pub(super) checksum_ok: Option<bool>,
    pub(super) failure_reason: Option<String>,
    pub(super) deferred: u32,
    pub(super) repeated_verdicts: u32,
    pub(super) rejected_verdicts: u32,
    pub(super) range_mismatches: u32,
    pub(super) artifacts: Vec<StoredArtifact>,
    pub(super) queued_at: Instant,
    pub(super) handed_out_at: Option<Instant>,
    pub(super) running_at: Option<Instant>,
    pub(super) finished_at: Option<Instant>,
    pub(super) session: Option<SessionInfo>,
    pub(super) changed: watch::Sender<()>,
}

/// What an old or unknown token is answered, or `None` if the job may be spoken for.
pub(super) enum Access {
    /// Trace and updates: only while it executes.
    Executing,
    /// Downloads of its own artifacts: at any time.
    Any,
}

impl Job {
    pub(super) fn new(id: u64, spec: JobSpec, project: u64, now: Instant) -> Self {
        Self {
            id,
            spec,
            project,
            state: JobState::Created,
            token: token(id, 0),
            waiting: None,
            handouts: 0,
            graceful: false,
            trace: Vec::new(),
            tampered: false,
            verdict: None,
            checksum_ok: None,
            failure_reason: None,
            deferred: 0,
            repeated_verdicts: 0,
            rejected_verdicts: 0,
            range_mismatches: 0,
            artifacts: Vec::new(),
            queued_at: now,
            handed_out_at: None,
            running_at: None,
            finished_at: None,
            session: None,
            changed: watch::Sender::new(()),
        }
    }

    /// Gives it to a runner. A new hand-out has a new token.
    pub(super) fn hand_out(
        &mut self,
        two_phase: bool,
        graceful: bool,
        until: Instant,
        now: Instant,
    ) {
        self.handouts += 1;
        self.token = token(self.id, self.handouts);
        self.graceful = graceful;
        self.handed_out_at = Some(now);
        if two_phase {
            self.waiting = Some(until);
        } else {
            self.state = JobState::Running;
            self.running_at = Some(now);
        }
    }

    /// Takes it back when its time is over. Returns whether it was.
    pub(super) fn take_back(&mut self, now: Instant) -> bool {
        let over = self.waiting.is_some_and(|until| until <= now);
        if over {
            self.waiting = None;
            // What the runner that was too late still holds must not open anything.
            self.token = token(self.id, self.handouts + 1000);
        }
        over
    }

    /// May someone with this token speak for the job?
    pub(super) fn authorise(&self, given: Option<&str>, access: &Access) -> Result<(), Answer> {
        let Some(given) = given else {
            return Err(Answer::new(403).breach(Rule::JobToken, "no job token"));
        };
        if given != self.token {
            let was_its = (1..=self.handouts).any(|n| token(self.id, n) == given);
            let (rule, detail) = if was_its {
                (Rule::AcknowledgedTooLate, "the token of an earlier hand-out")
            } else {
                (Rule::JobToken, "a token that is not this job's")
            };
            return Err(Answer::new(403).breach(rule, detail));
        }
        match access {
            Access::Any => Ok(()),
            Access::Executing if self.state.is_executing() || self.waiting.is_some() => Ok(()),
            // 403 and not 404: this is what ends a job at the runner.
            Access::Executing => Err(Answer { job_status: Some(self.state), ..Answer::new(403) }),
        }
    }

    /// `PUT jobs/:id`.
    pub(super) fn update(
        &mut self,
        token: Option<&str>,
        update: Update,
        settings: &Settings,
        now: Instant,
    ) -> Answer {
        if let Err(mut refusal) = self.authorise(token, &Access::Executing) {
            if let Some(first) = self.verdict.as_ref().filter(|_| refusal.breaches.is_empty()) {
                if update.state.as_deref() == Some("running") {
                    // A new manager asks whether the job is still wanted; the 403 says so.
                } else if *first == update {
                    // The answer to the first may have been lost: no breach.
                    self.repeated_verdicts += 1;
                } else {
                    let detail = format!("first {first:?}, then {update:?}");
                    refusal = refusal.breach(Rule::SecondVerdict, detail);
                }
            }
            return refusal;
        }
        let answer = self.execute_update(update, settings, now);
        self.changed.send_replace(());
        Answer { job_status: Some(self.state), ..answer }
    }

    fn execute_update(&mut self, update: Update, settings: &Settings, now: Instant) -> Answer {
        match update.state.as_deref() {
            Some("running") => {
                if self.waiting.take().is_some() {
                    self.state = JobState::Running;
                    self.running_at = Some(now);
                }
                Answer::new(200)
            }
            Some("pending") if self.waiting.is_some() => {
                self.waiting = Some(now + settings.commit_deadline);
                Answer::new(200)
            }
            Some("pending") => Answer::new(409),
            Some("success" | "failed") if self.waiting.is_some() => Answer::new(400)
                .breach(Rule::NotAcknowledged, "a verdict before state=running was said"),
            Some("success" | "failed") => self.conclude(update, settings, now),
            other => {
                Answer::new(400).breach(Rule::Body, format!("state is {other:?} in an update"))
            }
        }
    }

    fn conclude(&mut self, update: Update, settings: &Settings, now: Instant) -> Answer {
        let mut breaches = Vec::new();
        let success = update.state.as_deref() == Some("success");
        if success && update.failure_reason.is_some() {
            breaches.push((Rule::Body, "a success with a failure reason".to_owned()));
        }
        // GitLab first moves the trace to its final place and asks for patience meanwhile, if there
        // is a checksum to verify afterwards.
        if update.checksum.is_some()
            && !self.trace.is_empty()
            && self.deferred < settings.pending_verdicts
        {
            self.deferred += 1;
            let interval = Some(1 << (self.deferred - 1).min(6));
            return Answer { interval, breaches, ..Answer::new(202) };
        }
        if let Some(problem) = self.mismatch(&update) {
            self.rejected_verdicts += 1;
            if !self.tampered {
                breaches.push((Rule::TraceChecksum, problem));
            }
            // The client is to send all of it again, from byte 0.
            self.trace.clear();
            self.tampered = false;
            return Answer { breaches, ..Answer::new(412) };
        }
        self.checksum_ok = update.checksum.is_some().then_some(true);
        self.failure_reason = (!success)
            .then(|| update.failure_reason.clone().unwrap_or_else(|| "unknown_failure".into()));
        self.state = match (self.state, success) {
            (JobState::Canceling, _) => JobState::Canceled,
            (_, true) => JobState::Success,
            (_, false) => JobState::Failed,
        };
        self.finished_at = Some(now);
        self.verdict = Some(update);
        Answer { breaches, ..Answer::new(200) }
    }

    fn mismatch(&self, update: &Update) -> Option<String> {
        let stored = format!("crc32:{:08x}", crc32fast::hash(&self.trace));
        let size = self.trace.len() as u64;
        if update.checksum.as_ref().is_some_and(|said| *said != stored) {
            let said = update.checksum.as_deref().unwrap_or_default();
            return Some(format!("checksum {said}, but the {size} stored bytes have {stored}"));
        }
        // An empty log has a checksum and no size.
        let said = update.bytesize?;
        (said != size).then(|| format!("bytesize {said}, but {size} bytes are stored"))
    }

    /// `PATCH jobs/:id/trace`. `range` is the header `Content-Range`.
    pub(super) fn append(
        &mut self,
        token: Option<&str>,
        range: Option<&str>,
        bytes: &[u8],
        settings: &Settings,
        now: Instant,
    ) -> Answer {
        if let Err(refusal) = self.authorise(token, &Access::Executing) {
            let late = self.verdict.is_some() && refusal.breaches.is_empty();
            return if late {
                refusal.breach(Rule::TraceAfterVerdict, format!("{} bytes", bytes.len()))
            } else {
                refusal
            };
        }
        if self.waiting.is_some() {
            return Answer { job_status: Some(self.state), ..Answer::new(403) }
                .breach(Rule::NotAcknowledged, "trace before state=running was said");
        }
        let Some((start, last)) = range.and_then(parse_range) else {
            return Answer::new(400)
                .breach(Rule::Header, format!("Content-Range is {range:?}, wanted first-last"));
        };
        let answer = self.store(start, last, bytes, settings, now);
        self.changed.send_replace(());
        answer
    }

    fn store(
        &mut self,
        start: usize,
        last: usize,
        bytes: &[u8],
        settings: &Settings,
        now: Instant,
    ) -> Answer {
        let mut breaches = Vec::new();
        let end = start.saturating_add(bytes.len());
        if bytes.is_empty() {
            breaches.push((Rule::Body, "an empty piece of trace".to_owned()));
        } else if last.checked_add(1) != Some(end) {
            // GitLab only looks at the start and the body.
            let detail = format!("Content-Range {start}-{last} with {} bytes", bytes.len());
            breaches.push((Rule::TraceRange, detail));
        }
        if end as u64 > settings.trace_limit {
            self.state = JobState::Failed;
            self.failure_reason = Some("trace_size_exceeded".into());
            self.finished_at = Some(now);
            return Answer { breaches, ..Answer::new(403) };
        }
        let stored = self.trace.len();
        if start < stored {
            let common = end.min(stored);
            if !self.tampered && self.trace[start..common] != bytes[..common - start] {
                let detail = format!("bytes {start} to {common} are not those sent before");
                breaches.push((Rule::TraceRewritten, detail));
            }
        } else if start > stored {
            if !self.tampered {
                let detail = format!("starts at {start}, but only {stored} bytes are stored");
                breaches.push((Rule::TraceRange, detail));
            }
        } else {
            self.trace.extend_from_slice(bytes);
        }
        let stored = self.trace.len();
        let range = Some(stored);
        // So a piece that is already there to its last byte is accepted once more.
        if stored != end {
            self.range_mismatches += 1;
            return Answer { range, breaches, ..Answer::new(416) };
        }
        Answer {
            status: 202,
            job_status: Some(self.state),
            range,
            interval: settings.trace_interval,
            breaches,
        }
    }

    /// Someone presses "cancel".
    pub(super) fn cancel(&mut self, now: Instant) {
        match self.state {
            JobState::Running if self.graceful => self.state = JobState::Canceling,
            JobState::Created | JobState::Pending | JobState::Running => self.force_cancel(now),
            _ => {}
        }
        self.changed.send_replace(());
    }

    /// Someone presses "force cancel", or it cannot be done gracefully.
    pub(super) fn force_cancel(&mut self, now: Instant) {
        if !self.state.is_final() {
            self.state = JobState::Canceled;
            self.waiting = None;
            self.finished_at = Some(now);
        }
        self.changed.send_replace(());
    }

    /// The archive, as later jobs see it.
    pub(super) fn archive(&self) -> Option<&StoredArtifact> {
        self.artifacts.iter().find(|artifact| artifact.artifact_type == "archive")
    }
}

/// A job token in GitLab's form, different for each hand-out and the same in each run.
pub(super) fn token(id: u64, handout: u32) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(format!("job {id} hand-out {handout}"));
    let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("glcbt-64_{hex}")
}

fn parse_range(range: &str) -> Option<(usize, usize)> {
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests;
