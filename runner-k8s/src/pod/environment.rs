//! What stands in the environment of containers: made once for all of them, because it is most of a
//! pod.
//!
//! Flags at their defaults are left out. GitLab Runner writes all 52 into each container; nobody but
//! scripts reads them, and scripts get them from the agent (better).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use runner_core::layout::ROOT_VARIABLE;
use runner_core::plan::Plan;
use runner_core::planner::PlanLookup;
use runner_core::planner::flags::FLAGS;
use serde::Serialize;

use super::PodInput;

/// A variable.
pub(super) struct Entry<'p> {
    pub(super) key: &'p str,
    pub(super) value: Cow<'p, str>,
    /// Whether it is nobody's business who may read pods.
    pub(super) is_secret: bool,
}

/// What each flag is where nobody sets it.
static DEFAULTS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    FLAGS.iter().map(|flag| (flag.name, if flag.default { "true" } else { "false" })).collect()
});

/// What all containers of a job may see, in order.
pub(super) fn environment<'p>(
    input: &PodInput<'p>,
    lookup: &PlanLookup<'p>,
    masks: &Masks<'p>,
) -> Vec<Entry<'p>> {
    let at_default = |key: &str, value: &str| {
        key.starts_with("FF_") && DEFAULTS.get(key).is_some_and(|default| *default == value)
    };
    let all = lookup.container_environment(&input.job.variables);
    // The agent in `build` would look for its socket where the job says; scripts have it all the same.
    let all = all.into_iter().filter(|(key, _)| *key != ROOT_VARIABLE);
    let all = all.filter(|(key, value)| !at_default(key, value));
    let mut entries: Vec<_> =
        all.map(|(key, value)| Entry { key, value, is_secret: is_login(key) }).collect();
    masks.mark(&mut entries);
    entries
}

/// Logins for registries are secret however they are marked; GitLab Runner shows those of its own
/// `environment` in every pod (better).
pub(super) fn is_login(key: &str) -> bool {
    key == crate::credentials::VARIABLE
}

/// Finds masked values in others: a public variable may refer to a secret one.
pub(super) struct Masks<'p>(Vec<Finder<'p>>);

impl<'p> Masks<'p> {
    pub(super) fn of(plan: &'p Plan) -> Self {
        let masks = plan.log.masks.iter().map(|mask| mask.expose().trim());
        Self(masks.filter(|mask| !mask.is_empty()).map(Finder::new).collect())
    }

    /// Whether there is one in this value.
    pub(super) fn are_in(&self, value: &str) -> bool {
        self.0.iter().any(|mask| mask.find(value.as_bytes()).is_some())
    }

    /// Marks those that have one. All values are searched as one text: a search costs little for
    /// each byte, and much for each start.
    fn mark(&self, entries: &mut [Entry<'_>]) {
        if self.0.is_empty() {
            return;
        }
        let length: usize = entries.iter().map(|entry| entry.value.len() + 1).sum();
        let mut text = String::with_capacity(length);
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            text.push_str(&entry.value);
            // Not part of any variable: the kernel ends them with it.
            text.push('\0');
            ends.push(text.len());
        }
        for at in self.0.iter().flat_map(|mask| mask.find_iter(text.as_bytes())) {
            let holder = ends.partition_point(|end| *end <= at);
            if let Some(entry) = entries.get_mut(holder) {
                entry.is_secret = true;
            }
        }
    }
}

/// An entry of `env` in a container. It borrows: a pod of a usual job has some hundred of them, which
/// are written once, into the pod's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum EnvVar<'e> {
    /// Everyone who may read pods sees it.
    Plain {
        /// The variable.
        name: &'e str,
        /// As Kubernetes wants it, see [`EnvVar::plain`].
        value: Cow<'e, str>,
    },
    /// It stands in a Secret.
    #[serde(rename_all = "camelCase")]
    Referred {
        /// The variable.
        name: &'e str,
        /// Where it stands.
        value_from: ValueFrom<'e>,
    },
}

/// `valueFrom`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ValueFrom<'e> {
    secret_key_ref: SecretKeyRef<'e>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SecretKeyRef<'e> {
    name: &'e str,
    key: String,
}

impl<'e> EnvVar<'e> {
    /// About how long it is as text.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Plain { name, value } => name.len() + value.len() + 24,
            Self::Referred { name, value_from } => {
                let SecretKeyRef { name: secret, key } = &value_from.secret_key_ref;
                name.len() + secret.len() + key.len() + 64
            }
        }
    }

    /// Kubernetes replaces `$(NAME)` in values; `$$` is how to say `$`.
    pub(super) fn plain(name: &'e str, value: Cow<'e, str>) -> Self {
        let value = if value.contains('$') { value.replace('$', "$$").into() } else { value };
        Self::Plain { name, value }
    }

    /// The kubelet puts these in without looking for `$(NAME)`, so nothing is escaped.
    pub(super) fn referred(name: &'e str, secret: &'e str, key: String) -> Self {
        let value_from = ValueFrom { secret_key_ref: SecretKeyRef { name: secret, key } };
        Self::Referred { name, value_from }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use memchr::memmem::Finder;

    use super::{Entry, Masks};

    #[test]
    fn values_with_a_masked_one_in_them_are_found_each_for_itself() {
        let values = ["a", "", "xhunter2x", "hunter2", "hunt", "er2", "s3cret", "hunter2 s3cret"];
        let mut entries: Vec<_> = values
            .iter()
            .map(|value| Entry { key: "K", value: Cow::Borrowed(*value), is_secret: false })
            .collect();
        let masks = Masks(vec![Finder::new("hunter2"), Finder::new("s3cret")]);
        masks.mark(&mut entries);
        let marked: Vec<_> = entries.iter().map(|entry| entry.is_secret).collect();
        assert_eq!(marked, [false, false, true, true, false, false, true, true]);
        let alone: Vec<_> = values.iter().map(|value| masks.are_in(value)).collect();
        assert_eq!(alone, marked);
    }
}
