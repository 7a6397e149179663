//! Who may do what: bearer tokens, service accounts, rules.

use std::collections::HashMap;

/// What is allowed, as in a Kubernetes `Role`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group, `*` for all.
    pub group: String,
    /// Resources, with subresources as `pods/exec`; `*` for all.
    pub resources: Vec<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; `*` for
    /// all.
    pub verbs: Vec<String>,
}

impl Rule {
    /// A rule on resources of the core group.
    #[must_use]
    pub fn core(resources: &[&str], verbs: &[&str]) -> Self {
        Self::grouped("", resources, verbs)
    }

    /// A rule on resources of a group.
    #[must_use]
    pub fn grouped(group: &str, resources: &[&str], verbs: &[&str]) -> Self {
        Rule {
            group: group.into(),
            resources: resources.iter().map(|&r| r.into()).collect(),
            verbs: verbs.iter().map(|&v| v.into()).collect(),
        }
    }

    /// Everything.
    #[must_use]
    pub fn everything() -> Vec<Self> {
        vec![Self::grouped("*", &["*"], &["*"])]
    }

    /// The role of a careful operator, which has to be enough for a manager: nothing cluster-wide, no
    /// events, no leases, and no `get` on `pods/exec`, so that a websocket (a GET) is refused and
    /// SPDY (a POST) is not.
    #[must_use]
    pub fn least_privilege() -> Vec<Self> {
        let most = ["list", "get", "create", "delete", "update"];
        vec![
            Self::core(&["pods"], &["list", "get", "watch", "create", "delete"]),
            Self::core(&["pods/exec"], &["create"]),
            Self::core(&["pods/log"], &["get"]),
            Self::core(&["pods/attach", "secrets", "configmaps"], &most),
        ]
    }

    fn allows(&self, verb: &str, group: &str, resource: &str) -> bool {
        let has = |list: &[String], what: &str| list.iter().any(|l| l == "*" || l == what);
        (self.group == "*" || self.group == group)
            && has(&self.resources, resource)
            && has(&self.verbs, verb)
    }
}

/// Somebody with a token.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    /// Where the rules hold; `None` everywhere.
    pub(super) namespace: Option<String>,
    pub(super) rules: Vec<Rule>,
    /// Rules that hold everywhere, also outside of namespaces.
    pub(super) cluster_rules: Vec<Rule>,
}

impl User {
    /// Whether this is allowed. `namespace` is empty at the cluster scope.
    pub(super) fn may(&self, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
        let allows = |rules: &[Rule]| rules.iter().any(|rule| rule.allows(verb, group, resource));
        self.namespace.as_deref().is_none_or(|n| n == namespace) && allows(&self.rules)
            || allows(&self.cluster_rules)
    }
}

/// All tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(pub(super) HashMap<String, User>);

impl Tokens {
    pub(super) fn user(&self, authorization: Option<&str>) -> Option<&User> {
        self.0.get(authorization?.strip_prefix("Bearer ")?.trim())
    }
}
