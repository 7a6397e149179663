//! Volumes of the pod and where they are mounted.

use runner_core::layout;
use runner_core::planner::PlanLookup;
use serde_json::{Map, Value, json};

use super::images::expand;
use super::{PodError, PodInput};
use crate::settings::{PullPolicy, Volume, VolumeSource};

/// The agent program.
pub(super) const AGENT: &str = "podwright-agent";
/// The plan, for helper.
pub(crate) const PLAN: &str = "podwright-plan";
/// Spool and journal, for helper.
pub(super) const STATE: &str = "podwright-state";
/// The socket between helper and build.
pub(super) const LINK: &str = "podwright-link";
/// Checkouts: GitLab Runner's name.
const REPO: &str = "repo";

/// What the pod declares, and what every container mounts.
#[derive(Debug)]
pub(super) struct Volumes {
    pub(super) declared: Vec<Value>,
    pub(super) shared: Vec<Value>,
}

impl Volumes {
    pub(super) fn new(input: &PodInput<'_>, lookup: &PlanLookup<'_>) -> Result<Self, PodError> {
        let mut out = Self { declared: Vec::new(), shared: Vec::new() };
        let builds = &input.plan().directories.builds;
        let mut own_builds = true;
        for volume in &input.settings.volumes {
            let mount = mount(volume, lookup)?;
            own_builds &= mount["mountPath"] != json!(builds);
            out.shared.push(mount);
            let declared = declare(volume, lookup)?;
            // The same volume may be mounted twice, with different sub paths.
            if !out.declared.contains(&declared) {
                out.declared.push(declared);
            }
        }
        if own_builds {
            out.declared.push(json!({ "name": REPO, "emptyDir": {} }));
            out.shared.push(json!({ "name": REPO, "mountPath": builds }));
        }
        out.declared.extend(own(input, lookup)?);
        for mount in &out.shared {
            let path = mount["mountPath"].as_str().unwrap_or_default();
            if path == "/podwright" || path.starts_with("/podwright/") {
                return Err(PodError(format!(
                    "a volume is mounted at {path:?}; {} and its neighbours are the runner's own",
                    layout::BIN_DIR
                )));
            }
        }
        Ok(out)
    }
}

fn own(input: &PodInput<'_>, lookup: &PlanLookup<'_>) -> Result<Vec<Value>, PodError> {
    let mut image = Map::new();
    image.insert("reference".into(), json!(expand(lookup, &input.settings.agent_image)?));
    if let Some(policy) = input.settings.pull_policies.first() {
        image.insert("pullPolicy".into(), json!(PullPolicy::as_str(*policy)));
    }
    let agent = json!({ "name": AGENT, "image": image });
    // Readable by everyone in helper, where the uid is not known; no other container mounts it.
    let item = |key: &String| json!({ "key": key, "path": key });
    let plan = match input.items.secrets.as_slice() {
        [(name, keys)] => json!({
            "name": PLAN,
            "secret": {
                "secretName": name,
                "defaultMode": 0o444,
                "items": keys.iter().map(item).collect::<Vec<_>>(),
            },
        }),
        several => json!({
            "name": PLAN,
            "projected": {
                "defaultMode": 0o444,
                "sources": several.iter().map(|(name, keys)| json!({
                    "secret": { "name": name, "items": keys.iter().map(item).collect::<Vec<_>>() },
                })).collect::<Vec<_>>(),
            },
        }),
    };
    Ok(vec![
        agent,
        plan,
        json!({ "name": STATE, "emptyDir": {} }),
        json!({ "name": LINK, "emptyDir": {} }),
    ])
}

fn put(out: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        out.insert(key.into(), json!(text));
    }
}

fn mount(volume: &Volume, lookup: &PlanLookup<'_>) -> Result<Value, PodError> {
    let mut out = Map::new();
    out.insert("name".into(), json!(name(volume, lookup)?));
    out.insert("mountPath".into(), json!(expand(lookup, &volume.mount_path)?));
    put(&mut out, "subPath", &expand(lookup, &volume.sub_path)?);
    if volume.read_only {
        out.insert("readOnly".into(), json!(true));
    }
    put(&mut out, "mountPropagation", &volume.mount_propagation);
    Ok(Value::Object(out))
}

fn name(volume: &Volume, lookup: &PlanLookup<'_>) -> Result<String, PodError> {
    match volume.source {
        VolumeSource::Claim => expand(lookup, &volume.name),
        _ => Ok(volume.name.clone()),
    }
}

fn items(map: &std::collections::BTreeMap<String, String>) -> Option<Value> {
    let list = map.iter().map(|(key, path)| json!({ "key": key, "path": path }));
    (!map.is_empty()).then(|| list.collect())
}

fn declare(volume: &Volume, lookup: &PlanLookup<'_>) -> Result<Value, PodError> {
    let name = name(volume, lookup)?;
    let mut source = Map::new();
    let kind = match &volume.source {
        VolumeSource::HostPath(path) => {
            source.insert("path".into(), json!(path));
            "hostPath"
        }
        VolumeSource::Claim => {
            source.insert("claimName".into(), json!(name));
            "persistentVolumeClaim"
        }
        VolumeSource::ConfigMap(map) => {
            source.insert("name".into(), json!(name));
            source.extend(items(map).map(|items| ("items".into(), items)));
            "configMap"
        }
        VolumeSource::Secret(map) => {
            source.insert("secretName".into(), json!(name));
            source.extend(items(map).map(|items| ("items".into(), items)));
            "secret"
        }
        VolumeSource::Csi { driver, fs_type, attributes } => {
            source.insert("driver".into(), json!(driver));
            put(&mut source, "fsType", fs_type);
            if volume.read_only {
                source.insert("readOnly".into(), json!(true));
            }
            if !attributes.is_empty() {
                source.insert("volumeAttributes".into(), json!(attributes));
            }
            "csi"
        }
        VolumeSource::Nfs { server, path } => {
            source.insert("server".into(), json!(server));
            source.insert("path".into(), json!(path));
            if volume.read_only {
                source.insert("readOnly".into(), json!(true));
            }
            "nfs"
        }
        VolumeSource::EmptyDir { medium, size_limit } => {
            put(&mut source, "medium", medium);
            put(&mut source, "sizeLimit", size_limit);
            "emptyDir"
        }
    };
    let mut out = Map::new();
    out.insert("name".into(), json!(name));
    out.insert(kind.into(), Value::Object(source));
    Ok(Value::Object(out))
}
