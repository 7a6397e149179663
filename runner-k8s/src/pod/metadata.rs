//! Labels and annotations: GitLab Runner's, because dashboards and policies select on them, and our
//! own, which are how the executor finds its objects.

use std::borrow::Cow;
use std::collections::BTreeMap;

use runner_core::planner::PlanLookup;

use super::text::Text;
use super::{BUILD, PodInput};
use crate::names::{
    JOB_LABEL, MANAGED_LABEL, SOURCE_LABEL, is_protected_label, label_value, project_unique_name,
    source_hash,
};

/// `metadata`.
pub(super) fn metadata<'a>(input: &PodInput<'a>, lookup: &PlanLookup<'a>) -> Text {
    let mut out = Text::with_capacity(2048);
    out.open('{');
    out.text("name", &input.names.pod);
    out.text("namespace", &input.settings.namespace);
    out.key("labels");
    out.open('{');
    for (key, value) in labels(input, lookup) {
        out.text(&key, &value);
    }
    out.close('}');
    out.key("annotations");
    out.open('{');
    for (key, value) in annotations(input, lookup) {
        out.text(key, &value);
    }
    out.close('}');
    out.close('}');
    out
}

fn labels<'a>(input: &PodInput<'a>, lookup: &PlanLookup<'_>) -> BTreeMap<Cow<'a, str>, String> {
    let PodInput { settings, runner, job, .. } = *input;
    let mut out = BTreeMap::new();
    for (key, value) in &settings.pod_labels {
        if !is_protected_label(key) {
            // A value that is too long to expand is the plan's problem, which fails the job before.
            let value = lookup.expand(value).unwrap_or_default();
            out.insert(Cow::Borrowed(key.as_str()), label_value(&value));
        }
    }
    // From the payload: GitLab Runner takes the namespace from variables that a job can redefine.
    // Here they are only used where the plan's own value and the job's agree on a public one.
    let variable = |name: &str| lookup.setting(name).map(label_value).unwrap_or_default();
    let slot = variable("CI_CONCURRENT_PROJECT_ID");
    let unique = project_unique_name(&runner.short_token, job.project.id, &slot);
    let own = [
        ("pod", unique.clone()),
        ("job.runner.gitlab.com/pod", unique),
        ("project.runner.gitlab.com/id", job.project.id.to_string()),
        ("project.runner.gitlab.com/name", label_value(&job.project.name)),
        ("project.runner.gitlab.com/namespace-id", variable("CI_PROJECT_NAMESPACE_ID")),
        ("project.runner.gitlab.com/namespace", variable("CI_PROJECT_NAMESPACE")),
        ("project.runner.gitlab.com/root-namespace", variable("CI_PROJECT_ROOT_NAMESPACE")),
        ("manager.runner.gitlab.com/name", label_value(&runner.name)),
        ("manager.runner.gitlab.com/id-short", label_value(&runner.short_token)),
        (MANAGED_LABEL, "podwright".to_owned()),
        (SOURCE_LABEL, source_hash(&runner.source)),
        (JOB_LABEL, job.id.to_string()),
    ];
    out.extend(own.map(|(key, value)| (Cow::Borrowed(key), value)));
    out
}

fn annotations<'a>(
    input: &PodInput<'a>,
    lookup: &PlanLookup<'a>,
) -> BTreeMap<&'a str, Cow<'a, str>> {
    let PodInput { settings, job, .. } = *input;
    let before = lookup.setting("CI_COMMIT_BEFORE_SHA").unwrap_or_default();
    let own = [
        ("job.runner.gitlab.com/id", job.id.to_string().into()),
        ("job.runner.gitlab.com/url", job.url.as_deref().unwrap_or_default().into()),
        ("job.runner.gitlab.com/sha", job.project.sha.as_str().into()),
        ("job.runner.gitlab.com/before_sha", before.into()),
        ("job.runner.gitlab.com/ref", job.project.reference.as_str().into()),
        ("job.runner.gitlab.com/name", job.name.as_str().into()),
        ("job.runner.gitlab.com/timeout", go_duration(input.plan().timeout.as_secs()).into()),
        ("project.runner.gitlab.com/id", job.project.id.to_string().into()),
        ("kubectl.kubernetes.io/default-container", BUILD.into()),
    ];
    let mut out: BTreeMap<_, Cow<'_, str>> = own.into_iter().collect();
    for (key, value) in &settings.pod_annotations {
        out.insert(key, lookup.expand(value).unwrap_or_default().into());
    }
    out
}

/// As Go prints a duration of whole seconds: `1h0m0s`, `2m5s`, `9s`.
fn go_duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::go_duration;

    #[test]
    fn k8s_24_the_timeout_is_written_as_go_does() {
        assert_eq!(go_duration(3600), "1h0m0s");
        assert_eq!(go_duration(125), "2m5s");
        assert_eq!(go_duration(9), "9s");
    }
}
