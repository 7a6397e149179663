//! What the agent runs: a job as data.
//!
//! The planner makes a [`Plan`] out of a [`Job`](crate::job::Job); it travels into the pod as JSON
//! and the agent works through its stages. Operations are data, not shell text; only the user's own
//! commands become a shell script, and that inside the pod, where the shell is known.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod caches;
mod script;
#[cfg(test)]
mod tests;

pub use caches::{ArchiveCache, CacheStage, RestoreCache};
pub use script::{CommandList, Requirement, Script, ScriptLanguage, SourceHooks};

use crate::ids::JobId;
use crate::job::{ArtifactFormat, ObjectFormat};
use crate::secret::Secret;

/// The version of the plan's format that this build writes.
///
/// New optional fields (with `#[serde(default)]`) do not change it; anything an older agent would
/// get wrong does.
pub const PLAN_VERSION: u32 = 1;

/// Everything the agent has to know to run a job on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of whoever wrote it. The agent refuses what it does not know.
    pub version: u32,
    /// The job, for messages.
    pub job: JobId,
    /// Lines that the trace begins with.
    pub header: Vec<HeaderLine>,
    /// Variables of all stages, expanded, in order; a later one wins.
    pub variables: Vec<PlanVariable>,
    /// Where things lie in the containers.
    pub directories: Directories,
    /// What to do, in order.
    pub stages: Vec<Stage>,
    /// How the trace is made.
    pub log: LogSettings,
    /// Who the job's own commands run as, where the executor knows it beforehand: the checkout is
    /// made as this user then, if the helper may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_user: Option<BuildUser>,
    /// Longest time for all stages together.
    pub timeout: Duration,
    /// How long the agent keeps trace and verdict for a manager after the last stage.
    pub hold: Duration,
    /// How long a process may take to end after TERM before it is killed. Default 10 s.
    pub grace: Duration,
    /// How long to wait before a stage is tried again.
    #[serde(default)]
    pub retry: RetryPauses,
    /// Lines for the trace before the first user step, e.g. which policy made the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// A summary at the end of the trace. `None`: none.
    #[serde(default)]
    pub summary: Option<Summary>,
    /// Containers beside helper and build, which the executor fills in.
    #[serde(default, skip_serializing_if = "Companions::is_none")]
    pub companions: Companions,
    /// The image's own entry point starts the agent in the build container, and may take this long
    /// after the container has started. `None`: the agent is started directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Duration>,
}

/// What a summary says beside what the agent sees itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How long the job waited in the source's queue.
    #[serde(default)]
    pub queued: Option<Duration>,
    /// When the manager got the job, in milliseconds since the Unix epoch by its own clock.
    #[serde(default)]
    pub received_ms: Option<u64>,
}

/// How long to wait before a stage is tried again
/// (`FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY`; GitLab Runner's times).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryPauses {
    /// 5 s, 10 s, 20 s … 5 minutes.
    #[default]
    Exponential,
    /// 1 s, 2 s, 4 s, 5 s, 5 s ….
    Short,
}

impl RetryPauses {
    /// The pause after this attempt, from 1.
    pub fn after(self, attempt: u32) -> Duration {
        let (first, longest) = match self {
            Self::Exponential => (5, 300),
            Self::Short => (1, 5),
        };
        let factor = 1_u64.checked_shl(attempt.saturating_sub(1).min(32)).unwrap_or(u64::MAX);
        Duration::from_secs(factor.saturating_mul(first).min(longest))
    }
}

/// A user of the build container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildUser {
    /// Its number.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
}

/// Containers beside the job's own: what is waited for before the job begins, and what is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companions {
    /// The containers.
    #[serde(default)]
    pub services: Vec<ServicePlan>,
    /// How long the job waits for all ports together; then it goes on with a warning. `None`: as
    /// long as its own deadlines allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// The services' own output is part of the trace (`CI_DEBUG_SERVICES`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logs: bool,
}

impl Companions {
    /// Whether there is nothing to do about any of them.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A container beside the job's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// The container's name, as the executor speaks of it.
    pub name: String,
    /// Its name in the trace: image without tag, and aliases.
    pub title: String,
    /// Ports of localhost that must take connections before the job begins.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// A line at the beginning of the trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderLine {
    /// What it says, without colours and line end.
    pub text: String,
    /// How it looks.
    #[serde(default)]
    pub level: LineLevel,
    /// When, in seconds since the Unix epoch, for section markers. `None`: when the agent writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

impl HeaderLine {
    /// A line without colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), level: LineLevel::Plain, at: None }
    }

