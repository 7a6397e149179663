//! Answers that a test wants instead of the natural ones, in a queue per endpoint.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;

/// The things a client can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// `POST jobs/request`
    RequestJob,
    /// `PUT jobs/:id`
    UpdateJob,
    /// `PATCH jobs/:id/trace`
    Trace,
    /// `POST jobs/:id/artifacts`
    UploadArtifact,
    /// `GET jobs/:id/artifacts`
    DownloadArtifact,
    /// `POST runners/verify`
    VerifyRunner,
    /// `POST runners`
    RegisterRunner,
    /// `DELETE runners` and `DELETE runners/managers`
    UnregisterRunner,
    /// `POST runners/reset_authentication_token`
    ResetToken,
    /// A repository's `info/refs` and `git-upload-pack`
    Git,
    /// The second origin, to which direct downloads are redirected
    ObjectStorage,
    /// Anything else: 404
    Other,
}

/// How far a request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Break {
    #[default]
    None,
    /// Reset after so many bytes of the body; nothing is done.
    Reset { after: u64 },
    /// Done, then reset before the first byte of the answer.
    LoseReply,
    /// The answer's body is cut and the connection reset.
    CutBody { after: usize },
    /// Nothing is done and nothing is said.
    Hang,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Scripted {
    pub(super) status: Option<StatusCode>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<Bytes>,
    pub(super) delay: Duration,
    pub(super) broken: Break,
    job: Option<u64>,
    left: u64,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Scripts(Mutex<HashMap<Endpoint, Vec<Scripted>>>);

impl Scripts {
    /// What is wanted for this request, if anything: the oldest entry that fits, one use of it.
    pub(super) fn take(&self, endpoint: Endpoint, job: Option<u64>) -> Option<Scripted> {
        let mut all = self.0.lock();
        let queue = all.get_mut(&endpoint)?;
        let at = queue.iter().position(|entry| entry.job.is_none() || entry.job == job)?;
        let found = queue[at].clone();
        queue[at].left = queue[at].left.saturating_sub(1);
        if queue[at].left == 0 {
            queue.remove(at);
        }
        Some(found)
    }

    fn push(&self, endpoint: Endpoint, entry: Scripted) {
        self.0.lock().entry(endpoint).or_default().push(entry);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Entries that no request has used yet.
    pub(super) fn left(&self) -> u64 {
        self.0.lock().values().flatten().fold(0, |sum, entry| sum.saturating_add(entry.left))
    }
}

/// An answer in the making: say what, then [`once`](Self::once), [`times`](Self::times) or
/// [`always`](Self::always).
///
/// Without [`reply`](Self::reply) and without a break the natural answer is given, late
/// ([`delay`](Self::delay)) or with more headers ([`header`](Self::header)).
///
/// ```
/// use runner_testkit::gitlab::{Endpoint, GitLab, Script};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let gitlab = GitLab::start().await?;
/// let busy: Script<'_> = gitlab.script(Endpoint::VerifyRunner);
/// busy.reply(429).header("Retry-After", "1").times(2);
///
/// # let _ = rustls::crypto::ring::default_provider().install_default();
/// let http = reqwest::Client::builder().no_proxy().user_agent("example").build()?;
/// let mut statuses = Vec::new();
/// for _ in 0..3 {
///     let verify = http.post(format!("{}/api/v4/runners/verify", gitlab.url()));
///     let token = serde_json::json!({ "token": gitlab.runner_token() });
///     statuses.push(verify.json(&token).send().await?.status().as_u16());
/// }
/// assert_eq!(statuses, [429, 429, 200]);
/// assert_eq!(gitlab.scripts_left(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before `once`, `times` or `always`"]
pub struct Script<'a> {
    scripts: &'a Scripts,
    endpoint: Endpoint,
    entry: Scripted,
}

impl<'a> Script<'a> {
    pub(super) fn new(scripts: &'a Scripts, endpoint: Endpoint) -> Self {
        Self { scripts, endpoint, entry: Scripted::default() }
    }

    /// This status; the request has no effect.
    ///
    /// # Panics
    /// When it is not between 100 and 999: a mistake in the test.
    pub fn reply(mut self, status: u16) -> Self {
        self.entry.status =
            Some(StatusCode::from_u16(status).expect("an HTTP status has three digits"));
        self
    }

    /// Sets a header of the answer; of the natural one too, when there is no
    /// [`reply`](Self::reply).
    ///
    /// # Panics
    /// When it cannot be a header: a mistake in the test.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a test names a well-formed header");
        let value = HeaderValue::try_from(value).expect("a test gives a header a value of text");
        self.entry.headers.push((name, value));
        self
    }

    /// The body. Default: GitLab's `{"message": …}` for errors, else none. Its type is JSON unless
    /// a header says otherwise.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.entry.body = Some(body.into());
        self
    }

    /// Waits before anything is done. Default: no time.
    pub fn delay(mut self, time: Duration) -> Self {
        self.entry.delay = time;
        self
    }

    /// Resets the connection instead of answering; the request has no effect.
    pub fn reset(self) -> Self {
        self.reset_after(0)
    }

    /// The same, after so many bytes of the request's body were read.
    pub fn reset_after(mut self, bytes: u64) -> Self {
        self.entry.broken = Break::Reset { after: bytes };
        self
    }

    /// Does what is asked, then resets the connection: the client cannot know.
    pub fn lose_reply(mut self) -> Self {
        self.entry.broken = Break::LoseReply;
        self
    }

    /// Resets the connection after so many bytes of the answer's body.
    pub fn cut_body(mut self, after: usize) -> Self {
        self.entry.broken = Break::CutBody { after };
        self
    }

    /// Never answers; the request has no effect.
    pub fn hang(mut self) -> Self {
        self.entry.broken = Break::Hang;
        self
    }

    /// Only for requests about this job.
    pub fn for_job(mut self, job: &super::JobRef) -> Self {
        self.entry.job = Some(job.id());
        self
    }

    /// For the next request.
    pub fn once(self) {
        self.times(1);
    }

    /// For the next `n` requests.
    pub fn times(mut self, n: u64) {
        self.entry.left = n;
        if n > 0 {
            self.scripts.push(self.endpoint, self.entry);
        }
    }

    /// For all requests until [`GitLab::clear_scripts`](super::GitLab::clear_scripts).
    pub fn always(self) {
        self.times(u64::MAX);
    }
}
