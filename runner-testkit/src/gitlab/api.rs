//! The runner API: reads a request, asks [`super::job`] or [`super::state`], writes the answer.

use std::sync::Arc;

use ::http::HeaderValue;
use ::http::header::{CONTENT_RANGE, LOCATION};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::artifacts::{self, UploadQuery};
use super::http::{Call, Response, error, json as json_reply, reply};
use super::job::{Access, Answer, SessionInfo, Update};
use super::listener::Origin;
use super::record::Rule;
use super::script::Endpoint;
use super::server::Inner;
use super::state::Abilities;

pub(super) async fn serve(inner: &Arc<Inner>, call: Call) -> Response {
    if call.endpoint != Endpoint::ObjectStorage && call.header("user-agent").is_none() {
        inner.breach(Rule::Header, call.job, "no User-Agent");
    }
    match call.endpoint {
        Endpoint::RequestJob => request_job(inner, &call).await,
        Endpoint::UpdateJob => update_job(inner, &call),
        Endpoint::Trace => append_trace(inner, &call),
        Endpoint::UploadArtifact => upload(inner, &call),
        Endpoint::DownloadArtifact => download(inner, &call),
        Endpoint::ObjectStorage => from_storage(inner, &call),
        Endpoint::VerifyRunner => verify(inner, &call),
        Endpoint::RegisterRunner => register(inner, &call),
        Endpoint::UnregisterRunner => unregister(inner, &call),
        Endpoint::ResetToken => reset_token(inner, &call),
        Endpoint::Git | Endpoint::Other => {
            let what = format!("{} {}", call.head.method, call.head.uri.path());
            inner.breach(Rule::UnknownPath, call.job, what);
            error(404)
        }
    }
}

/// The JSON object of a request, or the refusal.
fn object(inner: &Inner, call: &Call) -> Result<Value, Box<Response>> {
    let media = call.header("content-type").map(|it| it.split(';').next().unwrap_or(it).trim());
    if media != Some("application/json") {
        inner.breach(Rule::Header, call.job, format!("Content-Type is {media:?}, wanted JSON"));
    }
    match serde_json::from_slice::<Value>(&call.body) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) | Err(_) => {
            inner.breach(Rule::Body, call.job, "the body is no JSON object");
            Err(Box::new(error(400)))
        }
    }
}

/// Checks the runner token: the one in the body counts, the header must be there too.
fn runner(inner: &Inner, call: &Call, body: &Value) -> Result<String, Box<Response>> {
    let Some(token) = body["token"].as_str() else {
        inner.breach(Rule::RunnerToken, None, "no token in the body");
        return Err(Box::new(error(400)));
    };
    if !inner.state.lock().runner_tokens.contains(token) {
        inner.breach(Rule::RunnerToken, None, "an unknown runner token");
        return Err(Box::new(error(403)));
    }
    if call.header("runner-token") != Some(token) {
        inner.breach(Rule::Header, None, "RUNNER-TOKEN is not the token in the body");
    }
    Ok(token.to_owned())
}

async fn request_job(inner: &Arc<Inner>, call: &Call) -> Response {
    let body = match object(inner, call) {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    if let Err(refusal) = runner(inner, call, &body) {
        return *refusal;
    }
    if !body["info"].is_object() {
        inner.breach(Rule::Body, None, "no info in a request for a job");
    }
    let mut queue = inner.queue.subscribe();
    let now = queue_value(*queue.borrow_and_update());
    if body["last_update"].as_str() == Some(&now) {
        // Either way it is 204, without the header: GitLab's proxy, which does the parking, cannot
        // be sure that the client is still there, so it takes no job for it.
        let _parked = Parked::new(inner);
        let _ = tokio::time::timeout(inner.settings.long_poll, queue.changed()).await;
        return reply(204, Bytes::new());
    }
    let features = &body["info"]["features"];
    let can = Abilities {
        two_phase: features["two_phase_job_commit"] == json!(true),
        graceful: features["cancel_gracefully"] == json!(true),
    };
    let url = inner.url.lock().clone();
    let moment = Instant::now();
    let until = moment + inner.settings.commit_deadline;
    let handed_out = inner.state.lock().hand_out(can, until, moment, &url);
    let Some((id, payload)) = handed_out else {
        let mut nothing = reply(204, Bytes::new());
        set(&mut nothing, "X-GitLab-Last-Update", &now);
        return nothing;
    };
    inner.with_job(id, |job| job.session = SessionInfo::of(&body));
    if can.two_phase {
        inner.tasks.spawn(await_acknowledgement(inner.clone(), id));
    }
    json_reply(201, payload)
}

/// Counts a parked poll until it is answered or its client has gone.
struct Parked<'a>(&'a Inner);

impl<'a> Parked<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.parked.send_modify(|now| *now += 1);
        Self(inner)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.send_modify(|now| *now -= 1);
    }
}

fn queue_value(version: u64) -> String {
    format!("{version:016x}")
}

