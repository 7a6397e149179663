//! Volumes of the pod and where they are mounted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use runner_core::layout;
use runner_core::planner::PlanLookup;

use super::images::expand;
use super::text::Text;
use super::{PodError, PodInput};
use crate::settings::{Volume, VolumeSource};

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

/// Whether something is mounted so that nothing can be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOnly {
    Yes,
    No,
}

/// What the pod declares, and what every container mounts.
#[derive(Debug)]
pub(super) struct Volumes {
    /// A list.
    pub(super) declared: Text,
    /// A list that is not closed.
    shared: Text,
}

impl Volumes {
    pub(super) fn new(input: &PodInput<'_>, lookup: &PlanLookup<'_>) -> Result<Self, PodError> {
        let (mut declared, mut shared) = (Text::with_capacity(1024), Text::with_capacity(1024));
        declared.open('[');
        shared.open('[');
        let builds = input.plan().directories.builds.as_str();
        let (mut own_builds, mut known) = (true, Vec::new());
        for volume in &input.settings.volumes {
            let path = expand(lookup, &volume.mount_path)?;
            leaves_ours_alone(&path)?;
            own_builds &= path != builds;
            let name = name(volume, lookup)?;
            shared.open('{');
            shared.text("name", &name);
            shared.text("mountPath", &path);
            shared.text_if_any("subPath", &expand(lookup, &volume.sub_path)?);
            if volume.read_only {
                shared.key("readOnly");
                shared.flag(true);
            }
            shared.text_if_any("mountPropagation", &volume.mount_propagation);
            shared.close('}');
            let volume = declare(volume, &name);
            // The same volume may be mounted twice, with different sub paths.
            if !known.contains(&volume) {
                declared.raw(&volume);
                known.push(volume);
            }
        }
        if own_builds {
            leaves_ours_alone(builds)?;
            empty_dir(&mut declared, REPO);
            mount(&mut shared, REPO, builds, ReadOnly::No);
        }
        own(&mut declared, input, lookup)?;
        declared.close(']');
        Ok(Self { declared, shared })
    }

    /// `volumeMounts`: what all have, and these.
    pub(super) fn put_mounts(&self, out: &mut Text, more: &[(&str, &str, ReadOnly)]) {
        out.key("volumeMounts");
        out.raw(self.shared.as_str());
        more.iter().for_each(|(name, path, read_only)| mount(out, name, path, *read_only));
        out.close(']');
    }
}

fn leaves_ours_alone(path: &str) -> Result<(), PodError> {
    if path == "/podwright" || path.starts_with("/podwright/") {
        return Err(PodError(format!(
            "a volume is mounted at {path:?}; {} and its neighbours are the runner's own",
            layout::BIN_DIR
        )));
    }
    Ok(())
}

fn mount(out: &mut Text, name: &str, path: &str, read_only: ReadOnly) {
    out.open('{');
    out.text("name", name);
    out.text("mountPath", path);
    if read_only == ReadOnly::Yes {
        out.key("readOnly");
        out.flag(true);
    }
    out.close('}');
}

fn empty_dir(out: &mut Text, name: &str) {
    out.open('{');
    out.text("name", name);
    out.key("emptyDir");
    out.raw("{}");
    out.close('}');
}

/// `items` of these keys, each under its own name.
fn items<'k>(out: &mut Text, keys: impl IntoIterator<Item = (&'k String, &'k String)>) {
    out.key("items");
    out.open('[');
    for (key, path) in keys {
        out.open('{');
        out.text("key", key);
        out.text("path", path);
        out.close('}');
    }
    out.close(']');
}

/// Readable by everyone in helper, where the uid is not known; no other container mounts it.
const PLAN_MODE: u32 = 0o444;

/// The runner's own.
fn own(out: &mut Text, input: &PodInput<'_>, lookup: &PlanLookup<'_>) -> Result<(), PodError> {
    out.open('{');
    out.text("name", AGENT);
    out.key("image");
    out.open('{');
    out.text("reference", &expand(lookup, &input.settings.agent_image)?);
    if let Some(policy) = input.settings.pull_policies.first() {
        out.text("pullPolicy", policy.as_str());
    }
    out.close('}');
    out.close('}');

    out.open('{');
    out.text("name", PLAN);
    match input.items.secrets.as_slice() {
        [(name, keys)] => {
            out.key("secret");
            out.open('{');
            out.text("secretName", name);
            out.key("defaultMode");
            out.number(PLAN_MODE);
            items(out, keys.iter().zip(keys));
            out.close('}');
        }
        several => {
            out.key("projected");
            out.open('{');
            out.key("defaultMode");
            out.number(PLAN_MODE);
            out.key("sources");
            out.open('[');
            for (name, keys) in several {
                out.raw(r#"{"secret":"#);
                out.open('{');
                out.text("name", name);
                items(out, keys.iter().zip(keys));
                out.close('}');
                out.close('}');
            }
            out.close(']');
            out.close('}');
        }
    }
    out.close('}');
    empty_dir(out, STATE);
    empty_dir(out, LINK);
    Ok(())
}

fn name<'v>(volume: &'v Volume, lookup: &PlanLookup<'_>) -> Result<Cow<'v, str>, PodError> {
    match volume.source {
        VolumeSource::Claim => expand(lookup, &volume.name).map(Cow::from),
        _ => Ok(Cow::from(&volume.name)),
    }
}

fn declare(volume: &Volume, name: &str) -> String {
    let mut out = Text::default();
    out.open('{');
    out.text("name", name);
    let of_map = |out: &mut Text, map: &BTreeMap<String, String>| {
        if !map.is_empty() {
            items(out, map);
        }
    };
    let read_only = |out: &mut Text| {
        if volume.read_only {
            out.key("readOnly");
            out.flag(true);
        }
    };
    let kind = match &volume.source {
        VolumeSource::HostPath(_) => "hostPath",
        VolumeSource::Claim => "persistentVolumeClaim",
        VolumeSource::ConfigMap(_) => "configMap",
        VolumeSource::Secret(_) => "secret",
        VolumeSource::Csi { .. } => "csi",
        VolumeSource::Nfs { .. } => "nfs",
        VolumeSource::EmptyDir { .. } => "emptyDir",
    };
    out.key(kind);
    out.open('{');
    match &volume.source {
        VolumeSource::HostPath(path) => out.text("path", path),
        VolumeSource::Claim => out.text("claimName", name),
        VolumeSource::ConfigMap(map) => {
            out.text("name", name);
            of_map(&mut out, map);
        }
        VolumeSource::Secret(map) => {
            out.text("secretName", name);
            of_map(&mut out, map);
        }
        VolumeSource::Csi { driver, fs_type, attributes } => {
            out.text("driver", driver);
            out.text_if_any("fsType", fs_type);
            read_only(&mut out);
            if !attributes.is_empty() {
                out.key("volumeAttributes");
                out.open('{');
                attributes.iter().for_each(|(key, value)| out.text(key, value));
                out.close('}');
            }
        }
        VolumeSource::Nfs { server, path } => {
            out.text("server", server);
            out.text("path", path);
            read_only(&mut out);
        }
        VolumeSource::EmptyDir { medium, size_limit } => {
            out.text_if_any("medium", medium);
            out.text_if_any("sizeLimit", size_limit);
        }
    }
    out.close('}');
    out.close('}');
    out.into_string()
}
