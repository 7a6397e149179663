//! Brings the checkout into the state that the job wants, with the `git` of the helper image.
//!
//! Four processes: `init`, `fetch`, `checkout`, `clean`. GitLab Runner starts 12 to 16 before it
//! speaks to the network; here the settings travel in the environment, where no job can read them,
//! and `.git/config` is written directly. No credential is ever in a URL, an argument or a file.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use runner_core::job::ObjectFormat;
use runner_core::log::Message;
use runner_core::outcome::Outcome;
use runner_core::plan::{GetSources, GitStrategy};

use super::context::{Context, StageFailure};
use super::tool;
use crate::process::ExitStatus;

pub(super) async fn get_sources(
    context: &Context<'_>,
    sources: &GetSources,
    attempt: u32,
) -> Result<(), StageFailure> {
    let project = Path::new(&context.plan.directories.project);
    let broken = |error: io::Error| {
        context.fail(format_args!("cannot prepare the directory {}: {error}", project.display()))
    };
    match sources.strategy {
        GitStrategy::None => {
            make_project(project).map_err(broken)?;
            context.say(&Message::info("Skipping Git repository setup"))?;
            return skip_checkout(context);
        }
        GitStrategy::Empty => {
            remove_project(project).and_then(|()| make_project(project)).map_err(broken)?;
            context.say(&Message::info(
                "Skipping Git repository setup and creating an empty build directory",
            ))?;
            return skip_checkout(context);
        }
        GitStrategy::Clone => remove_project(project).map_err(broken)?,
        GitStrategy::Fetch if attempt > 1 => {
            context.say(&Message::info("Deleting tracked and untracked files..."))?;
            remove_project(project).map_err(broken)?;
        }
        GitStrategy::Fetch => clean_git_dir(&project.join(".git")).map_err(broken)?,
    }
    make_project(project).map_err(broken)?;
    match sources.depth {
        0 => context.say(&Message::info("Fetching changes..."))?,
        depth => context.say(&Message::info(format_args!(
            "Fetching changes with git depth set to {depth}..."
        )))?,
    }
    let git = Git { context, sources, project };
    git.init().await?;
    git.fetch().await?;
    if sources.checkout {
        git.checkout().await?;
        git.clean().await?;
    } else {
        context.say(&Message::info("Skipping Git checkout"))?;
    }
    context.say(&Message::info("Skipping Git submodules setup"))?;
    Ok(())
}

fn skip_checkout(context: &Context<'_>) -> Result<(), StageFailure> {
    context.say(&Message::info("Skipping Git checkout"))?;
    context.say(&Message::info("Skipping Git submodules setup"))?;
    Ok(())
}

fn make_project(project: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(project)?;
    let _ = fs::set_permissions(project, fs::Permissions::from_mode(0o777));
    Ok(())
}

fn remove_project(project: &Path) -> io::Result<()> {
    match fs::symlink_metadata(project) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.is_dir() => fs::remove_dir_all(project),
        Ok(_) => fs::remove_file(project),
    }
}

/// What an earlier job may have left in a checkout that is used again: locks of a git that was
/// killed, and settings and hooks that would run as somebody else now.
fn clean_git_dir(git: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match fs::symlink_metadata(git) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        // A `.git` that is a file or a link leads elsewhere: begin anew.
        Ok(data) if !data.is_dir() => return fs::remove_file(git),
        Ok(_) => {}
    }
    for file in ["index.lock", "shallow.lock", "HEAD.lock", "config.lock", "config"] {
        gone(fs::remove_file(git.join(file)))?;
    }
    gone(fs::remove_dir_all(git.join("hooks")))?;
    gone(fs::remove_dir_all(git.join("info")))?;
    remove_locks(&git.join("refs"))
}

fn remove_locks(directory: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_locks(&entry.path())?;
        } else if entry.path().extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

struct Git<'a> {
    context: &'a Context<'a>,
    sources: &'a GetSources,
    project: &'a Path,
}

