//! The `git` of the helper image, with everything it has to know in its environment.
//!
//! Settings travel as `GIT_CONFIG_KEY_0` and so on, where no file of a job can change them and
//! submodules see them too. No credential is ever in a URL, an argument or a file.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner_core::outcome::Outcome;
use runner_core::plan::{BuildUser, GetSources};

use super::environment;
use crate::process::ExitStatus;
use crate::stages::context::{Context, StageFailure};
use crate::stages::{ownership, tool};

/// Answers for the URLs it is set up for, out of the environment of the process itself. `printf`,
/// since `echo` of some shells reads backslashes.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
                      \"$PODWRIGHT_GIT_USER\" \"$PODWRIGHT_GIT_PASSWORD\"; }; f";

/// Wins over every setting, whatever host it is for.
const CA_BUNDLE: &str = "GIT_SSL_CAINFO";

/// How git is run for one checkout.
pub(super) struct Git<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) sources: &'a GetSources,
    pub(super) project: &'a Path,
    /// Who it runs as, when not as this process.
    pub(super) user: Option<BuildUser>,
    /// The CA in a file, where there is one.
    pub(super) tls_ca: Option<PathBuf>,
    variables: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    /// For another user, who cannot read ours.
    home: Option<tempfile::TempDir>,
}

impl<'a> Git<'a> {
    /// Writes the files that git needs.
    ///
    /// # Errors
    /// When the job's temporary directory cannot be written.
    pub(super) fn new(
        context: &'a Context<'a>,
        sources: &'a GetSources,
        project: &'a Path,
    ) -> io::Result<Self> {
        let directories = &context.plan.directories;
        let wanted = context.plan.build_user.filter(|user| *user != ownership::own_user());
        let user = wanted.filter(|_| ownership::may_give());
        let mut git = Self {
            context,
            sources,
            project,
            user,
            tls_ca: None,
            variables: environment::variables(&context.plan.variables, directories),
            settings: Vec::new(),
            home: None,
        };
        git.home = git.user.and_then(|user| home_for(user).ok());
        git.write_files()?;
        git.settings = git.settings();
        Ok(git)
    }

    /// File variables, where the others say that they are: `GIT_SSL_CAINFO` may name one. The job's
    /// scripts write their own copies.
    fn write_files(&mut self) -> io::Result<()> {
        let temp = Path::new(&self.context.plan.directories.temp);
        for variable in self.context.plan.variables.iter().filter(|variable| variable.file) {
            if variable.key.is_empty() || variable.key.contains(['/', '\0']) {
                continue;
            }
            self.write(&temp.join(&variable.key), variable.value.expose().as_bytes(), 0o600)?;
        }
        if let Some(pem) = &self.sources.tls_ca {
            let path = temp.join("CI_SERVER_TLS_CA_FILE");
            // A certificate is no secret, and the job's own git needs it as well.
            self.write(&path, pem.as_bytes(), 0o644)?;
            self.tls_ca = Some(path);
        }
        Ok(())
    }

