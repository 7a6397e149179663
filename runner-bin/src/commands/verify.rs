//! `verify`: whether GitLab knows the runners.

use anyhow::bail;
use runner_core::causes::causes;
use runner_core::source::SourceErrorKind;
use tracing::{error, info};

use super::file::{self, ConfigFile, Opened};
use crate::config::RunnerConfig;
use crate::system_id;

/// Say of each runner whether GitLab knows it. Exit code 1 if it does not.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    file: ConfigFile,
    /// Only the runner of this name.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    name: String,
    /// Together with --token: only the runner of these credentials.
    // Never from CI_SERVER_URL: the official chart sets that, and means all runners.
    #[arg(long, short)]
    url: Option<String>,
    /// Only the runner of this token.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    token: String,
    /// Remove runners that GitLab does not know from the file.
    #[arg(long)]
    delete: bool,
}

/// What GitLab says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Known,
    Unknown,
    /// It did not answer. Counts as known: an outage must not remove runners.
    Unsure,
}

impl Verify {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::read(&self.file.path())?;
        let places = opened.places(|runner| self.selects(runner));
        if places.is_empty() {
            if self.selects_all() {
                return Ok(());
            }
            bail!("no runner in {} has these credentials", opened.path.display());
        }
        let system_id = system_id::of(&opened.path)?;
        let runners = &opened.config.runners;
        let verdicts = file::block_on(async {
            // Side by side: the official chart's probe has three seconds for all of them.
            let asked = places.iter().map(|place| verify(&runners[*place], &system_id));
            futures_util::future::join_all(asked).await
        })?;
        if self.is_probe() && !verdicts.contains(&Verdict::Unknown) {
            reassure(verdicts.contains(&Verdict::Known));
        }
        let bad: Vec<usize> = places
            .into_iter()
            .zip(verdicts)
            .filter(|(_, verdict)| *verdict == Verdict::Unknown)
            .map(|(place, _)| place)
            .collect();
        if bad.is_empty() {
            return Ok(());
        }
        if !self.delete {
            bail!("Failed to verify runners");
        }
        opened.edit(|document| document.remove_runners(&bad))?;
        info!("Updated {}", opened.path.display());
        Ok(())
    }

    fn url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    /// Nobody but the official chart's `check-live` gives an empty URL.
    fn is_probe(&self) -> bool {
        self.selects_all() && self.url.is_some()
    }

    fn selects_all(&self) -> bool {
        [&self.name, self.url(), &self.token].into_iter().all(str::is_empty)
    }

    fn selects(&self, runner: &RunnerConfig) -> bool {
        let any = |url: &str| url.is_empty() || url == "*";
        let same_url = any(self.url()) || any(&runner.url) || self.url() == runner.url;
        self.selects_all()
            || (!self.name.is_empty() && runner.name == self.name)
            || (runner.token.expose() == self.token && same_url)
    }
}

/// Says the words that `check-live` looks for where the log does not have them. With GitLab Runner a probe fails while GitLab
/// refuses connections, and the kubelet restarts managers that an outage has not harmed; and it fails when `LOG_LEVEL`
/// hides the words.
#[expect(clippy::print_stderr, reason = "the words must be there whatever is logged")]
fn reassure(known: bool) {
    if !known {
        eprintln!(
            "GitLab did not answer; until it says otherwise the runner counts as one that is valid"
        );
    } else if !tracing::enabled!(tracing::Level::INFO) {
        eprintln!("Verifying runner... is valid");
    }
}

async fn verify(runner: &RunnerConfig, system_id: &str) -> Verdict {
    let name = file::short(runner);
    let created = file::is_created(runner);
    let api = match file::api(runner, system_id) {
        Ok(api) => api,
        Err(error) => {
            error!(runner = name, %error, "Verifying runner... client error");
            return Verdict::Unsure;
        }
    };
    match api.verify().await {
        Ok(_) if created => {
            info!(runner = name, "Verifying runner... is valid");
            Verdict::Known
        }
        Ok(_) => {
            info!(runner = name, "Verifying runner... is alive");
            Verdict::Known
        }
        Err(error) if error.kind == SourceErrorKind::Forbidden => {
            if created {
                info!(runner = name, "Verifying runner... is not valid");
            } else {
                error!(runner = name, "Verifying runner... is removed");
            }
            Verdict::Unknown
        }
        Err(error) => {
            error!(
                runner = name,
                error = causes(&error),
                "Verifying runner... failed; nothing is known about it"
            );
            Verdict::Unsure
        }
    }
}