    /// A warning to the job's author.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { text: text.into(), level: LineLevel::Warning, at: None }
    }
}

/// How a line of the runner's own looks in the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineLevel {
    /// No colour.
    #[default]
    Plain,
    /// Green.
    Info,
    /// Yellow, with `WARNING: ` before it.
    Warning,
    /// Red, with `ERROR: ` before it.
    Error,
    /// A stage's heading, in cyan.
    Heading,
    /// Not a line but the beginning of the section of this name.
    SectionStart,
    /// Not a line but its end.
    SectionEnd,
}

/// A variable as the stages see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanVariable {
    /// Name.
    pub key: String,
    /// Value; for a file variable the content of the file.
    pub value: Secret,
    /// The agent writes the value to `<temp>/<key>` and exports that path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file: bool,
}

/// Absolute paths, the same in all containers of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Root of all checkouts, `/builds` by default.
    pub builds: String,
    /// The checkout (`CI_PROJECT_DIR`), below `builds`.
    pub project: String,
    /// Files of the runner for this job (file variables), `<project>.tmp`.
    pub temp: String,
    /// Local cache of this project.
    pub cache: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Name in section markers and reports, e.g. `get_sources`, `step_script`.
    pub name: String,
    /// Heading in the trace. `None`: no heading and no section.
    pub title: Option<String>,
    /// Which container.
    pub place: Place,
    /// Whether it runs, given how the stages before it went.
    pub when: When,
    /// What its failure means for the job.
    pub on_failure: OnFailure,
    /// How often it is tried, at least 1.
    pub attempts: u32,
    /// Its deadline; the job's applies in any case.
    pub timeout: Option<StageTimeout>,
    /// What to do.
    pub operation: Operation,
}

/// A stage's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimeout {
    /// How long it may take.
    pub limit: Duration,
    /// Stages with the same number here share the limit (all user steps share
    /// `RUNNER_SCRIPT_TIMEOUT`). `None`: it is this stage's own.
    pub shared: Option<u32>,
}

/// Which container a stage runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The helper, with git and the runner's credentials.
    Helper,
    /// The job's own image.
    Build,
}

/// Whether a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Nothing has failed so far.
    Success,
    /// Something has failed (but not the job's own deadline, nor an abort).
    Failure,
    /// A user step was entered, however it ended (but not after the job's deadline or an abort).
    AfterScript,
    /// In any case, even after an abort; it gets `grace` then.
    Always,
}

/// What a failed stage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The job has failed, unless it had already.
    FailsJob,
    /// A warning in the trace.
    Warns,
    /// Nothing.
    Ignored,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "operation")]
#[non_exhaustive]
pub enum Operation {
    /// Says where the job runs (`Running on … via …`) and makes the directories.
    Prepare {
        /// Host name of the manager that planned the job.
        via: String,
    },
    /// Brings the checkout into the state that the job wants.
    GetSources(Box<GetSources>),
    /// Fetches and unpacks archives of earlier jobs.
    DownloadArtifacts {
        /// In this order.
        archives: Vec<Download>,
    },
    /// Restores caches. It never fails the job.
    RestoreCaches(CacheStage<RestoreCache>),
    /// Archives caches. It never fails the job.
    ArchiveCaches(CacheStage<ArchiveCache>),
    /// Runs the user's commands in one shell.
    Script(Script),
    /// Packs and hands over archives.
    UploadArtifacts {
        /// In this order.
        archives: Vec<Upload>,
    },
    /// Removes what the runner itself left behind (file variables, credentials).
    Cleanup,
}

