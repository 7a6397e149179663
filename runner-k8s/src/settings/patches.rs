//! `pod_spec`: what is to be changed in the finished pod. How it is done is the pod's business.

use std::sync::Arc;

use serde_json::Value;

use super::mistakes::Mistakes;
use super::raw::RawPodPatch;

/// A change of the finished `spec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPatch {
    /// For messages: its name, or its place in the list.
    pub name: String,
    /// How it is meant.
    pub kind: PatchKind,
    /// What it says.
    pub source: PatchSource,
}

impl PodPatch {
    /// Whether it could read or change the environment of a container. Where it only mentions the
    /// word, or cannot be read, that is yes, too.
    pub(crate) fn has_to_do_with_environment(&self) -> bool {
        match &self.source {
            PatchSource::Read(value) => mentions_environment(value),
            PatchSource::Text(_) | PatchSource::File(_) => true,
        }
    }
}

/// In a key, e.g. `env`, or in a text, e.g. the path `/containers/0/env/-`.
fn mentions_environment(value: &Value) -> bool {
    let is_it = |text: &str| text.contains("env");
    match value {
        Value::Object(map) => {
            map.iter().any(|(key, value)| is_it(key) || mentions_environment(value))
        }
        Value::Array(list) => list.iter().any(mentions_environment),
        Value::String(text) => is_it(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Kubernetes' strategic merge.
    Strategic,
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

/// Where a patch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchSource {
    /// What it says, read.
    Read(Arc<Value>),
    /// Neither YAML nor JSON, as far as is known. A job that wants it is told so.
    Text(String),
    /// A file on the manager, read for each job.
    File(String),
}

/// Largest patch: twice what a pod may take.
const LARGEST: usize = 2 << 20;

impl PatchSource {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Value, String> {
        if text.len() > LARGEST {
            return Err(format!("{} bytes are more than {LARGEST}", text.len()));
        }
        serde_saphyr::from_str(text)
            .map_err(|error| format!("it is neither YAML nor JSON: {error}"))
    }
}

/// GitLab Runner says most of this only when a job comes.
pub(super) fn patches(raw: &[RawPodPatch], mistakes: &mut Mistakes) -> Vec<PodPatch> {
    let mut out = Vec::new();
    for (at, raw) in raw.iter().enumerate() {
        let key = format!("pod_spec[{at}]");
        let kind = match raw.patch_type.as_str() {
            "" | "strategic" => PatchKind::Strategic,
            "merge" => PatchKind::Merge,
            "json" => PatchKind::Json,
            other => {
                mistakes.value(&format!("{key}.patch_type"), other, "strategic, merge, json");
                continue;
            }
        };
        let source = match (raw.patch.as_str(), raw.patch_path.as_str()) {
            ("", "") => {
                mistakes.rule(&key, "needs patch or patch_path");
                continue;
            }
            (text, "") => match PatchSource::read(text) {
                Ok(value) => PatchSource::Read(Arc::new(value)),
                // GitLab Runner says it in the log of each job that wants patches, which need not
                // be any: no reason to refuse the rest.
                Err(error) => {
                    mistakes.warn(&format!("{key}.patch"), format!("cannot be applied: {error}"));
                    PatchSource::Text(text.to_owned())
                }
            },
            ("", path) => PatchSource::File(path.to_owned()),
            (_, path) => {
                mistakes.value(&format!("{key}.patch_path"), path, "only without patch");
                continue;
            }
        };
        let name = if raw.name.is_empty() { key } else { raw.name.clone() };
        out.push(PodPatch { name, kind, source });
    }
    out
}
