//! The containers of the runner itself: helper, build, and the init container of clusters without
//! image volumes.

use runner_core::layout;
use runner_core::planner::PlanLookup;
use serde_json::{Value, json};

use super::environment::{Env, Environment};
use super::images::{helper_image, policies};
use super::json::Container;
use super::text::Text;
use super::user::security;
use super::volumes::{self, ReadOnly, Volumes};
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
pub(super) fn put_resources(out: &mut Text, resources: &Resources) {
    if resources.requests.is_empty() && resources.limits.is_empty() {
        return;
    }
    out.key("resources");
    out.open('{');
    for (key, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        if !map.is_empty() {
            out.key(key);
            out.open('{');
            map.iter().for_each(|(key, value)| out.text(key, value));
            out.close('}');
        }
    }
    out.close('}');
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
pub(super) fn put_lifecycle(out: &mut Text, input: &PodInput<'_>) {
    if let Some(lifecycle) = &input.settings.lifecycle {
        out.key("lifecycle");
        out.value(lifecycle);
    }
}

/// `ports`; left out where there are none.
pub(super) fn put_ports(out: &mut Text, ports: &[u16]) {
    if ports.is_empty() {
        return;
    }
    out.key("ports");
    out.open('[');
    for port in ports {
        out.open('{');
        out.key("containerPort");
        out.number(*port);
        out.close('}');
    }
    out.close(']');
}

/// `imagePullPolicy`; left out where it is the cluster's.
pub(super) fn put_policy(out: &mut Text, list: &[Option<PullPolicy>]) {
    if let Some(policy) = list.first().copied().flatten() {
        out.text("imagePullPolicy", policy.as_str());
    }
}

/// Room for a container without its environment.
const USUAL: usize = 2048;

/// An object that is not closed.
pub(super) fn container(name: &str, image: &str) -> Text {
    let mut out = Text::with_capacity(USUAL);
    out.open('{');
    out.text("name", name);
    out.text("image", image);
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

pub(super) fn helper(
    input: &PodInput<'_>,
    volumes: &Volumes,
    lookup: &PlanLookup<'_>,
) -> Result<Container, PodError> {
    let settings = input.settings;
    let mut out = container(HELPER, &helper_image(settings, lookup)?);
    out.key("command");
    out.strings([layout::AGENT, "supervise"]);
    put_policy(&mut out, &helper_policies(input));
    put_lifecycle(&mut out, input);
    put_resources(&mut out, &settings.helper);
    out.key("securityContext");
    out.object(&settings.helper_security);
    // The verdict's compact copy; never the log, which GitLab Runner's users find there.
    out.text("terminationMessagePolicy", "File");
    volumes.put_mounts(
        &mut out,
        &[
            (volumes::AGENT, layout::BIN_DIR, ReadOnly::Yes),
            (volumes::PLAN, layout::PLAN_DIR, ReadOnly::Yes),
            (volumes::STATE, layout::STATE_DIR, ReadOnly::No),
            (volumes::LINK, layout::LINK_DIR, ReadOnly::No),
        ],
    );
    // 137: out of memory or killed by hand; 139: a crash. The stage journal lets the new supervisor
    // go on. Nothing else restarts: an exit by itself is the job's end.
    out.text("restartPolicy", "Never");
    out.key("restartPolicyRules");
    out.raw(r#"[{"action":"Restart","exitCodes":{"operator":"In","values":[137,139]}}]"#);
    Ok(Container { fields: out, environment: String::new() })
}

pub(super) fn build(
    input: &PodInput<'_>,
    volumes: &Volumes,
    image: &str,
    lookup: &PlanLookup<'_>,
    environment: &Environment<'_>,
) -> Result<Container, PodError> {
    let settings = input.settings;
    let serve = [layout::AGENT, "serve"];
    let mut out = container(BUILD, image);
    if starts_by_entrypoint(input, lookup) {
        if !entrypoint(input).is_empty() {
            out.key("command");
            out.strings(entrypoint(input));
        }
        out.key("args");
    } else {
        out.key("command");
    }
    out.strings(serve);
    let wanted = input.job.image.as_ref();
    put_policy(&mut out, &build_policies(input)?);
    put_lifecycle(&mut out, input);
    put_resources(&mut out, &settings.build);
    let user = wanted.and_then(|image| image.user.as_deref());
    out.key("securityContext");
    out.object(&*security(&settings.build_security, user, settings)?);
    put_ports(&mut out, wanted.map_or(&[], |image| &image.ports));
    volumes.put_mounts(
        &mut out,
        &[
            (volumes::AGENT, layout::BIN_DIR, ReadOnly::Yes),
            (volumes::LINK, layout::LINK_DIR, ReadOnly::Yes),
        ],
    );
    let mut env = Env::new(environment);
    for (at, entry) in environment.entries.iter().enumerate() {
        // The agent hands the script all variables from the plan; what only looks public does
        // not have to stand in the pod.
        if entry.value.len() <= LONGEST_SHOWN && !entry.is_secret {
            env.shared(at);
        }
    }
    Ok(Container { fields: out, environment: env.into_text() })
}

/// Copies the agent where the cluster cannot mount its image.
pub(super) fn init(image: &Value, policy: &Value, security: &Value, resources: &Value) -> Value {
    let mut out = json!({
        "name": INIT,
        "image": image.as_str().unwrap_or_default(),
        "command": ["/podwright-agent", "install", layout::BIN_DIR],
        // Only what it needs: GitLab Runner mounts everything here, which breaks some CSI drivers.
        "volumeMounts": [{ "name": volumes::AGENT, "mountPath": layout::BIN_DIR }],
    });
    for (key, value) in
        [("imagePullPolicy", policy), ("securityContext", security), ("resources", resources)]
    {
        if !value.is_null() {
            out[key] = value.clone();
        }
    }
    out
}
