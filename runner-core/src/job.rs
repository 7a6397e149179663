//! What a job source hands out, in words that belong to no CI system.
//!
//! A source fills a [`Job`]; the planner turns it into a [`Plan`](crate::plan::Plan) and the executor
//! reads from it where and in which image the plan runs. Nothing here has been expanded or checked
//! yet beyond its shape.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::outcome::Infra;
use crate::secret::Secret;

/// A job as it was handed out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Number in the source's system.
    pub id: JobId,
    /// The job's name, as its author wrote it.
    pub name: String,
    /// Project, ref and commit, for labels, annotations, logs and `get_sources`.
    pub project: Project,
    /// Repository to check out. `None`: the job has no sources.
    pub sources: Option<Sources>,
    /// Variables in the source's order; a later one wins over an earlier one of the same key.
    pub variables: Vec<Variable>,
    /// The user's commands, in order. A step named `after_script` runs after all others, even after
    /// a failure or a cancel. Empty: nothing is run, and the job succeeds; a source that cannot read
    /// a job sets [`refusal`](Job::refusal) instead.
    pub steps: Vec<Step>,
    /// Image that the commands run in. `None`: the executor's default.
    pub image: Option<Image>,
    /// Containers beside the job's own.
    pub services: Vec<Image>,
    /// Archives to make and hand over after the commands.
    pub artifacts: Vec<Artifact>,
    /// Archives of earlier jobs to fetch before the commands.
    pub dependencies: Vec<Dependency>,
    /// What is kept from one job to the next, in this order.
    #[serde(default)]
    pub caches: Vec<Cache>,
    /// Logins for image registries.
    pub registries: Vec<RegistryLogin>,
    /// Longest time that the whole job may take; see [`Job::DEFAULT_TIMEOUT`].
    pub timeout: Duration,
    /// What the source can take.
    pub features: SourceFeatures,
    /// Where a person finds the job, for operators' logs.
    pub url: Option<String>,
    /// Commands around `get_sources`, named `pre_get_sources_script` and `post_get_sources_script`.
    /// They run in the helper, after (before) those of the runner's configuration.
    #[serde(default)]
    pub hooks: Vec<Step>,
    /// Values to put into the job's texts before anything else is done with it.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Variables whose values another service holds.
    #[serde(default)]
    pub secrets: Vec<SecretRequest>,
    /// A list of functions to run in place of `steps` (GitLab's `run:`): JSON that `step-runner`
    /// understands and nobody here looks into.
    #[serde(default)]
    pub functions: Option<String>,
    /// Lines for the log before the commands, e.g. which policy made the job.
    #[serde(default)]
    pub notices: Vec<String>,
    /// The source handed out something that must not run: the job fails with this before it starts.
    #[serde(default)]
    pub refusal: Option<Infra>,
    /// How long the job waited before it was handed out, as far as the source says so.
    #[serde(default)]
    pub waited: Option<Duration>,
}

/// A typed value that a job's texts refer to (`${{ job.inputs.KEY }}`).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Name.
    pub key: String,
    /// Value.
    pub value: serde_json::Value,
    /// It must not be put into texts, which people can read.
    pub sensitive: bool,
}

impl std::fmt::Debug for Input {
    /// Without the value of a sensitive one.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, value, sensitive } = self;
        let mut shown = formatter.debug_struct("Input");
        shown.field("key", key);
        if *sensitive {
            shown.field("value", &"[secret]");
        } else {
            shown.field("value", value);
        }
        shown.field("sensitive", sensitive).finish()
    }
}

/// A variable whose value another service holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRequest {
    /// Name of the variable.
    pub key: String,
    /// The value is written to a file and the variable holds the file's path.
    pub file: bool,
    /// Who has it and how to ask, in the provider's own words (JSON object with one key: the
    /// provider's name). It may hold credentials.
    pub provider: Secret,
}

impl Job {
    /// Longest time of a job whose source names none: 2 h, as GitLab's.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);

    /// A job without sources, variables, image, services and archives that runs these commands.
    ///
    /// ```
    /// use runner_core::ids::JobId;
    /// use runner_core::job::{Image, Job};
    ///
    /// let mut job = Job::new(JobId(7), "unit tests", ["cargo test"]);
    /// job.image = Some(Image::named("rust:1.95"));
    /// ```
    pub fn new<S: Into<String>>(
        id: JobId,
        name: impl Into<String>,
        script: impl IntoIterator<Item = S>,
    ) -> Self {
        Self { name: name.into(), steps: vec![Step::new("script", script)], ..Self::empty(id) }
    }

    /// A job that has nothing to do yet.
    #[must_use]
    pub fn empty(id: JobId) -> Self {
        Self {
            id,
            name: String::new(),
            project: Project::default(),
            sources: None,
            variables: Vec::new(),
            steps: Vec::new(),
            image: None,
            services: Vec::new(),
            artifacts: Vec::new(),
            dependencies: Vec::new(),
            caches: Vec::new(),
            registries: Vec::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            features: SourceFeatures::default(),
            url: None,
            hooks: Vec::new(),
            inputs: Vec::new(),
            secrets: Vec::new(),
            functions: None,
            notices: Vec::new(),
            refusal: None,
            waited: None,
        }
    }
}

/// Where a job comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Number of the project in the source's system.
    pub id: u64,
    /// Name of the project, e.g. `widgets`.
    pub name: String,
    /// Full path of the project, e.g. `group/widgets`. Used for the directory of the checkout.
    pub path: String,
    /// Branch or tag.
    pub reference: String,
    /// Commit.
    pub sha: String,
}

