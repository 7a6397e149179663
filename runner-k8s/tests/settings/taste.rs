//! What sensible settings say, by the names of their keys.

use crate::generator::Taste;

pub(crate) const VALID: Taste = Taste { texts, keys, numbers, is_needed };

fn last(path: &str) -> &str {
    path.trim_end_matches("[]").rsplit('.').next().unwrap_or_default()
}

fn texts(path: &str) -> &'static [&'static str] {
    let key = last(path);
    if key.ends_with("_max_allowed") {
        return &["", "8", "16Gi"];
    }
    if key.ends_with("_overwrite_allowed") {
        return &["", ".*", "^ci-[a-z]+$"];
    }
    match key {
        "pod_cpu_limit" => &["", "64"],
        "pod_memory_limit" => &["", "64Gi"],
        _ if key.starts_with("pod_cpu_request") => &["", "32"],
        _ if key.starts_with("pod_memory_request") => &["", "32Gi"],
        _ if key.ends_with("cpu_request") => &["", "100m", "0.5", "0"],
        _ if key.ends_with("cpu_limit") => &["", "2", "1500m"],
        _ if key.ends_with("_request") => &["", "64Mi", "100M"],
        _ if key.ends_with("_limit") || key == "size_limit" => &["", "1Gi", "2G"],
        "image" if path.starts_with("warm_pods") => &["debian:12"],
        "periods" => &["* * * * *", "0 8-18 * * 1-5"],
        "timezone" => &["", "UTC"],
        "idle_time" | "max_age" => &["90s", "5m"],
        "image" | "helper_image" | "agent_image" => &["", "r.example:5000/a/b:1", "debian:$TAG"],
        "name" if path.starts_with("services") => &[
            "redis:7",
            "r.example/pg@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ],
        "name" if path.starts_with("dns_config") => &["ndots", "timeout"],
        "name" if path.contains("http_headers") => &["X-Token"],
        "name" => &["v#"],
        "alias" => &["", "db#", "a# b#,c#"],
        "environment" => &["A=b", "C=$TEAM", "no equals sign"],
        "mount_path" => &["/m#", "/m/$TEAM/#"],
        "sub_path" => &["", "s", "a/$TAG"],
        "host_path" => &["", "/srv"],
        "mount_propagation" => &["", "None", "HostToContainer"],
        "medium" => &["", "Memory"],
        "driver" => &["csi.example.com"],
        "fs_type" => &["", "ext4"],
        "server" => &["nas.example"],
        "path" if path.starts_with("volumes") => &["/export"],
        "path" => &["", "/healthz?a=b"],
        "items" => &["a/b", "c#"],
        "operator" if path.contains("match_fields") => &["In", "NotIn"],
        "operator" if path.contains("node_affinity") => &["In", "NotIn", "Exists", "Gt"],
        "operator" => &["In", "NotIn", "Exists", "DoesNotExist"],
        "values" if path.contains("match_fields") => &["node-#"],
        "values" => &["1", "2"],
        "match_label_keys" | "mismatch_label_keys" => &["team", "x.example/a#"],
        "topology_key" => &["kubernetes.io/hostname", "zone"],
        "key" if path.contains("match_fields") => &["metadata.name"],
        "key" => &["x.example/pool", "pool"],
        "namespaces" => &["ci-#"],
        "match_labels" => &["", "a-b.c"],
        "node_tolerations" => &["", "NoSchedule", "NoExecute", "PreferNoSchedule"],
        "node_selector" => &["", "ci", "a.b_c"],
        "pod_labels" | "pod_annotations" => &["", "$TEAM", "any text: ü"],
        "volume_attributes" => &["", "any value"],
        "type" => &["", "RuntimeDefault", "Unconfined", "odd"],
        "localhost_profile" => &["profiles/p.json"],
        "proc_mount" => &["", "default"],
        "cap_add" | "cap_drop" | "add" | "drop" => &["ALL", "NET_RAW", "CHOWN", "SYS_TIME"],
        "selinux_type" => &["", "container_t"],
        "ip" | "nameservers" => &["10.0.0.1", "fd00::1"],
        "hostnames" | "searches" => &["a#.example"],
        "value" => &["", "2"],
        "dns_policy" => &["", "default", "cluster-first", "cluster-first-with-host-net", "odd"],
        "command" | "entrypoint" => &["sh", "-c", "echo $(HOME) $TAG"],
        "scheme" => &["", "HTTP", "HTTPS"],
        "host" => &["", "10.0.0.9"],
        "pull_policy" | "allowed_pull_policies" => &["if-not-present", "always", "never"],
        "allowed_images" | "allowed_services" => &["**"],
        "allowed_users" | "allowed_groups" => &["1000", "0"],
        "image_pull_secrets" => &["registry-#"],
        "patch" => &["hostname: ci", "{}", "tolerations: [{ operator: Exists }]"],
        "patch_type" => &["", "strategic", "merge"],
        "cleanup_resources_timeout" => &["90s", "5m"],
        "scheduler_name" => &["", "bin-packer"],
        // What must exist in the cluster.
        "service_account" | "priority_class_name" | "runtime_class_name" => &[""],
        "namespace" => &["ci"],
        _ => &[""],
    }
}

fn keys(path: &str) -> &'static [&'static str] {
    match last(path) {
        "node_tolerations" => &["", "spot#", "x.example/dedicated=ci#"],
        "items" => &["key-#", ".dot#"],
        "pod_annotations" | "volume_attributes" => &["x.example/A_#", "note#"],
        _ => &["x.example/a_#", "team#"],
    }
}

fn numbers(path: &str) -> &'static [i64] {
    match last(path) {
        "weight" => &[1, 50, 100],
        "port" => &[1, 8080, 65535],
        "wait_for_services_timeout" => &[-1, 0, 30],
        "fs_group" | "run_as_group" | "run_as_user" | "supplemental_groups" => {
            &[0, 1000, 2_147_483_647]
        }
        _ => &[0, 1, 30, 600],
    }
}

fn is_needed(path: &str) -> bool {
    let needed = [
        "name",
        "mount_path",
        "driver",
        "server",
        "ip",
        "hostnames",
        "key",
        "operator",
        "topology_key",
        "weight",
        "pod_affinity_term",
        "preference",
        "port",
        "patch",
        "nameservers",
        "node_selector_terms",
        "namespace",
        "localhost_profile",
    ];
    let is_path_of_nfs = path.starts_with("volumes.nfs") && last(path) == "path";
    let is_command = path.starts_with("container_lifecycle") && last(path) == "command";
    needed.contains(&last(path)) || path == "warm_pods[].image" || is_path_of_nfs || is_command
}
