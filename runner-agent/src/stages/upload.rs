//! Packs artifacts and hands them over.
//!
//! An archive is packed once, into a file without a name, and sent from there while it grows, as
//! often as it takes. GitLab Runner packs it again for every try, up to 30 times.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Body, RequestBuilder, Response, StatusCode, Url};
use runner_core::job::ArtifactFormat;
use runner_core::log::Message;
use runner_core::plan::{HttpBody, HttpTransfer, Upload};
use tokio::time::sleep;

use super::context::{Context, StageFailure};
use super::gather::{expand, gather, level};
use super::growing::Growing;
use super::provenance;
use super::select::Selected;
use super::transfer::{chain, client, http, is_passing, request, retry_after};
use crate::archive::Level;
use crate::archive::pack::Format;

/// Pauses before the second try and so on, in seconds, as GitLab Runner makes them; it tries 6 times
/// when the server is not available, else 3 times.
const PAUSES: [u64; 5] = [1, 2, 4, 5, 5];
const MOST_RETRIES: usize = 2;

pub(super) async fn upload(context: &Context<'_>, archives: &[Upload]) -> Result<(), StageFailure> {
    // One archive that cannot be handed over does not keep the others. GitLab Runner stops.
    let mut result = Ok(());
    for archive in archives {
        context.say(&Message::info("Uploading artifacts..."))?;
        let outcome = one(context, archive).await;
        if result.is_ok() {
            result = outcome;
        }
    }
    result
}

async fn one(context: &Context<'_>, archive: &Upload) -> Result<(), StageFailure> {
    let found = gather(context, &archive.paths, &archive.exclude, archive.untracked).await?;
    let Selected { mut entries, messages } = found;
    for message in &messages {
        context.say(message)?;
    }
    if entries.is_empty() {
        context.say(&Message::error("No files to upload"))?;
        return Ok(());
    }
    let name = file_name(&expand(context, &archive.name));
    if let Some(about) = &archive.provenance {
        provenance::add(context, about, &name, &archive.exclude, &mut entries).await?;
    }
    let (format, extension) = match archive.format {
        ArtifactFormat::Zip => (Format::Zip, ".zip"),
        ArtifactFormat::ZipZstd => (Format::ZipZstd, ".zip"),
        ArtifactFormat::TarZstd => (Format::TarZstd, ".tar.zst"),
        ArtifactFormat::Gzip => (Format::Gzip, ".gz"),
        ArtifactFormat::Raw => (Format::Raw, ""),
    };
    let level = match format {
        Format::Gzip | Format::Raw => Level::Default,
        _ => level(context, "ARTIFACT_COMPRESSION_LEVEL")?,
    };
    let packing = Growing::pack(&context.plan.directories, Arc::new(entries), format, level)?;
    send(context, archive, packing, format!("{name}{extension}")).await
}

/// The last component of what the author calls it; nothing is left of `/` or `.`.
fn file_name(name: &str) -> String {
    let base = Path::new(name).file_name().and_then(|base| base.to_str()).unwrap_or_default();
    if base.is_empty() { "default".to_owned() } else { base.to_owned() }
}

/// How a try failed.
struct Problem {
    text: String,
    /// Most tries after it.
    retries: usize,
    /// Not before this time has passed, where the server says so.
    wait: Option<Duration>,
}

