//! What has been asked of a cluster, and what is left in it.

use std::collections::BTreeMap;

use super::shared::Shared;

/// How often each request was made, by verb and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(pub(super) BTreeMap<(String, String), u64>);

impl Requests {
    /// How often this verb (`create`, `watch`, …) was asked for on this resource (`pods/exec`, …).
    #[must_use]
    pub fn of(&self, verb: &str, resource: &str) -> u64 {
        self.0.get(&(verb.into(), resource.into())).copied().unwrap_or(0)
    }

    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Verb, resource and number of each kind of request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0.iter().map(|((verb, resource), n)| (verb.as_str(), resource.as_str(), *n))
    }

    /// What was asked for since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Requests) -> Requests {
        let left = |(key, n): (&(String, String), &u64)| {
            let before = earlier.0.get(key).copied().unwrap_or(0);
            (*n > before).then(|| (key.clone(), n - before))
        };
        Requests(self.0.iter().filter_map(left).collect())
    }
}

/// What is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// `namespace/name` of each pod.
    pub pods: Vec<String>,
    /// `namespace/name` of each Secret.
    pub secrets: Vec<String>,
    /// `namespace/name` of each ConfigMap.
    pub config_maps: Vec<String>,
    /// Processes of containers, of pods that are still there and of pods that are not.
    pub processes: Vec<u32>,
}

impl Leftovers {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Leftovers::default()
    }
}

impl Shared {
    pub(super) fn count(&self, verb: &str, resource: &str) {
        *self.counts.lock().entry((verb.into(), resource.into())).or_default() += 1;
    }
}
