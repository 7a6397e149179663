//! A repository's URL on its way to git: credentials stay out of what is written down, and go to no
//! other host than those that the job's source and the operator named.
//!
//! The input's lines are the payload's URL, `clone_url`, `CI_SERVER_URL`, `CI_PROJECT_PATH`, the SSH host
//! and port, and the token.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runner_core::job::Job;
use runner_core::plan::{GetSources, Operation};
use runner_core::planner::{PlanSettings, Transfers, plan};
use serde_json::json;

/// Scheme, host and port as another parser sees them.
fn origin(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

fn check(sources: &GetSources, named: &[&str]) {
    if let Some((scheme, rest)) = sources.url.split_once("://")
        && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
    {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        assert!(!authority.contains('@'), "{}", sources.url);
    }
    if let Some(login) = &sources.login {
        // Each is a line of an answer to git.
        assert!(!login.username.contains(char::is_control));
        assert!(!login.password.expose().contains(char::is_control));
    }
    let named: Vec<_> = named.iter().filter_map(|url| origin(url)).collect();
    for found in &sources.login_origins {
        // Part of the name of a setting, and of a section in a file.
        assert!(!found.contains(['"', '\\', '\n', ' ', '@', '#', '?']), "{found}");
        assert!(found.matches('/').count() == 2, "{found}");
        // Where the other parser understands it at all, it means a host that somebody named.
        if let Some(seen) = origin(found) {
            assert!(named.contains(&seen), "{found} is {seen}, which is none of {named:?}");
        }
    }
    for (new, old) in &sources.instead_of {
        assert!(new.starts_with("http") && new.ends_with('/'), "{new}");
        assert!(old.ends_with([':', '/']), "{old}");
        assert!(
            !new.split_once("://")
                .unwrap_or_default()
                .1
                .split('/')
                .next()
                .unwrap_or_default()
                .contains('@')
        );
    }
}

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let [url, clone_url, server, path, ssh_host, ssh_port, token] = std::array::from_fn(|_| next());
    let variable = |key: &str, value: &str| json!({ "key": key, "value": value, "public": true, "masked": false, "file": false, "raw": true });
    let job = json!({
        "id": 1, "name": "fuzz",
        "project": { "id": 7, "name": "", "path": "", "reference": "", "sha": "" },
        "sources": {
            "url": url, "reference": "main", "sha": "0".repeat(40), "refspecs": [], "depth": 0,
            "object_format": "sha1", "allow_fetch": true,
        },
        "variables": [
            variable("CI_SERVER_URL", server),
            variable("CI_PROJECT_PATH", path),
            variable("CI_SERVER_SHELL_SSH_HOST", ssh_host),
            variable("CI_SERVER_SHELL_SSH_PORT", ssh_port),
            variable("CI_JOB_TOKEN", token),
            variable("GIT_SUBMODULE_FORCE_HTTPS", "true"),
        ],
        "steps": [], "image": null, "services": [], "artifacts": [], "dependencies": [],
        "registries": [], "timeout": { "secs": 60, "nanos": 0 },
        "features": { "trace_sections": true, "failure_reasons": [], "token_mask_prefixes": [] },
        "url": null,
    });
    let job: Job = serde_json::from_value(job).expect("what a job is, in JSON");
    let clone_url = (!clone_url.is_empty()).then(|| clone_url.to_owned());
    let settings = PlanSettings { clone_url: clone_url.clone(), ..PlanSettings::default() };
    let Ok(plan) = plan(&job, &settings, Transfers::default()) else { return };
    let project = &plan.directories.project;
    assert!(project.starts_with("/builds/") && !project.contains(".."), "{project}");
    for stage in &plan.stages {
        if let Operation::GetSources(sources) = &stage.operation {
            check(sources, &[url, clone_url.as_deref().unwrap_or_default(), server]);
        }
    }
});
