//! What would be made for a job, without a cluster.

use runner_core::job::Job;
use runner_core::outcome::Infra;
use runner_core::plan::{HeaderLine, Plan};
use serde_json::Value;

use crate::names::RunnerIdentity;
use crate::pod::{Abilities, Fallbacks, adapt};
use crate::prepare::prepare;
use crate::settings::KubernetesSettings;

/// A job's objects before they are made. Nothing in it is secret: what is, stands in Secrets, of which
/// there are only the names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Preview {
    /// The pod.
    pub pod: Value,
    /// The Secrets of the job, each with its keys.
    pub secrets: Vec<(String, Vec<String>)>,
    /// Pull policies that are tried when the first one fails.
    pub fallbacks: Fallbacks,
    /// What the job's log would say about its settings.
    pub remarks: Vec<HeaderLine>,
}

/// Decides what an executor with these settings would decide, for a server of this version (`1.36`).
///
/// ```
/// use runner_core::ids::{JobId, SourceId};
/// use runner_core::job::{Image, Job};
/// use runner_core::planner::{PlanSettings, Transfers, plan};
/// use runner_k8s::{KubernetesSettings, RawSettings, RunnerIdentity, preview};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = KubernetesSettings::resolve(&RawSettings {
///     namespace: "ci".into(),
///     agent_image: "registry.example/agent:1".into(),
///     helper_image: "debian:13".into(),
///     cpu_request: "500m".into(),
///     ..RawSettings::default()
/// })?;
/// let mut job = Job::new(JobId(7), "test", ["make check"]);
/// job.image = Some(Image::named("gcc:15"));
/// let plan = plan(&job, &PlanSettings::default(), Transfers::default())?;
/// let runner = RunnerIdentity::new(SourceId("queue".into()), "mine");
///
/// let seen = preview(&settings, &runner, &job, &plan, "1.36").await.expect("it can run");
/// let containers = seen.pod["spec"]["containers"].as_array().expect("a list");
/// let build = containers.iter().find(|container| container["name"] == "build").expect("the job's");
/// assert_eq!(build["image"], "gcc:15");
/// assert_eq!(build["resources"]["requests"]["cpu"], "500m");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the job would be refused, as its log would say it.
pub async fn preview(
    settings: &KubernetesSettings,
    runner: &RunnerIdentity,
    job: &Job,
    plan: &Plan,
    version: &str,
) -> Result<Preview, Infra> {
    let prepared = prepare(settings, runner, job, plan).await?;
    let mut pod = prepared.built.pod.to_value();
    let (major, minor) = version.split_once('.').unwrap_or((version, ""));
    let abilities = Abilities::of_version(major, minor);
    adapt(&mut pod, abilities, &Value::Object(settings.init_security.clone()));
    let own = prepared.built.secret_environment.into_iter().map(|(key, _)| key);
    let secrets = prepared.content.secrets(&prepared.names.record, own);
    let (fallbacks, remarks) = (prepared.built.fallbacks, prepared.remarks);
    Ok(Preview { pod, secrets, fallbacks, remarks })
}
