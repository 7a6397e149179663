//! Fetches archives of earlier jobs and unpacks them into the project.
//!
//! Several are fetched side by side; they are unpacked in their order, since later ones overwrite
//! what earlier ones brought.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use runner_core::log::Message;
use runner_core::plan::Download;
use tokio::time::sleep;

use super::context::{Context, StageFailure};
use super::growing::nameless;
use super::transfer::{self, chain, client, http, is_passing, retry_after};
use crate::archive::unpack::{Limits, unpack};

/// Archives fetched at once. Each lies on the disk until it is its turn to be unpacked.
const SIDE_BY_SIDE: usize = 4;
/// Pauses between tries, in seconds.
const PAUSES: [u64; 2] = [1, 2];

pub(super) async fn download(
    context: &Context<'_>,
    archives: &[Download],
) -> Result<(), StageFailure> {
    let fetches = archives.iter().map(|archive| fetch(context, archive));
    let mut fetched = stream::iter(fetches).buffered(SIDE_BY_SIDE);
    for archive in archives {
        let Download { name, job, .. } = archive;
        context.say(&Message::info(format_args!("Downloading artifacts for {name} ({job})...")))?;
        // One future for each archive, so there is one result for each.
        let Some(result) = fetched.next().await else { break };
        let Fetched { messages, end } = result?;
        for message in &messages {
            context.say(message)?;
        }
        let file = end.map_err(|text| {
            context.fail(format_args!("Downloading artifacts for {name} ({job}) failed: {text}"))
        })?;
        let project = context.project()?;
        let unpacked =
            tokio::task::spawn_blocking(move || unpack(file, &project.path(), Limits::default()));
        match unpacked.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let text = format!("Unpacking artifacts of {name} ({job}) failed: {error}");
                return Err(context.fail(text));
            }
            Err(_) => return Err(context.fail("unpacking was interrupted")),
        }
    }
    Ok(())
}

/// What came of fetching an archive; it is told when it is the archive's turn.
struct Fetched {
    messages: Vec<Message>,
    end: Result<File, String>,
}

struct Problem {
    text: String,
    passing: bool,
    wait: Option<Duration>,
}

impl Problem {
    fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), passing: true, wait: None }
    }
}

async fn fetch(context: &Context<'_>, archive: &Download) -> Result<Fetched, StageFailure> {
    let mut messages = Vec::new();
    let mut pauses = PAUSES.iter();
    loop {
        let Problem { text, passing, wait } = match attempt(context, archive).await? {
            Ok((file, length)) => {
                messages.push(Message::plain(format_args!(
                    "Downloading artifacts from coordinator... ok        id={} bytes={length}",
                    archive.job
                )));
                return Ok(Fetched { messages, end: Ok(file) });
            }
            Err(problem) => problem,
        };
        let Some(seconds) = pauses.next().filter(|_| passing) else {
            return Ok(Fetched { messages, end: Err(text) });
        };
        messages.push(Message::warning(format_args!(
            "Downloading artifacts from coordinator... error        id={} {text}",
            archive.job
        )));
        messages.push(Message::plain("Retrying..."));
        let usual = Duration::from_secs(*seconds);
        sleep(wait.unwrap_or(usual).max(usual)).await;
    }
}

async fn attempt(
    context: &Context<'_>,
    archive: &Download,
) -> Result<Result<(File, u64), Problem>, StageFailure> {
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
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!("{status}: this job may not read the artifacts of that project or job")
            }
            other => other.to_string(),
        };
        let wait = retry_after(&response);
        return Ok(Err(Problem { text, passing: is_passing(status), wait }));
    }
    // A zip archive has its table of contents at the end, so it needs a place to lie. The file has
    // no name: nobody else can open it and nothing is left behind.
    let mut file = nameless(&context.plan.directories)?;
    let mut length: u64 = 0;
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                length += bytes.len() as u64;
                file.write_all(&bytes)?;
            }
            Ok(None) => return Ok(Ok((file, length))),
            Err(error) => return Ok(Err(Problem::passing(chain(&error.without_url())))),
        }
    }
}