/// Takes the job back when nobody acknowledges it in time.
async fn await_acknowledgement(inner: Arc<Inner>, id: u64) {
    let Some((mut changed, handout)) =
        inner.with_job(id, |job| (job.changed.subscribe(), job.handouts))
    else {
        return;
    };
    loop {
        let waiting = inner.with_job(id, |job| job.waiting.filter(|_| job.handouts == handout));
        let Some(Some(until)) = waiting else { return };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            // Acknowledged, cancelled, or the deadline has moved.
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(until) => {
                let taken_back = inner.state.lock().take_back(id, Instant::now());
                if taken_back {
                    inner.queue_has_grown();
                }
            }
        }
    }
}

/// The job token: the one in the body or the query wins over the header, as with GitLab.
fn job_token<'a>(inner: &Inner, call: &'a Call, in_body: Option<&'a str>) -> Option<&'a str> {
    let header = call.header("job-token");
    if header.is_none() {
        inner.breach(Rule::Header, call.job, "no JOB-TOKEN");
    }
    in_body.or(header)
}

fn update_job(inner: &Inner, call: &Call) -> Response {
    let body = match object(inner, call) {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let update = Update {
        state: text(&body["state"]),
        failure_reason: text(&body["failure_reason"]),
        exit_code: body["exit_code"].as_i64(),
        checksum: text(&body["output"]["checksum"]).or_else(|| text(&body["checksum"])),
        bytesize: body["output"]["bytesize"].as_u64(),
    };
    let Some(in_body) = body["token"].as_str() else {
        inner.breach(Rule::JobToken, call.job, "no token in the body of an update");
        return error(400);
    };
    let token = job_token(inner, call, Some(in_body));
    answer(inner, call, |job| job.update(token, update, &inner.settings, Instant::now()))
}

fn append_trace(inner: &Inner, call: &Call) -> Response {
    let media = call.header("content-type").map(|it| it.split(';').next().unwrap_or(it).trim());
    if media != Some("text/plain") {
        inner.breach(Rule::Header, call.job, format!("Content-Type is {media:?}, wanted text"));
    }
    let token = job_token(inner, call, None);
    let range = call.header("content-range");
    answer(inner, call, |job| job.append(token, range, &call.body, &inner.settings, Instant::now()))
}

fn answer(
    inner: &Inner,
    call: &Call,
    ask: impl FnOnce(&mut super::job::Job) -> Answer,
) -> Response {
    let Some(answer) = call.job.and_then(|id| inner.with_job(id, ask)) else {
        // Not 404: see `Job::authorise`.
        inner.breach(Rule::JobToken, call.job, "a job that does not exist");
        return error(403);
    };
    let mut response = match answer.status {
        status @ (200 | 202) => json_reply(status, status.to_string()),
        status => error(status),
    };
    if let Some(state) = answer.job_status {
        set(&mut response, "Job-Status", state.as_str());
    }
    if let Some(stored) = answer.range {
        set(&mut response, "Range", &format!("0-{stored}"));
    }
    if let Some(interval) = answer.interval {
        set(&mut response, "X-GitLab-Trace-Update-Interval", &interval.to_string());
    }
    for (rule, detail) in answer.breaches {
        inner.breach(rule, call.job, detail);
    }
    response
}

fn refused(inner: &Inner, call: &Call, refusal: Answer) -> Response {
    answer(inner, call, |_| refusal)
}

fn upload(inner: &Inner, call: &Call) -> Response {
    let token = job_token(inner, call, None);
    let may =
        call.job.and_then(|id| inner.with_job(id, |job| job.authorise(token, &Access::Executing)));
    match may {
        Some(Ok(())) => {}
        Some(Err(refusal)) => return refused(inner, call, refusal),
        None => return answer(inner, call, |_| Answer::default()),
    }
    let content_type = call.header("content-type").unwrap_or_default();
    let (filename, data) = match artifacts::single_file(content_type, &call.body) {
        Ok(file) => file,
        Err(problem) => {
            inner.breach(Rule::Artifact, call.job, problem);
            return error(400);
        }
    };
    if data.len() as u64 > inner.settings.artifact_limit {
        inner.breach(Rule::Artifact, call.job, format!("an upload of {} bytes", data.len()));
        return error(413);
    }
    let query = UploadQuery {
        artifact_type: call.query("artifact_type"),
        artifact_format: call.query("artifact_format"),
        expire_in: call.query("expire_in"),
    };
    let stored = call
        .job
        .and_then(|id| inner.with_job(id, |job| artifacts::store(job, query, filename, data)));
    match stored {
        Some(Err((status, rule, detail))) => {
            inner.breach(rule, call.job, detail);
            error(status)
        }
        _ => json_reply(201, "\"201\""),
    }
}

fn download(inner: &Inner, call: &Call) -> Response {
    let token = job_token(inner, call, None);
    let (archive, id) = {
        let state = inner.state.lock();
        let Some(job) = call.job.and_then(|id| state.jobs.get(&id)) else {
            drop(state);
            return answer(inner, call, |_| Answer::default());
        };
        // The job itself at any time, and the executing jobs that need it.
        let may = job.authorise(token, &Access::Any);
        let needed = token
            .and_then(|token| state.by_token(token))
            .is_some_and(|other| other.spec.needs.contains(&job.id));
        if let (Err(refusal), false) = (may, needed) {
            drop(state);
            return refused(inner, call, refusal);
        }
        (job.archive().cloned(), job.id)
    };
    let Some(archive) = archive else { return error(404) };
    let direct = call.query("direct_download").is_some_and(|value| value == "true");
    if inner.settings.object_storage && direct {
        let origin = inner.listeners.url(Origin::ObjectStorage);
        let mut redirect = reply(302, Bytes::new());
        let location = format!("{origin}/artifacts/{id}?signature={}", signature(id));
        set(&mut redirect, LOCATION.as_str(), &location);
        return redirect;
    }
    file(&archive.filename, archive.data)
}

fn file(filename: &str, data: Bytes) -> Response {
    let mut response = reply(200, data);
    set(&mut response, "Content-Type", "application/octet-stream");
    set(&mut response, "Content-Disposition", &format!("attachment; filename=\"{filename}\""));
    response
}

/// Stands for the signature of a presigned URL: only the server can make it.
fn signature(id: u64) -> String {
    super::job::token(id, u32::MAX).trim_start_matches("glcbt-64_").to_owned()
}

fn from_storage(inner: &Inner, call: &Call) -> Response {
    for name in ["job-token", "runner-token", "private-token", "authorization"] {
        if call.header(name).is_some() {
            inner.breach(Rule::TokenLeaked, None, format!("{name} was sent to object storage"));
        }
    }
    let id = call.head.uri.path().strip_prefix("/artifacts/").and_then(|id| id.parse().ok());
    let Some(id) = id.filter(|id| call.query("signature") == Some(signature(*id))) else {
        return error(403);
    };
    let archive = inner.with_job(id, |job| job.archive().cloned()).flatten();
    let Some(archive) = archive else { return error(404) };
    match call.header("range").and_then(|range| asked_for(range, archive.data.len())) {
        Some((first, last)) => {
            let total = archive.data.len();
            let mut part = reply(206, archive.data.slice(first..=last));
            set(&mut part, CONTENT_RANGE.as_str(), &format!("bytes {first}-{last}/{total}"));
            part
        }
        None => file(&archive.filename, archive.data),
    }
}

/// `bytes=first-last` that lies in a file of this size.
fn asked_for(range: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let last = last.parse().unwrap_or(usize::MAX).min(size.checked_sub(1)?);
    (first <= last).then_some((first, last))
}

fn verify(inner: &Inner, call: &Call) -> Response {
    let checked = object(inner, call).and_then(|body| runner(inner, call, &body));
    match checked {
        Ok(token) => {
            let body = json!({ "id": 1, "token": token, "token_expires_at": null });
            json_reply(200, body.to_string())
        }
        Err(refusal) => *refusal,
    }
}

fn register(inner: &Inner, call: &Call) -> Response {
    let body = match object(inner, call) {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    if body["token"] != json!(inner.settings.registration_token) {
        inner.breach(Rule::RunnerToken, None, "an unknown registration token");
        return error(403);
    }
    let mut state = inner.state.lock();
    state.registered += 1;
    let id = 1 + state.registered;
    let token = format!("testkit-registered-{id}");
    state.runner_tokens.insert(token.clone());
    json_reply(201, json!({ "id": id, "token": token, "token_expires_at": null }).to_string())
}

fn unregister(inner: &Inner, call: &Call) -> Response {
    let checked = object(inner, call).and_then(|body| Ok((runner(inner, call, &body)?, body)));
    match checked {
        Ok((token, body)) => {
            if !call.head.uri.path().ends_with("/managers") {
                inner.state.lock().runner_tokens.remove(&token);
            } else if body["system_id"].as_str().is_none_or(str::is_empty) {
                inner.breach(Rule::Body, None, "no system_id of the manager to unregister");
                return error(400);
            }
            reply(204, Bytes::new())
        }
        Err(refusal) => *refusal,
    }
}

fn reset_token(inner: &Inner, call: &Call) -> Response {
    // The one call whose token is only in the body.
    let body = match object(inner, call) {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let mut state = inner.state.lock();
    if !body["token"].as_str().is_some_and(|token| state.runner_tokens.remove(token)) {
        drop(state);
        inner.breach(Rule::RunnerToken, None, "an unknown runner token");
        return error(403);
    }
    state.registered += 1;
    let token = format!("glrt-testkit-reset-{}", state.registered);
    state.runner_tokens.insert(token.clone());
    json_reply(201, json!({ "token": token, "token_expires_at": null }).to_string())
}

fn set(response: &mut Response, name: &str, value: &str) {
    let name = ::http::HeaderName::try_from(name).expect("names are written in this file");
    match HeaderValue::try_from(value) {
        Ok(value) => {
            response.headers_mut().insert(name, value);
        }
        // A file name from a client with control characters in it.
        Err(_) => tracing::warn!(%name, "a header of the stand-in's answer was left out"),
    }
}
