//! Services, host names, name servers, hooks, patches, pause pods, warm pods.

use serde_json::{Value, json};

use runner_k8s::schedule::Schedule;
use runner_k8s::settings::{Autoscaler, Policy, WarmPods};

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
fn policy(seen: &Seen) -> &Policy {
    &seen.settings.autoscaler.as_ref().unwrap().policies[0]
}

fn pauses(seen: &Seen) -> &Autoscaler {
    seen.settings.autoscaler.as_ref().unwrap()
}

/// Whether it applies at eight in the morning in Tokyo.
fn in_tokyo(schedule: &Schedule) -> Value {
    schedule.applies("2026-03-04T23:00:00Z".parse().unwrap()).into()
}

type Find = fn(&Seen) -> Value;

fn pause_pods() -> Vec<Case> {
    let zone = "\"Asia/Tokyo\"\nperiods = [\"* 8 * * *\"]";
    let of_policy: [(&str, &str, Find, Value); 6] = [
        ("periods", "[\"* * * * *\"]", |s| policy(s).schedule.varies().into(), json!(true)),
        ("timezone", zone, |s| in_tokyo(&policy(s).schedule), json!(true)),
        ("idle_count", "2", |s| policy(s).idle_count.into(), json!(2)),
        ("idle_time", "\"5m\"", |s| policy(s).idle_time.as_secs().into(), json!(300)),
        ("scale_factor", "0.5", |s| policy(s).scale_factor.into(), json!(0.5)),
        ("scale_factor_limit", "10", |s| policy(s).scale_limit.into(), json!(10)),
    ];
    let own: [(&str, &str, Find, Value); 4] = [
        ("max_pause_pods", "5", |s| pauses(s).most.into(), json!(5)),
        ("pause_pod_image", "\"p:1\"", |s| json!(pauses(s).image), json!("p:1")),
        (
            "pause_pod_priority_class_name",
            "\"idle\"",
            |s| json!(pauses(s).priority_class),
            json!("idle"),
        ),
        (
            "pause_pod_image_pull_secrets",
            "[\"s\", \"\"]",
            |s| json!(pauses(s).pull_secrets),
            json!(["s"]),
        ),
    ];
    let mut out: Vec<Case> = Vec::new();
    for (key, value, find, lands) in of_policy {
        let toml = format!("[[autoscaler.policy]]\n{key} = {value}");
        let key = format!("autoscaler.policy[].{key}");
        out.push(elsewhere(&key, &toml, "the pause pods' policy", find, lands));
    }
    for (key, value, find, lands) in own {
        let toml = format!("[autoscaler]\n{key} = {value}\n[[autoscaler.policy]]\nidle_count = 1");
        let key = format!("autoscaler.{key}");
        out.push(elsewhere(&key, &toml, "the pause pods", find, lands));
    }
    let preemptive = "[[autoscaler.policy]]\npreemptive_mode = true";
    out.push(case("autoscaler.policy[].preemptive_mode", preemptive, Lands::Nowhere));
    out
}

fn warm(seen: &Seen) -> &WarmPods {
    &seen.settings.warm_pods[0]
}

fn warm_pods() -> Vec<Case> {
    let zone = "\"Asia/Tokyo\"\nperiods = [\"* 8 * * *\"]";
    let keys: [(&str, &str, Find, Value); 5] = [
        ("image", "\"a:1\"", |s| json!(warm(s).image), json!("a:1")),
        ("count", "3", |s| warm(s).count.into(), json!(3)),
        ("periods", "[\"* * * * *\"]", |s| warm(s).schedule.varies().into(), json!(true)),
        ("timezone", zone, |s| in_tokyo(&warm(s).schedule), json!(true)),
        ("max_age", "\"2m\"", |s| warm(s).max_age.as_secs().into(), json!(120)),
    ];
    let one = |(key, value, find, lands): (&str, &str, Find, Value)| {
        let image = if key == "image" { "" } else { "image = \"a\"\n" };
        let toml = format!("[[warm_pods]]\n{image}{key} = {value}");
        elsewhere(&format!("warm_pods[].{key}"), &toml, "the warm pods", find, lands)
    };
    keys.map(one).into()
}

fn services_wait() -> Case {
    let find: Find = |seen| format!("{:?}", seen.settings.services_wait).into();
    let toml = "wait_for_services_timeout = 30";
    elsewhere("wait_for_services_timeout", toml, "the job's plan", find, json!("AtMost(30s)"))
}
