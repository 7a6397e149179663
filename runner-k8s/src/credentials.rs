//! Logins for image registries: what the kubelet gets to pull a job's images.
//!
//! Three sources in GitLab Runner's order: `DOCKER_AUTH_CONFIG` (of the job, else of the runner's
//! environment: that is one list of variables), the docker configuration of the manager's own user,
//! and what the job source sent. The first login for a registry counts.
//!
//! Credential helpers and stores, programs that docker runs for each login, are not run: the manager
//! runs nothing that a job can name. A warning says so.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use runner_core::job::RegistryLogin;
use runner_core::secret::Secret;
use serde_json::{Map, Value, json};

/// The variable with a docker configuration in it.
pub(crate) const VARIABLE: &str = "DOCKER_AUTH_CONFIG";
/// What an entry may say, and all that is passed on.
const FIELDS: [&str; 5] = ["auth", "username", "password", "identitytoken", "registrytoken"];

/// Logins by registry. Not printable: they are secrets.
#[derive(Default)]
pub(crate) struct PullCredentials {
    auths: Map<String, Value>,
    seen: BTreeSet<String>,
}

impl PullCredentials {
    /// All of them, and what is odd about a source, without anything secret.
    pub(crate) fn gather(
        variable: Option<&str>,
        of_manager: Option<&Secret>,
        logins: &[RegistryLogin],
    ) -> (Self, Vec<String>) {
        let mut out = Self::default();
        let mut warnings = Vec::new();
        let own = "the docker configuration of the runner";
        let sources = [(VARIABLE, variable), (own, of_manager.map(Secret::expose))];
        for (name, text) in sources {
            let text = text.map(str::trim).filter(|text| !text.is_empty());
            if let Some(Err(why)) = text.map(|text| out.docker_config(text)) {
                warnings.push(format!("{name}: {why}"));
            }
        }
        for login in logins {
            let (user, password) = (&login.username, login.password.expose());
            let auth = Secret::new(STANDARD.encode(format!("{user}:{password}")));
            let entry = json!({ "username": user, "password": password, "auth": auth.expose() });
            out.add(&login.registry, entry);
        }
        (out, warnings)
    }

    /// The content of a `kubernetes.io/dockerconfigjson` Secret; `None` without any login.
    pub(crate) fn into_bytes(self) -> Option<Bytes> {
        (!self.auths.is_empty()).then(|| Bytes::from(json!({ "auths": self.auths }).to_string()))
    }

    fn add(&mut self, registry: &str, entry: Value) {
        if self.seen.insert(path_of(registry)) {
            self.auths.insert(registry.to_owned(), entry);
        }
    }

    /// A `config.json`, or the older `.dockercfg`, which is only its `auths`.
    fn docker_config(&mut self, text: &str) -> Result<(), &'static str> {
        // Not the parser's own words: they quote what may be a secret.
        let config: Value = serde_json::from_str(text).map_err(|_| "it is not JSON")?;
        let Value::Object(mut config) = config else { return Err("it is no JSON object") };
        let helpers = ["credsStore", "credHelpers"].map(|key| config.remove(key));
        let older = |config: &Map<String, Value>| {
            !config.is_empty() && config.values().all(Value::is_object)
        };
        let auths = match config.remove("auths") {
            Some(Value::Object(auths)) => auths,
            Some(_) => return Err("\"auths\" is no JSON object"),
            None if older(&config) => config,
            None => Map::new(),
        };
        let mut useless = false;
        for (registry, entry) in auths {
            let known = FIELDS.iter().filter_map(|field| {
                let text = entry[*field].as_str().filter(|text| !text.is_empty())?;
                Some(((*field).to_owned(), Value::from(text)))
            });
            let entry: Map<_, _> = known.collect();
            // Docker leaves an empty entry where a helper has the login.
            if !entry.is_empty() {
                useless |= entry.get("auth").is_some_and(|auth| !is_pair(auth));
                self.add(&registry, Value::Object(entry));
            }
        }
        if helpers.iter().flatten().any(|helper| !is_empty(helper)) {
            return Err(
                "credential helpers and stores are not used; put the logins into \"auths\"",
            );
        }
        if useless {
            return Err("an \"auth\" is not the base64 form of user:password");
        }
        Ok(())
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Null) || *value == json!("") || *value == json!({})
}

fn is_pair(auth: &Value) -> bool {
    let bytes = STANDARD.decode(auth.as_str().unwrap_or_default());
    bytes.is_ok_and(|bytes| bytes.contains(&b':'))
}

