//! Requests and limits, and their ceilings.

use serde_json::json;

use super::{Case, pod};

/// Prefix of the keys, where the container's resources are, and which resources there are.
const CONSUMERS: [(&str, &str, &[&str]); 4] = [
    ("", "spec/containers/build", &["cpu", "memory", "ephemeral_storage"]),
    ("helper_", "spec/containers/helper", &["cpu", "memory", "ephemeral_storage"]),
    ("service_", "spec/containers/svc-0", &["cpu", "memory", "ephemeral_storage"]),
    ("pod_", "spec", &["cpu", "memory"]),
];

pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for (prefix, place, resources) in CONSUMERS {
        for resource in resources {
            for kind in ["limit", "request"] {
                let key = format!("{prefix}{resource}_{kind}");
                let path = format!("{place}/resources/{kind}s/{}", resource.replace('_', "-"));
                out.push(pod(&key, &format!("{key} = \"1500m\""), &path, json!("1500m")));
                let ceiling = format!("{key}_overwrite_max_allowed");
                let asked = pod(&ceiling, &format!("{ceiling} = \"2\""), &path, json!("1750m"));
                let variable = format!("KUBERNETES_{}", key.to_uppercase());
                out.push(asked.variable(&variable, "1750m"));
            }
        }
    }
    out
}
