//! All that is decided about a job before anything is created for it in the cluster.

use std::borrow::Cow;

use runner_core::job::Job;
use runner_core::outcome::{Infra, InfraKind};
use runner_core::plan::{HeaderLine, Plan};
use runner_core::planner::PlanLookup;
use runner_core::secret::Secret;

use crate::credentials::{self, PullCredentials};
use crate::names::{Names, RunnerIdentity, names};
use crate::overwrites::{self, JobSettings};
use crate::pod::{Around, BuiltPod, PlanItems, PodInput, around, build_pod, build_user, remarks};
use crate::record::{Content, Listens, Place};
use crate::settings::{KubernetesSettings, PatchSource};
use crate::warm::Shape;

/// Longest patch file that is read, in bytes; a pod takes less.
const LONGEST_FILE: u64 = 2 << 20;

/// A job that can be written down.
pub(crate) struct Prepared {
    pub(crate) names: Names,
    pub(crate) content: Content,
    pub(crate) built: BuiltPod,
    pub(crate) listens: Option<Listens>,
    /// Of warm pods that can do its work, where there may be any.
    pub(crate) shape: Option<Shape>,
    /// Where its pod is, if not at home.
    pub(crate) place: Option<Place>,
    /// As whom it is made, if not as the runner.
    pub(crate) token: Option<Secret>,
    /// What the plan's header says at its end.
    pub(crate) remarks: Vec<HeaderLine>,
}

/// Decides everything. What is odd is said at the end of the plan's header.
///
/// # Errors
/// What the job's author or the operator has to change.
pub(crate) async fn prepare(
    settings: &KubernetesSettings,
    runner: &RunnerIdentity,
    job: &Job,
    plan: &Plan,
) -> Result<Prepared, Infra> {
    let lookup = &PlanLookup::new(plan);
    let of_job = overwrites::for_job(settings, job, lookup).map_err(|error| error.infra())?;
    let JobSettings { settings: effective, token, remarks: mut lines } = of_job;
    let place = (effective.namespace != settings.namespace)
        .then(|| Place { namespace: effective.namespace.clone(), own: settings.namespace_per_job });
    let effective = with_files(effective).await?;
    let own = credentials::of_manager();
    let variable = lookup.setting(credentials::VARIABLE);
    let (logins, odd) = PullCredentials::gather(variable, own.as_ref(), &job.registries);
    lines.extend(odd.into_iter().map(HeaderLine::warning));
    lines.extend(remarks(&effective, job));
    let slot = lookup.setting("CI_CONCURRENT_PROJECT_ID").unwrap_or_default();
    let names = names(runner, job.id, job.project.id, slot);
    let none = PlanItems::default();
    let input = PodInput { settings: &effective, runner, job, lookup, names: &names, items: &none };
    let Around { companions, disruption, entrypoint, listens } =
        around(&input).map_err(|e| e.infra())?;
    let user = build_user(&effective, job);
    let unchanged = lines.is_empty()
        && entrypoint.is_none()
        && companions == plan.companions
        && disruption == plan.disruption
        && user == plan.build_user;
    let json = match unchanged {
        true => plan.to_json(),
        false => {
            let mut plan = plan.clone();
            plan.header.extend(lines.iter().cloned());
            (plan.companions, plan.entrypoint) = (companions, entrypoint);
            plan.disruption = disruption;
            plan.build_user = user;
            plan.to_json()
        }
    };
    let content = Content::new(&json, logins.into_bytes())
        .map_err(|error| Infra::new(InfraKind::Configuration, error.to_string()))?;
    let items = content.items(&names.record);
    let input =
        PodInput { settings: &effective, runner, job, lookup, names: &names, items: &items };
    let built = build_pod(&input).map_err(|error| error.infra())?;
    let shape = shape(&effective, &input, lookup, &built);
    // Warm pods are the runner's own, in its own namespace.
    let shape = shape.filter(|_| place.is_none() && token.is_none());
    Ok(Prepared { names, content, built, listens, shape, place, token, remarks: lines })
}

fn shape(
    settings: &KubernetesSettings,
    input: &PodInput<'_>,
    lookup: &PlanLookup<'_>,
    built: &BuiltPod,
) -> Option<Shape> {
    // A plan in Secrets of its own is rare, and large for a stream that others wait behind.
    let inside = matches!(&input.items.secrets[..], [(name, _)] if *name == input.names.record);
    if settings.warm_pods.is_empty() || !inside {
        return None;
    }
    let own = lookup.container_environment(&input.job.variables);
    let own = own.into_iter().map(|(name, _)| name.to_owned()).collect();
    Shape::of(&built.pod.to_value(), &own, input.items.pull_secret.as_deref())
}

/// Reads the files of patches, for each job anew, as GitLab Runner does.
async fn with_files(
    settings: Cow<'_, KubernetesSettings>,
) -> Result<Cow<'_, KubernetesSettings>, Infra> {
    let is_file = |source: &PatchSource| matches!(source, PatchSource::File(_));
    if !settings.pod_spec.iter().any(|patch| is_file(&patch.source)) {
        return Ok(settings);
    }
    let mut settings = settings.into_owned();
    for patch in &mut settings.pod_spec {
        let PatchSource::File(path) = &patch.source else { continue };
        let failed = |why: String| {
            let name = &patch.name;
            let message = format!("pod_spec {name:?} of this runner: {path} cannot be read: {why}");
            Infra::new(InfraKind::Configuration, message)
        };
        let size =
            tokio::fs::metadata(path).await.map_err(|error| failed(error.to_string()))?.len();
        if size > LONGEST_FILE {
            return Err(failed(format!("{size} bytes are more than {LONGEST_FILE}")));
        }
        let text =
            tokio::fs::read_to_string(path).await.map_err(|error| failed(error.to_string()))?;
        patch.source = PatchSource::Text(text);
    }
    Ok(Cow::Owned(settings))
}
