//! `/etc/hosts` of a pod, as a kubelet writes it.

use std::fmt::Write as _;

use serde_json::Value;

/// The file's text: the loopback addresses and the pod's `hostAliases`.
pub(super) fn text(pod: &Value) -> String {
    let mut out = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
                   ::1\tlocalhost ip6-localhost ip6-loopback\n"
        .to_owned();
    for alias in pod["spec"]["hostAliases"].as_array().into_iter().flatten() {
        let names = alias["hostnames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<&str> = names.collect();
        let ip = alias["ip"].as_str().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{ip}\t{}", names.join("\t"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn aliases_stand_behind_their_address() {
        let aliases = json!([{ "ip": "127.0.0.1", "hostnames": ["db", "my-db"] }]);
        let text = super::text(&json!({ "spec": { "hostAliases": aliases } }));
        assert!(text.ends_with("\n127.0.0.1\tdb\tmy-db\n"), "{text}");
    }
}
