//! The payload's fields, as far as this version uses them (`gitlab-api.md` section 4).

use runner_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::lenient::{
    flag, forgiving, forgiving_list, is_true, list, number, or_empty, secret, text,
};
use super::requests::{self, JobInput, PolicyOptions};

#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    #[serde(default)]
    pub(super) id: u64,
    #[serde(default, deserialize_with = "secret")]
    pub(super) token: Secret,
    #[serde(default, deserialize_with = "flag")]
    pub(super) allow_git_fetch: bool,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) tracing: Tracing,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) job_info: JobInfo,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) git_info: GitInfo,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) runner_info: RunnerInfo,
    #[serde(default, deserialize_with = "list")]
    pub(super) variables: Vec<Variable>,
    #[serde(default, deserialize_with = "list")]
    pub(super) steps: Vec<Step>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) image: Image,
    #[serde(default, deserialize_with = "list")]
    pub(super) services: Vec<Image>,
    #[serde(default, deserialize_with = "list")]
    pub(super) artifacts: Vec<Artifact>,
    #[serde(default, deserialize_with = "list")]
    pub(super) cache: Vec<Cache>,
    #[serde(default, deserialize_with = "list")]
    pub(super) credentials: Vec<Credential>,
    #[serde(default, deserialize_with = "list")]
    pub(super) dependencies: Vec<Dependency>,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) features: Features,
    #[serde(default)]
    run: Value,
    #[serde(default, deserialize_with = "list")]
    pub(super) hooks: Vec<Step>,
    #[serde(default, deserialize_with = "list")]
    pub(super) inputs: Vec<JobInput>,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) secrets: Map<String, Value>,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) policy_options: PolicyOptions,
}

impl Payload {
    /// The job's functions, when its commands are in `run:` and not in `steps`.
    pub(super) fn functions(&self) -> Option<String> {
        requests::functions(&self.run)
    }

    /// Whether the job asks for a trace of its shell or the logs of its services.
    pub(super) fn shows_debug(&self) -> bool {
        ["CI_DEBUG_TRACE", "CI_DEBUG_SERVICES"].iter().any(|name| {
            let last = self.variables.iter().rev().find(|variable| variable.key == *name);
            last.is_some_and(|variable| is_true(variable.value.expose()))
        })
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct JobInfo {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) project_id: i64,
    #[serde(default, deserialize_with = "text")]
    pub(super) project_name: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) project_full_path: String,
    // For metrics: whatever is wrong with them, the job runs.
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) time_in_queue_seconds: Option<f64>,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) project_jobs_running_on_instance_runners_count: String,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) queue_size: Option<u64>,
    #[serde(default, deserialize_with = "forgiving")]
    pub(super) queue_depth: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct GitInfo {
    #[serde(default, deserialize_with = "secret")]
    pub(super) repo_url: Secret,
    #[serde(default, deserialize_with = "text")]
    pub(super) repo_object_format: String,
    #[serde(default, rename = "ref", deserialize_with = "text")]
    pub(super) reference: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) sha: String,
    #[serde(default, deserialize_with = "list")]
    pub(super) refspecs: Vec<String>,
    #[serde(default, deserialize_with = "number")]
    pub(super) depth: i64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RunnerInfo {
    #[serde(default, deserialize_with = "number")]
    pub(super) timeout: i64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Variable {
    #[serde(default)]
    pub(super) key: String,
    #[serde(default, deserialize_with = "secret")]
    pub(super) value: Secret,
    #[serde(default, deserialize_with = "flag")]
    pub(super) public: bool,
    #[serde(default, deserialize_with = "flag")]
    pub(super) masked: bool,
    #[serde(default, deserialize_with = "flag")]
    pub(super) file: bool,
    #[serde(default, deserialize_with = "flag")]
    pub(super) raw: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Step {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "list")]
    pub(super) script: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Image {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) alias: String,
    #[serde(default)]
    pub(super) command: Option<Vec<String>>,
    #[serde(default)]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(default, deserialize_with = "forgiving_list")]
    pub(super) ports: Vec<Port>,
    #[serde(default, deserialize_with = "list")]
    pub(super) variables: Vec<Variable>,
    #[serde(default, deserialize_with = "list")]
    pub(super) pull_policy: Vec<String>,
    #[serde(default)]
    pub(super) executor_opts: Value,
}

impl Image {
    /// `executor_opts:kubernetes:user`, a number or text.
    pub(super) fn user(&self) -> Option<String> {
        match self.executor_opts.get("kubernetes")?.get("user")? {
            Value::String(user) if !user.is_empty() => Some(user.clone()),
            Value::Number(user) => Some(user.to_string()),
            _ => None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Tracing {
    #[serde(default, deserialize_with = "text")]
    pub(super) trace_id: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) span_parent_id: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Port {
    pub(super) number: u16,
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) protocol: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Artifact {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "flag")]
    pub(super) untracked: bool,
    #[serde(default, deserialize_with = "list")]
    pub(super) paths: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    pub(super) exclude: Vec<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) when: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) artifact_type: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) artifact_format: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) expire_in: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Cache {
    #[serde(default, deserialize_with = "text")]
    pub(super) key: String,
    #[serde(default, deserialize_with = "flag")]
    pub(super) untracked: bool,
    #[serde(default, deserialize_with = "text")]
    pub(super) policy: String,
    #[serde(default, deserialize_with = "list")]
    pub(super) paths: Vec<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) when: String,
    #[serde(default, deserialize_with = "list")]
    pub(super) fallback_keys: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Credential {
    #[serde(default, rename = "type", deserialize_with = "text")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) url: String,
    #[serde(default, deserialize_with = "text")]
    pub(super) username: String,
    #[serde(default, deserialize_with = "secret")]
    pub(super) password: Secret,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Dependency {
    #[serde(default)]
    pub(super) id: u64,
    #[serde(default, deserialize_with = "secret")]
    pub(super) token: Secret,
    #[serde(default, deserialize_with = "text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_empty")]
    pub(super) artifacts_file: ArtifactsFile,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ArtifactsFile {
    #[serde(default, deserialize_with = "text")]
    pub(super) filename: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) size: i64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Features {
    #[serde(default, deserialize_with = "flag")]
    pub(super) trace_sections: bool,
    #[serde(default, deserialize_with = "forgiving_list")]
    pub(super) failure_reasons: Vec<String>,
    #[serde(default, deserialize_with = "forgiving_list")]
    pub(super) token_mask_prefixes: Vec<String>,
}
