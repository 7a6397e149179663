//! The configuration file of a command that is not `run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use runner_gitlab::{RunnerApi, is_created_runner_token, short_token};

use crate::config::{self, Config, Document, RunnerConfig, Severity};
use crate::environment;
use crate::run::{gitlab_settings, read};

/// `--config`, which every command has.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// GitLab Runner's config.toml. Default: /etc/gitlab-runner/config.toml for root, else
    /// ~/.gitlab-runner/config.toml.
    #[arg(long, short, env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Where it is. An empty variable counts as not set.
    pub(crate) fn path(&self) -> PathBuf {
        let named = self.config.clone().filter(|path| !path.as_os_str().is_empty());
        named.unwrap_or_else(environment::default_config)
    }
}

/// A file that was read, and may be changed.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    text: String,
    pub(crate) config: Config,
}

impl Opened {
    /// Reads it. A file that is not there is an empty one.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
        };
        let reading = match text.is_empty() {
            true => config::empty(),
            false => read(path).with_context(|| format!("cannot read {}", path.display()))?,
        };
        let Some(config) = reading.config else {
            let errors: Vec<String> =
                reading.findings.of(Severity::Error).map(ToString::to_string).collect();
            bail!("{} cannot be used: {}", path.display(), errors.join("; "));
        };
        Ok(Self { path: path.to_owned(), text, config })
    }

    /// Changes it, atomically, if there is a change.
    pub(crate) fn edit(
        &self,
        change: impl FnOnce(&mut Document) -> Result<(), config::EditError>,
    ) -> anyhow::Result<()> {
        let mut document = Document::parse(&self.text)?;
        change(&mut document)?;
        let text = document.text();
        if text == self.text {
            return Ok(());
        }
        config::save(&self.path, &text)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The places of these runners in the file.
    pub(crate) fn places(&self, is: impl Fn(&RunnerConfig) -> bool) -> Vec<usize> {
        let runners = self.config.runners.iter().enumerate();
        runners.filter(|(_, runner)| is(runner)).map(|(index, _)| index).collect()
    }
}

/// GitLab's interface for this runner.
pub(crate) fn api(runner: &RunnerConfig, system_id: &str) -> anyhow::Result<RunnerApi> {
    let mut settings = gitlab_settings(runner, system_id, None);
    // A person or a probe waits; a connection that takes longer will not come.
    settings.timeouts.connect = Duration::from_secs(10);
    settings.timeouts.update = Duration::from_secs(30);
    Ok(RunnerApi::new(settings)?)
}

/// The token as it may be printed.
pub(crate) fn short(runner: &RunnerConfig) -> String {
    short_token(runner.token.expose())
}

/// Whether the runner was made in GitLab's interface.
pub(crate) fn is_created(runner: &RunnerConfig) -> bool {
    is_created_runner_token(runner.token.expose())
}

/// A runtime for a few calls.
pub(crate) fn block_on<F: Future>(work: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}
