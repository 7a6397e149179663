//! Keys of labels and annotations, and values of node selectors. The API server would refuse the pod
//! of every job.

use super::mistakes::Mistakes;
use super::raw::RawSettings;
use super::scheduling::LABEL_KEY;
use crate::names::{is_label_key, is_label_value, is_protected_label};

const LABEL_VALUE: &str = "up to 63 letters, digits, `-`, `_`, `.`, a letter or digit at both ends";

pub(super) fn check(raw: &RawSettings, mistakes: &mut Mistakes) {
    let maps = [
        ("pod_labels", &raw.pod_labels),
        ("pod_annotations", &raw.pod_annotations),
        ("node_selector", &raw.node_selector),
    ];
    for (table, map) in maps {
        // Domains of annotations may have capitals.
        let lower =
            |key: &str| if table == "pod_annotations" { key.to_lowercase() } else { key.into() };
        // The runner's own labels are left out, however they are written.
        let is_used = |key: &str| table != "pod_labels" || !is_protected_label(key);
        for key in map.keys().filter(|key| is_used(key) && !is_label_key(&lower(key))) {
            mistakes.value(table, key, LABEL_KEY);
        }
    }
    for (key, value) in raw.node_selector.iter().filter(|(_, value)| !is_label_value(value)) {
        mistakes.value(&format!("node_selector.{key:?}"), value, LABEL_VALUE);
    }
    for taint in raw.node_tolerations.keys() {
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (taint.as_str(), None),
        };
        // No key at all means all taints.
        let has_key = !(key.is_empty() && value.is_none());
        if has_key && !is_label_key(key) {
            mistakes.value("node_tolerations", taint, "key or key=value, with a label's key");
        } else if value.is_some_and(|value| !is_label_value(value)) {
            mistakes.value("node_tolerations", taint, &format!("a value of {LABEL_VALUE}"));
        }
    }
}