    /// Writes a file for git, in place of what an earlier job put there.
    pub(super) fn write(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        match self.user {
            Some(BuildUser { uid, gid }) => std::os::unix::fs::fchown(&file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        let sources = self.sources;
        let mut settings: Vec<(String, String)> = [
            ("init.defaultBranch", "none"),
            ("fetch.recurseSubmodules", "false"),
            ("gc.autoDetach", "false"),
            ("maintenance.autoDetach", "false"),
            ("advice.detachedHead", "false"),
            ("credential.interactive", "never"),
            // The directory is the one that the plan names; whose it is does not matter here.
            ("safe.directory", "*"),
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("http.userAgent", sources.user_agent.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let mut set = |key: String, value: &str| settings.push((key, value.to_owned()));
        if let Some(bundle) = self.bundle_of_image() {
            set("http.sslCAInfo".to_owned(), &bundle);
        }
        if sources.bundle_uris {
            set("transfer.bundleURI".to_owned(), "true");
        }
        for origin in &sources.login_origins {
            if sources.login.is_some() {
                // The empty one forgets helpers of the image.
                set(format!("credential.{origin}.helper"), "");
                set(format!("credential.{origin}.helper"), HELPER);
            }
            if sources.login.is_some() && sources.proactive_login {
                set(format!("http.{origin}.proactiveAuth"), "basic");
            }
            if let Some(id) = &sources.correlation_id {
                let header = format!("X-Gitaly-Correlation-ID: {id}");
                set(format!("http.{origin}.extraHeader"), &header);
            }
            let file = |key: &str| self.file_variable(key);
            let ca = self.tls_ca.as_ref().map(|path| path.display().to_string());
            for (key, path) in [
                ("sslCAInfo", ca),
                ("sslCert", file("CI_SERVER_TLS_CERT_FILE")),
                ("sslKey", file("CI_SERVER_TLS_KEY_FILE")),
            ] {
                if let Some(path) = path {
                    set(format!("http.{origin}.{key}"), &path);
                }
            }
        }
        for (new, old) in &sources.instead_of {
            set(format!("url.{new}.insteadOf"), old);
        }
        settings
    }

    /// Certificates that the helper image wants git to trust, where they would win over GitLab's CA:
    /// they are for all other hosts.
    fn bundle_of_image(&self) -> Option<String> {
        let is_jobs = self.variables.iter().any(|(key, _)| key == CA_BUNDLE);
        self.tls_ca.as_ref().filter(|_| !is_jobs)?;
        std::env::var(CA_BUNDLE).ok()
    }

    /// Path of a file variable.
    fn file_variable(&self, key: &str) -> Option<String> {
        let plan = self.context.plan;
        let last = plan.variables.iter().rev().find(|variable| variable.key == key)?;
        last.file.then(|| format!("{}/{key}", plan.directories.temp))
    }

    /// `git`, in the checkout.
    pub(super) fn command<'s>(&self, arguments: impl IntoIterator<Item = &'s str>) -> Command {
        self.command_with(&[], arguments)
    }

    /// The same with more settings, for submodules too.
    pub(super) fn command_with<'s>(
        &self,
        settings: &[(&str, &str)],
        arguments: impl IntoIterator<Item = &'s str>,
    ) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.project).args(arguments);
        if self.bundle_of_image().is_some() {
            command.env_remove(CA_BUNDLE);
        }
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        // Lets `git lfs pull` fetch all content at once, instead of a checkout file by file. A job
        // that wants pointers has said so with the same variable.
        command
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GCM_INTERACTIVE", "Never");
        if let Some(login) = &self.sources.login {
            command
                .env("PODWRIGHT_GIT_USER", &login.username)
                .env("PODWRIGHT_GIT_PASSWORD", login.password.expose());
        }
        let more = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = self.settings.iter().cloned().chain(more).collect();
        environment::configure(&mut command, &settings);
        if let Some(BuildUser { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
            let home = self.home.as_ref().map(|home| home.path());
            command.env("HOME", home.unwrap_or(Path::new("/nonexistent")));
            command.env_remove("XDG_CONFIG_HOME");
        }
        command
    }

    /// Runs it with its output in the trace.
    ///
    /// # Errors
    /// When it fails.
    pub(super) async fn run(&self, command: &mut Command) -> Result<(), StageFailure> {
        match tool::run(self.context, command).await? {
            ExitStatus::Exited(0) => Ok(()),
            ExitStatus::Exited(code) => Err(StageFailure(Outcome::Exited(code))),
            ExitStatus::Signalled(signal) => Err(StageFailure(Outcome::Signalled(signal))),
        }
    }

    /// Gives git's user what this process has made.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self.user {
            Some(user) => ownership::give(path, user),
            None => Ok(()),
        }
    }
}

/// A home directory with our own git settings, for somebody who cannot read ours: hooks of the runner
/// (`pre_get_sources_script`) set up git with `git config --global`.
fn home_for(user: BuildUser) -> io::Result<tempfile::TempDir> {
    let home = tempfile::Builder::new().prefix("podwright-home-").tempdir()?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700))?;
    if let Some(own) = std::env::var_os("HOME") {
        let copy = home.path().join(".gitconfig");
        if fs::copy(Path::new(&own).join(".gitconfig"), &copy).is_ok() {
            chown(&copy, Some(user.uid), Some(user.gid))?;
        }
    }
    chown(home.path(), Some(user.uid), Some(user.gid))?;
    Ok(home)
}
