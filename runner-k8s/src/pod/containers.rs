//! The containers of the runner itself: helper, build, and the init container of clusters without
//! image volumes.

use std::borrow::Cow;

use runner_core::layout;
use runner_core::planner::PlanLookup;
use serde_json::{Map, Value, json};

use super::environment::{Entry, EnvVar};
use super::images::{helper_image, policies};
use super::json::Container;
use super::user::security;
use super::volumes::{self, Volumes};
use super::{HONOR_ENTRYPOINT, PodError, PodInput};
use crate::settings::{PullPolicy, Resources};

/// Name of the container with the supervisor and git.
pub const HELPER: &str = "helper";
/// Name of the container with the job's own image.
pub const BUILD: &str = "build";
/// Longest value of a variable that is shown in the pod. The script has all of them from the plan; a
/// pod of more than 1.5 MiB is refused.
const LONGEST_SHOWN: usize = 4096;

/// Name of the init container that copies the agent. GitLab Runner's name, because policies may
/// make an exception for it.
const INIT: &str = "init-permissions";

/// `resources`; left out where nothing is set.
pub(super) fn put_resources(container: &mut Map<String, Value>, resources: &Resources) {
    let mut out = Map::new();
    for (key, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        if !map.is_empty() {
            let map = map.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
            out.insert(key.into(), Value::Object(map.collect()));
        }
    }
    if !out.is_empty() {
        container.insert("resources".into(), Value::Object(out));
    }
}

/// The first policy of a list, as Kubernetes spells it; the others are for when it fails.
pub(super) fn first(list: &[Option<PullPolicy>]) -> Option<&'static str> {
    list.first().copied().flatten().map(PullPolicy::as_str)
}

/// The policies of `helper`. It goes by the settings alone: GitLab Runner applies the policies of
/// the job's image to it, but never moves on to the next one; here a failing helper image does
/// (better). What jobs are allowed to ask for has no say.
pub(super) fn helper_policies(input: &PodInput<'_>) -> Vec<Option<PullPolicy>> {
    let own: Vec<_> = input.settings.pull_policies.iter().copied().map(Some).collect();
    if own.is_empty() { vec![None] } else { own }
}

/// The policies of `build`.
pub(super) fn build_policies(input: &PodInput<'_>) -> Result<Vec<Option<PullPolicy>>, PodError> {
    let wanted = input.job.image.as_ref().map_or(&[][..], |image| &image.pull_policies);
    policies(input.settings, wanted, BUILD)
}

/// `lifecycle` of the main containers.
pub(super) fn put_lifecycle(container: &mut Map<String, Value>, input: &PodInput<'_>) {
    put(container, "lifecycle", input.settings.lifecycle.clone());
}

fn container(name: &str, image: &str, command: Vec<String>) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("name".into(), json!(name));
    out.insert("image".into(), json!(image));
    if !command.is_empty() {
        out.insert("command".into(), json!(command));
    }
    out
}

/// The entry point that the job writes, if it does.
fn entrypoint<'a>(input: &PodInput<'a>) -> &'a [String] {
    let image = input.job.image.as_ref();
    image.and_then(|image| image.entrypoint.as_deref()).unwrap_or_default()
}

/// Whether an entry point, the image's or the job's, starts the agent in `build`.
///
/// GitLab Runner drops what the job writes and always takes the image's (better). The helper's
/// entry point never runs here: if it failed there would be nobody to say so.
pub(super) fn starts_by_entrypoint(input: &PodInput<'_>, lookup: &PlanLookup<'_>) -> bool {
    let honored = lookup.setting(HONOR_ENTRYPOINT) == Some("true");
    // `[""]` is how jobs say that the image's entry point shall not run.
    honored && !matches!(entrypoint(input), [word] if word.is_empty())
}

fn put(out: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        out.insert(key.into(), value.into());
    }
}

