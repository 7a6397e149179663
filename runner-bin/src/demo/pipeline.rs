//! The pipeline of `example/`, put into the stand-in's queue.

use anyhow::Context;
use runner_testkit::gitlab::{Artifact, GitLab, JobRef, JobSpec};
use serde::Deserialize;

/// Built in, so that the demo works from anywhere.
const PIPELINE: &str = include_str!("example/pipeline.toml");
const FILES: [(&str, &str); 2] = [
    ("README.md", include_str!("example/repository/README.md")),
    ("greet.sh", include_str!("example/repository/greet.sh")),
];

/// Jobs in the order in which they are queued.
#[derive(Debug, Deserialize)]
pub(super) struct Pipeline {
    job: Vec<PipelineJob>,
}

#[derive(Debug, Deserialize)]
struct PipelineJob {
    name: String,
    script: Vec<String>,
    #[serde(default)]
    after_script: Vec<String>,
    #[serde(default)]
    artifacts: Vec<String>,
    #[serde(default)]
    needs: Vec<String>,
}

impl Pipeline {
    pub(super) fn example() -> anyhow::Result<Self> {
        toml::from_str(PIPELINE).context("src/demo/example/pipeline.toml is malformed")
    }

    /// Makes the repository and queues the jobs; one that needs another waits for it.
    pub(super) async fn enqueue(self, gitlab: &GitLab) -> anyhow::Result<Vec<JobRef>> {
        let repo = gitlab
            .repo("demo/greeting")
            .commit("Greet the world", FILES)
            .branch("main")
            .create()
            .await
            .context("the demo's repository cannot be made; is git installed?")?;
        let mut jobs: Vec<JobRef> = Vec::new();
        for job in self.job {
            let mut spec = JobSpec::new(&job.name).script(job.script).repo(&repo).git_ref("main");
            if !job.after_script.is_empty() {
                spec = spec.after_script(job.after_script);
            }
            if !job.artifacts.is_empty() {
                spec = spec.artifact(Artifact::archive(job.artifacts));
            }
            for needed in &job.needs {
                let needed = jobs.iter().find(|known| known.name() == *needed);
                spec = spec.needs(needed.context("a job needs one that is not before it")?);
            }
            jobs.push(gitlab.enqueue(spec));
        }
        Ok(jobs)
    }
}
