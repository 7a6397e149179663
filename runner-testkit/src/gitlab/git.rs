//! Fetches over smart HTTP, by `git upload-pack`, and downloads of files in LFS.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::http::{Call, Response, error, reply};
use super::payload::DEFAULT_PROJECT;
use super::repo::{Access, Repo, command};
use super::server::Inner;

/// Longest request after decompression; wants and haves of a small repository are far below.
const LONGEST_REQUEST: u64 = 64 * 1024 * 1024;

pub(super) async fn serve(inner: &Arc<Inner>, call: Call) -> Response {
    let path = call.head.uri.path().to_owned();
    let Some((project, what)) = path.trim_start_matches('/').split_once(".git/") else {
        return error(404);
    };
    let repo = inner.repos.lock().get(project).cloned();
    // Who may not read it is not told whether it exists.
    if !may_read(inner, &call, project, repo.as_ref()) {
        let mut refusal = reply(401, "HTTP Basic: Access denied\n");
        let realm = HeaderValue::from_static(r#"Basic realm="GitLab""#);
        refusal.headers_mut().insert(WWW_AUTHENTICATE, realm);
        return refusal;
    }
    let Some(repo) = repo else { return error(404) };
    match (call.head.method.as_str(), what) {
        ("GET", "info/refs") => match call.query("service").as_deref() {
            Some("git-upload-pack") => advertise(&repo, &call).await,
            // Job tokens may not push, and the dumb protocol is long gone.
            _ => error(403),
        },
        ("POST", "git-upload-pack") => upload_pack(inner, &repo, &call).await,
        ("POST", "git-receive-pack") => error(403),
        ("POST", "info/lfs/objects/batch") => lfs_batch(inner, &repo, &call),
        ("GET", what) => match what.strip_prefix("gitlab-lfs/objects/").map(|oid| repo.lfs(oid)) {
            Some(Some(content)) => typed(reply(200, content), "application/octet-stream"),
            _ => error(404),
        },
        _ => error(404),
    }
}

/// Whether it comes with the token of an executing job, or with one that may read everything.
fn may_read(inner: &Inner, call: &Call, project: &str, repo: Option<&Repo>) -> bool {
    if repo.is_some_and(|repo| repo.access() == Access::Public) {
        return true;
    }
    let token = call.header("authorization").and_then(|value| {
        let encoded = value.strip_prefix("Basic ")?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, token) = text.split_once(':')?;
        (user == "gitlab-ci-token").then(|| token.to_owned())
    });
    let Some(token) = token else { return false };
    if inner.read_token.lock().as_ref() == Some(&token) {
        return true;
    }
    let state = inner.state.lock();
    state.by_token(&token).is_some_and(|job| {
        repo.is_some_and(|repo| repo.access() == Access::Jobs)
            || job.spec.repo.as_ref().map_or(DEFAULT_PROJECT, |repo| repo.path()) == project
    })
}

/// Says where files in LFS are; the way there wants the same credentials.
fn lfs_batch(inner: &Inner, repo: &Repo, call: &Call) -> Response {
    #[derive(serde::Deserialize)]
    struct Batch {
        operation: String,
        objects: Vec<Object>,
    }
    #[derive(serde::Deserialize)]
    struct Object {
        oid: String,
        size: u64,
    }
    let Ok(batch) = serde_json::from_slice::<Batch>(&call.body) else { return error(422) };
    if batch.operation != "download" {
        return error(403);
    }
    let base = format!("{}/{}.git/gitlab-lfs/objects", inner.url.lock(), repo.path());
    let objects = batch.objects.iter().map(|Object { oid, size }| match repo.lfs(oid) {
        Some(_) => {
            let mut download = serde_json::json!({ "href": format!("{base}/{oid}") });
            if let Some(value) = call.header("authorization") {
                download["header"] = serde_json::json!({ "Authorization": value });
            }
            serde_json::json!({ "oid": oid, "size": size, "actions": { "download": download } })
        }
        None => serde_json::json!({
            "oid": oid, "size": size, "error": { "code": 404, "message": "Object does not exist" },
        }),
    });
    let objects: Vec<_> = objects.collect();
    let body = serde_json::json!({ "transfer": "basic", "objects": objects }).to_string();
    typed(reply(200, body), "application/vnd.git-lfs+json")
}

fn upload_pack_command(repo: &Repo, call: &Call) -> tokio::process::Command {
    let mut command = command(repo.dir());
    command.args(["upload-pack", "--stateless-rpc"]);
    if let Some(version) = call.header("git-protocol") {
        command.env("GIT_PROTOCOL", version);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

async fn advertise(repo: &Repo, call: &Call) -> Response {
    let mut command = upload_pack_command(repo, call);
    command.args(["--http-backend-info-refs", "."]).stdin(Stdio::null());
    let output = match command.output().await {
        Ok(output) if output.status.success() => output.stdout,
        other => {
            tracing::error!(?other, "git upload-pack did not list the refs");
            return error(500);
        }
    };
    // Version 2 begins with its own announcement; the older ones with that of the service.
    let version_2 = call
        .header("git-protocol")
        .is_some_and(|value| value.split(':').any(|part| part == "version=2"));
    let mut body = Vec::new();
    if !version_2 {
        body.extend_from_slice(b"001e# service=git-upload-pack\n0000");
    }
    body.extend_from_slice(&output);
    typed(reply(200, body), "application/x-git-upload-pack-advertisement")
}

async fn upload_pack(inner: &Arc<Inner>, repo: &Repo, call: &Call) -> Response {
    let Some(request) = decompressed(call) else { return error(400) };
    let mut command = upload_pack_command(repo, call);
    command.arg(".");
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(cause) => {
            tracing::error!(%cause, "git upload-pack did not start");
            return error(500);
        }
    };
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return error(500);
    };
    // Fed beside, because it may answer before it has read everything. Ends with the program.
    inner.tasks.spawn(async move {
        let _ = stdin.write_all(&request).await;
    });
    let frames = ReaderStream::with_capacity(stdout, 64 * 1024).map(move |chunk| {
        // Owned by the stream: when the client goes away, the program is killed.
        let _running = &child;
        chunk.map(Frame::data)
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    typed(response, "application/x-git-upload-pack-result")
}

/// git compresses requests above a kilobyte.
fn decompressed(call: &Call) -> Option<Bytes> {
    if call.header("content-encoding") != Some("gzip") {
        return Some(call.body.clone());
    }
    let mut plain = Vec::new();
    let decoder = flate2::read::GzDecoder::new(call.body.as_ref());
    decoder.take(LONGEST_REQUEST).read_to_end(&mut plain).ok()?;
    Some(plain.into())
}

fn typed(mut response: Response, content_type: &'static str) -> Response {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
