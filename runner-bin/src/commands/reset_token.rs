//! `reset-token`: a new token in place of the old one.

use anyhow::{Context, bail};
use jiff::Timestamp;
use runner_core::secret::Secret;
use runner_gitlab::ResetBy;
use tracing::{error, info};

use super::file::{self, ConfigFile, Opened};
use crate::config::{Document, RunnerConfig};
use crate::system_id;

/// Ask GitLab for a new token and write it into the file. The old one is void at once.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResetToken {
    #[command(flatten)]
    file: ConfigFile,
    /// The runner of this name.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    name: String,
    /// Together with --id: the runner of this address.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    url: String,
    /// The runner's number in GitLab.
    #[arg(long, short, default_value_t = 0, hide_default_value = true)]
    id: u64,
    /// All runners; what fails is only logged.
    #[arg(long)]
    all_runners: bool,
    /// Personal access token to ask with, instead of the runner's own.
    #[arg(long, default_value = "", hide_default_value = true)]
    pat: String,
}

impl ResetToken {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::read(&self.file.path())?;
        let places = opened.places(|runner| {
            self.all_runners
                || (!self.name.is_empty() && runner.name == self.name)
                || (self.id > 0 && runner.id == self.id && runner.url == self.url)
        });
        if places.is_empty() {
            bail!(
                "no such runner in {}; say --name, --url and --id, or --all-runners",
                opened.path.display()
            );
        }
        let system_id = system_id::of(&opened.path)?;
        file::block_on(async {
            for place in places {
                let runner = opened.config.runners[place].clone();
                match self.reset(&opened, place, &runner, &system_id).await {
                    Ok(()) => info!(runner = file::short(&runner), "The token was renewed"),
                    Err(error) if self.all_runners => {
                        error!(
                            runner = file::short(&runner),
                            "the token could not be renewed: {error:#}"
                        );
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?
    }

    async fn reset(
        &self,
        opened: &Opened,
        place: usize,
        runner: &RunnerConfig,
        system_id: &str,
    ) -> anyhow::Result<()> {
        let pat = Secret::new(self.pat.as_str());
        let by = match (pat.is_empty(), runner.id) {
            (true, _) => ResetBy::Runner,
            (false, 0) => {
                bail!("the file does not know the number of {}, which --pat needs", runner.name)
            }
            (false, id) => ResetBy::Person { token: &pat, id },
        };
        // Tried before GitLab is asked: afterwards the old token is void.
        let now = Timestamp::now();
        let mut probe = Document::parse(&std::fs::read_to_string(&opened.path)?)?;
        probe.set_token(place, &Secret::new("probe"), now, None)?;
        let made = file::api(runner, system_id)?.reset_token(by).await?;
        // Read anew: the one before may have been written by the turn before this one.
        let opened = Opened::read(&opened.path)?;
        opened
            .edit(|document| document.set_token(place, &made.token, now, made.expires))
            .context("the new token could not be written, and the old one is void")
    }
}
