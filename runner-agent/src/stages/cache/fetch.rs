//! Fetching an archive from a store, several pieces of it at a time.
//!
//! The first request asks for the first piece only. Whoever does not know ranges sends everything, which is as good;
//! else the answer says how long the object is, and the other pieces come side by side. A piece that breaks off
//! goes on where it stopped. All of them have to be of the same object: it may be replaced meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::fmt::rfc2822;
use reqwest::{Client, Response, StatusCode};
use runner_core::plan::HttpTransfer;
use tokio::time::sleep;

use super::remote::{PAUSES, Remote, http_date, prepared, refusal};
use crate::stages::context::StageFailure;
use crate::stages::transfer::{chain, client, is_passing};

/// Bytes of a piece. What is in memory of it is what a connection holds.
const PIECE: u64 = 16 << 20;
/// Pieces that are fetched at once: one connection to S3 makes some 50 to 90 MB/s.
const SIDE_BY_SIDE: usize = 4;

/// What came of a request for an object.
pub(super) enum Had {
    /// It is in the file, with its time in seconds since 1970.
    File(File, Option<i64>),
    /// It is not newer than what we have.
    UpToDate,
    /// It is not there, or cannot be had; why, for the author.
    No(String),
}

/// Why something was not fetched.
enum Problem {
    /// Another try may help.
    Passing(String),
    /// It would not.
    Lasting(String),
    /// Another object is there now; what came of the old one is worth nothing.
    Replaced,
}

/// Something that is fetched.
struct Object<'a> {
    client: &'a Client,
    transfer: &'a HttpTransfer,
    file: &'a File,
    /// Every piece has to have it.
    etag: Option<String>,
}

impl Remote<'_> {
    /// Fetches an object into a file; not if it is no newer than `known` (seconds since 1970).
    pub(super) async fn get(
        &self,
        transfer: &HttpTransfer,
        known: Option<i64>,
        fresh: impl Fn() -> io::Result<File>,
    ) -> Result<Had, StageFailure> {
        let client = client(self.context, transfer)?;
        let mut pauses = PAUSES.iter();
        loop {
            let problem = match try_get(&client, transfer, known, &fresh).await {
                Ok(had) => return Ok(had),
                Err(Problem::Lasting(why)) => return Ok(Had::No(why)),
                Err(Problem::Passing(why)) => why,
                Err(Problem::Replaced) => "the archive was replaced meanwhile".to_owned(),
            };
            match pauses.next() {
                Some(pause) => sleep(*pause).await,
                None => return Ok(Had::No(problem)),
            }
        }
    }
}

async fn try_get(
    client: &Client,
    transfer: &HttpTransfer,
    known: Option<i64>,
    fresh: &impl Fn() -> io::Result<File>,
) -> Result<Had, Problem> {
    let mut range = Some(format!("bytes=0-{}", PIECE - 1));
    let response = loop {
        let mut request = prepared(client, transfer)
            .ok_or_else(|| Problem::Lasting("its address is no URL".to_owned()))?;
        if let Some(date) = known.and_then(http_date) {
            request = request.header("if-modified-since", date);
        }
        if let Some(range) = &range {
            request = request.header("range", range);
        }
        let response = request.send().await.map_err(lost)?;
        // Of an empty object there is no first byte.
        if response.status() != StatusCode::RANGE_NOT_SATISFIABLE || range.take().is_none() {
            break response;
        }
    };
    let length = match response.status() {
        StatusCode::OK => None,
        StatusCode::PARTIAL_CONTENT => Some(total(&response).ok_or_else(|| {
            Problem::Lasting("the cache server does not say how long the archive is".to_owned())
        })?),
        StatusCode::NOT_MODIFIED => return Ok(Had::UpToDate),
        StatusCode::NOT_FOUND => return Err(Problem::Lasting("file does not exist".to_owned())),
        _ => return Err(refused(response).await),
    };
    let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
    let modified = header("last-modified")
        .and_then(|value| rfc2822::parse(&value).ok())
        .map(|time| time.timestamp().as_second());
    // A weak one does not speak of bytes.
    let etag = header("etag").filter(|etag| !etag.starts_with("W/"));
    // A cache directory that cannot be written is no reason to fail the job.
    let file = fresh().map_err(no_place)?;
    let object = Object { client, transfer, file: &file, etag };
    match length {
        None => {
            object.write(response, 0, u64::MAX).await.map_err(|(problem, _)| problem)?;
        }
        Some(length) => object.pieces(response, length).await?,
    }
    Ok(Had::File(file, modified))
}

