//! What jobs may overwrite.

use regex::bytes::{Regex, RegexBuilder};

use super::mistakes::Mistakes;
use super::raw::RawSettings;

/// A regular expression that a job's value must contain a match of. Empty: jobs have no say.
///
/// As in GitLab Runner it is *not* anchored: write `^…$` to have it match the whole value.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    pattern: String,
    compiled: Option<Regex>,
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Gate {
    fn new(pattern: &str) -> Result<Self, regex::Error> {
        if pattern.is_empty() {
            return Ok(Self::default());
        }
        // In Go's dialect `\d`, `\w` and `\b` are about ASCII. With Unicode's classes a gate would
        // let more through than was meant. What only works with Unicode, such as `\pL`, gets it.
        let ascii = RegexBuilder::new(pattern).unicode(false).build();
        let compiled = ascii.or_else(|_| Regex::new(pattern))?;
        Ok(Self { pattern: pattern.to_owned(), compiled: Some(compiled) })
    }

    /// Whether jobs may say anything at all.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.compiled.is_some()
    }

    /// Whether they may say this.
    #[must_use]
    pub fn admits(&self, value: &str) -> bool {
        self.compiled.as_ref().is_some_and(|pattern| pattern.is_match(value.as_bytes()))
    }

    /// The expression as it is written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// All of them. Their keys are `<name>_overwrite_allowed`.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the keys")]
pub struct Gates {
    pub namespace: Gate,
    pub service_account: Gate,
    pub bearer_token: bool,
    pub pod_labels: Gate,
    pub pod_annotations: Gate,
    pub node_selector: Gate,
    pub node_tolerations: Gate,
}

pub(super) fn gates(raw: &RawSettings, mistakes: &mut Mistakes) -> Gates {
    // GitLab Runner notices a broken expression only when a job reaches for it.
    let mut gate = |key: &str, pattern: &str| {
        Gate::new(pattern).unwrap_or_else(|error| {
            mistakes.value(key, pattern, &format!("a regular expression ({})", last_line(&error)));
            Gate::default()
        })
    };
    Gates {
        namespace: gate("namespace_overwrite_allowed", &raw.namespace_overwrite_allowed),
        service_account: gate(
            "service_account_overwrite_allowed",
            &raw.service_account_overwrite_allowed,
        ),
        bearer_token: raw.bearer_token_overwrite_allowed,
        pod_labels: gate("pod_labels_overwrite_allowed", &raw.pod_labels_overwrite_allowed),
        pod_annotations: gate(
            "pod_annotations_overwrite_allowed",
            &raw.pod_annotations_overwrite_allowed,
        ),
        node_selector: gate(
            "node_selector_overwrite_allowed",
            &raw.node_selector_overwrite_allowed,
        ),
        node_tolerations: gate(
            "node_tolerations_overwrite_allowed",
            &raw.node_tolerations_overwrite_allowed,
        ),
    }
}

/// The expression's own words for what is wrong; before them it draws a picture.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn k8s_08_a_gate_matches_anywhere_unless_it_is_anchored() {
        assert!(Gate::new("ci-.*").unwrap().admits("prod-ci-1"));
        let anchored = Gate::new("^ci-[a-z]+$").unwrap();
        assert!(anchored.admits("ci-team") && !anchored.admits("prod-ci-team"));
        assert!(!Gate::default().admits("") && !Gate::default().is_open());
    }

    #[test]
    fn classes_are_of_ascii_as_in_go() {
        let digits = Gate::new(r"^\d+$").unwrap();
        assert!(digits.admits("12") && !digits.admits("\u{661}\u{662}"));
        assert!(Gate::new(r"^\pL+$").unwrap().admits("über"));
        assert!(Gate::new("a(").is_err());
    }
}
