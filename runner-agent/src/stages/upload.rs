//! Packs archives and hands them over.
//!
//! An archive is packed once, into a file without a name, and sent from there as often as it takes.
//! GitLab Runner packs it again for every try.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, StatusCode, Url};
use runner_core::glob::Glob;
use runner_core::job::ArtifactFormat;
use runner_core::log::Message;
use runner_core::plan::{HttpBody, HttpTransfer, Upload};
use tokio::time::sleep;
use tokio_util::io::ReaderStream;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipWriter};

use super::context::{Context, StageFailure};
use super::files::{Entries, Odd, collect, relative};
use super::transfer::{PAUSES, chain, client, http, is_passing, request};

pub(super) async fn upload(context: &Context<'_>, archives: &[Upload]) -> Result<(), StageFailure> {
    // One archive that cannot be handed over does not keep the others.
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
    let entries = find(context, archive)?;
    if entries.is_empty() {
        context.say(&Message::error("No files to upload"))?;
        return Ok(());
    }
    let project = context.plan.directories.project.clone();
    let temp = Path::new(&context.plan.directories.temp);
    fs::create_dir_all(temp)?;
    let file = tempfile::tempfile_in(temp)?;
    let format = archive.format;
    let packed =
        tokio::task::spawn_blocking(move || pack(Path::new(&project), &entries, format, file))
            .await;
    let file = match packed {
        Ok(Ok(file)) => file,
        Ok(Err(error)) => {
            return Err(context.fail(format_args!("cannot pack the archive: {error}")));
        }
        Err(_) => return Err(context.fail("packing the archive was interrupted")),
    };
    send(context, archive, file).await
}

/// Collects the files and says how many each pattern found.
fn find(context: &Context<'_>, archive: &Upload) -> Result<Entries, StageFailure> {
    let project = Path::new(&context.plan.directories.project);
    let mut excluded = Vec::new();
    for pattern in &archive.exclude {
        let pattern = expand(context, pattern);
        match relative(project, &pattern).map(|relative| Glob::new(&relative)) {
            Ok(Ok(glob)) => excluded.push(glob),
            Ok(Err(error)) => context.say(&Message::warning(format_args!("{pattern}: {error}")))?,
            Err(_) => context.say(&Message::warning(format_args!(
                "{pattern}: this exclude pattern is not below the project directory"
            )))?,
        }
    }
    let mut entries = Entries::new();
    for pattern in &archive.paths {
        let pattern = expand(context, pattern);
        let message = match collect(project, &pattern, &excluded, &mut entries) {
            Ok(0) => Message::warning(format_args!(
                "{pattern}: no matching files. Ensure that the artifact path is relative to the \
                 working directory ({})",
                project.display()
            )),
            Ok(count) => Message::plain(format_args!(
                "{pattern}: found {count} matching artifact files and directories"
            )),
            Err(Odd::Empty) => Message::warning("No matching files. Path is empty."),
            Err(Odd::Outside) => Message::warning(format_args!(
                "processPath: artifact path is not a subpath of project directory: {pattern}"
            )),
            Err(Odd::Malformed(error)) => Message::warning(format_args!("{pattern}: {error}")),
        };
        context.say(&message)?;
    }
    if archive.untracked {
        let count = untracked(project, &excluded, &mut entries);
        context.say(&match count {
            Some(0) | None => Message::warning("untracked: no files"),
            Some(count) => Message::plain(format_args!("untracked: found {count} files")),
        })?;
    }
    Ok(entries)
}

fn expand(context: &Context<'_>, pattern: &str) -> String {
    let lookup = |name: &str| context.variable(name).map(Into::into);
    runner_core::planner::expand(pattern, lookup).unwrap_or_else(|_| pattern.to_owned())
}

/// Adds what git does not track.
fn untracked(project: &Path, excluded: &[Glob], entries: &mut Entries) -> Option<usize> {
    let mut count = 0;
    for name in super::sources::untracked(project)? {
        // The name is exact: nothing in it is a pattern.
        let Ok(data) = fs::symlink_metadata(project.join(&name)) else { continue };
        if !excluded.iter().any(|glob| glob.matches(&name)) {
            entries.insert(name, data);
            count += 1;
        }
    }
    Some(count)
}

/// Packs the entries, in their order.
fn pack(
    project: &Path,
    entries: &Entries,
    format: ArtifactFormat,
    mut file: File,
) -> io::Result<File> {
    match format {
        ArtifactFormat::Zip => file = pack_zip(project, entries, file)?,
        ArtifactFormat::Gzip => {
            for (path, data) in entries {
                if !data.is_file() {
                    return Err(io::Error::other(format!("the {path:?} is not a regular file")));
                }
                let mut encoder = GzEncoder::new(&mut file, Compression::default());
                io::copy(&mut open(project, path)?, &mut encoder)?;
                encoder.finish()?;
            }
        }
        ArtifactFormat::Raw => {
            let mut files = entries.iter();
            let (Some((path, data)), None) = (files.next(), files.next()) else {
                return Err(io::Error::other("only one file can be sent as raw"));
            };
            if !data.is_file() {
                return Err(io::Error::other(format!("the {path:?} is not a regular file")));
            }
            io::copy(&mut open(project, path)?, &mut file)?;
        }
    }
    Ok(file)
}

