//! A repository's URL, taken apart.

use crate::job::Sources;
use crate::plan::GitLogin;
use crate::secret::Secret;

use super::settings::PlanSettings;
use super::variables::VariableSet;

/// Who jobs are to GitLab's git.
const JOB_USER: &str = "gitlab-ci-token";

/// A URL with its user information apart from the rest.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'u> {
    scheme: &'u str,
    user: Option<&'u str>,
    /// Host with port; empty for `file:///…`.
    host: &'u str,
    /// With the leading slash; query and fragment included.
    path: &'u str,
}

/// `None`: not `scheme://…`, e.g. a path or `git@host:path`.
fn parts(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !is_scheme {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // The last one: a password that was not encoded may hold another.
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    Some(Parts { scheme, user, host, path })
}

/// What `git` is told about the server.
pub(super) struct Remote {
    /// A URL that may be written down.
    pub(super) url: String,
    /// What git answers when it is asked.
    pub(super) login: Option<GitLogin>,
    /// By whom: `scheme://host[:port]`.
    pub(super) origins: Vec<String>,
}

/// The URL of the sources and who may hear the credentials: the host it is fetched from, the one the
/// source names, and GitLab's own (submodules may name any of the three).
pub(super) fn remote(
    sources: &Sources,
    settings: &PlanSettings,
    variables: &VariableSet,
) -> Remote {
    let (given, login) = split(sources.url.expose());
    let server = variables.setting("CI_SERVER_URL").unwrap_or_default();
    let candidates = [Some(sources.url.expose()), clone_base(settings), Some(server)];
    let mut origins = Vec::new();
    for origin in candidates.into_iter().flatten().filter_map(http_origin) {
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    let path = variables.setting("CI_PROJECT_PATH").filter(|path| !path.is_empty());
    let (Some(base), Some(path)) = (clone_base(settings), path) else {
        return Remote { url: given, login, origins };
    };
    let (base, _) = split(base);
    let token = variables.setting("CI_JOB_TOKEN").filter(|token| is_plain(token));
    let password = token.map(Secret::from).or(login.map(|login| login.password));
    let login = match password {
        Some(password) if is_http(&base) => {
            Some(GitLogin { username: JOB_USER.to_owned(), password })
        }
        _ => None,
    };
    Remote { url: format!("{}/{path}.git", base.trim_end_matches('/')), login, origins }
}

fn clone_base(settings: &PlanSettings) -> Option<&str> {
    settings.clone_url.as_deref().filter(|base| !base.is_empty())
}

/// `(new, old)` beginnings of URLs, so that submodules with SSH URLs of this GitLab are fetched over
/// HTTP (`GIT_SUBMODULE_FORCE_HTTPS`).
///
/// The old ones end with the host: GitLab Runner's `ssh://git@host` also changes
/// `ssh://git@host.elsewhere/…`.
pub(super) fn ssh_rewrites(
    sources: &Sources,
    settings: &PlanSettings,
    variables: &VariableSet,
) -> Vec<(String, String)> {
    let setting = |name| variables.setting(name).filter(|value| is_plain(value));
    let (given, _) = split(sources.url.expose());
    let own = http_origin(&given);
    let base = clone_base(settings).or_else(|| setting("CI_SERVER_URL")).or(own.as_deref());
    let Some(host) = setting("CI_SERVER_SHELL_SSH_HOST").or_else(|| setting("CI_SERVER_HOST"))
    else {
        return Vec::new();
    };
    let Some(base) = base.map(|base| split(base).0).filter(|base| is_http(base)) else {
        return Vec::new();
    };
    let new = format!("{}/", base.trim_end_matches('/'));
    let old = match setting("CI_SERVER_SHELL_SSH_PORT") {
        None | Some("22") => vec![
            format!("git@{host}:"),
            format!("ssh://git@{host}/"),
            format!("ssh://git@{host}:22/"),
        ],
        // The short form has no place for a port.
        Some(port) => vec![format!("ssh://git@{host}:{port}/")],
    };
    old.into_iter().map(|old| (new.clone(), old)).collect()
}

/// Scheme, host and port of an http URL, in the form that git compares with: whoever has the same
/// gets the credentials.
fn http_origin(url: &str) -> Option<String> {
    let Parts { scheme, user, host, .. } = parts(url)?;
    // Browsers end the host at a backslash, RFC 3986 does not: nobody means that.
    let is_odd = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
    if user.is_some_and(|user| user.contains(is_odd)) {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let default = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let host = host.to_ascii_lowercase();
    // `host::443` is none, and must not become `host:`, which others read as the host without a port.
    let after_address = host.rfind(']').map_or(0, |end| end + 1);
    let port = host[after_address..].split_once(':').map(|(_, port)| port);
    if port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let host = host.strip_suffix(':').unwrap_or(&host);
    let host = host.strip_suffix(default).unwrap_or(host);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    (!host.is_empty() && host.bytes().all(allowed)).then(|| format!("{scheme}://{host}"))
}

/// What can be said in one line of git's protocols: a token, a host.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// The URL without credentials, and the credentials. Those of `ssh` are a user name, which stays
/// (`git` where there is none): it is part of the address.
fn split(url: &str) -> (String, Option<GitLogin>) {
    let Some(Parts { scheme, user, host, path }) = parts(url) else {
        return (url.to_owned(), None);
    };
    if scheme == "ssh" {
        let user = user.map_or("git", |user| user.split(':').next().unwrap_or(user));
        return (format!("ssh://{user}@{host}{path}"), None);
    }
    let login = user.and_then(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let (username, password) = (percent_decoded(name), percent_decoded(password));
        // A line end in one of them would be an answer of its own to git.
        let sayable = !(username.contains(char::is_control) || password.contains(char::is_control));
        (!user.is_empty() && sayable).then(|| GitLogin { username, password: password.into() })
    });
    (format!("{scheme}://{host}{path}"), login)
}

fn is_http(url: &str) -> bool {
    parts(url).is_some_and(|parts| matches!(parts.scheme, "http" | "https"))
}

/// Where the checkout lies below the builds root: the URL's path without `.git`. `None`: it has no
/// host, or a path that leads nowhere or elsewhere.
pub(super) fn slug(url: &str) -> Option<String> {
    let Parts { host, path, .. } = parts(url)?;
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let path = percent_decoded(path);
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    if host.is_empty() || path.contains("..") || path.contains('\0') {
        return None;
    }
    let clean: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!clean.is_empty()).then(|| clean.join("/"))
}

/// `%41` → `A`; what is no such escape, or no text afterwards, stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits are at most 255.
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{slug, split};

    #[test]
    fn stages_50_credentials_are_kept_apart_from_the_url() {
        let cases = [
            (
                "https://gitlab-ci-token:abc@host/g/p.git",
                "https://host/g/p.git",
                "gitlab-ci-token",
                "abc",
            ),
            ("http://u:p%40%2f@h:8080/p", "http://h:8080/p", "u", "p@/"),
            ("https://u:a@b@h/p", "https://h/p", "u", "a@b"),
            ("https://token@h/p", "https://h/p", "token", ""),
        ];
        for (url, bare, user, password) in cases {
            let (got, login) = split(url);
            let login = login.unwrap();
            assert_eq!((got.as_str(), login.username.as_str()), (bare, user));
            assert_eq!(login.password.expose(), password);
        }
        for (url, bare) in [
            ("https://h/p", "https://h/p"),
            ("ssh://h/p", "ssh://git@h/p"),
            ("ssh://me:x@h:2222/p", "ssh://me@h:2222/p"),
            ("git@h:g/p.git", "git@h:g/p.git"),
            ("/srv/p.git", "/srv/p.git"),
            ("file:///srv/p.git", "file:///srv/p.git"),
        ] {
            assert_eq!(split(url), (bare.to_owned(), None), "{url}");
        }
    }

    #[test]
    fn the_slug_is_the_path_of_the_url() {
        for (url, expected) in [
            ("https://u:p@h/g/s/p.git", Some("g/s/p")),
            ("https://h:8080//g/./p/", Some("g/p")),
            ("https://h/g%20x/p.git?a=b", Some("g x/p")),
            ("https://h/g/../p", None),
            ("https://h/g/%2e%2e/p", None),
            ("https://h/g/a..b", None),
            ("https://h/", None),
            ("https://h/.git", None),
            ("file:///srv/p.git", None),
            ("git@h:g/p.git", None),
            ("", None),
        ] {
            assert_eq!(slug(url).as_deref(), expected, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_slug_leads_out_of_the_builds_root(path in "[a-c./%2eE\\\\@:?#-]{0,30}") {
            if let Some(slug) = slug(&format!("https://h/{path}")) {
                prop_assert!(!slug.contains("..") && !slug.starts_with('/') && !slug.is_empty());
            }
        }

        #[test]
        fn any_text_is_split_without_a_panic(text: String) {
            let _ = (split(&text), slug(&text));
        }
    }
}