pub(super) fn helper(
    input: &PodInput<'_>,
    volumes: &Volumes,
    lookup: &PlanLookup<'_>,
) -> Result<Container<'static>, PodError> {
    let settings = input.settings;
    let image = helper_image(settings, lookup)?;
    let mut out = container(HELPER, &image, vec![layout::AGENT.into(), "supervise".into()]);
    put(&mut out, "imagePullPolicy", first(&helper_policies(input)));
    put_lifecycle(&mut out, input);
    put_resources(&mut out, &settings.helper);
    out.insert("securityContext".into(), Value::Object(settings.helper_security.clone()));
    // The verdict's compact copy; never the log, which GitLab Runner's users find there.
    out.insert("terminationMessagePolicy".into(), json!("File"));
    let mut mounts = volumes.shared.clone();
    mounts.extend([
        json!({ "name": volumes::AGENT, "mountPath": layout::BIN_DIR, "readOnly": true }),
        json!({ "name": volumes::PLAN, "mountPath": layout::PLAN_DIR, "readOnly": true }),
        json!({ "name": volumes::STATE, "mountPath": layout::STATE_DIR }),
        json!({ "name": volumes::LINK, "mountPath": layout::LINK_DIR }),
    ]);
    out.insert("volumeMounts".into(), Value::Array(mounts));
    // 137: out of memory or killed by hand; 139: a crash. The stage journal lets the new supervisor
    // go on. Nothing else restarts: an exit by itself is the job's end.
    out.insert("restartPolicy".into(), json!("Never"));
    out.insert(
        "restartPolicyRules".into(),
        json!([{ "action": "Restart", "exitCodes": { "operator": "In", "values": [137, 139] } }]),
    );
    Ok(Container { fields: out, environment: Vec::new() })
}

pub(super) fn build<'e>(
    input: &PodInput<'_>,
    volumes: &Volumes,
    image: &str,
    lookup: &PlanLookup<'_>,
    environment: &'e [Entry<'_>],
) -> Result<Container<'e>, PodError> {
    let settings = input.settings;
    let serve = vec![layout::AGENT.into(), "serve".into()];
    let mut out = match starts_by_entrypoint(input, lookup) {
        false => container(BUILD, image, serve),
        true => {
            let mut out = container(BUILD, image, entrypoint(input).to_vec());
            out.insert("args".into(), json!(serve));
            out
        }
    };
    let wanted = input.job.image.as_ref();
    put(&mut out, "imagePullPolicy", first(&build_policies(input)?));
    put_lifecycle(&mut out, input);
    put_resources(&mut out, &settings.build);
    let user = wanted.and_then(|image| image.user.as_deref());
    let context = security(&settings.build_security, user, settings)?;
    out.insert("securityContext".into(), Value::Object(context));
    let environment = environment
        .iter()
        // The agent hands the script all variables from the plan; what only looks public does
        // not have to stand in the pod.
        .filter(|entry| entry.value.len() <= LONGEST_SHOWN && !entry.is_secret)
        .map(|entry| EnvVar::plain(entry.key, Cow::Borrowed(&entry.value)))
        .collect();
    let ports: Vec<_> = wanted
        .into_iter()
        .flat_map(|image| &image.ports)
        .map(|port| json!({ "containerPort": port }))
        .collect();
    if !ports.is_empty() {
        out.insert("ports".into(), Value::Array(ports));
    }
    let mut mounts = volumes.shared.clone();
    mounts.extend([
        json!({ "name": volumes::AGENT, "mountPath": layout::BIN_DIR, "readOnly": true }),
        json!({ "name": volumes::LINK, "mountPath": layout::LINK_DIR, "readOnly": true }),
    ]);
    out.insert("volumeMounts".into(), Value::Array(mounts));
    Ok(Container { fields: out, environment })
}

/// Copies the agent where the cluster cannot mount its image.
pub(super) fn init(image: &Value, policy: &Value, security: &Value, resources: &Value) -> Value {
    let command = vec!["/podwright-agent".into(), "install".into(), layout::BIN_DIR.into()];
    let mut out = container(INIT, image.as_str().unwrap_or_default(), command);
    for (key, value) in
        [("imagePullPolicy", policy), ("securityContext", security), ("resources", resources)]
    {
        put(&mut out, key, (!value.is_null()).then(|| value.clone()));
    }
    // Only what it needs: GitLab Runner mounts everything here, which breaks some CSI drivers.
    out.insert(
        "volumeMounts".into(),
        json!([{ "name": volumes::AGENT, "mountPath": layout::BIN_DIR }]),
    );
    Value::Object(out)
}
