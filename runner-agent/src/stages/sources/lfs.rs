//! Content of files in LFS, by `git lfs`.
//!
//! GitLab Runner starts `git lfs` in every job; here only where a tracked `.gitattributes` asks for
//! it.

use std::path::{Path, PathBuf};

use runner_core::log::Message;
use runner_core::plan::Submodules;

use super::git::Git;
use super::index::Index;
use super::plain;
use super::submodules::{DEEPEST, recursive, repositories};
use super::untracked::any_tracked;
use crate::stages::context::StageFailure;
use crate::stages::tool;

/// What `git lfs install` sets up, which an image may have forgotten: without it, pulled content stays
/// out of the checkout.
const FILTER: [(&str, &str); 4] = [
    ("filter.lfs.required", "true"),
    ("filter.lfs.clean", "git-lfs clean -- %f"),
    ("filter.lfs.smudge", "git-lfs smudge -- %f"),
    ("filter.lfs.process", "git-lfs filter-process"),
];

impl Git<'_> {
    /// Content of files in LFS, of the project and of its submodules.
    pub(super) async fn lfs(&self) -> Result<(), StageFailure> {
        let in_project = has_lfs(self.project, &self.project.join(".git/index"));
        if in_project && self.has_lfs_program().await? {
            self.run(&mut self.command_with(&FILTER, ["lfs", "pull"])).await?;
            self.context.output(b"\n")?;
        }
        Ok(())
    }

    /// The same in submodules. Those that do not use it do not cost a process each time.
    pub(super) async fn submodules_lfs(&self, submodules: &Submodules) -> Result<(), StageFailure> {
        let modules = repositories(&self.project.join(".git/modules"), DEEPEST);
        let wanted = modules.iter().any(|repository| {
            let config = plain::read(&repository.join("config"));
            let tree = config.and_then(|config| worktree(&config, repository));
            tree.is_some_and(|tree| has_lfs(&tree, &repository.join("index")))
        });
        if !wanted || !self.has_lfs_program().await? {
            return Ok(());
        }
        self.context.say(&Message::info("Pulling LFS files..."))?;
        let mut foreach = self.command_with(&FILTER, ["submodule", "foreach"]);
        foreach.args(recursive(submodules)).args(["git", "lfs", "pull"]);
        self.run(&mut foreach).await
    }

    async fn has_lfs_program(&self) -> Result<bool, StageFailure> {
        Ok(tool::ask(self.context, &mut self.command(["lfs", "version"])).await?.is_some())
    }
}

/// Where the files of a submodule are: `core.worktree` of its configuration, as git writes it.
pub(super) fn worktree(config: &str, repository: &Path) -> Option<PathBuf> {
    let line = config.lines().find_map(|line| line.trim().strip_prefix("worktree = "))?;
    Some(repository.join(line.trim().trim_matches('"')))
}

/// Whether a repository has files in LFS: some `.gitattributes` says so.
fn has_lfs(worktree: &Path, index: &Path) -> bool {
    Index::read(index)
        .is_some_and(|index| any_tracked(worktree, &index, ".gitattributes", "filter=lfs"))
}
