//! Fetches archives of earlier jobs and unpacks them into the project.

use std::fs;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use runner_core::log::Message;
use runner_core::plan::Download;
use tokio::time::sleep;

use super::context::{Context, StageFailure};
use super::transfer::{self, PAUSES, chain, client, http, is_passing};
use super::unpack::unpack;

pub(super) async fn download(
    context: &Context<'_>,
    archives: &[Download],
) -> Result<(), StageFailure> {
    for archive in archives {
        let Download { name, job, .. } = archive;
        context.say(&Message::info(format_args!("Downloading artifacts for {name} ({job})...")))?;
        let mut pauses = PAUSES.iter();
        loop {
            let problem = match attempt(context, archive).await? {
                Ok(()) => break,
                Err(problem) => problem,
            };
            let text = format!("Downloading artifacts for {name} ({job}) failed: {}", problem.text);
            match pauses.next().filter(|_| problem.passing) {
                Some(seconds) => {
                    context.say(&Message::warning(text))?;
                    context.say(&Message::plain("Retrying..."))?;
                    sleep(Duration::from_secs(*seconds)).await;
                }
                None => return Err(context.fail(text)),
            }
        }
    }
    Ok(())
}

struct Problem {
    text: String,
    passing: bool,
}

impl Problem {
    fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: true }
    }
}

async fn attempt(
    context: &Context<'_>,
    archive: &Download,
) -> Result<Result<(), Problem>, StageFailure> {
    let http = http(&archive.from)?;
    let client = client(context, http)?;
    let mut response = match transfer::get(&client, http).await {
        Ok(response) => response,
        Err(text) => return Ok(Err(Problem::passing(text))),
    };
    let status = response.status();
    if status != StatusCode::OK {
        let text = match status {
            StatusCode::NOT_FOUND => "404 Not Found: the archive has expired or was deleted".into(),
            other => other.to_string(),
        };
        return Ok(Err(Problem { text, passing: is_passing(status) }));
    }
    // A zip archive has its table of contents at the end, so it needs a place to lie. The file has
    // no name: nobody else can open it and nothing is left behind.
    let temp = Path::new(&context.plan.directories.temp);
    fs::create_dir_all(temp)?;
    let mut file = tempfile::tempfile_in(temp)?;
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => file.write_all(&bytes)?,
            Ok(None) => break,
            Err(error) => return Ok(Err(Problem::passing(chain(&error.without_url())))),
        }
    }
    let length = file.stream_position()?;
    context.say(&Message::plain(format_args!(
        "Downloading artifacts from coordinator... ok        id={} bytes={length}",
        archive.job
    )))?;
    let project = context.plan.directories.project.clone();
    let unpacked = tokio::task::spawn_blocking(move || unpack(file, Path::new(&project))).await;
    match unpacked {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(error)) => Ok(Err(Problem { text: error.to_string(), passing: false })),
        Err(_) => Ok(Err(Problem { text: "unpacking was interrupted".into(), passing: false })),
    }
}