/// A registry without what can be written in several ways.
fn path_of(registry: &str) -> String {
    let lower = registry.to_ascii_lowercase();
    let bare = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    // With a scheme the path is a version of the registry's protocol, not a part of images' names.
    let path = match bare {
        Some(bare) => bare.split('/').next().unwrap_or(bare),
        None => lower.trim_end_matches('/'),
    };
    match path {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// The docker configuration of the manager's own user. `None`: there is none that can be read.
pub(crate) fn of_manager() -> Option<Secret> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places = [
        std::env::var_os("DOCKER_CONFIG").map(|path| PathBuf::from(path).join("config.json")),
        home.as_ref().map(|home| home.join(".docker/config.json")),
        home.as_ref().map(|home| home.join(".dockercfg")),
    ];
    for place in places.into_iter().flatten() {
        // Not on another thread: small local files, mostly none, and for each job three hand-overs
        // whose order against all else is up to chance.
        if let Ok(text) = std::fs::read_to_string(&place) {
            return Some(Secret::new(text));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use runner_core::job::RegistryLogin;
    use runner_core::secret::Secret;
    use serde_json::{Value, json};

    use super::PullCredentials;

    fn login(registry: &str, user: &str) -> RegistryLogin {
        let (registry, username) = (registry.into(), user.into());
        RegistryLogin { registry, username, password: Secret::new("p") }
    }

    fn gather(variable: &str, of_manager: &str, logins: &[RegistryLogin]) -> (Value, Vec<String>) {
        let of_manager = Secret::new(of_manager);
        let (all, warnings) = PullCredentials::gather(Some(variable), Some(&of_manager), logins);
        let bytes = all.into_bytes().unwrap_or_default();
        (serde_json::from_slice(&bytes).unwrap_or_default(), warnings)
    }

    #[test]
    fn k8s_20_the_jobs_variable_comes_before_the_managers_file_and_that_before_the_job_source() {
        let variable = r#"{"auths": {"one": {"auth": "dTpw"}}}"#;
        let file =
            r#"{"auths": {"one": {"auth": "bm86"}, "two": {"username": "u", "password": "p"}}}"#;
        let logins =
            [login("one", "x"), login("two", "y"), login("three", "z"), login("three", "a")];
        let (secret, warnings) = gather(variable, file, &logins);
        assert_eq!(secret["auths"]["one"], json!({ "auth": "dTpw" }));
        assert_eq!(secret["auths"]["two"], json!({ "username": "u", "password": "p" }));
        assert_eq!(secret["auths"]["three"]["username"], "z");
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn k8s_20_a_registry_is_the_same_in_every_spelling() {
        let variable = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
        let (secret, _) =
            gather(variable, "", &[login("docker.io", "x"), login("R.Example/", "a")]);
        assert_eq!(secret["auths"].as_object().unwrap().len(), 2);
        let (secret, _) =
            gather("", "", &[login("r.example", "a"), login("https://R.example", "b")]);
        assert_eq!(secret["auths"].as_object().unwrap().len(), 1);
        // Two projects of one registry are two registries.
        let (secret, _) = gather("", "", &[login("r/a", "a"), login("r/b", "b")]);
        assert_eq!(secret["auths"].as_object().unwrap().len(), 2);
    }

    #[test]
    fn k8s_20_a_broken_source_is_a_warning_without_its_content_and_the_others_count() {
        for broken in ["hunter2", "[1]", r#"{"auths": "hunter2"}"#] {
            let (secret, warnings) = gather(broken, "", &[login("r", "u")]);
            assert_eq!(secret["auths"]["r"]["username"], "u");
            assert!(warnings[0].starts_with("DOCKER_AUTH_CONFIG: "), "{warnings:?}");
            assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
        }
        let helper = r#"{"credsStore": "../../evil", "auths": {"r": {"auth": "dTpw"}}}"#;
        let (secret, warnings) = gather(helper, "", &[]);
        assert_eq!(secret["auths"]["r"]["auth"], "dTpw");
        assert!(warnings[0].contains("not used"), "{warnings:?}");
    }

    #[test]
    fn k8s_20_the_older_form_is_read_and_without_logins_there_is_no_secret() {
        let (secret, _) = gather("", r#"{"r": {"auth": "dTpw", "email": "x"}}"#, &[]);
        assert_eq!(secret, json!({ "auths": { "r": { "auth": "dTpw" } } }));
        assert!(PullCredentials::gather(None, None, &[]).0.into_bytes().is_none());
        let (secret, warnings) = gather(r#"{"auths": {"r": {}}}"#, "", &[]);
        assert_eq!((secret, warnings.len()), (Value::Null, 0));
    }
}
