//! The way from nothing, or from an earlier job's checkout, to this job's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use runner_core::log::Message;
use runner_core::plan::{GetSources, GitStrategy};

use super::config::{self, SHARED};
use super::git::Git;
use super::{git_dir, project as directory};
use crate::stages::context::{Context, StageFailure};
use crate::stages::ownership;

/// From the third attempt on, nothing of what is there is trusted to be whole.
const BEGIN_ANEW: u32 = 3;

pub(crate) async fn get_sources(
    context: &Context<'_>,
    sources: &GetSources,
    attempt: u32,
) -> Result<(), StageFailure> {
    if let Some(refusal) = &sources.refusal {
        return Err(context.fail(refusal));
    }
    let project = Path::new(&context.plan.directories.project);
    let broken = |error: io::Error| {
        context.fail(format_args!("cannot prepare the directory {}: {error}", project.display()))
    };
    let begins_anew = match sources.strategy {
        GitStrategy::Clone | GitStrategy::Empty => true,
        GitStrategy::Fetch => attempt >= BEGIN_ANEW,
        GitStrategy::None => false,
    };
    if begins_anew {
        directory::remove(project).map_err(broken)?;
    }
    directory::make(project).map_err(broken)?;
    let git = Git::new(context, sources, project).map_err(broken)?;
    git.share().map_err(broken)?;
    match sources.strategy {
        GitStrategy::None => {
            context.say(&Message::info("Skipping Git repository setup"))?;
        }
        GitStrategy::Empty => {
            context.say(&Message::info(
                "Skipping Git repository setup and creating an empty build directory",
            ))?;
        }
        GitStrategy::Clone | GitStrategy::Fetch => return git.get().await,
    }
    git.give(project).map_err(broken)?;
    context.say(&Message::info("Skipping Git checkout"))?;
    context.say(&Message::info("Skipping Git submodules setup"))?;
    Ok(())
}

/// Before the second attempt: files of the checkout go, what was fetched stays.
///
/// # Errors
/// When they cannot be removed; that has been said in the trace.
pub(crate) fn clear_worktree(context: &Context<'_>) -> Result<(), StageFailure> {
    context.say(&Message::info("Deleting tracked and untracked files..."))?;
    let project = Path::new(&context.plan.directories.project);
    if !fs::symlink_metadata(project).is_ok_and(|data| data.is_dir()) {
        return Ok(());
    }
    directory::empty(project, &[".git"]).map_err(|error| {
        context.fail(format_args!("cannot empty the directory {}: {error}", project.display()))
    })
}

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing that git would have to clean.
    Nothing,
    /// Files, without a repository.
    Files,
    /// A checkout of an earlier job.
    Checkout,
}

impl Git<'_> {
    async fn get(&self) -> Result<(), StageFailure> {
        if let Some(id) = &self.sources.correlation_id {
            self.context.say(&Message::info(format_args!("Gitaly correlation ID: {id}")))?;
        }
        let before = if self.clones().await? {
            self.clone().await?;
            Before::Nothing
        } else {
            self.fetch().await?
        };
        if self.sources.checkout {
            self.checkout(before).await?;
            if self.sources.lfs {
                self.lfs().await?;
            }
        } else {
            self.context.say(&Message::info("Skipping Git checkout"))?;
        }
        let Some(submodules) = &self.sources.submodules else {
            self.context.say(&Message::info("Skipping Git submodules setup"))?;
            return Ok(());
        };
        self.submodules(submodules, before).await?;
        if self.sources.lfs {
            self.submodules_lfs(submodules).await?;
        }
        Ok(())
    }

    async fn fetch(&self) -> Result<Before, StageFailure> {
        let sources = self.sources;
        match sources.depth {
            0 => self.context.say(&Message::info("Fetching changes..."))?,
            depth => self.context.say(&Message::info(format_args!(
                "Fetching changes with git depth set to {depth}..."
            )))?,
        }
        let directory = self.project.join(".git");
        let before = self.prepare(&directory).map_err(|error| self.broken(&directory, &error))?;
        // git's own words, without its process.
        let kind = match before {
            Before::Checkout => "Reinitialized existing",
            _ => "Initialized empty",
        };
        let said = format!("{kind} Git repository in {}/\n", directory.display());
        self.context.output(said.as_bytes())?;
        if before != Before::Checkout {
            self.context.say(&Message::info("Created fresh repository."))?;
        }
        let depth = sources.depth.to_string();
        let mut fetch = self.command([]);
        if before != Before::Checkout {
            // Nothing to tidy up yet; that saves a process.
            fetch.args(["-c", "maintenance.auto=false", "-c", "gc.auto=0"]);
        }
        fetch.args(["fetch", "origin", "--no-recurse-submodules"]);
        match sources.refspecs.as_slice() {
            [] => fetch.args(["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]),
            some => fetch.args(some),
        };
        if sources.depth > 0 {
            fetch.args(["--depth", &depth]);
        }
        fetch.args(&sources.fetch_flags);
        if sources.depth == 0 && directory.join("shallow").exists() {
            fetch.arg("--unshallow");
        }
        self.run(&mut fetch).await?;
        Ok(before)
    }

    /// Makes `.git`, or takes what is there into use.
    fn prepare(&self, git: &Path) -> io::Result<Before> {
        let before = match git_dir::Leftover(self.project).clean()? {
            true => Before::Checkout,
            false if directory::has_files(self.project) => Before::Files,
            false => Before::Nothing,
        };
        git_dir::create(git)?;
        let (abilities, partial) = (git_dir::abilities(git), git_dir::is_partial(git));
        let text = config::of_checkout(self.sources, &self.shared(), abilities, partial);
        self.write(&git.join("config"), text.as_bytes(), 0o644)?;
        match self.user {
            // The checkout of an earlier job is that of its user. Whoever may have left a file there
            // that is not, the top shows it.
            Some(user)
                if before != Before::Nothing && ownership::owner(self.project)? == user.uid =>
            {
                self.give(git)?;
            }
            _ => self.give(self.project)?,
        }
        Ok(before)
    }

    async fn checkout(&self, before: Before) -> Result<(), StageFailure> {
        let GetSources { sha, reference, clean_flags, .. } = self.sources;
        let short = sha.get(..8).unwrap_or(sha);
        self.context.say(&Message::info(format_args!(
            "Checking out {short} as detached HEAD (ref is {reference})..."
        )))?;
        if sha.is_empty() || sha.starts_with('-') {
            return Err(self.context.fail(format_args!("{sha:?} is no commit to check out")));
        }
        let checkout = ["-c", "submodule.recurse=false", "checkout", "-f", "-q", sha];
        self.run(&mut self.command(checkout)).await?;
        // A directory that was empty before has nothing that git does not know of.
        if before != Before::Nothing && !clean_flags.is_empty() {
            self.run(self.command(["clean"]).args(clean_flags)).await?;
        }
        Ok(())
    }

    /// The file that checkouts of this job include.
    pub(super) fn shared(&self) -> PathBuf {
        Path::new(&self.context.plan.directories.temp).join(SHARED)
    }

    /// Writes it.
    fn share(&self) -> io::Result<()> {
        let text = config::shared(self.sources, self.tls_ca.as_deref());
        self.write(&self.shared(), text.as_bytes(), 0o644)
    }

    pub(super) fn broken(&self, path: &Path, error: &io::Error) -> StageFailure {
        self.context.fail(format_args!("cannot prepare {}: {error}", path.display()))
    }
}
