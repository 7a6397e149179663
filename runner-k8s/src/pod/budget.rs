//! What keeps a pod from being evicted.

use serde_json::{Value, json};

use crate::names::{JOB_LABEL, SOURCE_LABEL};

/// The PodDisruptionBudget of a pod that exists. It goes with the pod.
///
/// GitLab Runner selects by a label that pods of other managers can have as well, so that one
/// budget holds another's pod (better).
pub(crate) fn budget(pod: &Value, uid: &str) -> Value {
    let metadata = &pod["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let labels = &metadata["labels"];
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": format!("{name}-pdb"),
            "namespace": metadata["namespace"],
            "labels": { JOB_LABEL: labels[JOB_LABEL], SOURCE_LABEL: labels[SOURCE_LABEL] },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid }],
        },
        "spec": {
            "minAvailable": 1,
            "selector": {
                "matchLabels": { JOB_LABEL: labels[JOB_LABEL], SOURCE_LABEL: labels[SOURCE_LABEL] },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::budget;

    #[test]
    fn k8s_76_a_budget_is_for_one_pod_and_goes_with_it() {
        let labels = json!({ "podwright.dev/job": "7", "podwright.dev/source": "s", "pod": "x" });
        let pod = json!({ "metadata": { "name": "p", "namespace": "n", "labels": labels } });
        let budget = budget(&pod, "u-1");
        assert_eq!(budget["metadata"]["name"], "p-pdb");
        assert_eq!(budget["metadata"]["ownerReferences"][0]["uid"], "u-1");
        assert_eq!(
            budget["spec"],
            json!({
                "minAvailable": 1,
                "selector": { "matchLabels": { "podwright.dev/job": "7", "podwright.dev/source": "s" } },
            })
        );
    }
}