fn pack_zip(project: &Path, entries: &Entries, file: File) -> io::Result<File> {
    let mut zip = ZipWriter::new(file);
    for (path, data) in entries {
        let options = SimpleFileOptions::default()
            .unix_permissions(data.permissions().mode() & 0o7777)
            .large_file(data.len() >= u32::MAX.into())
            .last_modified_time(modified(data));
        if data.is_dir() {
            zip.add_directory(path.as_str(), options)?;
        } else if data.is_symlink() {
            let target = fs::read_link(project.join(path))?;
            zip.add_symlink(path.as_str(), target.to_string_lossy(), options)?;
        } else if let Ok(mut source) = open(project, path) {
            zip.start_file(path.as_str(), options)?;
            io::copy(&mut source, &mut zip)?;
        }
    }
    Ok(zip.finish()?)
}

/// Opens a file of the job, never through a link that has taken its place meanwhile.
fn open(project: &Path, path: &str) -> io::Result<impl Read + use<>> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(project.join(path))?;
    // A file that still grows must not make the archive endless.
    let length = file.metadata()?.len();
    Ok(file.take(length))
}

fn modified(data: &fs::Metadata) -> DateTime {
    let civil = data
        .modified()
        .ok()
        .and_then(|time| jiff::Timestamp::try_from(time).ok())
        .map(|time| time.to_zoned(jiff::tz::TimeZone::UTC));
    let Some(civil) = civil else { return DateTime::default() };
    let part = |value: i8| u8::try_from(value).unwrap_or(0);
    DateTime::from_date_and_time(
        u16::try_from(civil.year()).unwrap_or(1980),
        part(civil.month()),
        part(civil.day()),
        part(civil.hour()),
        part(civil.minute()),
        part(civil.second()),
    )
    .unwrap_or_default()
}

/// Sends the packed file, again if that may help.
async fn send(context: &Context<'_>, archive: &Upload, mut file: File) -> Result<(), StageFailure> {
    let length = file.stream_position()?;
    file.flush()?;
    let http = http(&archive.to)?;
    let client = client(context, http)?;
    let url = Url::parse(http.url.expose())
        .map_err(|error| context.fail(format_args!("the upload address is not a URL: {error}")))?;
    let what = match archive.kind.as_str() {
        "" => "Uploading artifacts to coordinator...".to_owned(),
        kind => format!("Uploading artifacts as \"{kind}\" to coordinator..."),
    };
    let mut pauses = PAUSES.iter();
    loop {
        file.rewind()?;
        let body = body(archive, http, file.try_clone()?, length);
        let (text, passing) = match body.apply(request(&client, http, url.clone())).send().await {
            Ok(response) if response.status().is_success() => {
                let line = format!("{what} {}", response.status());
                return Ok(context.say(&Message::plain(line))?);
            }
            Ok(response) if response.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let text = format!(
                    "{what} 413 Request Entity Too Large: the archive has {length} bytes, more \
                     than the server takes; archive less or raise its limit"
                );
                (text, false)
            }
            Ok(response) => {
                let status = response.status();
                (format!("{what} {status}"), is_passing(status))
            }
            Err(error) => (format!("{what} {}", chain(&error.without_url())), true),
        };
        match pauses.next().filter(|_| passing) {
            Some(seconds) => {
                context.say(&Message::warning(text))?;
                context.say(&Message::plain("Retrying..."))?;
                sleep(Duration::from_secs(*seconds)).await;
            }
            None => return Err(context.fail(text)),
        }
    }
}

enum Payload {
    Raw(Body, u64),
    Multipart(Form),
}

impl Payload {
    fn apply(self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::Raw(body, length) => request.header("content-length", length).body(body),
            Self::Multipart(form) => request.multipart(form),
        }
    }
}

fn body(archive: &Upload, http: &HttpTransfer, file: File, length: u64) -> Payload {
    let stream =
        Body::wrap_stream(ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 * 1024));
    match &http.body {
        HttpBody::Raw => Payload::Raw(stream, length),
        HttpBody::Multipart { field } => {
            let extension = match archive.format {
                ArtifactFormat::Zip => ".zip",
                ArtifactFormat::Gzip => ".gz",
                ArtifactFormat::Raw => "",
            };
            let part = Part::stream_with_length(stream, length)
                .file_name(format!("{}{extension}", archive.name));
            Payload::Multipart(Form::new().part(field.clone(), part))
        }
    }
}