impl Object<'_> {
    /// All pieces, of which the first has begun to come.
    async fn pieces(&self, first: Response, length: u64) -> Result<(), Problem> {
        let mut first = Some(first);
        let pieces = (0..length.div_ceil(PIECE)).map(|index| {
            let begun = first.take();
            let from = index * PIECE;
            self.piece(begun, from, length.min(from + PIECE))
        });
        stream::iter(pieces).buffer_unordered(SIDE_BY_SIDE).try_collect().await
    }

    /// The bytes up to `end`. Tries that got something are not counted.
    async fn piece(
        &self,
        mut begun: Option<Response>,
        mut from: u64,
        end: u64,
    ) -> Result<(), Problem> {
        let mut pauses = PAUSES.iter();
        while from < end {
            let tried = match begun.take() {
                Some(response) => Ok(response),
                None => self.ask(from, end).await,
            };
            let (problem, reached) = match tried {
                Ok(response) => match self.write(response, from, end).await {
                    Ok(reached) => {
                        (Problem::Passing("the archive has ended too early".into()), reached)
                    }
                    Err((problem, reached)) => (problem, reached),
                },
                Err(problem) => (problem, from),
            };
            if reached >= end {
                return Ok(());
            }
            if reached > from {
                from = reached;
                pauses = PAUSES.iter();
            }
            match (problem, pauses.next()) {
                (Problem::Passing(_), Some(pause)) => sleep(*pause).await,
                (problem, _) => return Err(problem),
            }
        }
        Ok(())
    }

    async fn ask(&self, from: u64, end: u64) -> Result<Response, Problem> {
        let request = prepared(self.client, self.transfer)
            .ok_or_else(|| Problem::Lasting("its address is no URL".to_owned()))?;
        let mut request = request.header("range", format!("bytes={from}-{}", end - 1));
        if let Some(etag) = &self.etag {
            request = request.header("if-match", etag);
        }
        let response = request.send().await.map_err(lost)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::PRECONDITION_FAILED | StatusCode::OK => Err(Problem::Replaced),
            _ => Err(refused(response).await),
        }
    }

    /// Writes what comes, from here and not beyond the end; how far it came.
    async fn write(
        &self,
        mut response: Response,
        from: u64,
        end: u64,
    ) -> Result<u64, (Problem, u64)> {
        let mut at = from;
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    let room = usize::try_from(end - at).unwrap_or(usize::MAX);
                    let bytes = &bytes[..bytes.len().min(room)];
                    self.file.write_all_at(bytes, at).map_err(|error| (no_place(error), at))?;
                    at += bytes.len() as u64;
                }
                Ok(None) => return Ok(at),
                Err(error) => return Err((lost(error), at)),
            }
        }
    }
}

/// How long the whole object is: `bytes 0-15/16`.
fn total(response: &Response) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    let rest = range.strip_prefix("bytes 0-")?;
    rest.split_once('/')?.1.parse().ok()
}

async fn refused(response: Response) -> Problem {
    let passing = is_passing(response.status());
    let text = refusal(response).await;
    if passing { Problem::Passing(text) } else { Problem::Lasting(text) }
}

fn lost(error: reqwest::Error) -> Problem {
    Problem::Passing(chain(&error.without_url()))
}

fn no_place(error: io::Error) -> Problem {
    Problem::Lasting(format!("no place for the archive: {error}"))
}
