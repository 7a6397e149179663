//! What a request is about: verb, resource, namespace, name, subresource.

use std::collections::HashMap;

use http::{Method, Uri};

/// A request's path and query, taken apart as the API server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) name: String,
    pub(super) subresource: String,
    pub(super) query: Query,
}

/// The query; a key can come more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(HashMap<String, Vec<String>>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let mut query = Query::default();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.0.entry(decode(key)).or_default().push(decode(value));
        }
        query
    }

    pub(super) fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|v| v.first()).map_or("", String::as_str)
    }

    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.0.get(key).cloned().unwrap_or_default()
    }

    pub(super) fn is(&self, key: &str) -> bool {
        matches!(self.get(key), "true" | "1")
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.get(key).parse().ok()
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = || u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok();
        match (bytes[at], hex()) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Route {
    /// `None` for paths that are not below `/api/v1` or `/apis/GROUP/VERSION`.
    pub(super) fn parse(uri: &Uri) -> Option<Self> {
        let parts: Vec<String> =
            uri.path().split('/').filter(|p| !p.is_empty()).map(decode).collect();
        let part = |at: usize| parts.get(at).cloned().unwrap_or_default();
        let (group, version, mut at) = match parts.first().map(String::as_str) {
            Some("api") if parts.len() > 2 => (String::new(), part(1), 2),
            Some("apis") if parts.len() > 3 => (part(1), part(2), 3),
            _ => return None,
        };
        let mut namespace = String::new();
        if part(at) == "namespaces" && parts.len() > at + 2 {
            namespace = part(at + 1);
            at += 2;
        }
        Some(Route {
            group,
            version,
            namespace,
            resource: part(at),
            name: part(at + 1),
            subresource: part(at + 2),
            query: Query::parse(uri.query().unwrap_or_default()),
        })
    }

    /// Resource and subresource as rules and counters name them.
    pub(super) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The verb for authorisation.
    pub(super) fn verb(&self, method: &Method) -> &'static str {
        let one = !self.name.is_empty();
        match *method {
            Method::GET if one => "get",
            Method::GET if self.query.is("watch") => "watch",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if one => "delete",
            Method::DELETE => "deletecollection",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rules_name_them() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/namespaces/n/pods", "list pods n/"),
            (Method::GET, "/api/v1/namespaces/n/pods?watch=true", "watch pods n/"),
            (Method::GET, "/api/v1/pods", "list pods /"),
            (Method::POST, "/api/v1/namespaces/n/pods/p/exec?command=a", "create pods/exec n/p"),
            (Method::GET, "/api/v1/namespaces/n", "get namespaces /n"),
            (Method::DELETE, "/apis/g/v1/namespaces/n/leases/l", "delete leases n/l"),
        ] {
            let route = Route::parse(&path.parse().unwrap()).unwrap();
            let (resource, verb) = (route.full_resource(), route.verb(&method));
            assert_eq!(format!("{verb} {resource} {}/{}", route.namespace, route.name), expected);
        }
        let query = Query::parse("a=1&a=%2Fx+y&b");
        assert_eq!(query.all("a"), ["1", "/x y"]);
    }
}
