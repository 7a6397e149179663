//! Services, host names, name servers, hooks, patches, pause pods, warm pods.

use runner_k8s::settings::{Autoscaler, WarmPods};
use serde_json::{Value, json};

use super::{Case, Lands, case, elsewhere, pod};
use crate::world::Seen;

pub(super) fn cases() -> Vec<Case> {
    let mut out = services();
    out.extend(network());
    for (hook, api) in [("post_start", "postStart"), ("pre_stop", "preStop")] {
        out.extend(hooks(hook, api));
    }
    out.extend(patches());
    out.extend(pause_pods());
    out.extend(warm_pods());
    out.push(services_wait());
    out
}

fn services() -> Vec<Case> {
    let toml = "[[services]]\nname = \"pg:$TAG\"\nalias = \"db database,data\"\n\
                command = [\"-c\", \"x\"]\nentrypoint = [\"run\"]\nenvironment = [\"A=$TEAM\", \"b\"]";
    let key = |name: &str| format!("services[].{name}");
    let db = "spec/containers/db";
    vec![
        pod(&key("name"), toml, &format!("{db}/image"), json!("pg:12")),
        pod(
            &key("alias"),
            toml,
            "spec/hostAliases/0/hostnames",
            json!(["pg", "db", "database", "data", "redis"]),
        ),
        pod(&key("command"), toml, &format!("{db}/args"), json!(["-c", "x"])),
        pod(&key("entrypoint"), toml, &format!("{db}/command"), json!(["run"])),
        pod(&key("environment"), toml, &format!("{db}/env/A/value"), json!("blue")),
        case(
            &key("suspend_data_path"),
            "[[services]]\nname = \"pg\"\nsuspend_data_path = \"/data\"",
            Lands::Nowhere,
        ),
        elsewhere(
            "wait_for_services_timeout",
            "wait_for_services_timeout = 30",
            "how long a job waits for its services' ports",
            |seen| json!(format!("{:?}", seen.settings.services_wait)),
            json!("AtMost(30s)"),
        ),
    ]
}

fn network() -> Vec<Case> {
    let alias = "host_aliases = [{ ip = \"10.0.0.1\", hostnames = [\"a\", \"b.c\"] }]";
    let dns = "[dns_config]\nnameservers = [\"10.0.0.2\"]\nsearches = [\"x.example\"]\n\
               options = [{ name = \"ndots\", value = \"2\" }]";
    let options = "spec/dnsConfig/options";
    vec![
        // The services' own entry is the first one.
        pod("host_aliases[].ip", alias, "spec/hostAliases/1/ip", json!("10.0.0.1")),
        pod("host_aliases[].hostnames", alias, "spec/hostAliases/1/hostnames", json!(["a", "b.c"])),
        pod("dns_policy", "dns_policy = \"default\"", "spec/dnsPolicy", json!("Default")),
        pod("dns_config.nameservers", dns, "spec/dnsConfig/nameservers", json!(["10.0.0.2"])),
        pod("dns_config.searches", dns, "spec/dnsConfig/searches", json!(["x.example"])),
        pod("dns_config.options[].name", dns, options, json!([{ "name": "ndots", "value": "2" }])),
        pod("dns_config.options[].value", dns, &format!("{options}/0/value"), json!("2")),
    ]
}

fn hooks(hook: &str, api: &str) -> Vec<Case> {
    let table = format!("container_lifecycle.{hook}");
    let place = format!("spec/containers/build/lifecycle/{api}");
    let get = "host = \"h\"\npath = \"/p\"\nport = 8080\nscheme = \"HTTPS\"\n\
               http_headers = [{ name = \"X-A\", value = \"1\" }]";
    let one = |form: &str, key: &str, fields: &str, path: &str, value: Value| {
        let toml = format!("[{table}.{form}]\n{fields}");
        pod(&format!("{table}.{form}.{key}"), &toml, &format!("{place}/{path}"), value)
    };
    let socket = "host = \"h\"\nport = 80";
    vec![
        one("exec", "command", "command = [\"a\", \"$B\"]", "exec/command", json!(["a", "$B"])),
        one("http_get", "host", get, "httpGet/host", json!("h")),
        one("http_get", "path", get, "httpGet/path", json!("/p")),
        one("http_get", "port", get, "httpGet/port", json!(8080)),
        one("http_get", "scheme", get, "httpGet/scheme", json!("HTTPS")),
        one("http_get", "http_headers[].name", get, "httpGet/httpHeaders/0/name", json!("X-A")),
        one("http_get", "http_headers[].value", get, "httpGet/httpHeaders/0/value", json!("1")),
        one("tcp_socket", "host", socket, "tcpSocket/host", json!("h")),
        one("tcp_socket", "port", socket, "tcpSocket/port", json!(80)),
    ]
}

