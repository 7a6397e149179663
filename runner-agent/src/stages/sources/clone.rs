//! `git clone`, for those who ask for it (`FF_USE_GIT_NATIVE_CLONE`): it takes bundles that the
//! server offers, and flags that `git fetch` does not know (`--sparse`).

use std::fs;
use std::io::Write as _;

use runner_core::log::Message;
use runner_core::plan::GitStrategy;

use super::config;
use super::git::Git;
use crate::stages::context::StageFailure;
use crate::stages::tool;

/// The first git with `clone --revision`.
const FIRST: (u32, u32) = (2, 49);

impl Git<'_> {
    /// Whether `git clone` is wanted and git is new enough.
    pub(super) async fn clones(&self) -> Result<bool, StageFailure> {
        if self.sources.native_clone.is_none() || self.sources.strategy != GitStrategy::Clone {
            return Ok(false);
        }
        let answer = tool::ask(self.context, &mut self.command(["version"])).await?;
        let answer = answer.unwrap_or_default();
        if version(&String::from_utf8_lossy(&answer)).is_none_or(|found| found < FIRST) {
            return Ok(false);
        }
        let (major, minor) = FIRST;
        self.context
            .say(&Message::plain(format_args!("Git version at least \"{major}.{minor}\"")))?;
        Ok(true)
    }

    /// Clones into the empty directory of the checkout.
    pub(super) async fn clone(&self) -> Result<(), StageFailure> {
        let sources = self.sources;
        let reference = sources.reference.as_str();
        let of = if reference.is_empty() { String::new() } else { format!(" for {reference}") };
        self.context.say(&Message::info(match sources.depth {
            0 => format!("Cloning repository{of}..."),
            depth => format!("Cloning repository{of} with git depth set to {depth}..."),
        }))?;
        self.give(self.project).map_err(|error| self.broken(self.project, &error))?;
        // No template: hooks of the image would become the checkout's.
        let mut clone = self.command(["clone", "--no-checkout", "--template="]);
        if sources.depth > 0 {
            clone.arg("--depth").arg(sources.depth.to_string());
        }
        match reference {
            "" => {}
            full if full.starts_with("refs/") => drop(clone.args(["--revision", full])),
            short => drop(clone.args(["--branch", short])),
        }
        clone.args(sources.native_clone.iter().flatten());
        self.run(clone.arg("--").arg(&sources.url).arg(".")).await?;
        let path = self.project.join(".git/config");
        let text = config::include(&self.shared());
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| self.broken(&path, &error))
    }
}

/// Major and minor of `git version 2.47.3`, also with words behind (`2.39.5 (Apple Git-154)`).
fn version(answer: &str) -> Option<(u32, u32)> {
    let mut numbers = answer.trim().strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{FIRST, version};

    #[test]
    fn stages_59_versions_of_git_are_compared_as_numbers() {
        for (answer, expected) in [
            ("git version 2.47.3\n", Some((2, 47))),
            ("git version 2.9.1", Some((2, 9))),
            ("git version 2.49.0.windows.1", Some((2, 49))),
            ("git version 3.0", Some((3, 0))),
            ("not git", None),
            ("git version x.y", None),
        ] {
            assert_eq!(version(answer), expected, "{answer}");
        }
        assert!((2, 9) < FIRST && (2, 100) > FIRST && (3, 0) > FIRST);
    }
}
