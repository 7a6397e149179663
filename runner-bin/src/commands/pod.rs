//! `pod preview`: the pod that would be made for a job, without a cluster.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use runner_core::planner::{Transfers, plan};
use runner_gitlab::{GitLabSource, payload, short_token};
use runner_k8s::{Preview, RunnerIdentity, preview};
use serde_json::Value;

use super::file::{ConfigFile, Opened, block_on};
use crate::config::RunnerConfig;
use crate::run::{gitlab_settings, plan_settings};

/// Print the pod that would be made for a job, as YAML. Asks neither GitLab nor a cluster.
///
/// What is secret is not in the pod; the Secrets that would hold it are named above it, with their
/// keys.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PodPreview {
    #[command(flatten)]
    file: ConfigFile,
    /// The job, as GitLab hands it out (the answer to POST /api/v4/jobs/request); id and token may
    /// be missing.
    #[arg(long, value_name = "JOB.json")]
    job: PathBuf,
    /// Name of the runner in the file. Default: the first one.
    #[arg(long)]
    runner: Option<String>,
    /// Version of the cluster: older ones get another pod.
    #[arg(long, default_value = "1.36")]
    kubernetes_version: String,
}

impl PodPreview {
    /// The YAML.
    ///
    /// # Errors
    /// When the file, the runner or the job cannot be used; or the job would be refused, in the words
    /// of its log.
    pub(crate) fn run(self) -> anyhow::Result<String> {
        let path = self.file.path();
        ensure!(path.exists(), "{} is not there", path.display());
        let opened = Opened::read(&path)?;
        let runner = self.pick(opened.config.runners)?;
        if let Some(fault) = &runner.fault {
            bail!("{fault}");
        }
        let settings = runner.kubernetes.clone().context("there are no [runners.kubernetes]")?;
        let text = std::fs::read(&self.job)
            .with_context(|| format!("cannot read {}", self.job.display()))?;
        let received = payload::parse(&complete(&text))
            .with_context(|| format!("{} is no job", self.job.display()))?;
        let mut job = received.job;
        // Where archives go does not change the pod, and only GitLab knows.
        job.artifacts.clear();
        job.dependencies.clear();
        let plan_settings = plan_settings(&runner, &settings, "s_000000000000");
        let plan = plan(&job, &plan_settings, Transfers::default())?;
        let identity = identity(&runner)?;
        let preview = preview(&settings, &identity, &job, &plan, &self.kubernetes_version);
        match block_on(preview)? {
            Ok(preview) => text_of(&preview),
            Err(refused) => bail!("Job failed: {}", refused.message),
        }
    }

    fn pick(&self, runners: Vec<RunnerConfig>) -> anyhow::Result<RunnerConfig> {
        let mut runners = runners.into_iter();
        match &self.runner {
            None => runners.next().context("there is no [[runners]] in the file"),
            Some(name) => {
                let found = runners.find(|runner| runner.name == *name);
                found.with_context(|| format!("there is no runner {name:?} in the file"))
            }
        }
    }
}

/// The payload with what nobody wants to make up by hand. What is no object stays what it is.
fn complete(text: &[u8]) -> Vec<u8> {
    let Ok(Value::Object(mut payload)) = serde_json::from_slice(text) else {
        return text.to_vec();
    };
    payload.entry("id").or_insert_with(|| 1.into());
    payload.entry("token").or_insert_with(|| "preview".into());
    Value::Object(payload).to_string().into_bytes()
}

/// As a manager has it, but for its own name.
fn identity(runner: &RunnerConfig) -> anyhow::Result<RunnerIdentity> {
    use runner_core::source::JobSource as _;
    let source = GitLabSource::new(gitlab_settings(runner, "s_000000000000", None))?;
    Ok(RunnerIdentity {
        source: source.id(),
        name: runner.name.clone(),
        short_token: short_token(runner.token.expose()),
        manager: "preview".into(),
    })
}

fn text_of(preview: &Preview) -> anyhow::Result<String> {
    let mut out = String::new();
    for (name, keys) in &preview.secrets {
        let _ = writeln!(out, "# Secret {name}: {}", keys.join(", "));
    }
    for (container, policies) in preview.fallbacks.iter() {
        let _ = writeln!(
            out,
            "# {container}: when the image cannot be pulled, {}",
            policies.join(", ")
        );
    }
    for remark in &preview.remarks {
        for line in remark.text.lines() {
            let _ = writeln!(out, "# log: {line}");
        }
    }
    out.push_str(&serde_saphyr::to_string(&preview.pod)?);
    Ok(out)
}
