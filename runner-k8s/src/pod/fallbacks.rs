//! Pull policies that are left to try.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::settings::PullPolicy;

/// Pull policies that are left, by container; `None` in a list is the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fallbacks(BTreeMap<String, Vec<Option<String>>>);

impl Fallbacks {
    /// All but the first of each list.
    pub(super) fn after_first(lists: Vec<(String, Vec<Option<PullPolicy>>)>) -> Self {
        let text = |policy: Option<PullPolicy>| policy.map(|policy| policy.as_str().to_owned());
        let rest = lists.into_iter().map(|(container, list)| {
            (container, list.into_iter().skip(1).map(text).collect::<Vec<_>>())
        });
        Self(rest.filter(|(_, list)| !list.is_empty()).collect())
    }

    /// Whether nothing is left for any container.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left, by container, in Kubernetes' words.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.0.iter().map(|(container, list)| {
            let list =
                list.iter().map(|policy| policy.as_deref().unwrap_or("the cluster's default"));
            (container.as_str(), list.collect())
        })
    }

    /// Takes the next policy of this container; `None`: nothing is left.
    pub fn next(&mut self, container: &str) -> Option<Option<String>> {
        let list = self.0.get_mut(container)?;
        let next = list.remove(0);
        if list.is_empty() {
            self.0.remove(container);
        }
        Some(next)
    }
}

/// Gives a container another pull policy, and the pod another name, so that it can be made while
/// the old one still goes.
pub(crate) fn with_policy(pod: &mut Value, name: &str, container: &str, policy: Option<&str>) {
    pod["metadata"]["name"] = json!(name);
    for list in ["initContainers", "containers"] {
        let all = pod["spec"][list].as_array_mut().into_iter().flatten();
        for entry in all.filter(|entry| entry["name"] == json!(container)) {
            match policy {
                Some(policy) => entry["imagePullPolicy"] = json!(policy),
                None => {
                    entry.as_object_mut().map(|entry| entry.remove("imagePullPolicy"));
                }
            }
        }
    }
}
