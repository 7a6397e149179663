//! Objects that come in parts, as S3 takes them, with its rules about sizes and order.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::request::Parts as Head;
use http::{Method, StatusCode};
use jiff::Timestamp;

use super::{Object, Pending};

/// Smallest part but the last.
const SMALLEST: usize = 5 << 20;

/// Answers a step of an upload; the error is the object, when it is whole.
pub(super) fn answer(
    uploads: &mut BTreeMap<String, Pending>,
    head: &Head,
    query: &str,
    bytes: Bytes,
) -> Result<Response, Box<Object>> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let name = head.uri.path().trim_start_matches('/').to_owned();
    if query == "uploads" {
        let id = format!("upload-{}", uploads.len() + 1);
        let answer = format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        uploads.insert(id, Pending { name, headers: head.headers.clone(), parts: BTreeMap::new() });
        return Ok(answer.into_response());
    }
    let id = value("uploadId").unwrap_or_default();
    let Some(upload) = uploads.get_mut(&id).filter(|upload| upload.name == name) else {
        return Ok(refused(StatusCode::NOT_FOUND, "NoSuchUpload"));
    };
    let number = value("partNumber").and_then(|number| number.parse::<u32>().ok());
    match (&head.method, number) {
        (&Method::PUT, Some(number @ 1..=10_000)) => {
            upload.parts.insert(number, bytes);
            Ok([("etag", etag(number))].into_response())
        }
        (&Method::DELETE, None) => {
            uploads.remove(&id);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        (&Method::POST, None) => {
            let wanted: String = upload
                .parts
                .keys()
                .map(|number| {
                    let etag = etag(*number).replace('"', "&quot;");
                    format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
                })
                .collect();
            let wanted = format!("<CompleteMultipartUpload>{wanted}</CompleteMultipartUpload>");
            let mut parts = upload.parts.values();
            parts.next_back();
            if wanted.as_bytes() != bytes {
                return Ok(refused(StatusCode::BAD_REQUEST, "InvalidPart"));
            }
            if parts.any(|part| part.len() < SMALLEST) {
                return Ok(refused(StatusCode::BAD_REQUEST, "EntityTooSmall"));
            }
            let Some(upload) = uploads.remove(&id) else {
                return Ok(refused(StatusCode::NOT_FOUND, "NoSuchUpload"));
            };
            let mut all = BytesMut::new();
            upload.parts.values().for_each(|part| all.extend_from_slice(part));
            let modified = Timestamp::now().as_second();
            Err(Box::new(Object { bytes: all.freeze(), modified, headers: upload.headers }))
        }
        _ => Ok(StatusCode::METHOD_NOT_ALLOWED.into_response()),
    }
}

fn etag(number: u32) -> String {
    format!("\"part-{number}\"")
}

fn refused(status: StatusCode, code: &str) -> Response {
    let text = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    (status, text).into_response()
}
