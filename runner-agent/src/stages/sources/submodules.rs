//! Submodules, by `git submodule`.
//!
//! In a fresh checkout one command does it; in one of an earlier job, what that job did to the
//! submodules is undone first, in GitLab Runner's order.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use runner_core::log::Message;
use runner_core::outcome::Outcome;
use runner_core::plan::{Nesting, Submodules};

use super::config;
use super::get::Before;
use super::git::Git;
use super::index::Index;
use super::{plain, project};
use crate::stages::context::StageFailure;

/// How deep `.git/modules` is searched.
pub(super) const DEEPEST: usize = 64;

impl Git<'_> {
    pub(super) async fn submodules(
        &self,
        submodules: &Submodules,
        before: Before,
    ) -> Result<(), StageFailure> {
        let recursive = submodules.nesting == Nesting::Recursive;
        let how = if recursive { " recursively" } else { "" };
        let with = match submodules.depth {
            0 => String::new(),
            depth => format!(" with git depth set to {depth}"),
        };
        self.context
            .say(&Message::info(format_args!("Updating/initializing submodules{how}{with}...")))?;
        // Asking git about none costs several processes.
        if !self.project.join(".gitmodules").is_file() {
            return Ok(());
        }
        if before == Before::Checkout {
            let index = Index::read(&self.project.join(".git/index")).unwrap_or_default();
            let linked = index.entries().filter(|entry| entry.is_submodule);
            let linked = linked.map(|entry| self.project.join(OsStr::from_bytes(entry.path)));
            project::remove_foreign_repositories(self.project, linked)
                .map_err(|error| self.broken(self.project, &error))?;
            self.run(&mut self.command(["submodule", "init"])).await?;
            self.sync(submodules).await?;
            self.tidy(submodules).await?;
        }
        if let Err(failure) = self.update(submodules).await {
            let StageFailure(Outcome::Exited(_)) = failure else { return Err(failure) };
            let retrying = Message::caution("Updating submodules failed. Retrying...");
            self.context.say(&retrying)?;
            self.update_again(submodules).await?;
        } else {
            self.context.say(&Message::info("Updated submodules"))?;
        }
        if before == Before::Checkout {
            self.foreach(submodules, "git clean", &self.clean_flags()).await?;
        }
        self.share_credentials()
    }

    /// What an update in vain may have left is put right first.
    async fn update_again(&self, submodules: &Submodules) -> Result<(), StageFailure> {
        if submodules.update_flags.iter().any(|flag| flag == "--remote") {
            // A shallow submodule may not have the branch that is asked for.
            let heads = ["+refs/heads/*:refs/remotes/origin/*".to_owned()];
            self.foreach(submodules, "git fetch origin", &heads).await?;
        }
        self.sync(submodules).await?;
        self.update(submodules).await?;
        self.foreach(submodules, "git reset --hard", &[]).await
    }

    async fn sync(&self, submodules: &Submodules) -> Result<(), StageFailure> {
        let mut sync = self.command(["submodule", "sync"]);
        sync.args(recursive(submodules)).args(paths(submodules));
        self.run(&mut sync).await
    }

    async fn tidy(&self, submodules: &Submodules) -> Result<(), StageFailure> {
        self.foreach(submodules, "git clean", &self.clean_flags()).await?;
        self.foreach(submodules, "git reset --hard", &[]).await
    }

    async fn update(&self, submodules: &Submodules) -> Result<(), StageFailure> {
        let mut update = self.command(["submodule", "update", "--init"]);
        update.args(recursive(submodules));
        if submodules.depth > 0 {
            update.arg("--depth").arg(submodules.depth.to_string());
        }
        update.args(&submodules.update_flags).args(paths(submodules));
        self.run(&mut update).await
    }

    /// `none` is for the project itself: a submodule's leftovers would break its update.
    pub(super) fn clean_flags(&self) -> Vec<String> {
        match self.sources.clean_flags.as_slice() {
            [] => vec!["-ffdx".to_owned()],
            some => some.to_vec(),
        }
    }

    async fn foreach(
        &self,
        submodules: &Submodules,
        command: &str,
        arguments: &[String],
    ) -> Result<(), StageFailure> {
        let mut foreach = self.command(["submodule", "foreach"]);
        foreach.args(recursive(submodules));
        // One word is run by a shell, so that each of ours is quoted; several are not.
        foreach.args(command.split(' ')).args(arguments);
        self.run(&mut foreach).await
    }

    /// Lets git in submodules authenticate in the job's scripts too. GitLab Runner runs `git config`
    /// in each; the files are simple enough to be added to.
    fn share_credentials(&self) -> Result<(), StageFailure> {
        self.context
            .say(&Message::info("Configuring submodules to use parent git credentials..."))?;
        let text = config::include(&self.shared());
        for repository in repositories(&self.project.join(".git/modules"), DEEPEST) {
            let path = repository.join("config");
            let shares = plain::read(&path).is_some_and(|now| now.contains(&text));
            let written =
                || fs::OpenOptions::new().append(true).open(&path)?.write_all(text.as_bytes());
            if !shares {
                written().map_err(|error| self.broken(&path, &error))?;
            }
        }
        Ok(())
    }
}

pub(super) fn recursive(submodules: &Submodules) -> Option<&'static str> {
    (submodules.nesting == Nesting::Recursive).then_some("--recursive")
}

fn paths(submodules: &Submodules) -> impl Iterator<Item = &str> {
    let separator = (!submodules.paths.is_empty()).then_some("--");
    separator.into_iter().chain(submodules.paths.iter().map(String::as_str))
}

/// Repositories of submodules, also of nested ones.
pub(super) fn repositories(modules: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(modules) else { return found };
    for entry in entries.flatten().filter(|_| depth > 0) {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if path.join("HEAD").is_file() {
            found.extend(repositories(&path.join("modules"), depth - 1));
            found.push(path);
        } else {
            // Names of submodules may have slashes.
            found.extend(repositories(&path, depth - 1));
        }
    }
    found
}
