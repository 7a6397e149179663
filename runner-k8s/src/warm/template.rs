//! The pod that a job of an image would get that sets nothing else.

use runner_core::ids::JobId;
use runner_core::job::{Image, Job};
use runner_core::planner::{PlanLookup, PlanSettings, Transfers, plan};

use super::shape::Shape;
use crate::names::{Names, RunnerIdentity};
use crate::pod::{PlanItems, PodInput, build_pod};
use crate::settings::KubernetesSettings;

/// The shape to begin with, before any job was seen. It fits where the runner's directories are the
/// defaults; where not, the pool learns from jobs.
pub(crate) fn first_shape(
    settings: &KubernetesSettings,
    runner: &RunnerIdentity,
    image: &str,
) -> Option<Shape> {
    let mut job = Job::empty(JobId(0));
    job.image = Some(Image::named(image));
    let plan = plan(&job, &PlanSettings::default(), Transfers::default()).ok()?;
    let names = Names { record: String::new(), pod: String::new() };
    let items = PlanItems::default();
    let (job, lookup) = (&job, &PlanLookup::new(&plan));
    let input = PodInput { settings, runner, job, lookup, names: &names, items: &items };
    let built = build_pod(&input).ok()?;
    let own = lookup.container_environment(&job.variables);
    let own = own.into_iter().map(|(name, _)| name.to_owned()).collect();
    Shape::of(&built.pod.to_value(), &own, None)
}
