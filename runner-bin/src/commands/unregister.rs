//! `unregister`: takes runners, or this manager of them, off GitLab's list and out of the file.

use anyhow::bail;
use tracing::{error, info};

use super::file::{self, ConfigFile, Opened};
use crate::config::RunnerConfig;
use crate::system_id;

/// Take runners off GitLab's list and out of the file.
///
/// Of a runner that was made in GitLab (token glrt-…) only this manager is taken off.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Unregister {
    #[command(flatten)]
    file: ConfigFile,
    /// The runner of this name.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    name: String,
    /// The runner of this token.
    #[arg(
        long,
        short,
        env = "CI_SERVER_TOKEN",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    token: String,
    /// Accepted; the address in the file counts.
    #[arg(long, short, hide = true)]
    url: Option<String>,
    /// All runners. What fails stays in the file; the exit code is 0 all the same.
    #[arg(long)]
    all_runners: bool,
    /// With --all-runners: exit code 1 if one of them fails.
    #[arg(long, requires = "all_runners")]
    strict: bool,
}

impl Unregister {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::read(&self.file.path())?;
        let system_id = system_id::of(&opened.path)?;
        let places = match self.all_runners {
            true => opened.places(|_| true),
            false => self.single(&opened)?,
        };
        let runners = &opened.config.runners;
        let results = file::block_on(async {
            let mut results = Vec::new();
            for place in places {
                results.push((place, unregister(&runners[place], &system_id).await));
            }
            results
        })?;
        let (mut gone, mut failed) = (Vec::new(), 0);
        for (place, result) in results {
            let runner = &runners[place];
            match result {
                Ok(()) => {
                    info!(
                        runner = file::short(runner),
                        "Unregistering runner from GitLab succeeded"
                    );
                    let same = |other: &RunnerConfig| {
                        other.token == runner.token && other.url == runner.url
                    };
                    gone.extend(opened.places(same));
                }
                Err(error) => {
                    failed += 1;
                    error!(
                        runner = file::short(runner),
                        "Unregistering runner from GitLab failed: {error:#}"
                    );
                }
            }
        }
        gone.sort_unstable();
        gone.dedup();
        if !gone.is_empty() {
            opened.edit(|document| document.remove_runners(&gone))?;
            info!("Updated {}", opened.path.display());
        }
        if failed > 0 && (!self.all_runners || self.strict) {
            bail!("Failed to unregister runner");
        }
        Ok(())
    }

    fn single(&self, opened: &Opened) -> anyhow::Result<Vec<usize>> {
        if self.name.is_empty() && self.token.is_empty() {
            bail!("say which runner: --name, --token or --all-runners");
        }
        let places = opened.places(|runner| {
            (self.name.is_empty() || runner.name == self.name)
                && (self.token.is_empty() || runner.token.expose() == self.token)
        });
        match places.first() {
            Some(first) => Ok(vec![*first]),
            None => bail!("no such runner in {}", opened.path.display()),
        }
    }
}

async fn unregister(runner: &RunnerConfig, system_id: &str) -> anyhow::Result<()> {
    file::api(runner, system_id)?.unregister().await?;
    Ok(())
}