fn patches() -> Vec<Case> {
    let json_patch = "[[pod_spec]]\npatch_type = \"json\"\n\
        patch = '[{\"op\": \"add\", \"path\": \"/hostname\", \"value\": \"ci\"}]'";
    let broken = "[[pod_spec]]\nname = \"hosts\"\npatch = \"hostname: [\"";
    let file = "[[pod_spec]]\npatch_path = \"/nowhere/patch.yaml\"";
    vec![
        pod("pod_spec[].patch", json_patch, "spec/hostname", json!("ci")),
        pod("pod_spec[].patch_type", json_patch, "spec/hostname", json!("ci")),
        case("pod_spec[].name", broken, Lands::Refusal("pod_spec \"hosts\" of this runner")),
        // Whoever makes a pod reads the files first.
        case("pod_spec[].patch_path", file, Lands::Refusal("/nowhere/patch.yaml was not read")),
    ]
}

/// The one policy.
type Find = fn(&Seen) -> Value;

fn pause_pods() -> Vec<Case> {
    const PAUSE: &str = "the Deployment of pause pods";
    let toml = "[autoscaler]\nmax_pause_pods = 5\npause_pod_image = \"pause:1\"\n\
                pause_pod_priority_class_name = \"idle\"\n\
                pause_pod_image_pull_secrets = [\"s\"]\n[[autoscaler.policy]]\nidle_count = 2\n\
                idle_time = \"5m\"\nscale_factor = 0.5\nscale_factor_limit = 10\n\
                preemptive_mode = true";
    let with = |field: &str| format!("[[autoscaler.policy]]\n{field}");
    let of = |key: &str, find: fn(&Autoscaler) -> Value, value: Value| Case {
        lands: Lands::Found(
            PAUSE,
            Box::new(move |seen| seen.settings.autoscaler.as_ref().map_or(Value::Null, find)),
            value,
        ),
        ..case(&format!("autoscaler.{key}"), toml, Lands::Nowhere)
    };
    vec![
        of("max_pause_pods", |all| json!(all.most), json!(5)),
        of("pause_pod_image", |all| json!(all.image), json!("pause:1")),
        of("pause_pod_priority_class_name", |all| json!(all.priority_class), json!("idle")),
        of("pause_pod_image_pull_secrets", |all| json!(all.pull_secrets), json!(["s"])),
        of("policy[].idle_count", |all| json!(all.policies[0].idle_count), json!(2)),
        of("policy[].idle_time", |all| json!(all.policies[0].idle_time.as_secs()), json!(300)),
        of("policy[].scale_factor", |all| json!(all.policies[0].scale_factor), json!(0.5)),
        of("policy[].scale_factor_limit", |all| json!(all.policies[0].scale_limit), json!(10)),
        case("autoscaler.policy[].preemptive_mode", toml, Lands::Nowhere),
        // When they apply is the schedule's business; here, that it is asked.
        case(
            "autoscaler.policy[].periods",
            &with("periods = [\"never\"]"),
            Lands::Refusal("autoscaler.policy[0].periods"),
        ),
        case(
            "autoscaler.policy[].timezone",
            &with("timezone = \"Nowhere/Land\""),
            Lands::Refusal("Nowhere/Land"),
        ),
    ]
}

fn warm_pods() -> Vec<Case> {
    const WARM: &str = "pods that are ready beforehand";
    let toml = "[[warm_pods]]\nimage = \"debian:12\"\ncount = 2\nmax_age = \"90s\"";
    let with = |field: &str| format!("[[warm_pods]]\nimage = \"a\"\n{field}");
    let of = |key: &str, find: fn(&WarmPods) -> Value, value: Value| Case {
        lands: Lands::Found(
            WARM,
            Box::new(move |seen| seen.settings.warm_pods.first().map_or(Value::Null, find)),
            value,
        ),
        ..case(&format!("warm_pods[].{key}"), toml, Lands::Nowhere)
    };
    vec![
        of("image", |pods| json!(pods.image), json!("debian:12")),
        of("count", |pods| json!(pods.count), json!(2)),
        of("max_age", |pods| json!(pods.max_age.as_secs()), json!(90)),
        case(
            "warm_pods[].periods",
            &with("periods = [\"never\"]"),
            Lands::Refusal("warm_pods[0].periods"),
        ),
        case("warm_pods[].timezone", &with("timezone = \"No/Land\""), Lands::Refusal("No/Land")),
    ]
}

fn services_wait() -> Case {
    let find: Find = |seen| format!("{:?}", seen.settings.services_wait).into();
    let toml = "wait_for_services_timeout = 30";
    elsewhere("wait_for_services_timeout", toml, "the job's plan", find, json!("AtMost(30s)"))
}
