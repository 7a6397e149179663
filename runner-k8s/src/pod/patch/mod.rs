//! `pod_spec`: changes of the finished `spec`, in three languages.
//!
//! Owns how patches are applied and what of the runner must survive them; what there is to apply is
//! the settings' business. Kubernetes' strategic merge happens on the server for everybody else; here
//! there is no object on the server yet.

mod keys;
mod strategic;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{BUILD, HELPER, PodError};
use crate::settings::{PatchKind, PatchSource, PodPatch};

/// What the names of the runner's own volumes begin with.
const OWN: &str = "podwright-";

/// Applies patches in order.
///
/// # Errors
/// A patch that cannot be read or applied, or after which `build` or `helper` is not what the runner
/// needs. GitLab Runner lets such a pod start and waits for containers that do not exist (better).
pub(super) fn apply(spec: &mut Value, patches: &[PodPatch]) -> Result<(), PodError> {
    let before = Runners::of(spec);
    for patch in patches {
        let failed = |why: String| {
            PodError(format!("pod_spec {:?} of this runner cannot be applied: {why}", patch.name))
        };
        let value = match &patch.source {
            PatchSource::Read(value) => Value::clone(value),
            PatchSource::Text(text) => PatchSource::read(text).map_err(&failed)?,
            // Whoever builds the pod reads files first, because that takes time.
            PatchSource::File(path) => return Err(failed(format!("{path} was not read"))),
        };
        one(spec, patch.kind, value).map_err(failed)?;
    }
    if patches.is_empty() { Ok(()) } else { before.survive(spec) }
}

fn one(spec: &mut Value, kind: PatchKind, patch: Value) -> Result<(), String> {
    let object = |patch: &Value| match patch {
        Value::Object(_) | Value::Null => Ok(()),
        _ => Err("it is no object but a list or a single value".to_owned()),
    };
    match kind {
        PatchKind::Strategic => {
            object(&patch)?;
            strategic::merge(spec, patch, keys::POD_SPEC)
        }
        PatchKind::Merge => {
            object(&patch)?;
            if !patch.is_null() {
                json_patch::merge(spec, &patch);
            }
            Ok(())
        }
        PatchKind::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch)
                .map_err(|error| format!("it is no list of operations (RFC 6902): {error}"))?;
            json_patch::patch(spec, &patch).map_err(|error| error.to_string())
        }
    }
}

/// What the runner itself put into the pod and needs: its volumes, and in its containers the command
/// and its mounts.
struct Runners(Vec<(String, Value)>);

impl Runners {
    fn of(spec: &Value) -> Self {
        let mut out = own(&spec["volumes"], "spec");
        for name in [HELPER, BUILD] {
            let container = container(spec, name);
            out.push((
                format!("the command of the container {name:?}"),
                container["command"].clone(),
            ));
            out.extend(own(&container["volumeMounts"], &format!("the container {name:?}")));
        }
        Self(out)
    }

    fn survive(&self, spec: &Value) -> Result<(), PodError> {
        let now = Self::of(spec).0;
        match self.0.iter().find(|part| !now.contains(part)) {
            None => Ok(()),
            Some((what, _)) => Err(PodError(format!(
                "pod_spec of this runner changes or takes away {what}, which the runner needs"
            ))),
        }
    }
}

/// The entries that are ours, by their names.
fn own(list: &Value, of: &str) -> Vec<(String, Value)> {
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let all = list.as_array().into_iter().flatten();
    all.filter(|entry| name(entry).starts_with(OWN))
        .map(|entry| (format!("the volume {:?} of {of}", name(entry)), entry.clone()))
        .collect()
}

fn container(spec: &Value, name: &str) -> Value {
    let all = spec["containers"].as_array().into_iter().flatten();
    all.into_iter().find(|container| container["name"] == name).cloned().unwrap_or_default()
}
