//! The GitLab stand-in, seen by a plain HTTP client and by the `git` program.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use runner_testkit::gitlab::{GitLab, JobRef, Rule};
use serde_json::{Value, json};

mod artifacts;
mod git;
mod jobs;
mod outages;
mod runners;
mod scripts;
mod trace;

/// Far longer than anything here takes; only a failing test waits for it.
const SOON: Duration = Duration::from_secs(10);

/// A runner that says exactly what a test tells it to.
struct Client {
    http: reqwest::Client,
    api: String,
    runner: String,
}

/// A job as it was handed out.
struct Taken {
    id: u64,
    token: String,
    payload: Value,
}

fn http() -> reqwest::ClientBuilder {
    // Already done by another test in this process, perhaps.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().user_agent("test 1.0").no_proxy()
}

impl Client {
    fn of(gitlab: &GitLab) -> Self {
        Self {
            http: http().build().unwrap(),
            api: format!("{}/api/v4", gitlab.url()),
            runner: gitlab.runner_token().to_owned(),
        }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.api))
    }

    async fn request(&self, extra: Value) -> Response {
        let mut body = json!({ "token": self.runner, "system_id": "s_0123456789ab", "info": {} });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let call = self.call(Method::POST, "jobs/request").header("RUNNER-TOKEN", &self.runner);
        call.json(&body).send().await.unwrap()
    }

    /// Takes a job without two-phase commit.
    async fn take(&self) -> Taken {
        self.take_as(json!({ "cancel_gracefully": true })).await
    }

    async fn take_as(&self, features: Value) -> Taken {
        let response = self.request(json!({ "info": { "features": features } })).await;
        assert_eq!(response.status(), 201);
        let payload: Value = response.json().await.unwrap();
        let token = payload["token"].as_str().unwrap().to_owned();
        Taken { id: payload["id"].as_u64().unwrap(), token, payload }
    }

    async fn patch(&self, job: &Taken, start: usize, bytes: &[u8]) -> Response {
        let range = format!("{start}-{}", start + bytes.len() - 1);
        self.patch_as(job, &range, bytes).send().await.unwrap()
    }

    fn patch_as(&self, job: &Taken, range: &str, bytes: &[u8]) -> RequestBuilder {
        self.call(Method::PATCH, &format!("jobs/{}/trace?debug_trace=false", job.id))
            .header("JOB-TOKEN", &job.token)
            .header("Content-Type", "text/plain")
            .header("Content-Range", range)
            .body(bytes.to_vec())
    }

    async fn put(&self, job: &Taken, update: Value) -> Response {
        self.put_as(job, update).send().await.unwrap()
    }

    fn put_as(&self, job: &Taken, update: Value) -> RequestBuilder {
        let mut body = json!({ "token": job.token, "info": {}, "output": {} });
        body.as_object_mut().unwrap().extend(update.as_object().unwrap().clone());
        self.call(Method::PUT, &format!("jobs/{}", job.id))
            .header("JOB-TOKEN", &job.token)
            .json(&body)
    }
}

fn verdict(state: &str, trace: &[u8]) -> Value {
    let checksum = format!("crc32:{:08x}", crc32(trace));
    json!({ "state": state, "output": { "checksum": checksum, "bytesize": trace.len() } })
}

/// CRC-32 (IEEE) bit by bit, so that the stand-in's own is not checked against itself.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn rules(gitlab: &GitLab) -> Vec<Rule> {
    gitlab.violations().into_iter().map(|violation| violation.rule).collect()
}

/// A job that is running, without a repository.
async fn running(gitlab: &GitLab) -> (Client, JobRef, Taken) {
    let client = Client::of(gitlab);
    let job = gitlab.enqueue(runner_testkit::gitlab::JobSpec::new("unit").script(["true"]));
    let taken = client.take().await;
    (client, job, taken)
}
