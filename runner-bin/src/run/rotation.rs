//! Renews tokens before they expire.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use runner_core::secret::Secret;
use runner_gitlab::{ResetBy, RunnerApi};
use tracing::{error, info, warn};

use super::fleet::gitlab_settings;
use super::settings::Settings;
use crate::config::{self, Config, Document, Renewed, RunnerConfig};
use crate::metrics::{ConfigEvent, Metrics};

/// Pause after a failure, doubled from one to the next.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// When what is next.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    pause: Option<Duration>,
    not_before: Option<Timestamp>,
}

impl Rotation {
    /// How long until a token is to be renewed; `None`: never, as far as is known.
    pub(super) fn due_in(&self, config: &Config) -> Option<Duration> {
        let first = config.runners.iter().filter(|runner| is_ours(runner));
        let first =
            first.filter_map(|runner| runner.token_life).map(|life| life.renew_at()).min()?;
        let at = self.not_before.map_or(first, |not_before| first.max(not_before));
        Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
    }

    /// Renews what is due.
    pub(super) async fn renew(
        &mut self,
        settings: &mut Settings,
        system_id: &str,
        metrics: &Metrics,
    ) {
        let Some(config) = settings.config().cloned() else { return };
        let now = Timestamp::now();
        let due = config.runners.iter().filter(|runner| {
            is_ours(runner) && runner.token_life.is_some_and(|life| life.renew_at() <= now)
        });
        let mut failed = false;
        for runner in due {
            match renew(settings, runner, system_id, metrics).await {
                Ok(()) => info!(runner = runner.name, "Token of the runner was renewed"),
                Err(error) => {
                    failed = true;
                    error!(runner = runner.name, "the token could not be renewed: {error:#}");
                }
            }
        }
        self.pause =
            failed.then(|| self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)));
        self.not_before = self.pause.and_then(|pause| now.checked_add(pause).ok());
    }
}

/// Whether the token is renewed here: not where that is switched off, and not where it comes from a
/// file that somebody else writes.
fn is_ours(runner: &RunnerConfig) -> bool {
    runner.fault.is_none()
        && runner.token_file.is_none()
        && !runner.flag("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION")
}

async fn renew(
    settings: &mut Settings,
    runner: &RunnerConfig,
    system_id: &str,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    // Whether the file can take it is tried before GitLab is asked: afterwards the old one is void.
    let probe = Renewed { token: Secret::new("probe"), obtained: Timestamp::now(), expires: None };
    edited(settings, runner, &probe)?;
    let api = RunnerApi::new(gitlab_settings(runner, system_id, None))?;
    let made = api.reset_token(ResetBy::Runner).await?;
    let renewed = Renewed { token: made.token, obtained: Timestamp::now(), expires: made.expires };
    let text = edited(settings, runner, &renewed)?;
    // Kept whatever becomes of the file: nobody else knows this token.
    settings.remember(runner.token.clone(), renewed);
    match config::save(&settings.file, &text) {
        Ok(()) => metrics.config(ConfigEvent::Saved),
        Err(error) => {
            metrics.config(ConfigEvent::SavingError);
            warn!(
                %error, file = %settings.file.display(), runner = runner.name,
                "the renewed token cannot be written into the file; it is lost when this manager ends"
            );
        }
    }
    Ok(())
}

/// The file's text with the new token at every place of the old one.
fn edited(settings: &Settings, runner: &RunnerConfig, renewed: &Renewed) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(&settings.file)
        .with_context(|| format!("{} cannot be read", settings.file.display()))?;
    let now = super::settings::read(&settings.file)?.config.context("the file is not valid now")?;
    let mut document = Document::parse(&text)?;
    let mut found = false;
    for (index, other) in now.runners.iter().enumerate() {
        if other.token == runner.token && other.url == runner.url {
            document.set_token(index, &renewed.token, renewed.obtained, renewed.expires)?;
            found = true;
        }
    }
    anyhow::ensure!(found, "the file no longer holds this token");
    Ok(document.text())
}
