//! Which images, and how they are pulled.

use runner_core::glob::Glob;
use runner_core::job::Job;
use runner_core::planner::PlanLookup;

use super::PodError;
use crate::settings::{HelperImage, KubernetesSettings, PullPolicy};

/// Expands variables; the result's length is bounded by the planner's limit.
pub(super) fn expand(lookup: &PlanLookup<'_>, text: &str) -> Result<String, PodError> {
    lookup.expand(text).map_err(|error| PodError(format!("{text:?}: {error}")))
}

/// The image of `helper`, for the nodes that are selected.
pub(super) fn helper_image(
    settings: &KubernetesSettings,
    lookup: &PlanLookup<'_>,
) -> Result<String, PodError> {
    let label = |name: &str| settings.node_selector.get(name).map(String::as_str);
    if let Some(system) = label("kubernetes.io/os").filter(|system| *system != "linux") {
        return Err(PodError(format!(
            "the job's node selector asks for {system} nodes; this runner makes pods for linux only"
        )));
    }
    let reference = match &settings.helper_image {
        HelperImage::Named(name) => return expand(lookup, name),
        HelperImage::Default { flavor, arch } => {
            HelperImage::Default { flavor: expand(lookup, flavor)?, arch: arch.clone() }
        }
    };
    Ok(reference.reference(label("kubernetes.io/arch")))
}

/// The image of `build`.
pub(super) fn build_image(
    settings: &KubernetesSettings,
    job: &Job,
    lookup: &PlanLookup<'_>,
) -> Result<String, PodError> {
    let default = settings.image.as_deref().map(|image| expand(lookup, image)).transpose()?;
    let own = job.image.as_ref().map(|image| expand(lookup, &image.name)).transpose()?;
    let image = own.filter(|name| !name.is_empty()).or_else(|| default.clone());
    let Some(image) = image.filter(|name| !name.is_empty()) else {
        return Err(PodError(
            "the job names no image and the runner has no default: set `image:` in the job or \
             `image` in the runner's configuration"
                .into(),
        ));
    };
    let always = [default, Some(helper_image(settings, lookup)?)];
    if always.iter().flatten().all(|known| *known != image) {
        check_allowed("image", &image, &settings.allowed_images, lookup)?;
    }
    Ok(image)
}

/// Refuses an image that no glob of the list matches; an empty list allows everything.
pub(super) fn check_allowed(
    what: &str,
    image: &str,
    allowed: &[String],
    lookup: &PlanLookup<'_>,
) -> Result<(), PodError> {
    if allowed.is_empty() {
        return Ok(());
    }
    for pattern in allowed {
        let pattern = expand(lookup, pattern)?;
        if Glob::new(&pattern).is_ok_and(|glob| glob.matches(image)) {
            return Ok(());
        }
    }
    let list = allowed.join(", ");
    Err(PodError(format!("the {what} {image:?} is not allowed by this runner; allowed: {list}")))
}

/// The policies of a container in order; `None` in the list leaves it to the cluster.
///
/// # Errors
/// When the job asks for policies of which the runner allows none.
pub(super) fn policies(
    settings: &KubernetesSettings,
    wanted: &[String],
    container: &str,
) -> Result<Vec<Option<PullPolicy>>, PodError> {
    let unset = || vec![None];
    let own: Vec<_> = settings.pull_policies.iter().copied().map(Some).collect();
    let list = if wanted.is_empty() {
        if own.is_empty() { unset() } else { own.clone() }
    } else {
        wanted
            .iter()
            .map(|text| {
                PullPolicy::parse(text).map(Some).ok_or_else(|| {
                    PodError(format!(
                        "pull policy {text:?} of the job is not one of always, if-not-present, never"
                    ))
                })
            })
            .collect::<Result<_, _>>()?
    };
    let allowed: Vec<_> = match (&settings.allowed_pull_policies, own) {
        (allowed, _) if !allowed.is_empty() => allowed.iter().copied().map(Some).collect(),
        (_, own) if !own.is_empty() => own,
        _ => unset(),
    };
    let kept: Vec<_> = list.iter().copied().filter(|policy| allowed.contains(policy)).collect();
    if kept.is_empty() {
        let show = |list: &[Option<PullPolicy>]| {
            list.iter()
                .map(|policy| policy.map_or("the cluster's default", PullPolicy::as_str))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let origin = if wanted.is_empty() { "the runner's configuration" } else { "the job" };
        return Err(PodError(format!(
            "the pull policies for {container} ({}, from {origin}) are not allowed by this runner; \
             allowed: {}",
            show(&list),
            show(&allowed)
        )));
    }
    Ok(kept)
}
