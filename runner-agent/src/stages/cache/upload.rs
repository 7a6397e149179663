//! Handing an archive over to a store, in parts.
//!
//! What S3 calls a multipart upload: begin, a request for each part, finish. An archive that is no longer than a
//! part goes in one request. Whatever goes wrong, the parts that the store has are thrown away: somebody pays
//! for them.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use reqwest::{Client, RequestBuilder, Response};
use runner_core::cache::{CacheAction, CacheKey, MOST_PARTS, PART};
use runner_core::plan::HttpTransfer;
use tokio::time::{sleep, timeout};

use super::parts::{Part, Parts};
use super::remote::{PAUSES, Remote, prepared, refusal, tag};
use crate::stages::context::StageFailure;
use crate::stages::transfer::{chain, client, is_passing};

/// Parts that are sent at once. One more is being filled.
const SIDE_BY_SIDE: usize = 2;
/// How long throwing the parts away may take; it helps nobody who waits.
const ABANDON: Duration = Duration::from_secs(10);

/// What became of an archive.
pub(super) enum Sent {
    /// The store has it.
    Whole,
    /// It got longer than its limit; this is how long it was by then.
    TooBig(u64),
}

/// An upload of one object. The errors inside of errors are for the author.
pub(super) struct Upload<'a> {
    remote: &'a Remote<'a>,
    key: &'a CacheKey,
    /// Set from the beginning to the end.
    name: RefCell<Option<String>>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(remote: &'a Remote<'a>, key: &'a CacheKey) -> Self {
        Self { remote, key, name: RefCell::default() }
    }

    /// Sends all of it. `limit`: most bytes, 0 for any number.
    pub(super) async fn send(
        &self,
        mut parts: Parts,
        limit: u64,
    ) -> Result<Result<Sent, String>, StageFailure> {
        let sent = self.all(&mut parts, limit).await?;
        let packed = parts.end().await;
        Ok(match (sent, packed) {
            // It ended early, because this side had enough or because it could not be made.
            (Ok(Some(sent)), _) => Ok(sent),
            (Ok(None), Err(error)) => Err(error.to_string()),
            (Ok(None), Ok(())) => Err("packing was interrupted".to_owned()),
            (Err(error), _) => Err(error),
        })
    }

    /// `None`: the archive has not come to its end.
    async fn all(
        &self,
        parts: &mut Parts,
        limit: u64,
    ) -> Result<Result<Option<Sent>, String>, StageFailure> {
        let Some(first) = parts.next().await else { return Ok(Ok(None)) };
        let mut length = first.bytes.len() as u64;
        let too_big = |length| limit > 0 && length > limit;
        if too_big(length) {
            return Ok(Ok(Some(Sent::TooBig(length))));
        }
        if length < PART {
            return Ok(self.whole(first.bytes).await?.map(|()| Some(Sent::Whole)));
        }
        let begin = CacheAction::Begin { key: self.key.human.clone() };
        let begun = self.request(begin, Bytes::new()).await?;
        let answer = match begun {
            Ok(answer) => text(answer).await,
            Err(error) => return Ok(Err(error)),
        };
        let Some(name) = tag(&answer, "UploadId") else {
            return Ok(Err("the cache server does not say which upload it has begun".to_owned()));
        };
        *self.name.borrow_mut() = Some(name.clone());

        let mut under_way = FuturesOrdered::new();
        let mut etags = Vec::new();
        let mut next = Some(first);
        let mut number = 0;
        let mut ended = false;
        loop {
            if let Some(part) = next.take() {
                number += 1;
                ended = (part.bytes.len() as u64) < PART;
                if !part.bytes.is_empty() {
                    under_way.push_back(self.part(&name, number, part));
                }
            }
            tokio::select! {
                biased;
                Some(etag) = under_way.next() => match etag? {
                    Ok(etag) => etags.push(etag),
                    Err(error) => return Ok(Err(error)),
                },
                part = parts.next(), if !ended && under_way.len() < SIDE_BY_SIDE => {
                    let Some(part) = part else { return Ok(Ok(None)) };
                    length += part.bytes.len() as u64;
                    if too_big(length) {
                        return Ok(Ok(Some(Sent::TooBig(length))));
                    }
                    if number == MOST_PARTS {
                        return Ok(Err("the archive is larger than the cache server takes".into()));
                    }
                    next = Some(part);
                }
                else => break,
            }
        }
        let finished = self.finish(&name, &etags).await?;
        if finished.is_ok() {
            self.name.take();
        }
        Ok(finished.map(|()| Some(Sent::Whole)))
    }

    /// Throws away what the store has got of an upload that was not finished.
    pub(super) async fn abandon(&self) {
        let Some(upload) = self.name.take() else { return };
        let abandon = async {
            let action = CacheAction::Abandon { upload };
            let transfer = self.remote.ask(&self.key.object, action).await.ok()?;
            let client = client(self.remote.context, &transfer).ok()?;
            prepared(&client, &transfer)?.send().await.ok()
        };
        // Stores have rules for what is left over.
        let _ = timeout(ABANDON, abandon).await;
    }

    async fn whole(&self, bytes: Bytes) -> Result<Result<(), String>, StageFailure> {
        let action = CacheAction::Put { length: bytes.len() as u64, key: self.key.human.clone() };
        Ok(self.request(action, bytes).await?.map(drop))
    }

    async fn part(
        &self,
        upload: &str,
        number: u32,
        part: Part,
    ) -> Result<Result<(u32, String), String>, StageFailure> {
        let length = part.bytes.len() as u64;
        let action = CacheAction::Part { upload: upload.to_owned(), number, length };
        let answer = match self.request(action, part.bytes.clone()).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(error)),
        };
        // Only now its place in memory is free.
        drop(part);
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok());
        let missing = || "the cache server does not say what it has got".to_owned();
        Ok(etag.map(|etag| (number, etag.to_owned())).ok_or_else(missing))
    }

    async fn finish(
        &self,
        upload: &str,
        etags: &[(u32, String)],
    ) -> Result<Result<(), String>, StageFailure> {
        let mut list = String::from("<CompleteMultipartUpload>");
        for (number, etag) in etags {
            let etag = etag.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        list += "</CompleteMultipartUpload>";
        let action = CacheAction::Finish { upload: upload.to_owned() };
        let answer = match self.request(action, list.into()).await? {
            Ok(answer) => text(answer).await,
            Err(error) => return Ok(Err(error)),
        };
        // S3 says 200 before it knows.
        Ok(match (tag(&answer, "Code"), tag(&answer, "Message")) {
            (Some(code), message) => Err(format!(
                "the cache server has not put the parts together: {code}, {}",
                message.unwrap_or_default()
            )),
            _ => Ok(()),
        })
    }

    /// Asks for the right to do something and does it, up to three times.
    async fn request(
        &self,
        action: CacheAction,
        body: Bytes,
    ) -> Result<Result<Response, String>, StageFailure> {
        let is_object = matches!(action, CacheAction::Put { .. } | CacheAction::Begin { .. });
        let transfer = match self.remote.ask(&self.key.object, action).await {
            Ok(transfer) => transfer,
            Err(refused) => return Ok(Err(refused)),
        };
        let client = client(self.remote.context, &transfer)?;
        let mut pauses = PAUSES.iter();
        loop {
            let Some(request) = self.prepared(&client, &transfer, is_object) else {
                return Ok(Err("its address is no URL".to_owned()));
            };
            let request = request.header("content-length", body.len()).body(body.clone());
            let (text, passing) = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(Ok(response)),
                Ok(response) => {
                    let passing = is_passing(response.status());
                    (refusal(response).await, passing)
                }
                Err(error) => (chain(&error.without_url()), true),
            };
            match pauses.next().filter(|_| passing) {
                Some(pause) => sleep(*pause).await,
                None => return Ok(Err(text)),
            }
        }
    }

    fn prepared(
        &self,
        client: &Client,
        transfer: &HttpTransfer,
        is_object: bool,
    ) -> Option<RequestBuilder> {
        let request = prepared(client, transfer)?;
        let has = |name: &str| transfer.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !is_object {
            return Some(request);
        }
        let request = match has("content-type") {
            true => request,
            false => request.header("content-type", "application/octet-stream"),
        };
        let now = super::remote::http_date(jiff::Timestamp::now().as_second());
        Some(match now.filter(|_| !has("last-modified")) {
            Some(now) => request.header("last-modified", now),
            None => request,
        })
    }
}

/// A short answer.
async fn text(mut answer: Response) -> String {
    const LONGEST: usize = 64 * 1024;
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = answer.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() > LONGEST {
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}
