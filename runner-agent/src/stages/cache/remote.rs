//! A cache in a store, by requests that the manager signs one at a time.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode, Url};
use runner_core::cache::{CacheAction, CacheKey, CacheRequest, CacheScope};
use runner_core::plan::HttpTransfer;
use tokio::time::sleep;

use crate::stages::context::{Context, StageFailure};
use crate::stages::growing::Growing;
use crate::stages::transfer::{chain, client, is_passing, request};

/// Pauses between tries, as GitLab Runner makes them: three tries in all.
pub(super) const PAUSES: [Duration; 2] = [Duration::from_secs(1); 2];
/// Most bytes of an error's text that are looked at.
const ERROR_TEXT: usize = 16 * 1024;

/// A store as one stage sees it.
pub(super) struct Remote<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) scope: &'a CacheScope,
    /// How long an address has to be good.
    pub(super) lasts: Duration,
    /// Where the last request went that a manager has signed, for the author: without its signature.
    address: RefCell<Option<String>>,
}

impl<'a> Remote<'a> {
    pub(super) fn new(context: &'a Context<'a>, scope: &'a CacheScope, lasts: Duration) -> Self {
        Self { context, scope, lasts, address: RefCell::default() }
    }

    /// Where archives come from and go to; `None`: no manager has said so yet.
    pub(super) fn address(&self) -> Option<String> {
        self.address.borrow().clone()
    }

    /// Asks for the right to do this. The error is for the author.
    pub(super) async fn ask(
        &self,
        object: &str,
        action: CacheAction,
    ) -> Result<HttpTransfer, String> {
        let request = CacheRequest {
            scope: self.scope.clone(),
            object: object.to_owned(),
            action,
            lasts: self.lasts,
        };
        let transfer = self.context.control.asks.cache(request).await?;
        *self.address.borrow_mut() = public(transfer.url.expose());
        Ok(transfer)
    }

    /// Whether an object is there.
    pub(super) async fn has(&self, object: &str) -> Result<bool, StageFailure> {
        let Ok(transfer) = self.ask(object, CacheAction::Head).await else { return Ok(false) };
        let client = client(self.context, &transfer)?;
        let Some(request) = prepared(&client, &transfer) else { return Ok(false) };
        Ok(request.send().await.is_ok_and(|response| response.status() == StatusCode::OK))
    }

    /// Sends a whole archive. The inner error is for the author.
    pub(super) async fn put(
        &self,
        key: &CacheKey,
        archive: &Growing,
        file: &File,
        length: u64,
    ) -> Result<Result<(), String>, StageFailure> {
        let action = CacheAction::Put { length, key: key.human.clone() };
        let transfer = &match self.ask(&key.object, action).await {
            Ok(transfer) => transfer,
            Err(refused) => return Ok(Err(refused)),
        };
        let client = client(self.context, transfer)?;
        let modified = file.metadata().ok().and_then(|data| http_date(data.mtime()));
        let mut pauses = PAUSES.iter();
        loop {
            let Some(mut request) = prepared(&client, transfer) else {
                return Ok(Err("its address is no URL".to_owned()));
            };
            let has =
                |name: &str| transfer.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
            if !has("content-type") {
                request = request.header("content-type", "application/octet-stream");
            }
            if let Some(date) = modified.as_ref().filter(|_| !has("last-modified")) {
                request = request.header("last-modified", date);
            }
            let body = Body::wrap_stream(archive.stream());
            let request = request.header("content-length", length).body(body);
            let (text, passing) = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(Ok(())),
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
}

pub(super) fn prepared(client: &Client, transfer: &HttpTransfer) -> Option<RequestBuilder> {
    let url = Url::parse(transfer.url.expose()).ok()?;
    Some(request(client, transfer, url))
}

/// `received: 403 Forbidden. Request failed with code: AccessDenied, message: …`
pub(super) async fn refusal(mut response: Response) -> String {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() > ERROR_TEXT {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body);
    match (tag(&body, "Code"), tag(&body, "Message")) {
        (Some(code), Some(message)) => {
            format!("received: {status}. Request failed with code: {code}, message: {message}")
        }
        _ => format!("received: {status}"),
    }
}

/// What stands between the first tags of this name.
pub(super) fn tag(body: &str, name: &str) -> Option<String> {
    let from = body.split_once(&format!("<{name}>"))?.1;
    Some(from.split_once(&format!("</{name}>"))?.0.to_owned())
}

/// The part of an address that everybody may see: signatures are in the query.
fn public(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // Only addresses that have no place for them refuse.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(url.into())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(super) fn http_date(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?.to_zoned(TimeZone::UTC);
    Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

#[cfg(test)]
mod tests {
    use super::{http_date, public};

    #[test]
    fn an_address_is_shown_without_what_signs_it() {
        let signed = "https://key:secret@store.example/bucket/main?X-Amz-Signature=abc#d";
        assert_eq!(public(signed).unwrap(), "https://store.example/bucket/main");
        assert_eq!(public("no address"), None);
    }

    #[test]
    fn dates_are_https() {
        assert_eq!(http_date(784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        let parsed = jiff::fmt::rfc2822::parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(parsed.timestamp().as_second(), 784_111_777);
    }
}
