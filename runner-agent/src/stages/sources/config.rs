//! Configuration files of git, as text.

use std::fmt::Write as _;
use std::path::Path;

use runner_core::job::ObjectFormat;
use runner_core::plan::GetSources;

/// Name of the file, in the job's temporary directory, that checkouts include. GitLab Runner's name:
/// jobs refer to it.
pub(super) const SHARED: &str = ".gitlab-runner.ext.conf";

/// A value in git's configuration syntax.
pub(super) fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '\\' | '"' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // git knows no escape for these; in a value they can only be a mistake.
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What a volume can do, for the repository's own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// It keeps the executable bit.
    pub(super) modes: bool,
    /// It has symbolic links.
    pub(super) links: bool,
    /// `A` and `a` are one file.
    pub(super) ignores_case: bool,
}

/// `.git/config` of a checkout: what `git init` and `git remote add` write, and the file that
/// credentials for the job's own git come from.
pub(super) fn of_checkout(
    sources: &GetSources,
    shared: &Path,
    abilities: Abilities,
    partial: bool,
) -> String {
    let sha256 = sources.object_format == ObjectFormat::Sha256;
    let version = u8::from(sha256 || partial);
    let Abilities { modes, links, ignores_case } = abilities;
    let mut out = format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = {modes}\n\tbare = false\n\
         \tlogallrefupdates = true\n"
    );
    if !links {
        out.push_str("\tsymlinks = false\n");
    }
    if ignores_case {
        out.push_str("\tignorecase = true\n");
    }
    if version == 1 {
        out.push_str("[extensions]\n");
    }
    if sha256 {
        out.push_str("\tobjectFormat = sha256\n");
    }
    if partial {
        out.push_str("\tpartialClone = origin\n");
    }
    out.push_str(
        "[fetch]\n\trecurseSubmodules = false\n[credential]\n\tinteractive = never\n\
         [gc]\n\tautoDetach = false\n",
    );
    // Writing to a text does not fail.
    let _ = write!(
        out,
        "[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
        quoted(&sources.url)
    );
    if partial {
        out.push_str("\tpromisor = true\n");
    }
    out + &include(shared)
}

/// Lines that let a repository use the shared file.
pub(super) fn include(shared: &Path) -> String {
    format!("[include]\n\tpath = {}\n", quoted(&shared.to_string_lossy()))
}

/// The shared file, for git in the job's scripts: it answers with the job's token for the hosts that
/// may hear it. The token itself is in no file: it is in the environment that the script has anyway.
pub(super) fn shared(sources: &GetSources, tls_ca: Option<&Path>) -> String {
    let mut out = String::new();
    let helper = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
                  gitlab-ci-token \"$CI_JOB_TOKEN\"; }; f";
    for origin in &sources.login_origins {
        if sources.login.is_some() {
            // No reset of the list: a helper that the job sets up itself is asked as well.
            let _ = write!(out, "[credential {}]\n\thelper = {}\n", quoted(origin), quoted(helper));
        }
        if let Some(file) = tls_ca {
            let file = quoted(&file.to_string_lossy());
            let _ = write!(out, "[http {}]\n\tsslCAInfo = {file}\n", quoted(origin));
        }
    }
    for (new, old) in &sources.instead_of {
        let _ = write!(out, "[url {}]\n\tinsteadOf = {}\n", quoted(new), quoted(old));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_value_cannot_end_its_line_in_the_configuration() {
        assert_eq!(quoted("a\"\n[core]\\"), r#""a\"\n[core]\\""#);
        assert_eq!(quoted("a\r\0\tb"), r#""a\tb""#);
    }
}
