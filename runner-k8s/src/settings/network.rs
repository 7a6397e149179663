//! Host names, name servers, hooks.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::camel;
use super::mistakes::Mistakes;
use super::raw::{RawDnsConfig, RawHandler, RawHostAlias, RawLifecycle};
use crate::names::is_dns_subdomain;

/// Entries for `spec.hostAliases`.
pub(super) fn host_aliases(raw: &[RawHostAlias], mistakes: &mut Mistakes) -> Vec<Value> {
    for (at, alias) in raw.iter().enumerate() {
        let path = format!("host_aliases[{at}]");
        if alias.ip.parse::<IpAddr>().is_err() {
            mistakes.value(&format!("{path}.ip"), &alias.ip, "an IPv4 or IPv6 address");
        }
        for name in alias.hostnames.iter().filter(|name| !is_dns_subdomain(name)) {
            let allowed = "a host name of lower case letters, digits, `-` and `.`";
            mistakes.value(&format!("{path}.hostnames"), name, allowed);
        }
    }
    let entry = |alias: &RawHostAlias| json!({ "ip": alias.ip, "hostnames": alias.hostnames });
    raw.iter().map(entry).collect()
}

/// `spec.dnsPolicy`. A word that is none is left out with a warning, as in GitLab Runner.
pub(super) fn dns_policy(
    raw: &str,
    config: Option<&RawDnsConfig>,
    mistakes: &mut Mistakes,
) -> Option<&'static str> {
    match raw {
        "" => None,
        "none" => {
            // The API server refuses such a pod.
            if config.is_none_or(|config| config.nameservers.is_empty()) {
                mistakes.value("dns_policy", raw, "only with dns_config.nameservers");
            }
            Some("None")
        }
        "default" => Some("Default"),
        "cluster-first" => Some("ClusterFirst"),
        "cluster-first-with-host-net" => Some("ClusterFirstWithHostNet"),
        other => {
            let message = format!(
                "{other:?} is not one of none, default, cluster-first, \
                 cluster-first-with-host-net; it is left out"
            );
            mistakes.warn("dns_policy", message);
            None
        }
    }
}

/// The API server takes no more: resolvers do not use them.
const MOST_NAMESERVERS: usize = 3;

/// `spec.dnsConfig`.
pub(super) fn dns_config(raw: Option<&RawDnsConfig>, mistakes: &mut Mistakes) -> Option<Value> {
    let raw = raw.filter(|raw| **raw != RawDnsConfig::default())?;
    for server in raw.nameservers.iter().filter(|server| server.parse::<IpAddr>().is_err()) {
        mistakes.value("dns_config.nameservers", server, "an IPv4 or IPv6 address");
    }
    if raw.nameservers.len() > MOST_NAMESERVERS {
        mistakes.value("dns_config.nameservers", raw.nameservers.len(), "at most 3 of them");
    }
    for (at, option) in raw.options.iter().enumerate() {
        mistakes.required(&format!("dns_config.options[{at}].name"), &option.name);
    }
    Some(camel::object(raw))
}

/// `lifecycle` of the main containers.
pub(super) fn lifecycle(raw: Option<&RawLifecycle>, mistakes: &mut Mistakes) -> Option<Value> {
    let raw = raw.filter(|raw| **raw != RawLifecycle::default())?;
    for (name, handler) in [("post_start", &raw.post_start), ("pre_stop", &raw.pre_stop)] {
        if let Some(handler) = handler {
            self::handler(&format!("container_lifecycle.{name}"), handler, mistakes);
        }
    }
    Some(camel::object(raw))
}

/// GitLab Runner leaves this to the API server, which then refuses every job's pod.
fn handler(path: &str, raw: &RawHandler, mistakes: &mut Mistakes) {
    let forms = [raw.exec.is_some(), raw.http_get.is_some(), raw.tcp_socket.is_some()];
    if forms.iter().filter(|form| **form).count() != 1 {
        mistakes.rule(path, "must have exactly one of exec, http_get, tcp_socket");
    }
    let mut port = |key: &str, port: i64| {
        if !(1..=65_535).contains(&port) {
            mistakes.value(&format!("{path}.{key}.port"), port, "1 to 65535");
        }
    };
    if let Some(get) = &raw.http_get {
        port("http_get", get.port);
    }
    if let Some(socket) = &raw.tcp_socket {
        port("tcp_socket", socket.port);
    }
    if let Some(get) = &raw.http_get {
        mistakes.word(&format!("{path}.http_get.scheme"), &get.scheme, &["HTTP", "HTTPS"]);
    }
    if raw.exec.as_ref().is_some_and(|exec| exec.command.is_empty()) {
        mistakes.rule(&format!("{path}.exec.command"), "must be set");
    }
}
