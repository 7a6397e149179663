//! What a job to be queued looks like, and the payload a real GitLab would make of it.
//!
//! Owns the JSON of `POST jobs/request`. It shares no type with any client, so that a mistake in one
//! is not repeated in the other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::repo::Repo;
use super::server::JobRef;

type Patch = Arc<dyn Fn(&mut Value) + Send + Sync>;
type Raw = Arc<dyn Fn(&Value) -> Vec<u8> + Send + Sync>;

/// A job to queue with [`GitLab::enqueue`](super::GitLab::enqueue).
///
/// Without a [`repo`](Self::repo) it gets the variable `GIT_STRATEGY` = `none`, because there is
/// nothing to clone. Everything the builder has no method for can be set with
/// [`patch`](Self::patch).
///
/// ```
/// use std::time::Duration;
///
/// use runner_testkit::gitlab::{Artifact, GitLab, Image, JobSpec, JobState, Variable};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let gitlab = GitLab::start().await?;
/// let build = gitlab.enqueue(
///     JobSpec::new("build")
///         .image(Image::new("debian:13").entrypoint([""]))
///         .service(Image::new("postgres:18").alias("db").variable("POSTGRES_PASSWORD", "pw"))
///         .with(Variable::new("TOKEN", "s3cr3t-t0k3n").masked())
///         .script(["make"])
///         .after_script(["make clean"])
///         .artifact(Artifact::archive(["dist/"]).name("dist").expire_in("1 week"))
///         .timeout(Duration::from_secs(600))
///         .patch(|payload| payload["job_info"]["stage"] = "building".into()),
/// );
/// // Waits for `build`, whose archive it gets.
/// let test = gitlab.enqueue(JobSpec::new("test").needs(&build).script(["make check"]));
/// assert_eq!(build.state(), JobState::Pending);
/// assert_eq!(test.state(), JobState::Created);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JobSpec {
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) steps: Vec<Value>,
    pub(super) hooks: Vec<Value>,
    pub(super) variables: Vec<Variable>,
    pub(super) image: Value,
    pub(super) services: Vec<Value>,
    pub(super) artifacts: Vec<Value>,
    pub(super) needs: Vec<u64>,
    pub(super) timeout: Duration,
    pub(super) repo: Option<Repo>,
    pub(super) git_ref: Option<String>,
    pub(super) depth: u32,
    pub(super) features: Value,
    pub(super) patches: Vec<Patch>,
    pub(super) raw: Option<Raw>,
}

