//! The server as its user holds it: queue jobs, look at them, break things.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::builder::GitLabBuilder;
use super::job::{Job, JobState, SessionInfo, StoredArtifact};
use super::listener::{Listeners, Origin};
use super::record::{Records, Request, Rule, Violation};
use super::repo::{Repo, RepoBuilder};
use super::script::{Endpoint, Script, Scripts};
use super::spec::JobSpec;
use super::state::State;

/// What does not change while it runs.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) latency: Duration,
    pub(super) trace_interval: Option<u64>,
    pub(super) long_poll: Duration,
    pub(super) commit_deadline: Duration,
    pub(super) pending_verdicts: u32,
    pub(super) trace_limit: u64,
    pub(super) artifact_limit: u64,
    pub(super) object_storage: bool,
    pub(super) registration_token: String,
}

pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) started: Instant,
    pub(super) listeners: Listeners,
    pub(super) state: Mutex<State>,
    /// Grows when the queue does; what `X-GitLab-Last-Update` is made of.
    pub(super) queue: watch::Sender<u64>,
    /// Polls that wait for the queue to grow.
    pub(super) parked: watch::Sender<usize>,
    pub(super) scripts: Scripts,
    pub(super) records: Records,
    pub(super) repos: Mutex<HashMap<String, Repo>>,
    pub(super) url: Mutex<String>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    /// May read every repository.
    pub(super) read_token: Mutex<Option<String>>,
    runner_token: String,
    /// Made when the first repository is.
    repo_dir: Mutex<Option<tempfile::TempDir>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitLab").field("url", &*self.url.lock()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn breach(&self, rule: Rule, job: Option<u64>, detail: impl Into<String>) {
        let at = self.started.elapsed();
        self.records.violation(Violation { at, rule, job, detail: detail.into() });
    }

    pub(super) fn queue_has_grown(&self) {
        self.queue.send_modify(|version| *version += 1);
    }

    pub(super) fn repo_dir(&self) -> io::Result<PathBuf> {
        let mut dir = self.repo_dir.lock();
        let dir = match &mut *dir {
            Some(dir) => dir,
            none => none.insert(tempfile::Builder::new().prefix("gitlab-stand-in-").tempdir()?),
        };
        Ok(dir.path().to_owned())
    }

    /// Does something to a job and then looks which others that sets free.
    pub(super) fn with_job<T>(&self, id: u64, act: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let done = state.jobs.get_mut(&id).map(act);
        let grown = state.settle(Instant::now());
        drop(state);
        if grown {
            self.queue_has_grown();
        }
        done
    }
}

/// A running stand-in. It stops, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct GitLab {
    inner: Arc<Inner>,
    _stop: DropGuard,
}

impl GitLab {
    /// Starts one with the default settings on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Starts one with other settings.
    pub fn builder() -> GitLabBuilder {
        GitLabBuilder::new()
    }