/// How to get the sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GetSources {
    /// Which way.
    pub strategy: GitStrategy,
    /// URL without credentials; what `origin` is set to.
    pub url: String,
    /// User name and password for it, and for [`Self::login_origins`].
    pub login: Option<GitLogin>,
    /// Where `login` may be sent: `scheme://host[:port]`, http and https only. Whatever else a
    /// repository refers to (submodules, LFS servers) is asked without it.
    #[serde(default)]
    pub login_origins: Vec<String>,
    /// Send `login` without being asked first, which saves a request; git 2.46 and later
    /// (`FF_USE_GIT_PROACTIVE_AUTH`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proactive_login: bool,
    /// Let git authenticate everywhere in the job's scripts, not only in the checkout
    /// (`FF_GIT_URLS_WITHOUT_TOKENS`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub login_in_scripts: bool,
    /// Branch or tag, for messages.
    pub reference: String,
    /// Commit.
    pub sha: String,
    /// What to fetch.
    pub refspecs: Vec<String>,
    /// 0: everything.
    pub depth: u32,
    /// Object format of a fresh repository.
    pub object_format: ObjectFormat,
    /// Whether to check out at all (`GIT_CHECKOUT`).
    pub checkout: bool,
    /// Arguments of `git clean`; empty: no cleaning.
    pub clean_flags: Vec<String>,
    /// More arguments of `git fetch`.
    pub fetch_flags: Vec<String>,
    /// Use `git clone` where git can (2.49, `FF_USE_GIT_NATIVE_CLONE`), with these arguments more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_clone: Option<Vec<String>>,
    /// Value of `http.userAgent`.
    pub user_agent: String,
    /// Name of this fetch in the server's logs (`X-Gitaly-Correlation-ID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Take bundles that the server offers (`FF_USE_GIT_BUNDLE_URIS`). Only `git clone` does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bundle_uris: bool,
    /// URLs that begin with the second text are to begin with the first (`url.<first>.insteadOf`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<(String, String)>,
    /// What to do about submodules. `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submodules: Option<Submodules>,
    /// Fetch the content of files in LFS, where there are any (`GIT_LFS_SKIP_SMUDGE`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs: bool,
    /// Leave nothing of the job in the checkout at its end (`FF_ENABLE_JOB_CLEANUP`). Default: off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean_up: bool,
    /// What is wrong with the job's settings; the stage says so and fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// PEM of a CA that git shall trust for [`Self::login_origins`].
    #[serde(default)]
    pub tls_ca: Option<String>,
    /// The author's and the operator's commands around all this.
    #[serde(default)]
    pub hooks: Box<SourceHooks>,
}

/// How submodules are brought in (`GIT_SUBMODULE_*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodules {
    /// How far down.
    pub nesting: Nesting,
    /// Commits of each. 0: everything.
    pub depth: u32,
    /// Which ones, as path specifications. Empty: all.
    pub paths: Vec<String>,
    /// More arguments of `git submodule update`.
    pub update_flags: Vec<String>,
}

/// Whether submodules of submodules count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nesting {
    /// Those of the project itself.
    Normal,
    /// Theirs too.
    Recursive,
}

/// How the checkout is brought about (`GIT_STRATEGY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitStrategy {
    /// Reuse what is there.
    Fetch,
    /// Begin with nothing.
    Clone,
    /// Leave everything as it is.
    None,
    /// An empty directory.
    Empty,
}

/// Credentials for git, kept out of URLs and of `.git/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitLogin {
    /// User.
    pub username: String,
    /// Password or token.
    pub password: Secret,
}

/// An archive to fetch and unpack into the project directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The job that made it, for messages.
    pub job: JobId,
    /// That job's name.
    pub name: String,
    /// Bytes, as the source says.
    pub size: u64,
    /// Where from.
    pub from: Transfer,
}

/// An archive to pack and hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Name without extension.
    pub name: String,
    /// What it is to the source: `archive`, `junit`, …, for messages.
    pub kind: String,
    /// Globs relative to the project directory.
    pub paths: Vec<String>,
    /// Globs of what stays out.
    pub exclude: Vec<String>,
    /// Also everything git does not track.
    pub untracked: bool,
    /// How it is packed.
    pub format: ArtifactFormat,
    /// Where to.
    pub to: Transfer,
    /// A statement of where it comes from goes into it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// What a provenance statement says beside names and digests of files
