//! Which of the job's variables git sees, and git's settings as variables.
//!
//! GitLab Runner exports all variables to git, and jobs count on it: proxies, `GIT_SSL_…`,
//! `GIT_TRACE`, `GIT_SSH_COMMAND`. But a job that sets `PATH` for its own image does not mean the
//! helper's, and none may lead git away from the checkout.

use std::process::Command;

use runner_core::plan::{Directories, PlanVariable};

/// What is meant for the job's own container, or would make git work on another repository.
const NOT_FOR_GIT: &[&str] = &[
    "PATH",
    "HOME",
    "SHELL",
    "PWD",
    "OLDPWD",
    "TMPDIR",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_EXEC_PATH",
    "GIT_CONFIG",
    "GIT_TERMINAL_PROMPT",
    "GCM_INTERACTIVE",
];
/// The same by their beginnings.
const NOT_FOR_GIT_EITHER: &[&str] = &["LD_", "BASH_FUNC_", "PODWRIGHT_"];
/// Linux takes 128 KiB for one string and 2 MiB for all of them; a job may have more.
const LONGEST: usize = 64 * 1024;
const MOST: usize = 512 * 1024;

/// The variables for git, file variables as paths, in order; a later one wins.
pub(super) fn variables(all: &[PlanVariable], directories: &Directories) -> Vec<(String, String)> {
    let mut length = 0;
    let mut seen = Vec::new();
    // From behind, so that what is left out for want of room is not what counts.
    for variable in all.iter().rev().filter(|variable| is_for_git(&variable.key)) {
        let value = match variable.file {
            true => format!("{}/{}", directories.temp, variable.key),
            false => variable.value.expose().to_owned(),
        };
        let own = variable.key.len() + value.len();
        if value.contains('\0') || own > LONGEST || length + own > MOST {
            continue;
        }
        length += own;
        seen.push((variable.key.clone(), value));
    }
    seen.reverse();
    seen
}

fn is_for_git(key: &str) -> bool {
    let is_name = !key.is_empty() && !key.contains(['=', '\0']);
    is_name
        && !NOT_FOR_GIT.contains(&key)
        && !NOT_FOR_GIT_EITHER.iter().any(|start| key.starts_with(start))
}

/// Gives git settings that stand in no file: `GIT_CONFIG_KEY_0` and so on (git 2.31 and later).
/// They come behind those that the job has made the same way.
pub(super) fn configure(command: &mut Command, settings: &[(String, String)]) {
    let own = command.get_envs().find_map(|(key, value)| {
        (key == "GIT_CONFIG_COUNT").then(|| value?.to_str()?.parse::<usize>().ok()).flatten()
    });
    let first = own.filter(|count| *count <= 1000).unwrap_or(0);
    command.env("GIT_CONFIG_COUNT", (first + settings.len()).to_string());
    for (index, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{}", first + index), key);
        command.env(format!("GIT_CONFIG_VALUE_{}", first + index), value);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use runner_core::plan::{Directories, PlanVariable};

    use super::{configure, variables};

    fn seen(list: &[(&str, &str, bool)]) -> Vec<(String, String)> {
        let all: Vec<_> = list
            .iter()
            .map(|&(key, value, file)| PlanVariable { key: key.into(), value: value.into(), file })
            .collect();
        let directories = Directories {
            builds: "/b".into(),
            project: "/b/p".into(),
            temp: "/b/p.tmp".into(),
            cache: "/c".into(),
        };
        variables(&all, &directories)
    }

    #[test]
    fn git_sees_the_jobs_variables_and_files_as_paths() {
        let list = [("https_proxy", "http://p", false), ("CA", "PEM", true), ("A", "1", false)];
        let expected = [("https_proxy", "http://p"), ("CA", "/b/p.tmp/CA"), ("A", "1")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(seen(&list), expected);
    }

    #[test]
    fn what_is_meant_for_the_build_container_does_not_reach_git() {
        let list = ["PATH", "HOME", "GIT_DIR", "LD_PRELOAD", "BASH_FUNC_git%%", "", "A=B"];
        assert!(seen(&list.map(|key| (key, "x", false))).is_empty());
    }

    #[test]
    fn variables_that_no_program_can_start_with_are_left_out() {
        let long = "x".repeat(100_000);
        assert!(seen(&[("A", &long, false), ("B", "a\0b", false)]).is_empty());
        let large = "x".repeat(60_000);
        let many: Vec<_> = (0..100).map(|_| ("A", large.as_str(), false)).collect();
        assert_eq!(seen(&many).len(), 8);
    }

    #[test]
    fn settings_come_behind_the_jobs_own() {
        let mut command = Command::new("git");
        command.env("GIT_CONFIG_COUNT", "2");
        configure(&mut command, &[("a.b".into(), "c".into())]);
        let value = |key: &str| {
            let found = command.get_envs().find(|(name, _)| *name == key).unwrap().1.unwrap();
            found.to_str().unwrap().to_owned()
        };
        assert_eq!(value("GIT_CONFIG_COUNT"), "3");
        assert_eq!(
            (value("GIT_CONFIG_KEY_2"), value("GIT_CONFIG_VALUE_2")),
            ("a.b".into(), "c".into())
        );
    }
}
