//! The configuration file of a running manager: loading it, and what a reload says.

use std::path::{Path, PathBuf};

use anyhow::bail;
use runner_core::secret::Secret;
use tracing::{error, info, warn};

use crate::config::{self, Change, Config, LogFormat, LogLevel, Reading, Severity};
use crate::logging;

/// What the command line and the environment say; they win over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) listen_address: Option<String>,
}

/// A configuration that was loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    table: toml::Table,
}

/// The file, and what was last read from it.
pub(super) struct Settings {
    pub(super) file: PathBuf,
    overrides: Overrides,
    current: Option<Loaded>,
    /// Tokens that GitLab has renewed and that could not be written into the file yet.
    renewed: Vec<(Secret, config::Renewed)>,
}

/// What is read through the process's environment.
pub(crate) fn read(file: &Path) -> std::io::Result<Reading> {
    Ok(config::read_from_environment(&std::fs::read_to_string(file)?))
}

impl Settings {
    pub(super) fn new(file: PathBuf, overrides: Overrides) -> Self {
        Self { file, overrides, current: None, renewed: Vec::new() }
    }

    /// Reads the file. A file that is not there is an empty one at the start: it may come.
    ///
    /// # Errors
    /// When it cannot be used; what was read before stays.
    pub(super) fn load(&mut self) -> anyhow::Result<&Config> {
        let reading = match read(&self.file) {
            Ok(reading) => reading,
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && self.current.is_none() =>
            {
                self.start_logging(None, None);
                error!("{} is not there yet; waiting for it", self.file.display());
                config::empty()
            }
            Err(error) => bail!("{} cannot be read: {error}", self.file.display()),
        };
        let Some(mut config) = reading.config else {
            let errors: Vec<String> =
                reading.findings.of(Severity::Error).map(ToString::to_string).collect();
            bail!("{} cannot be used: {}", self.file.display(), errors.join("; "))
        };
        self.renewed.retain(|(old, _)| config.runners.iter().any(|runner| runner.token == *old));
        for runner in &mut config.runners {
            let renewed = self.renewed.iter().find(|(old, _)| runner.token == *old);
            if let Some((_, renewed)) = renewed {
                runner.token.clone_from(&renewed.token);
                runner.token_life = renewed.life();
            }
        }
        self.start_logging(config.log_level, config.log_format);
        logging::sentry::report_to(config.sentry_dsn.clone());
        for finding in &reading.findings.0 {
            match finding.severity {
                Severity::Note => info!("{}: {finding}", self.file.display()),
                _ => warn!("{}: {finding}", self.file.display()),
            }
        }
        let loaded = Loaded { config, table: reading.table };
        match &self.current {
            Some(before) => report(before, &loaded),
            None => info!("Configuration loaded"),
        }
        Ok(&self.current.insert(loaded).config)
    }

    /// What was last read.
    pub(super) fn config(&self) -> Option<&Config> {
        self.current.as_ref().map(|loaded| &loaded.config)
    }

    /// The files whose content the configuration is made of.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let runners = self.config().map(|config| config.runners.as_slice()).unwrap_or_default();
        let tokens = runners.iter().filter_map(|runner| runner.token_file.clone());
        let tls = runners.iter().flat_map(|runner| runner.tls.files());
        let mut files: Vec<PathBuf> = tokens.chain(tls).collect();
        files.sort();
        files.dedup();
        files.insert(0, self.file.clone());
        files
    }

    /// Where metrics are served; empty: nowhere.
    pub(super) fn listen_address(&self) -> String {
        let from_file = || self.config().map(|config| config.listen_address.clone());
        self.overrides.listen_address.clone().or_else(from_file).unwrap_or_default()
    }

    /// Keeps a renewed token in mind until the file has it.
    pub(super) fn remember(&mut self, old: Secret, new: config::Renewed) {
        self.renewed.push((old, new));
    }

    fn start_logging(&self, level: Option<LogLevel>, format: Option<LogFormat>) {
        let level = self.overrides.log_level.or(level).unwrap_or_default();
        let format = self.overrides.log_format.or(format).unwrap_or_default();
        logging::start(level, format);
    }
}

fn report(before: &Loaded, after: &Loaded) {
    let changes = config::diff(&before.table, &after.table);
    let texts = |restart: bool| {
        let fits = changes.iter().filter(|change| change.restart == restart);
        fits.map(Change::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut now = texts(false);
    if changes.is_empty() {
        // The same text with another meaning: a file that it names has changed.
        let changed = after.config.runners.iter().filter(|runner| {
            !before.config.runners.iter().any(|other| other.token == runner.token)
        });
        let names: Vec<String> =
            changed.map(|runner| format!("the token of {} has changed", runner.name)).collect();
        now = if names.is_empty() { "nothing has changed".to_owned() } else { names.join(", ") };
    }
    info!(changes = now, "Configuration loaded");
    let restart = texts(true);
    if !restart.is_empty() {
        warn!(changes = restart, "these changes take effect with the next start only");
    }
}
