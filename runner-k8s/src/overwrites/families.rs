//! Variables of which there may be many: `KUBERNETES_POD_LABELS_1`, `KUBERNETES_POD_LABELS_TEAM`, …

use std::sync::Arc;

use super::scalars::not_admitted;
use super::{OverwriteError, Overwrites};
use crate::names::is_label_key;
use crate::settings::{EFFECTS, Gate, Toleration};

/// What the names end in that are keys of the settings, as variables of the manager's own
/// environment. GitLab Runner would read them as entries (better).
const NO_ENTRY: &str = "_OVERWRITE_ALLOWED";

impl Overwrites<'_> {
    pub(super) fn families(&mut self) -> Result<(), OverwriteError> {
        let gates = Arc::clone(&self.settings.gates);
        for (variable, value) in
            self.family("KUBERNETES_POD_LABELS_", "pod_labels", &gates.pod_labels)?
        {
            let (key, value) = self.pair(&variable, &value)?;
            self.settings.pod_labels.insert(key, value);
        }
        for (variable, value) in
            self.family("KUBERNETES_POD_ANNOTATIONS_", "pod_annotations", &gates.pod_annotations)?
        {
            let (key, value) = self.pair(&variable, &value)?;
            self.settings.pod_annotations.insert(key, value);
        }
        for (variable, value) in
            self.family("KUBERNETES_NODE_SELECTOR_", "node_selector", &gates.node_selector)?
        {
            let (key, value) = self.pair(&variable, &value)?;
            self.settings.node_selector.insert(key, value);
        }
        let gate = &gates.node_tolerations;
        for (variable, value) in
            self.family("KUBERNETES_NODE_TOLERATIONS_", "node_tolerations", gate)?
        {
            self.toleration(&variable, &value)?;
        }
        Ok(())
    }

    /// The variables of a family that are allowed, in order.
    fn family(
        &mut self,
        prefix: &str,
        key: &str,
        gate: &Gate,
    ) -> Result<Vec<(String, String)>, OverwriteError> {
        let setting = format!("{key}_overwrite_allowed");
        let mut out = Vec::new();
        for variable in &self.plan.variables {
            let name = variable.key.as_str();
            if !name.starts_with(prefix) || name.ends_with(NO_ENTRY) {
                continue;
            }
            // The last one of a name is the one that counts.
            let counts = self
                .lookup
                .setting(name)
                .is_some_and(|value| std::ptr::eq(value, variable.value.expose()));
            if !counts {
                continue;
            }
            if !gate.is_open() {
                self.without_effect(name, &setting);
                continue;
            }
            // Empty is an entry here: a toleration of everything.
            let value = self.value(name)?.unwrap_or_default();
            if value.is_empty() && key != "node_tolerations" {
                continue;
            }
            if !gate.admits(&value) {
                return Err(self.refuse(name, &value, not_admitted(&setting, gate)));
            }
            self.accepted(name, key, &value);
            out.push((name.to_owned(), value));
        }
        Ok(out)
    }

    fn pair(&self, variable: &str, value: &str) -> Result<(String, String), OverwriteError> {
        match value.split_once('=') {
            Some((key, text)) if is_label_key(key) => Ok((key.to_owned(), text.to_owned())),
            // The API server would refuse the pod, in its own words.
            Some((key, _)) if !key.is_empty() => {
                let problem = format!("has a key that is none of Kubernetes: {key:?}");
                Err(self.refuse(variable, value, problem))
            }
            _ => Err(self.refuse(variable, value, "has no form key=value")),
        }
    }

    fn toleration(&mut self, variable: &str, value: &str) -> Result<(), OverwriteError> {
        let (taint, effect) = value.split_once(':').unwrap_or((value, ""));
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            let problem =
                format!("has no form key[=value][:effect]; effects are {}", EFFECTS.join(", "));
            return Err(self.refuse(variable, value, problem));
        }
        let new = Toleration::new(taint, effect);
        let all = &mut self.settings.tolerations;
        match all.iter_mut().find(|known| known.taint() == taint) {
            Some(known) => *known = new,
            None => all.push(new),
        }
        Ok(())
    }
}
