//! `pod_spec`: what is to be changed in the finished pod. How it is done is the pod's business.

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
    /// YAML or JSON.
    Text(String),
    /// A file on the manager, read for each job.
    File(String),
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
            (text, "") => PatchSource::Text(text.to_owned()),
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