impl Git<'_> {
    async fn init(&self) -> Result<(), StageFailure> {
        let fresh = !self.project.join(".git").exists();
        let mut init = self.command();
        init.args(["init", "--quiet"]);
        if self.sources.object_format == ObjectFormat::Sha256 {
            init.arg("--object-format=sha256");
        }
        self.run(init.arg(self.project)).await?;
        if fresh {
            self.context.say(&Message::info("Created fresh repository."))?;
        }
        let config = format!(
            "[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
            quoted(&self.sources.url)
        );
        let path = self.project.join(".git/config");
        fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, config.as_bytes()))
            .map_err(|error| self.context.fail(format_args!("cannot write .git/config: {error}")))
    }

    async fn fetch(&self) -> Result<(), StageFailure> {
        let mut fetch = self.command();
        fetch.current_dir(self.project).args(["fetch", "origin", "--no-recurse-submodules"]);
        fetch.args(&self.sources.refspecs);
        if self.sources.depth > 0 {
            fetch.arg("--depth").arg(self.sources.depth.to_string());
        }
        fetch.args(&self.sources.fetch_flags);
        if self.sources.depth == 0 && self.project.join(".git/shallow").exists() {
            fetch.arg("--unshallow");
        }
        self.run(&mut fetch).await
    }

    async fn checkout(&self) -> Result<(), StageFailure> {
        let GetSources { sha, reference, .. } = self.sources;
        let short = sha.get(..8).unwrap_or(sha);
        self.context.say(&Message::info(format_args!(
            "Checking out {short} as detached HEAD (ref is {reference})..."
        )))?;
        let mut checkout = self.command();
        checkout.current_dir(self.project).args(["-c", "submodule.recurse=false"]);
        self.run(checkout.args(["checkout", "-f", "-q", sha])).await
    }

    async fn clean(&self) -> Result<(), StageFailure> {
        if self.sources.clean_flags.is_empty() {
            return Ok(());
        }
        let mut clean = self.command();
        clean.current_dir(self.project).arg("clean").args(&self.sources.clean_flags);
        self.run(&mut clean).await
    }

    async fn run(&self, command: &mut Command) -> Result<(), StageFailure> {
        match tool::run(self.context, command).await? {
            ExitStatus::Exited(0) => Ok(()),
            ExitStatus::Exited(code) => Err(StageFailure(Outcome::Exited(code))),
            ExitStatus::Signalled(signal) => Err(StageFailure(Outcome::Signalled(signal))),
        }
    }

    /// `git` with everything it has to know in its environment.
    fn command(&self) -> Command {
        let mut settings = vec![
            ("init.defaultBranch".to_owned(), "none".to_owned()),
            ("fetch.recurseSubmodules".to_owned(), "false".to_owned()),
            ("gc.autoDetach".to_owned(), "false".to_owned()),
            ("advice.detachedHead".to_owned(), "false".to_owned()),
            ("safe.directory".to_owned(), "*".to_owned()),
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("http.userAgent".to_owned(), self.sources.user_agent.clone()),
        ];
        let mut command = Command::new("git");
        if let (Some(login), Some(origin)) = (&self.sources.login, origin(&self.sources.url)) {
            // An empty entry forgets helpers of the image; the second one answers for this host
            // alone, out of the environment of this process.
            let helper = "!f() { test \"$1\" = get && echo username=\"$PODWRIGHT_GIT_USER\" && \
                          echo password=\"$PODWRIGHT_GIT_PASSWORD\"; }; f";
            settings.push((format!("credential.{origin}.helper"), String::new()));
            settings.push((format!("credential.{origin}.helper"), helper.to_owned()));
            command
                .env("PODWRIGHT_GIT_USER", &login.username)
                .env("PODWRIGHT_GIT_PASSWORD", login.password.expose());
        }
        if self.sources.tls_ca.is_some() {
            let file = Path::new(&self.context.plan.directories.temp).join("CI_SERVER_TLS_CA_FILE");
            if let Some(pem) = &self.sources.tls_ca
                && fs::write(&file, pem).is_ok()
            {
                settings.push(("http.sslCAInfo".to_owned(), file.display().to_string()));
            }
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GCM_INTERACTIVE", "Never")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }
}

/// A value in git's configuration syntax.
fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<&str> {
    let rest = url.find("://")? + 3;
    let end = url[rest..].find('/').map_or(url.len(), |slash| rest + slash);
    Some(&url[..end])
}

#[cfg(test)]
mod tests {
    use super::{origin, quoted};

    #[test]
    fn credentials_are_for_one_host_alone() {
        assert_eq!(origin("https://git.example:8443/a/b.git"), Some("https://git.example:8443"));
        assert_eq!(origin("http://127.0.0.1:99"), Some("http://127.0.0.1:99"));
        assert_eq!(origin("git@git.example:a/b"), None);
    }

    #[test]
    fn a_url_cannot_end_its_line_in_the_configuration() {
        assert_eq!(quoted("a\"\n[core]\\"), r#""a\"\n[core]\\""#);
    }
}