impl std::fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl JobSpec {
    /// A job of this name in stage `test`, with an hour's time and no commands.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            stage: "test".into(),
            steps: Vec::new(),
            hooks: Vec::new(),
            variables: Vec::new(),
            image: Value::Null,
            services: Vec::new(),
            artifacts: Vec::new(),
            needs: Vec::new(),
            timeout: Duration::from_secs(3600),
            repo: None,
            git_ref: None,
            depth: 20,
            features: json!({
                "trace_sections": true,
                "token_mask_prefixes": ["glpat-", "gldt-", "glrt-"],
                "failure_reasons": [
                    "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure",
                    "runner_system_failure", "runner_unsupported", "job_execution_timeout",
                    "runner_configuration_error", "runner_external_dependency_failure",
                    "runner_interrupted",
                ],
                "tracing": null,
            }),
            patches: Vec::new(),
            raw: None,
        }
    }

    /// The stage it belongs to.
    #[must_use]
    pub fn stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = stage.into();
        self
    }

    /// The commands of `before_script` and `script`.
    #[must_use]
    pub fn script<S: Into<String>>(self, commands: impl IntoIterator<Item = S>) -> Self {
        self.step("script", commands, "on_success")
    }

    /// The commands of `after_script`.
    #[must_use]
    pub fn after_script<S: Into<String>>(self, commands: impl IntoIterator<Item = S>) -> Self {
        self.step("after_script", commands, "always")
    }

    /// A step of any name (`release`, …); `when` is `on_success`, `on_failure` or `always`.
    #[must_use]
    pub fn step<S: Into<String>>(
        mut self,
        name: &str,
        commands: impl IntoIterator<Item = S>,
        when: &str,
    ) -> Self {
        let commands: Vec<String> = commands.into_iter().map(Into::into).collect();
        self.steps.push(json!({
            "name": name, "script": commands, "timeout": 3600, "when": when,
            "allow_failure": name == "after_script",
        }));
        self
    }

    /// A hook: `pre_get_sources_script` or `post_get_sources_script`.
    #[must_use]
    pub fn hook<S: Into<String>>(
        mut self,
        name: &str,
        commands: impl IntoIterator<Item = S>,
    ) -> Self {
        let commands: Vec<String> = commands.into_iter().map(Into::into).collect();
        self.hooks.push(json!({ "name": name, "script": commands }));
        self
    }

    /// A public variable that is expanded.
    #[must_use]
    pub fn variable(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(Variable::new(key, value))
    }

    /// A variable with flags.
    #[must_use]
    pub fn with(mut self, variable: Variable) -> Self {
        self.variables.push(variable);
        self
    }

    /// The image of the job. Default: none, so the runner's own default.
    #[must_use]
    pub fn image(mut self, image: impl Into<Image>) -> Self {
        self.image = image.into().json(false);
        self
    }

    /// A service beside it.
    #[must_use]
    pub fn service(mut self, image: impl Into<Image>) -> Self {
        self.services.push(image.into().json(true));
        self
    }

    /// Something to upload at the end.
    #[must_use]
    pub fn artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact.0);
        self
    }

    /// Waits in the queue until `job` has succeeded and gets its archive. When `job` fails, this one
    /// is skipped.
    #[must_use]
    pub fn needs(mut self, job: &JobRef) -> Self {
        self.needs.push(job.id());
        self
    }

    /// Longest time it may take. Default: an hour.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The repository it runs in; the job belongs to its project.
    #[must_use]
    pub fn repo(mut self, repo: &Repo) -> Self {
        self.repo = Some(repo.clone());
        self
    }

    /// Branch or tag. Default: `main`.
    #[must_use]
    pub fn git_ref(mut self, name: impl Into<String>) -> Self {
        self.git_ref = Some(name.into());
        self
    }

    /// How many commits to fetch, 0 for all. Default: 20.
    #[must_use]
    pub fn depth(mut self, commits: u32) -> Self {
        self.depth = commits;
        self
    }

    /// Whether the trace may hold section markers. Default: yes.
    #[must_use]
    pub fn trace_sections(mut self, wanted: bool) -> Self {
        self.features["trace_sections"] = wanted.into();
        self
    }

    /// The failure reasons this GitLab says it knows. Default: those of GitLab 19.
    #[must_use]
    pub fn failure_reasons<S: Into<String>>(mut self, known: impl IntoIterator<Item = S>) -> Self {
        let known: Vec<String> = known.into_iter().map(Into::into).collect();
        self.features["failure_reasons"] = known.into();
        self
    }

    /// Prefixes of tokens to mask. Default: `glpat-`, `gldt-`, `glrt-`.
    #[must_use]
    pub fn token_mask_prefixes<S: Into<String>>(
        mut self,
        prefixes: impl IntoIterator<Item = S>,
    ) -> Self {
        let prefixes: Vec<String> = prefixes.into_iter().map(Into::into).collect();
        self.features["token_mask_prefixes"] = prefixes.into();
        self
    }

    /// Changes the finished payload; may be used several times, in order.
    #[must_use]
    pub fn patch(mut self, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.patches.push(Arc::new(change));
        self
    }

    /// Sends these bytes, made from the well-formed payload, instead of it: for malformed payloads
    /// that still hold the right id and token.
    #[must_use]
    pub fn raw(mut self, bytes: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.raw = Some(Arc::new(bytes));
        self
    }

    /// `(name, sha, pipeline, is a tag)` of what is checked out.
    pub(super) fn checkout(&self) -> (String, String, u64, bool) {
        let name = self.git_ref.clone().unwrap_or_else(|| "main".into());
        match self.repo.as_ref().and_then(|repo| repo.reference(&name)) {
            Some(found) => (name, found.sha.clone(), found.pipeline, found.tag),
            // A ref that does not exist is a case worth testing: the clone fails.
            None => (name, "3f1c2b4a5d6e7f8091a2b3c4d5e6f708192a3b4c".into(), 1, false),
        }
    }
}

/// A job variable.
#[derive(Clone, Debug)]
pub struct Variable {
    key: String,
    value: Option<String>,
    public: bool,
    masked: bool,
    file: bool,
    raw: bool,
}

