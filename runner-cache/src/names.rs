//! Names of objects, and who may use which.

use reqsign_core::hash::hex_hmac_sha256;
use runner_core::cache::{CacheScope, Uploads};
use runner_core::job::Job;

use crate::settings::CacheSettings;

/// `[<Path>/][runner/<short token>/]project/<id>`
pub(crate) fn scope(settings: &CacheSettings, job: &Job) -> CacheScope {
    let project = format!("project/{}", job.project.id);
    let owner = match settings.shared {
        true => String::new(),
        false => format!("runner/{}", settings.short_token),
    };
    let parts = [settings.path.as_str(), &owner, &project];
    let clean = parts.iter().flat_map(|part| part.split('/'));
    let clean: Vec<_> = clean.filter(|part| !matches!(*part, "" | ".")).collect();
    let prefix = clean.join("/");
    let grant = grant(settings, &prefix);
    CacheScope { prefix, grant: grant.into(), uploads: Uploads::default() }
}

/// Whether the scope is one that a manager of this runner has made.
pub(crate) fn is_granted(settings: &CacheSettings, scope: &CacheScope) -> bool {
    let expected = grant(settings, &scope.prefix);
    let given = scope.grant.expose();
    // In the same time wherever they differ, so that a grant cannot be guessed byte by byte.
    let differences =
        expected.bytes().zip(given.bytes()).fold(0, |sum, (left, right)| sum | (left ^ right));
    expected.len() == given.len() && differences == 0
}

fn grant(settings: &CacheSettings, prefix: &str) -> String {
    let key = settings.grant_key.expose().as_bytes();
    hex_hmac_sha256(key, format!("podwright cache scope\0{prefix}").as_bytes())
}

/// The whole name of an object. `None`: it would lie outside of its scope.
pub(crate) fn object(scope: &CacheScope, name: &str) -> Option<String> {
    let is_inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (is_inside && !name.contains('\0')).then(|| format!("{}/{name}", scope.prefix))
}

/// A text as a value in an address' query.
pub(crate) fn in_query(text: &str) -> String {
    in_path(text).replace('/', "%2F")
}

/// The name as a path of an address.
pub(crate) fn in_path(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use runner_core::cache::CacheScope;
    use runner_core::ids::JobId;
    use runner_core::job::{Job, Project};

    use super::{is_granted, object, scope};
    use crate::settings::{AzureSettings, Bucket, CacheSettings};

    fn settings(path: &str, shared: bool) -> CacheSettings {
        CacheSettings {
            path: path.into(),
            shared,
            short_token: "t0k3n1234".into(),
            grant_key: "glrt-secret".into(),
            max_archive: 0,
            bucket: Bucket::Azure(AzureSettings {
                account: "a".into(),
                key: None,
                container: "c".into(),
                domain: "d".into(),
            }),
        }
    }

    fn job() -> Job {
        let project = Project { id: 42, ..Project::default() };
        Job { project, ..Job::new(JobId(1), "test", ["true"]) }
    }

    #[rstest]
    #[case("", false, "runner/t0k3n1234/project/42")]
    #[case("", true, "project/42")]
    #[case("a/b/", false, "a/b/runner/t0k3n1234/project/42")]
    #[case("/a//./b", true, "a/b/project/42")]
    fn stages_65_names_are_gitlab_runners(
        #[case] path: &str,
        #[case] shared: bool,
        #[case] expected: &str,
    ) {
        assert_eq!(scope(&settings(path, shared), &job()).prefix, expected);
    }

    #[test]
    fn stages_65_nothing_outside_of_the_project_can_be_named() {
        let settings = settings("", false);
        let own = scope(&settings, &job());
        assert!(is_granted(&settings, &own));
        assert_eq!(object(&own, "a b/c").unwrap(), "runner/t0k3n1234/project/42/a b/c");
        for name in ["../43/x", "a/../../43", "", "/x", "a//b", ".", "x\0"] {
            assert_eq!(object(&own, name), None, "{name}");
        }
        let other = CacheScope { prefix: "runner/t0k3n1234/project/43".into(), ..own.clone() };
        assert!(!is_granted(&settings, &other));
        let cut = &own.grant.expose()[..10];
        for grant in ["", cut, "x"] {
            let forged = CacheScope { grant: grant.into(), ..own.clone() };
            assert!(!is_granted(&settings, &forged), "{grant}");
        }
        let another_runner = CacheSettings { grant_key: "glrt-other".into(), ..settings.clone() };
        assert!(!is_granted(&another_runner, &own));
    }
}