    pub(super) fn with(builder: GitLabBuilder) -> io::Result<Self> {
        let listeners = Listeners::reserve(builder.bind, builder.tls)?;
        let url = builder.external_url.unwrap_or_else(|| listeners.url(Origin::GitLab));
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            settings: builder.settings,
            started: Instant::now(),
            listeners,
            state: Mutex::new(State::new(builder.runner_token.clone())),
            queue: watch::Sender::new(1),
            parked: watch::Sender::new(0),
            scripts: Scripts::default(),
            records: Records::default(),
            repos: Mutex::default(),
            url: Mutex::new(url),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            read_token: Mutex::default(),
            runner_token: builder.runner_token,
            repo_dir: Mutex::default(),
        });
        Listeners::open(&inner)?;
        Ok(Self { inner, _stop: stop.drop_guard() })
    }

    /// What goes into `url` of a runner's configuration: no trailing slash, no `/api/v4`.
    #[must_use]
    pub fn url(&self) -> String {
        self.inner.url.lock().clone()
    }

    /// Where it listens, whatever [`url`](Self::url) says: the target of a
    /// [`FaultProxy`](crate::fault::FaultProxy).
    #[must_use]
    pub fn addr(&self) -> std::net::SocketAddr {
        self.inner.listeners.addr(Origin::GitLab)
    }

    /// Changes the URL that is named from now on, e.g. to that of a proxy in front.
    pub fn advertise(&self, url: impl Into<String>) {
        *self.inner.url.lock() = url.into();
    }

    /// The certificate of its authority, if it speaks TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.inner.listeners.ca_pem()
    }

    /// A runner token it accepts.
    #[must_use]
    pub fn runner_token(&self) -> &str {
        &self.inner.runner_token
    }

    /// A token that may read all repositories as user `gitlab-ci-token`, for tests that run no job of
    /// this server. It is the same until the end.
    #[must_use]
    pub fn read_token(&self) -> String {
        let mut token = self.inner.read_token.lock();
        token.get_or_insert_with(|| "glcbt-stand-in-read-token".to_owned()).clone()
    }

    /// Puts a job into the queue.
    pub fn enqueue(&self, spec: JobSpec) -> JobRef {
        let (id, grown) = self.inner.state.lock().add(spec, Instant::now());
        if grown {
            self.inner.queue_has_grown();
        }
        JobRef { inner: self.inner.clone(), id }
    }

    /// Makes a repository `group/project`.
    pub fn repo(&self, path: impl Into<String>) -> RepoBuilder<'_> {
        RepoBuilder::new(&self.inner, path.into())
    }

    /// What a job has uploaded, in the order of arrival.
    #[must_use]
    pub fn artifacts(&self, job: &JobRef) -> Vec<StoredArtifact> {
        job.read(|job| job.artifacts.clone())
    }

    /// All requests, oldest first; at most the last 65,536.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.inner.records.requests()
    }

    /// How many requests there were for each endpoint.
    #[must_use]
    pub fn request_counts(&self) -> BTreeMap<Endpoint, u64> {
        self.inner.records.counts()
    }

    /// What clients did against the protocol, oldest first; at most the first 1,024.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.inner.records.violations()
    }

    /// Wants another answer than the natural one; see [`Script`].
    pub fn script(&self, endpoint: Endpoint) -> Script<'_> {
        Script::new(&self.inner.scripts, endpoint)
    }

    /// Forgets all scripted answers.
    pub fn clear_scripts(&self) {
        self.inner.scripts.clear();
    }

    /// Scripted answers that no request has used yet.
    #[must_use]
    pub fn scripts_left(&self) -> u64 {
        self.inner.scripts.left()
    }

    /// Resets all connections and refuses new ones until [`come_back`](Self::come_back).
    pub async fn go_away(&self) {
        Listeners::close(&self.inner).await;
    }

    /// Listens again on the same ports.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn come_back(&self) -> io::Result<()> {
        Listeners::open(&self.inner)
    }

    /// Goes away now and comes back by itself after this time.
    pub async fn away(&self, time: Duration) {
        self.go_away().await;
        let inner = self.inner.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = inner.stop.cancelled() => {}
                () = tokio::time::sleep(time) => {
                    if let Err(error) = Listeners::open(&inner) {
                        tracing::error!(%error, "the GitLab stand-in could not come back");
                    }
                }
            }
        });
    }

    /// Resets all connections that are open now, parked polls included.
    pub async fn reset_connections(&self) {
        self.inner.listeners.reset_connections().await;
    }

    /// Waits until so many polls are parked. Returns whether they were in time.
    pub async fn wait_parked_polls(&self, polls: usize, time: Duration) -> bool {
        let mut parked = self.inner.parked.subscribe();
        // The sender lives as long as the server, so only the time can run out.
        tokio::time::timeout(time, parked.wait_for(|now| *now >= polls)).await.is_ok()
    }
}

/// A job on the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobRef {
    inner: Arc<Inner>,
    id: u64,
}

/// How a job ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finished {
    /// `Success`, `Failed`, `Canceled` or `Skipped`.
    pub state: JobState,
    /// What the verdict gave as the reason, or the server's own. `None` for a success.
    pub failure_reason: Option<String>,
    /// From the verdict.
    pub exit_code: Option<i64>,
    /// All of it.
    pub trace: Bytes,
    /// Whether the verdict's checksum fitted the trace. `None`: it had none, or there was no verdict.
    pub checksum_ok: Option<bool>,
    /// From the verdict.
    pub checksum: Option<String>,
    /// From the verdict.
    pub bytesize: Option<u64>,
    /// How often the same verdict came again after it was taken.
    pub repeated_verdicts: u32,
    /// How often a verdict was answered 412.
    pub rejected_verdicts: u32,
    /// How often a piece of trace was answered 416.
    pub range_mismatches: u32,
    /// How often the job was given to a runner.
    pub handouts: u32,
    /// From the queue to the runner.
    pub queued: Option<Duration>,
    /// From the runner's acknowledgement to the end.
    pub ran: Option<Duration>,
}

/// A job is not where a test wants it to be, and the time is over.
#[derive(Debug, thiserror::Error)]
#[error("job {id} ({name}) is {}, after {waited:?}; its trace ends with: {trace_end}", state.as_str())]
pub struct NotYet {
    /// Which.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it is instead.
    pub state: JobState,
    /// How long was waited.
    pub waited: Duration,
    /// The last kilobyte of its trace.
    pub trace_end: String,
}