impl Variable {
    /// Public, shown, expanded.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
            public: true,
            masked: false,
            file: false,
            raw: false,
        }
    }

    /// Hidden in the log, and not public.
    #[must_use]
    pub fn masked(mut self) -> Self {
        (self.masked, self.public) = (true, false);
        self
    }

    /// Not public.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.public = false;
        self
    }

    /// Its value goes into a file.
    #[must_use]
    pub fn file(mut self) -> Self {
        self.file = true;
        self
    }

    /// Its value is not expanded.
    #[must_use]
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "key": self.key, "value": self.value, "public": self.public, "masked": self.masked,
            "file": self.file, "raw": self.raw,
        })
    }
}

/// An image for a job or a service; a plain string is one too.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    fields: Value,
    variables: Vec<Variable>,
}

impl<S: Into<String>> From<S> for Image {
    fn from(name: S) -> Self {
        Self::new(name)
    }
}

impl Image {
    /// An image reference, possibly with `$VAR` in it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), fields: json!({}), variables: Vec::new() }
    }

    /// Replaces its entry point.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.list("entrypoint", words)
    }

    /// Replaces its command (services only).
    #[must_use]
    pub fn command<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.list("command", words)
    }

    /// Host names of the service, split by commas or spaces.
    #[must_use]
    pub fn alias(mut self, names: &str) -> Self {
        self.fields["alias"] = names.into();
        self
    }

    /// A port it listens on.
    #[must_use]
    pub fn port(mut self, number: u16) -> Self {
        let port = json!({ "number": number, "protocol": "http", "name": format!("p{number}") });
        match self.fields["ports"].as_array_mut() {
            Some(ports) => ports.push(port),
            None => self.fields["ports"] = json!([port]),
        }
        self
    }

    /// Pull policies, in order of preference.
    #[must_use]
    pub fn pull_policy<S: Into<String>>(self, policies: impl IntoIterator<Item = S>) -> Self {
        self.list("pull_policy", policies)
    }

    /// `uid` or `uid:gid` on Kubernetes.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.fields["executor_opts"] = json!({ "kubernetes": { "user": user } });
        self
    }

    /// A variable of this service alone.
    #[must_use]
    pub fn variable(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push(Variable::new(key, value));
        self
    }

    fn list<S: Into<String>>(mut self, key: &str, words: impl IntoIterator<Item = S>) -> Self {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        self.fields[key] = words.into();
        self
    }

    fn json(self, service: bool) -> Value {
        let mut all = json!({
            "name": self.name, "entrypoint": null, "ports": [], "pull_policy": null,
            "executor_opts": {},
        });
        if service {
            all["alias"] = Value::Null;
            all["command"] = Value::Null;
            all["variables"] = self.variables.iter().map(Variable::json).collect();
        }
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, self.fields) {
            all.extend(fields);
        }
        all
    }
}

/// Something to upload at the end of a job.
#[derive(Clone, Debug)]
pub struct Artifact(Value);

impl Artifact {
    /// A zip archive of these globs.
    #[must_use]
    pub fn archive<S: Into<String>>(paths: impl IntoIterator<Item = S>) -> Self {
        Self::report("archive", "zip", paths)
    }

    /// A report of this type (`junit`, `dotenv`, …) in this format (`gzip`, `raw`).
    #[must_use]
    pub fn report<S: Into<String>>(
        kind: &str,
        format: &str,
        paths: impl IntoIterator<Item = S>,
    ) -> Self {
        let paths: Vec<String> = paths.into_iter().map(Into::into).collect();
        Self(json!({
            "name": null, "untracked": false, "paths": paths, "exclude": [], "when": "on_success",
            "artifact_type": kind, "artifact_format": format, "expire_in": null,
        }))
    }

    /// Its name without extension.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.field("name", name.into())
    }

    /// `on_success`, `on_failure` or `always`.
    #[must_use]
    pub fn when(self, when: &str) -> Self {
        self.field("when", when.into())
    }

    /// How long it is kept, e.g. `1 week`.
    #[must_use]
    pub fn expire_in(self, time: &str) -> Self {
        self.field("expire_in", time.into())
    }

    /// Globs that stay out.
    #[must_use]
    pub fn exclude<S: Into<String>>(self, globs: impl IntoIterator<Item = S>) -> Self {
        let globs: Vec<String> = globs.into_iter().map(Into::into).collect();
        self.field("exclude", globs.into())
    }

    /// Also everything git does not track.
    #[must_use]
    pub fn untracked(self) -> Self {
        self.field("untracked", true.into())
    }

    fn field(mut self, key: &str, value: Value) -> Self {
        self.0[key] = value;
        self
    }
}
