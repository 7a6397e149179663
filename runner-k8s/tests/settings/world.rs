//! A job, settings, and the pod that follows.

use runner_core::ids::{JobId, SourceId};
use runner_core::job::{Image, Job, Project, Variable};
use runner_core::plan::Plan;
use runner_core::planner::{PlanLookup, PlanSettings, Transfers, plan};
use runner_core::secret::Secret;
use runner_k8s::names::names;
use runner_k8s::overwrites::{OverwriteError, for_job};
use runner_k8s::pod::{Abilities, AgentDelivery, BuiltPod, PlanItems, PodInput, adapt, build_pod};
use runner_k8s::settings::{RawSettings, SettingsErrors};
use runner_k8s::{KubernetesSettings, RunnerIdentity};
use serde_json::Value;

pub(crate) fn variable(key: &str, value: &str) -> Variable {
    Variable { key: key.into(), value: value.into(), public: true, ..Variable::default() }
}

pub(crate) fn service(name: &str) -> Image {
    Image { name: name.into(), ..Image::default() }
}

/// A job with one service, so that there is a container of each kind.
pub(crate) fn job() -> Job {
    Job {
        project: Project {
            id: 7,
            name: "widgets".into(),
            path: "group/widgets".into(),
            reference: "main".into(),
            sha: "0123456789abcdef0123456789abcdef01234567".into(),
        },
        variables: vec![
            variable("TAG", "12"),
            variable("TEAM", "blue"),
            variable("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "true"),
        ],
        image: Some(service("debian:12")),
        services: vec![service("redis:7")],
        timeout: std::time::Duration::from_secs(3600),
        ..Job::new(JobId(42), "unit tests", ["make"])
    }
}

/// The job with these variables.
pub(crate) fn job_with(variables: &[(&str, &str)]) -> Job {
    let mut job = job();
    job.variables.extend(variables.iter().map(|(key, value)| variable(key, value)));
    job
}

pub(crate) fn planned(job: &Job) -> Plan {
    plan(job, &PlanSettings::default(), Transfers::default()).unwrap()
}

pub(crate) fn raw(toml: &str) -> RawSettings {
    toml::from_str(toml).unwrap_or_else(|error| panic!("{toml}: {error}"))
}

pub(crate) fn resolve(toml: &str) -> Result<KubernetesSettings, SettingsErrors> {
    KubernetesSettings::resolve(&raw(toml))
}

pub(crate) fn settings(toml: &str) -> KubernetesSettings {
    resolve(toml).unwrap_or_else(|errors| panic!("{toml}: {errors}"))
}

/// A job's way to its pod.
pub(crate) struct Seen {
    pub(crate) settings: KubernetesSettings,
    /// The job's own token for the API server.
    pub(crate) token: Option<Secret>,
    pub(crate) remarks: Vec<String>,
    pub(crate) built: BuiltPod,
}

pub(crate) fn runner() -> RunnerIdentity {
    RunnerIdentity {
        source: SourceId("https://gitlab.example#hash".into()),
        name: "blue runner".into(),
        short_token: "t0k3n_-".into(),
        manager: "m1".into(),
    }
}

/// What becomes of a job with these settings, or what its log would say.
pub(crate) fn see(job: &Job, settings: &KubernetesSettings) -> Result<Seen, String> {
    see_with(job, settings, None)
}

/// The same for a job with logins for registries.
pub(crate) fn see_with_pull_secret(
    job: &Job,
    settings: &KubernetesSettings,
) -> Result<Seen, String> {
    see_with(job, settings, Some("of-job".to_owned()))
}

fn see_with(
    job: &Job,
    settings: &KubernetesSettings,
    pull_secret: Option<String>,
) -> Result<Seen, String> {
    let plan = planned(job);
    let lookup = &PlanLookup::new(&plan);
    let of_job = for_job(settings, job, lookup).map_err(|error| error.to_string())?;
    let runner = runner();
    let names = names(&runner, job.id, job.project.id, "0");
    let items =
        PlanItems { secrets: vec![(names.record.clone(), vec!["plan.0".into()])], pull_secret };
    let input = PodInput {
        settings: &of_job.settings,
        runner: &runner,
        job,
        lookup,
        names: &names,
        items: &items,
    };
    let built = build_pod(&input).map_err(|error| error.to_string())?;
    let remarks = of_job.remarks.iter().map(|line| line.text.clone()).collect();
    let (settings, token) = (of_job.settings.clone().into_owned(), of_job.token);
    Ok(Seen { settings, token, remarks, built })
}

/// The pod, or what the job's log would say.
pub(crate) fn try_pod(job: &Job, toml: &str) -> Result<Value, String> {
    see(job, &settings(toml)).map(|seen| seen.built.pod.to_value())
}

pub(crate) fn pod(job: &Job, toml: &str) -> Value {
    try_pod(job, toml).unwrap_or_else(|error| panic!("{toml}: {error}"))
}

/// The pod for a cluster that cannot mount images.
pub(crate) fn with_init_container(seen: &Seen) -> Value {
    let mut pod = seen.built.pod.to_value();
    let abilities = Abilities { agent: AgentDelivery::InitContainer, restart_rules: true };
    adapt(&mut pod, abilities, &Value::Object(seen.settings.init_security.clone()));
    pod
}

/// The settings of this job, and what its log says.
pub(crate) fn overwritten(
    variables: &[(&str, &str)],
    toml: &str,
) -> Result<(KubernetesSettings, Vec<String>), OverwriteError> {
    let settings = settings(toml);
    let job = job_with(variables);
    let plan = planned(&job);
    let of_job = for_job(&settings, &job, &PlanLookup::new(&plan))?;
    let remarks = of_job.remarks.iter().map(|line| line.text.clone()).collect();
    Ok((of_job.settings.clone().into_owned(), remarks))
}

/// What is at a path such as `spec/containers/build/env`: an entry of a list by its name or number.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('/').try_fold(value, |value, part| match value {
        Value::Array(list) => list
            .iter()
            .find(|entry| entry["name"] == part)
            .or_else(|| list.get(part.parse::<usize>().ok()?)),
        // A `/` in a key is written `~`.
        _ => value.get(part.replace('~', "/")),
    })
}
