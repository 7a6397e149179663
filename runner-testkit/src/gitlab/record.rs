//! What clients did: every request, and every breach of the protocol.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;

use super::Endpoint;

/// Requests kept; older ones are forgotten, their counts are not. About 30 MB at the most.
const KEPT: usize = 64 * 1024;

/// Violations kept: a client that breaks the rules in a loop must not fill the memory.
const VIOLATIONS_KEPT: usize = 1024;

/// Headers that are kept of a request.
const HEADERS: [&str; 14] = [
    "accept",
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "git-protocol",
    "job-token",
    "range",
    "runner-token",
    "user-agent",
    "x-gitaly-correlation-id",
    "x-request-id",
];

/// One request as it was seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Since the server started, at the moment its head had arrived.
    pub at: Duration,
    /// How long it took until the head of the answer was ready or the connection broke.
    pub took: Duration,
    /// What it asked for.
    pub endpoint: Endpoint,
    /// Which job, where the path names one.
    pub job: Option<u64>,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Status of the answer. `None`: it got none, on purpose or because the client went away.
    pub status: Option<u16>,
    /// The headers that matter, names in lower case: `accept`, `accept-encoding`, `authorization`,
    /// `content-*`, `git-protocol`, `job-token`, `range`, `runner-token`, `user-agent`,
    /// `x-gitaly-correlation-id`, `x-request-id`.
    pub headers: BTreeMap<String, String>,
    /// Bytes of its body.
    pub received: u64,
    /// Bytes of the answer's body. `None`: streamed, of unknown length.
    pub sent: Option<u64>,
    /// Number of the connection, in order of acceptance.
    pub connection: u64,
}

/// What a client must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Since the server started.
    pub at: Duration,
    /// Which rule.
    pub rule: Rule,
    /// Which job, if it is about one.
    pub job: Option<u64>,
    /// What was seen and what was expected.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if let Some(job) = self.job {
            write!(f, " (job {job})")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// The rules that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A runner token that is not known: 403.
    RunnerToken,
    /// A job token that is not this job's, or no longer: 403.
    JobToken,
    /// A header that a runner always sends is missing or does not fit the body.
    Header,
    /// A body that is not what the endpoint takes: 400.
    Body,
    /// `Content-Range` does not fit the bytes, or leaves a gap, or overlaps: 416 where GitLab
    /// answers so.
    TraceRange,
    /// Bytes sent twice for the same offsets differ.
    TraceRewritten,
    /// Trace bytes after the verdict: 403.
    TraceAfterVerdict,
    /// Trace bytes or a verdict before `state=running` was said: 403 or 400.
    NotAcknowledged,
    /// Checksum or size of the verdict do not fit the stored trace: 412.
    TraceChecksum,
    /// A second verdict that says something else than the first: 403.
    SecondVerdict,
    /// The job's time to be acknowledged is over; it went back into the queue.
    AcknowledgedTooLate,
    /// An upload that GitLab refuses: 400 or 413.
    Artifact,
    /// A token of GitLab's was sent to another origin.
    TokenLeaked,
    /// A path that does not exist: 404.
    UnknownPath,
}

#[derive(Debug, Default)]
pub(super) struct Records(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Request>,
    counts: BTreeMap<Endpoint, u64>,
    violations: Vec<Violation>,
}

impl Records {
    pub(super) fn request(&self, request: Request) {
        let mut kept = self.0.lock();
        *kept.counts.entry(request.endpoint).or_default() += 1;
        if kept.requests.len() == KEPT {
            kept.requests.pop_front();
        }
        kept.requests.push_back(request);
    }

    pub(super) fn violation(&self, violation: Violation) {
        tracing::debug!(%violation, "a client broke the protocol");
        let mut kept = self.0.lock();
        if kept.violations.len() < VIOLATIONS_KEPT {
            kept.violations.push(violation);
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.0.lock().requests.iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> BTreeMap<Endpoint, u64> {
        self.0.lock().counts.clone()
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        self.0.lock().violations.clone()
    }
}

pub(super) fn kept_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    HEADERS
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?;
            Some(((*name).to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        })
        .collect()
}
