//! Where the pod may run: tolerations and affinity.

use std::collections::BTreeMap;

use serde_json::Value;

use super::camel;
use super::mistakes::Mistakes;
use super::raw::{
    RawAffinity, RawLabelSelector, RawNodeTerm, RawPodAffinity, RawPodTerm, RawRequirement,
};
use crate::names::is_label_key;

/// A taint that is tolerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Key; empty: every key.
    pub key: String,
    /// Value; `None`: every value.
    pub value: Option<String>,
    /// Effect; empty: every effect.
    pub effect: String,
}

impl Toleration {
    /// From `key` or `key=value`, and an effect.
    #[must_use]
    pub fn new(taint: &str, effect: &str) -> Self {
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (taint, None),
        };
        Self { key: key.to_owned(), value, effect: effect.to_owned() }
    }

    /// `key[=value]` again.
    #[must_use]
    pub fn taint(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.key),
            None => self.key.clone(),
        }
    }
}

/// The effects that a taint may have.
pub(crate) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn tolerations(
    raw: &BTreeMap<String, String>,
    mistakes: &mut Mistakes,
) -> Vec<Toleration> {
    for (taint, effect) in raw {
        mistakes.word(&format!("node_tolerations.{taint:?}"), effect, EFFECTS);
    }
    raw.iter().map(|(taint, effect)| Toleration::new(taint, effect)).collect()
}

/// What a label's key looks like, in words.
pub(super) const LABEL_KEY: &str =
    "a label's key such as team or example.com/team: letters, digits, `-`, `_`, `.`";

fn is_number(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

const OF_LABELS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];
const OF_NODES: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];

/// `spec.affinity`; `None` when nothing is asked for.
pub(super) fn affinity(raw: Option<&RawAffinity>, mistakes: &mut Mistakes) -> Option<Value> {
    let raw = raw?;
    let mut check = Check { mistakes };
    if let Some(node) = &raw.node_affinity {
        let path = "affinity.node_affinity";
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let path = format!("{path}.{REQUIRED}.node_selector_terms");
            if required.node_selector_terms.is_empty() {
                check.mistakes.rule(&path, "must have at least one entry");
            }
            for (at, term) in required.node_selector_terms.iter().enumerate() {
                check.node_term(&format!("{path}[{at}]"), term);
            }
        }
        let preferred = &node.preferred_during_scheduling_ignored_during_execution;
        for (at, entry) in preferred.iter().enumerate() {
            let path = format!("{path}.{PREFERRED}[{at}]");
            check.weight(&path, entry.weight);
            check.node_term(&format!("{path}.preference"), &entry.preference);
        }
    }
    let sides =
        [("pod_affinity", &raw.pod_affinity), ("pod_anti_affinity", &raw.pod_anti_affinity)];
    for (name, side) in sides {
        if let Some(side) = side {
            check.pods(&format!("affinity.{name}"), side);
        }
    }
    let value = camel::object(raw);
    value.as_object().is_some_and(|fields| !fields.is_empty()).then_some(value)
}

const REQUIRED: &str = "required_during_scheduling_ignored_during_execution";
const PREFERRED: &str = "preferred_during_scheduling_ignored_during_execution";

/// GitLab Runner passes everything on, so that a slip shows as a refused pod in every job. Here it
/// shows when the configuration is read (better).
struct Check<'m> {
    mistakes: &'m mut Mistakes,
}

impl Check<'_> {
    fn weight(&mut self, path: &str, weight: i64) {
        if !(1..=100).contains(&weight) {
            self.mistakes.value(&format!("{path}.weight"), weight, "1 to 100");
        }
    }

    fn requirements(&mut self, path: &str, list: &[RawRequirement], operators: &[&str]) {
        for (at, entry) in list.iter().enumerate() {
            let path = format!("{path}[{at}]");
            self.mistakes.required(&format!("{path}.key"), &entry.key);
            self.mistakes.required(&format!("{path}.operator"), &entry.operator);
            self.mistakes.word(&format!("{path}.operator"), &entry.operator, operators);
            if !operators.contains(&entry.operator.as_str()) {
                continue;
            }
            let rule = match entry.operator.as_str() {
                "In" | "NotIn" if entry.values.is_empty() => "needs at least one value",
                "Exists" | "DoesNotExist" if !entry.values.is_empty() => "must have no values",
                "Gt" | "Lt" if !matches!(entry.values.as_slice(), [one] if is_number(one)) => {
                    "must be one number"
                }
                _ => continue,
            };
            let rule = format!("with operator {:?}: {rule}", entry.operator);
            self.mistakes.rule(&format!("{path}.values"), &rule);
        }
    }

    /// Nodes have one field that can be asked about, and only its value.
    fn fields(&mut self, path: &str, list: &[RawRequirement]) {
        self.requirements(path, list, &["In", "NotIn"]);
        for (at, entry) in list.iter().enumerate() {
            let path = format!("{path}[{at}]");
            self.mistakes.word(&format!("{path}.key"), &entry.key, &["metadata.name"]);
            if entry.values.len() > 1 {
                self.mistakes.rule(&format!("{path}.values"), "must be one name of a node");
            }
        }
    }

    fn node_term(&mut self, path: &str, term: &RawNodeTerm) {
        self.requirements(&format!("{path}.match_expressions"), &term.match_expressions, OF_NODES);
        self.fields(&format!("{path}.match_fields"), &term.match_fields);
    }

    fn pods(&mut self, path: &str, side: &RawPodAffinity) {
        let required = &side.required_during_scheduling_ignored_during_execution;
        for (at, term) in required.iter().enumerate() {
            self.pod_term(&format!("{path}.{REQUIRED}[{at}]"), term);
        }
        let preferred = &side.preferred_during_scheduling_ignored_during_execution;
        for (at, entry) in preferred.iter().enumerate() {
            let path = format!("{path}.{PREFERRED}[{at}]");
            self.weight(&path, entry.weight);
            self.pod_term(&format!("{path}.pod_affinity_term"), &entry.pod_affinity_term);
        }
    }

    fn pod_term(&mut self, path: &str, term: &RawPodTerm) {
        self.mistakes.required(&format!("{path}.topology_key"), &term.topology_key);
        self.selector(&format!("{path}.label_selector"), term.label_selector.as_ref());
        self.selector(&format!("{path}.namespace_selector"), term.namespace_selector.as_ref());
        let keys = [
            ("match_label_keys", &term.match_label_keys),
            ("mismatch_label_keys", &term.mismatch_label_keys),
        ];
        for (name, list) in keys.into_iter().filter(|(_, list)| !list.is_empty()) {
            let path = format!("{path}.{name}");
            if term.label_selector.is_none() {
                self.mistakes.rule(&path, "has a meaning only with label_selector");
            }
            for key in list.iter().filter(|key| !is_label_key(key)) {
                self.mistakes.value(&path, key, LABEL_KEY);
            }
        }
        let both = term.match_label_keys.iter().find(|key| term.mismatch_label_keys.contains(key));
        if let Some(key) = both {
            let allowed = "a key that match_label_keys does not have";
            self.mistakes.value(&format!("{path}.mismatch_label_keys"), key, allowed);
        }
    }

    fn selector(&mut self, path: &str, selector: Option<&RawLabelSelector>) {
        if let Some(selector) = selector {
            let list = &selector.match_expressions;
            self.requirements(&format!("{path}.match_expressions"), list, OF_LABELS);
        }
    }
}
