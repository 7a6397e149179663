//! Leaves nothing of the job in a builds directory that others use after it
//! (`FF_ENABLE_JOB_CLEANUP`).
//!
//! The repository is the job's by now. git works with one of its own that has the same objects and the
//! same index: no setting, hook or attribute of the checkout's is read.

use std::fs;
use std::io;
use std::path::Path;

use runner_core::job::ObjectFormat;
use runner_core::log::Message;
use runner_core::plan::{GetSources, GitStrategy, Operation};

use super::git::Git;
use super::submodules::{DEEPEST, repositories};
use super::{git_dir, lfs, module_config, plain, project as directory};
use crate::beneath::Directory;
use crate::stages::context::{Context, StageFailure};

/// Cleans the checkout as the job's strategy asks for, if the job wants that at all.
///
/// # Errors
/// When something is left; that has been said in the trace.
pub(crate) async fn clean_up(context: &Context<'_>) -> Result<(), StageFailure> {
    let wanted = context.plan.stages.iter().find_map(|stage| match &stage.operation {
        Operation::GetSources(sources) if sources.clean_up => Some(&**sources),
        _ => None,
    });
    let Some(sources) = wanted else { return Ok(()) };
    let project = Path::new(&context.plan.directories.project);
    let broken = |error: io::Error| {
        context.fail(format_args!("cannot clean the directory {}: {error}", project.display()))
    };
    match sources.strategy {
        GitStrategy::Clone | GitStrategy::Empty => directory::remove(project).map_err(broken),
        GitStrategy::None => {
            context.say(&Message::info("Skipping build directory cleanup step"))?;
            Ok(())
        }
        GitStrategy::Fetch => {
            let git = Git::new(context, sources, project).map_err(broken)?;
            git.leave(sources).await
        }
    }
}

impl Git<'_> {
    async fn leave(&self, sources: &GetSources) -> Result<(), StageFailure> {
        let own = self.project.join(".git");
        // A link, or a file: the next job begins anew, and nobody writes where it leads.
        if fs::symlink_metadata(&own).is_ok_and(|data| !data.is_dir()) {
            let message =
                format_args!("{} is no directory any more: it is not cleaned up", own.display());
            return Ok(self.context.say(&Message::warning(message))?);
        }
        self.restore(self.project, &own, &sources.sha, &sources.clean_flags).await?;
        if sources.submodules.is_none() {
            return Ok(());
        }
        let modules = own.join("modules");
        if !self.is_the_jobs_own(&modules) {
            return Ok(());
        }
        for repository in repositories(&modules, DEEPEST) {
            let config = plain::read(&repository.join("config")).unwrap_or_default();
            // What was found harmless is what counts: the file may be another one by now.
            let known = module_config::harmless(&config, &repository, self.project);
            let tree = known.and_then(|known| lfs::worktree(&known, &repository));
            let tree = tree.map(|tree| module_config::without_dots(&tree));
            let head = plain::read(&repository.join("HEAD")).unwrap_or_default();
            // One that is anything else is fetched anew by the next job.
            if let Some(tree) = tree.filter(|tree| self.is_the_jobs_own(tree)) {
                self.restore(&tree, &repository, head.trim(), &self.clean_flags()).await?;
            }
        }
        Ok(())
    }

    /// Whether a directory is there, and no link leads out of the builds directory on the way to it: git
    /// follows them, as the helper's user.
    fn is_the_jobs_own(&self, directory: &Path) -> bool {
        let builds = Path::new(&self.context.plan.directories.builds);
        Directory::open(builds, directory).is_ok()
    }

    /// Makes a tree what this commit says.
    async fn restore(
        &self,
        tree: &Path,
        repository: &Path,
        sha: &str,
        clean_flags: &[String],
    ) -> Result<(), StageFailure> {
        if sha.is_empty() || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        let place = tempfile::Builder::new().prefix("podwright-clean-").tempdir()?;
        let index = repository.join("index");
        self.stand_in(place.path(), sha, &index).map_err(|error| self.broken(tree, &error))?;
        let command = |words: &[&str]| {
            let mut command = self.command(words.iter().copied());
            command.current_dir(tree);
            command
                .env("GIT_DIR", place.path())
                .env("GIT_WORK_TREE", tree)
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", repository.join("objects"));
            command
        };
        if !clean_flags.is_empty() {
            self.run(command(&["clean"]).args(clean_flags)).await?;
        }
        self.run(&mut command(&["reset", "--hard", sha])).await
    }

    /// A repository without objects of its own.
    fn stand_in(&self, place: &Path, sha: &str, index: &Path) -> io::Result<()> {
        git_dir::create(place)?;
        fs::write(place.join("HEAD"), format!("{sha}\n"))?;
        let (version, format) = match self.sources.object_format {
            ObjectFormat::Sha1 => (0, ""),
            ObjectFormat::Sha256 => (1, "[extensions]\n\tobjectFormat = sha256\n"),
        };
        let config =
            format!("[core]\n\trepositoryformatversion = {version}\n\tbare = false\n{format}");
        fs::write(place.join("config"), config)?;
        // A git that the job had running may be dead by now; where a link leads is nobody's business.
        for path in [index.with_file_name("index.lock"), index.to_owned()] {
            let is_plain = fs::symlink_metadata(&path).is_ok_and(|data| data.is_file());
            if path.extension().is_some() || !is_plain {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.give(place)
    }
}