/// (`RUNNER_GENERATE_ARTIFACTS_METADATA`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The runner's number at the source.
    pub runner_id: String,
    /// Its name.
    pub runner_name: String,
    /// `kubernetes`.
    pub executor: String,
    /// The repository, without credentials and `.git`.
    pub repository: String,
    /// The commit.
    pub sha: String,
    /// The job's name.
    pub job_name: String,
    /// Names of the job's variables; never their values.
    pub variables: Vec<String>,
    /// URL of the page that says what such a statement means.
    pub build_type: String,
    /// Version of the runner.
    pub builder_version: String,
}

/// Where an archive comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Transfer {
    /// The agent talks to this address itself.
    Http(HttpTransfer),
}

/// A request that the agent makes on the source's behalf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTransfer {
    /// `GET`, `PUT` or `POST`.
    pub method: String,
    /// Address with query; it may be presigned, hence secret.
    pub url: Secret,
    /// Headers, e.g. `JOB-TOKEN`. Never sent to another origin when a redirect leads there.
    pub headers: Vec<(String, Secret)>,
    /// How an upload's body looks.
    pub body: HttpBody,
    /// PEM of a CA to trust in addition to the system's.
    #[serde(default)]
    pub tls_ca: Option<String>,
    /// Longest time for one try.
    pub timeout: Duration,
}

impl HttpTransfer {
    /// A request without headers whose body, where it has one, is the archive itself.
    pub fn new(method: impl Into<String>, url: impl Into<Secret>, timeout: Duration) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: HttpBody::Raw,
            tls_ca: None,
            timeout,
        }
    }

    /// The same with one more header.
    ///
    /// ```
    /// use std::time::Duration;
    /// use runner_core::plan::{HttpTransfer, Transfer};
    ///
    /// let put = HttpTransfer::new("PUT", "https://store.example/7", Duration::from_secs(600));
    /// let put = Transfer::Http(put.header("authorization", "Bearer t0k3n"));
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The shape of an upload's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpBody {
    /// The archive itself.
    Raw,
    /// `multipart/form-data` with one part of this name that holds the archive.
    Multipart {
        /// Name of the part.
        field: String,
    },
}

/// How the trace is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Values that never appear; trimmed, empty ones are ignored.
    pub masks: Vec<Secret>,
    /// What follows one of these prefixes is masked (`glpat-` …).
    pub token_prefixes: Vec<String>,
    /// A time and stream id before each line (GitLab's `FF_TIMESTAMPS`).
    pub timestamps: bool,
    /// Section markers.
    pub sections: bool,
    /// Longest trace in bytes; then a notice, then nothing more. Default 4 MiB.
    pub limit: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            masks: Vec::new(),
            token_prefixes: Vec::new(),
            timestamps: true,
            sections: true,
            limit: 4 << 20,
        }
    }
}

/// Why a plan could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanReadError {
    /// Not a plan at all.
    #[error("the plan is not valid JSON of a plan")]
    Malformed(#[from] serde_json::Error),
    /// Written by another release.
    #[error(
        "the plan has format version {found}, this agent understands {PLAN_VERSION}; \
         use the agent image of the manager's release"
    )]
    Version {
        /// What the plan says.
        found: u32,
    },
}

impl Plan {
    /// The plan as it travels into the pod.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a plan has string keys only and no fallible Serialize")
    }

    /// Reads what [`Plan::to_json`] wrote.
    ///
    /// # Errors
    /// When it is no plan, or of a version that this build does not understand.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PlanReadError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // The version first: a later format may not even have the same fields.
        let Version { version } = serde_json::from_slice(bytes)?;
        if version != PLAN_VERSION {
            return Err(PlanReadError::Version { found: version });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The same plan with all its directories below `root`, for running it outside a container.
    ///
    /// Values of variables that begin with one of the directories follow.
    #[must_use]
    pub fn relocated(mut self, root: &str) -> Self {
        let old = self.directories.clone();
        let below = |path: &str| format!("{}{path}", root.trim_end_matches('/'));
        for variable in &mut self.variables {
            let value = variable.value.expose();
            let inside = [&old.builds, &old.cache, &old.project, &old.temp].iter().any(|dir| {
                value.strip_prefix(dir.as_str()).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('/') || rest.starts_with('.')
                })
            });
            if inside && !variable.file {
                variable.value = Secret::new(below(value));
            }
        }
        self.directories = Directories {
            builds: below(&old.builds),
            project: below(&old.project),
            temp: below(&old.temp),
            cache: below(&old.cache),
        };
        self
    }
}