/// Sends the archive, again if that may help.
async fn send(
    context: &Context<'_>,
    archive: &Upload,
    packing: Growing,
    filename: String,
) -> Result<(), StageFailure> {
    let http = http(&archive.to)?;
    let client = client(context, http)?;
    let mut url = Url::parse(http.url.expose())
        .map_err(|error| context.fail(format_args!("the upload address is not a URL: {error}")))?;
    let what = match archive.kind.as_str() {
        "" => "Uploading artifacts to coordinator...".to_owned(),
        kind => format!("Uploading artifacts as \"{kind}\" to coordinator..."),
    };
    for attempt in 0.. {
        let request = request(&client, http, url.clone());
        let Problem { text, retries, wait } =
            match with_body(request, http, &packing, &filename).await?.send().await {
                Ok(response) if response.status().is_success() => {
                    let line = format!("{what} {}", response.status());
                    return Ok(context.say(&Message::plain(line))?);
                }
                Ok(response) => refusal(&response, &mut url, packing.state().0),
                Err(error) => {
                    if let (_, Some(reason)) = packing.state() {
                        let text = format!("cannot pack the archive: {reason}");
                        return Err(context.fail(text));
                    }
                    let text = chain(&error.without_url());
                    Problem { text, retries: MOST_RETRIES, wait: None }
                }
            };
        let text = format!("{what} {text}");
        if attempt >= retries {
            return Err(context.fail(text));
        }
        context.say(&Message::warning(text))?;
        context.say(&Message::plain("Retrying..."))?;
        let usual = Duration::from_secs(PAUSES[attempt.min(PAUSES.len() - 1)]);
        sleep(wait.unwrap_or(usual).max(usual)).await;
    }
    unreachable!("the loop ends by returning")
}

/// What to make of an answer that is no success. A redirect of GitLab's changes scheme and host only;
/// path and query are the request's, or the upload's options would be lost.
fn refusal(response: &Response, url: &mut Url, length: u64) -> Problem {
    let status = response.status();
    let wait = retry_after(response);
    let (text, retries) = match status {
        StatusCode::FORBIDDEN => ("403 Forbidden: permission denied".to_owned(), 0),
        StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!(
                "413 Request Entity Too Large: the archive has {length} bytes or more, more than \
                 the server takes; archive less or raise its limit"
            );
            (text, 0)
        }
        StatusCode::TEMPORARY_REDIRECT => match redirect(response, url) {
            Ok(()) => {
                ("307 Temporary Redirect: upload request redirected".to_owned(), MOST_RETRIES)
            }
            Err(why) => (format!("307 Temporary Redirect: {why}"), 0),
        },
        StatusCode::SERVICE_UNAVAILABLE => ("503 Service Unavailable".to_owned(), PAUSES.len()),
        status if is_passing(status) => (status.to_string(), MOST_RETRIES),
        status => (status.to_string(), 0),
    };
    Problem { text, retries, wait }
}

fn redirect(response: &Response, url: &mut Url) -> Result<(), &'static str> {
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| url.join(location).ok()).ok_or("empty location")?;
    if url.scheme() == "https" && to.scheme() != "https" {
        return Err("it leads to an address without TLS, where the job's token must not go");
    }
    let changed = url.set_scheme(to.scheme()).is_ok()
        && url.set_host(to.host_str()).is_ok()
        && url.set_port(to.port()).is_ok();
    if changed { Ok(()) } else { Err("its location cannot be used") }
}

async fn with_body(
    request: RequestBuilder,
    http: &HttpTransfer,
    packing: &Growing,
    filename: &str,
) -> Result<RequestBuilder, StageFailure> {
    let stream = Body::wrap_stream(packing.stream());
    Ok(match &http.body {
        // Stores that take the bare archive want to know its length beforehand. An archive that
        // cannot be made ends the stream with the reason.
        HttpBody::Raw => match packing.clone().whole().await {
            Ok(length) => request.header("content-length", length).body(stream),
            Err(_) => request.body(stream),
        },
        HttpBody::Multipart { field } => {
            let part = Part::stream(stream)
                .file_name(filename.to_owned())
                .mime_str("application/octet-stream")
                .map_err(std::io::Error::other)?;
            request.multipart(Form::new().part(field.clone(), part))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn stages_87_the_name_is_its_last_component() {
        for (name, expected) in [
            ("artifacts", "artifacts"),
            ("group/build", "build"),
            ("../../x", "x"),
            ("", "default"),
            (".", "default"),
            ("/", "default"),
            ("..", "default"),
            ("a b", "a b"),
        ] {
            assert_eq!(file_name(name), expected, "{name}");
        }
    }
}