impl JobRef {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.read(|job| job.spec.name.clone())
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> JobState {
        self.read(|job| job.state)
    }

    /// The token of the last hand-out.
    #[must_use]
    pub fn token(&self) -> String {
        self.read(|job| job.token.clone())
    }

    /// What its runner offered for looking into it.
    #[must_use]
    pub fn session(&self) -> Option<SessionInfo> {
        self.read(|job| job.session.clone())
    }

    /// What is stored of its trace.
    #[must_use]
    pub fn trace(&self) -> Bytes {
        self.read(|job| Bytes::copy_from_slice(&job.trace))
    }

    /// Cancels it as a user does: gracefully, if its runner said it can.
    pub fn cancel(&self) {
        self.write(|job| job.cancel(Instant::now()));
    }

    /// Cancels it without asking the runner: its next request is answered 403.
    pub fn force_cancel(&self) {
        self.write(|job| job.force_cancel(Instant::now()));
    }

    /// Loses all of the stored trace after so many bytes: the next piece is answered 416. From then
    /// on, what does not fit the trace is no [`Violation`] of the client's.
    pub fn truncate_trace(&self, bytes: usize) {
        self.write(|job| {
            job.trace.truncate(bytes);
            job.tampered = true;
        });
    }

    /// Turns over a bit of a stored byte: the verdict is answered 412, which is no [`Violation`] of
    /// the client's then. Nothing if there is no such byte.
    pub fn corrupt_trace(&self, at: usize) {
        self.write(|job| {
            if let Some(byte) = job.trace.get_mut(at) {
                *byte ^= 1;
                job.tampered = true;
            }
        });
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn wait_finished(&self, time: Duration) -> Result<Finished, NotYet> {
        self.wait(time, |job| job.state.is_final().then(|| finished(job))).await
    }

    /// Waits until it is in this state, or in a final one.
    ///
    /// # Errors
    /// When it is not in this state in time, or has ended in another one.
    pub async fn wait_state(&self, wanted: JobState, time: Duration) -> Result<(), NotYet> {
        let began = Instant::now();
        let reached =
            |job: &Job| (job.state == wanted || job.state.is_final()).then_some(job.state);
        if self.wait(time, reached).await? == wanted {
            return Ok(());
        }
        Err(self.not_yet(began.elapsed()))
    }

    /// Waits until its trace contains this.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn wait_trace(&self, text: impl AsRef<[u8]>, time: Duration) -> Result<(), NotYet> {
        let finder = memchr::memmem::Finder::new(text.as_ref());
        self.wait(time, |job| finder.find(&job.trace).map(|_| ())).await
    }

    async fn wait<T>(
        &self,
        time: Duration,
        reached: impl Fn(&Job) -> Option<T>,
    ) -> Result<T, NotYet> {
        let mut changed = self.read(|job| job.changed.subscribe());
        let waiting = async {
            loop {
                if let Some(done) = self.read(&reached) {
                    return done;
                }
                // The sender lives as long as the job, and jobs are never removed.
                let _ = changed.changed().await;
            }
        };
        match tokio::time::timeout(time, waiting).await {
            Ok(done) => Ok(done),
            Err(_) => Err(self.not_yet(time)),
        }
    }

    fn not_yet(&self, waited: Duration) -> NotYet {
        self.read(|job| NotYet {
            id: job.id,
            name: job.spec.name.clone(),
            state: job.state,
            waited,
            trace_end: String::from_utf8_lossy(&job.trace[job.trace.len().saturating_sub(1024)..])
                .into_owned(),
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Job) -> T) -> T {
        let state = self.inner.state.lock();
        look(state.jobs.get(&self.id).expect("jobs are never removed"))
    }

    fn write(&self, act: impl FnOnce(&mut Job)) {
        self.inner.with_job(self.id, |job| {
            act(job);
            job.changed.send_replace(());
        });
    }
}

fn finished(job: &Job) -> Finished {
    let verdict = job.verdict.clone().unwrap_or_default();
    let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.duration_since(from?));
    Finished {
        state: job.state,
        failure_reason: job.failure_reason.clone(),
        exit_code: verdict.exit_code,
        trace: Bytes::copy_from_slice(&job.trace),
        checksum_ok: job.checksum_ok,
        checksum: verdict.checksum,
        bytesize: verdict.bytesize,
        repeated_verdicts: job.repeated_verdicts,
        rejected_verdicts: job.rejected_verdicts,
        range_mismatches: job.range_mismatches,
        handouts: job.handouts,
        queued: between(Some(job.queued_at), job.handed_out_at),
        ran: between(job.running_at, job.finished_at),
    }
}
