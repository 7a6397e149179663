//! Whether the settings of a submodule's repository, left by an earlier job, are only what git itself
//! writes there.
//!
//! A submodule's settings cannot just be thrown away, as the project's are: git needs them to find
//! the submodule's files and its server. One that says more is fetched anew.

use std::path::{Component, Path, PathBuf};

/// What git writes and what cannot make it run anything. A key in a section with a name of its own
/// (`[branch "main"]`) has a star.
const HARMLESS: &[&str] = &[
    "core.repositoryformatversion",
    "core.filemode",
    "core.bare",
    "core.logallrefupdates",
    "core.symlinks",
    "core.ignorecase",
    "core.precomposeunicode",
    "extensions.objectformat",
    "extensions.partialclone",
    "remote.*.url",
    "remote.*.fetch",
    "remote.*.promisor",
    "remote.*.partialclonefilter",
    "branch.*.remote",
    "branch.*.merge",
    "submodule.active",
    "submodule.*.url",
    "submodule.*.active",
    "lfs.repositoryformatversion",
    "lfs.*.access",
];

/// `text`, the configuration of the repository in `repository`, without the files it includes (ours of
/// an earlier job, or who knows whose). `None`: it may make git do something.
pub(super) fn harmless(text: &str, repository: &Path, project: &Path) -> Option<String> {
    let mut section = String::new();
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[') {
            section = section_name(name)?;
        } else if !bare.is_empty() && section != "include" {
            let (key, value) = bare.split_once('=')?;
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            // The next line would belong to the value.
            if !is_word(&key) || value.ends_with('\\') {
                return None;
            }
            let is_harmless = match format!("{section}.{key}").as_str() {
                "core.worktree" => is_inside(&repository.join(value.trim_matches('"')), project),
                key => HARMLESS.contains(&key),
            };
            is_harmless.then_some(())?;
        }
        if section != "include" {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Some(kept)
}

/// The name of a section, from what stands behind its bracket; a star for a name of its own in it.
fn section_name(name: &str) -> Option<String> {
    // A setting may follow on the same line, in git's syntax, but git writes none there.
    let name = name.strip_suffix(']')?;
    let Some((kind, own)) = name.split_once(" \"") else {
        return is_word(name).then(|| name.to_ascii_lowercase());
    };
    // A quote or a bracket inside would be a section of another name to git.
    let own = own.strip_suffix('"')?;
    (is_word(kind) && !own.contains(['"', ']', '\\']))
        .then(|| format!("{}.*", kind.to_ascii_lowercase()))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The path without `.` and `..`, by its text: no link is looked at.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Whether a path is, by its text, below the checkout and not in its `.git`.
fn is_inside(path: &Path, project: &Path) -> bool {
    let clean = without_dots(path);
    let below = clean.strip_prefix(project);
    below.is_ok_and(|below| {
        let mut parts = below.components();
        parts.next().is_some_and(|first| first != Component::Normal(".git".as_ref()))
            && parts.all(|part| part != Component::Normal(".git".as_ref()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::harmless;

    fn seen(text: &str) -> Option<String> {
        harmless(text, Path::new("/b/p/.git/modules/sub"), Path::new("/b/p"))
    }

    #[test]
    fn what_git_writes_is_harmless_and_includes_go() {
        let text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
             \tlogallrefupdates = true\n\tworktree = ../../../libs/sub\n\
             [remote \"origin\"]\n\turl = https://h/p.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
             [branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n\
             [submodule \"a/b\"]\n\tactive = true\n\turl = https://h/q.git\n";
        let include = "[include]\n\tpath = \"/b/p.tmp/ext\"\n\tpath = \\\n";
        assert_eq!(seen(&format!("{include}{text}{include}")).as_deref(), Some(text));
    }

    #[rstest]
    #[case::monitor("[core]\n\tfsmonitor = /evil\n")]
    #[case::hooks("[core]\n\thooksPath = /evil\n")]
    #[case::on_the_line_of_the_section("[core] fsmonitor = /evil\n")]
    #[case::old_syntax("[filter.x]\n\tsmudge = evil\n")]
    #[case::continued("[remote \"origin\"]\n\turl = a\\\n[core]\n\tbare = false\n")]
    #[case::hidden_section("[branch \"a\"] [core \"b\"]\n\tmerge = x\n")]
    #[case::without_value("[core]\n\tbare\n")]
    #[case::update_by_command("[submodule \"a\"]\n\tupdate = !evil\n")]
    #[case::upload_pack("[remote \"origin\"]\n\tuploadpack = evil\n")]
    #[case::after_an_include("[include]\n\tpath = a\n[core]\n\tfsmonitor = /evil\n")]
    #[case::section_of_an_include("[include \"x\"]\n\tpath = /evil\n")]
    #[case::conditional("[includeIf \"gitdir:/\"]\n\tpath = \"/b/p.tmp/ext\"\n")]
    #[case::other_files("[core]\n\tworktree = /etc\n")]
    #[case::outside("[core]\n\tworktree = ../../../../q\n")]
    #[case::own_settings("[core]\n\tworktree = ../../../.git/modules\n")]
    #[case::comment("# [core]\n")]
    fn what_git_does_not_write_is_not(#[case] text: &str) {
        assert_eq!(seen(text), None);
    }

    /// What git reads in a file: keys as it writes them, or `None` where it refuses.
    fn keys(text: &str) -> Option<Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let output = Command::new("git")
            .args(["config", "--no-includes", "--name-only", "-z", "--list", "--file"])
            .arg(file.path())
            .output()
            .unwrap();
        let keys = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| keys.split_terminator('\0').map(str::to_owned).collect())
    }

    const PIECES: &[&str] = &[
        "[core]",
        "[include]",
        "[branch \"a\"]",
        "[core \"x\"]",
        "[filter.x]",
        "[",
        "]",
        "\"",
        "\\",
        "\n",
        "\n\t",
        " ",
        "=",
        ";",
        "#",
        "fsmonitor",
        "bare",
        "path",
        "merge",
        "true",
        "[core",
        "bare = false\n",
        "\r",
        "\u{c}",
        "\u{feff}",
        "include.path",
        "smudge = x\n",
        "a.b",
        "\0",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// The reading here may be stricter than git's, never more lenient.
        #[test]
        fn git_reads_no_key_that_is_not_harmless(
            text in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)
        ) {
            let text = text.concat();
            let Some(kept) = seen(&text) else { return Ok(()) };
            // What git refuses, it does not obey.
            for key in keys(&kept).unwrap_or_default() {
                let harmless = super::HARMLESS.iter().any(|known| match known.split_once('*') {
                    Some((before, after)) => key.starts_with(before) && key.ends_with(after),
                    None => key == *known,
                });
                prop_assert!(harmless || key == "core.worktree", "{key} in {kept:?}");
            }
        }
    }
}