/// A repository and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// URL; it may carry credentials, hence secret.
    pub url: Secret,
    /// Branch or tag name, for messages.
    pub reference: String,
    /// Commit to check out.
    pub sha: String,
    /// What to fetch. Empty: branch heads and tags.
    pub refspecs: Vec<String>,
    /// How many commits deep. 0: all of them.
    pub depth: u32,
    /// Object format, `sha1` or `sha256`.
    pub object_format: ObjectFormat,
    /// An earlier checkout may be reused unless the job says otherwise (GitLab's
    /// `allow_git_fetch`): the default of `GIT_STRATEGY` is `fetch` then, else `clone`.
    #[serde(default)]
    pub allow_fetch: bool,
    /// What the source calls the request that handed out the job; git repeats it to the server.
    #[serde(default)]
    pub correlation_id: Option<String>,
}

/// Git's object format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    /// What nearly every repository uses.
    #[default]
    Sha1,
    /// `git init --object-format=sha256`.
    Sha256,
}

/// A job variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Name.
    pub key: String,
    /// Value, before expansion.
    pub value: Secret,
    /// The user may see it (GitLab's `public`).
    pub public: bool,
    /// Its value never appears in the log.
    pub masked: bool,
    /// The value is written to a file and the variable holds the file's path.
    pub file: bool,
    /// The value is not expanded.
    pub raw: bool,
}

impl Variable {
    /// A variable with this value, which is shown in the log and may refer to others.
    pub fn new(key: impl Into<String>, value: impl Into<Secret>) -> Self {
        let (key, value) = (key.into(), value.into());
        Self { key, value, public: false, masked: false, file: false, raw: false }
    }

    /// The same with a value that never appears in the log, and that is taken as it is.
    ///
    /// ```
    /// use runner_core::job::Variable;
    ///
    /// let token = Variable::new("TOKEN", "s3cr$t").secret();
    /// assert!(token.masked && token.raw);
    /// ```
    #[must_use]
    pub fn secret(self) -> Self {
        Self { masked: true, raw: true, ..self }
    }

    /// The same as a file: the variable holds the path of a file with this content.
    #[must_use]
    pub fn in_file(self) -> Self {
        Self { file: true, ..self }
    }
}

/// One list of commands that share a shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `script`, `after_script`, `release`, …
    pub name: String,
    /// The commands, each possibly of several lines.
    pub script: Vec<String>,
}

impl Step {
    /// These commands under this name.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        script: impl IntoIterator<Item = S>,
    ) -> Self {
        Self { name: name.into(), script: script.into_iter().map(Into::into).collect() }
    }
}

/// An image and how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Reference, possibly with `$VAR` in it.
    pub name: String,
    /// Host names under which the other containers reach it (services only).
    pub aliases: Vec<String>,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command (services only).
    pub command: Option<Vec<String>>,
    /// Variables of this container alone (services only).
    pub variables: Vec<Variable>,
    /// Pull policies to try, in order. Empty: the executor's own.
    pub pull_policies: Vec<String>,
    /// Ports it listens on.
    pub ports: Vec<u16>,
    /// User that the container runs as, `uid` or `uid:gid`.
    pub user: Option<String>,
}

impl Image {
    /// This image, run as it says itself.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// When an archive is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactWhen {
    /// Only when all commands succeeded.
    #[default]
    OnSuccess,
    /// Only when something failed.
    OnFailure,
    /// Either way.
    Always,
}

/// How an artifact is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactFormat {
    /// A zip archive.
    #[default]
    Zip,
    /// One file, or several one after the other, gzipped.
    Gzip,
    /// The file itself.
    Raw,
    /// A zip archive compressed with Zstandard.
    ZipZstd,
    /// A tar archive compressed with Zstandard.
    TarZstd,
}

/// An archive to make after the commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Name without extension; `None`: `artifacts`, or `default` in raw and gzip form.
    pub name: Option<String>,
    /// Globs of what goes in, relative to the project directory.
    pub paths: Vec<String>,
    /// Globs of what stays out.
    pub exclude: Vec<String>,
    /// Also everything git does not track.
    pub untracked: bool,
    /// When it is made.
    pub when: ArtifactWhen,
    /// How it is packed.
    pub format: ArtifactFormat,
    /// What it is to the source: `archive`, `junit`, `dotenv`, …
    pub kind: String,
    /// How long the source keeps it, in the source's words.
    pub expire_in: Option<String>,
}

/// An archive of an earlier job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The job that made it.
    pub id: JobId,
    /// Its name, for messages.
    pub name: String,
    /// What the source wants to see before it hands the archive out.
    pub token: Secret,
    /// File name.
    pub filename: String,
    /// Bytes.
    pub size: u64,
}

/// Files that are kept for later jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Under which name; may refer to variables. Empty: job name and ref.
    pub key: String,
    /// Names to restore from when there is nothing under the key.
    pub fallback_keys: Vec<String>,
    /// Globs of what goes in, relative to the project directory.
    pub paths: Vec<String>,
    /// Also everything git does not track.
    pub untracked: bool,
    /// `pull-push` (the default), `pull` or `push`; may refer to variables.
    pub policy: String,
    /// When it is saved.
    pub when: ArtifactWhen,
}

/// A login for an image registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// Host, with port where there is one.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// What the source can take in return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFeatures {
    /// Section markers in the trace.
    pub trace_sections: bool,
    /// Failure reasons it knows beyond the basic three.
    pub failure_reasons: Vec<String>,
    /// Prefixes of tokens to mask in addition to the known ones.
    pub token_mask_prefixes: Vec<String>,
}
