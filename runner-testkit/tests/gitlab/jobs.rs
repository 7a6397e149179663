//! The queue, two-phase commit, verdicts, cancel.

use runner_testkit::gitlab::{
    Artifact, Endpoint, GitLab, Image, JobSpec, JobState, Rule, Variable,
};
use serde_json::json;

use super::*;

#[tokio::test]
async fn an_empty_queue_is_204_with_the_value_to_wait_for() {
    let gitlab = GitLab::start().await.unwrap();
    let response = Client::of(&gitlab).request(json!({})).await;
    assert_eq!(response.status(), 204);
    assert!(!header(&response, "x-gitlab-last-update").is_empty());
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn api_19_a_poll_with_the_current_value_is_parked_until_it_is_over() {
    let gitlab = GitLab::builder().long_poll(Duration::from_millis(80)).start().await.unwrap();
    let client = Client::of(&gitlab);
    let first = client.request(json!({})).await;
    let value = header(&first, "x-gitlab-last-update").to_owned();
    let began = tokio::time::Instant::now();
    let second = client.request(json!({ "last_update": value })).await;
    assert_eq!((second.status().as_u16(), header(&second, "x-gitlab-last-update")), (204, ""));
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn api_17_a_job_that_comes_during_a_parked_poll_is_had_by_the_next_one() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    let first = client.request(json!({})).await;
    let value = json!({ "last_update": header(&first, "x-gitlab-last-update") });
    let (parked, ()) = tokio::join!(client.request(value.clone()), async {
        assert!(gitlab.wait_parked_polls(1, SOON).await);
        gitlab.enqueue(JobSpec::new("unit"));
    });
    assert_eq!(parked.status(), 204);
    assert_eq!(client.request(value).await.status(), 201);
}

#[tokio::test]
async fn an_unknown_runner_is_403() {
    let gitlab = GitLab::start().await.unwrap();
    let mut client = Client::of(&gitlab);
    client.runner = "glrt-someone-else".into();
    assert_eq!(client.request(json!({})).await.status(), 403);
    assert_eq!(rules(&gitlab), [Rule::RunnerToken]);
}

#[tokio::test]
async fn api_25_the_payload_holds_all_that_was_asked_for() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    gitlab.enqueue(
        JobSpec::new("unit")
            .stage("build")
            .script(["make", "make test"])
            .after_script(["echo bye"])
            .with(Variable::new("SECRET", "s3cret").masked().raw())
            .image(Image::new("alpine").user("1000:1000"))
            .service(Image::new("postgres:17").alias("db, primary").variable("A", "b").port(5432))
            .artifact(Artifact::archive(["out/"]).name("out").expire_in("1 week"))
            .timeout(Duration::from_secs(90))
            .patch(|payload| payload["cache"] = json!([{ "key": "k" }])),
    );
    let Taken { payload, token, .. } = client.take().await;
    assert_eq!(payload["steps"][0]["script"], json!(["make", "make test"]));
    assert_eq!(payload["steps"][1]["when"], "always");
    assert_eq!(payload["image"]["executor_opts"]["kubernetes"]["user"], "1000:1000");
    assert_eq!(payload["services"][0]["alias"], "db, primary");
    assert_eq!(payload["services"][0]["variables"][0]["value"], "b");
    assert_eq!(payload["artifacts"][0]["artifact_format"], "zip");
    assert_eq!(payload["runner_info"]["timeout"], 90);
    assert_eq!(payload["cache"][0]["key"], "k");
    let variable = |key: &str| {
        let all = payload["variables"].as_array().unwrap();
        all.iter().rfind(|variable| variable["key"] == key).unwrap().clone()
    };
    assert_eq!(variable("SECRET")["masked"], true);
    assert_eq!(variable("CI_JOB_TOKEN")["value"], *token);
    assert_eq!(variable("CI_SERVER_URL")["value"], gitlab.url());
    assert_eq!(variable("GIT_STRATEGY")["value"], "none");
}

#[tokio::test]
async fn api_22_a_payload_can_be_malformed_and_still_hold_id_and_token() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    let job = gitlab.enqueue(JobSpec::new("unit").raw(|payload| {
        format!(r#"{{"id":{},"token":{},"steps":"#, payload["id"], payload["token"]).into_bytes()
    }));
    let text = client.request(json!({})).await.text().await.unwrap();
    assert!(text.starts_with(&format!(r#"{{"id":{},"token":"glcbt-64_"#, job.id())), "{text}");
    assert!(text.ends_with(r#""steps":"#));
}

#[tokio::test]
async fn api_18_a_job_of_a_two_phase_runner_runs_when_it_says_so() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    let job = gitlab.enqueue(JobSpec::new("unit"));
    let taken = client.take_as(json!({ "two_phase_job_commit": true })).await;
    assert_eq!(job.state(), JobState::Pending);
    let reply = client.put(&taken, json!({ "state": "running" })).await;
    assert_eq!((reply.status().as_u16(), header(&reply, "job-status")), (200, "running"));
    assert_eq!(job.state(), JobState::Running);
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn a_job_that_nobody_acknowledges_goes_to_the_next_runner_and_the_first_is_403() {
    let gitlab =
        GitLab::builder().commit_deadline(Duration::from_millis(50)).start().await.unwrap();
    let client = Client::of(&gitlab);
    let job = gitlab.enqueue(JobSpec::new("unit"));
    let first = client.take_as(json!({ "two_phase_job_commit": true })).await;
    let value = client.request(json!({})).await;
    let value = json!({ "last_update": header(&value, "x-gitlab-last-update") });
    // Parked until the job is back.
    assert_eq!(client.request(value).await.status(), 204);
    let second = client.take().await;
    assert_eq!((first.id, second.id), (job.id(), job.id()));
    assert_ne!(first.token, second.token);
    assert_eq!(client.put(&first, json!({ "state": "running" })).await.status(), 403);
    assert_eq!(rules(&gitlab), [Rule::AcknowledgedTooLate]);
    assert_eq!(client.put(&second, json!({ "state": "running" })).await.status(), 200);
}

#[tokio::test]
async fn trace_and_verdict_are_refused_before_the_job_is_acknowledged() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    gitlab.enqueue(JobSpec::new("unit"));
    let taken = client.take_as(json!({ "two_phase_job_commit": true })).await;
    assert_eq!(client.patch(&taken, 0, b"x").await.status(), 403);
    assert_eq!(client.put(&taken, verdict("success", b"")).await.status(), 400);
    assert_eq!(rules(&gitlab), [Rule::NotAcknowledged, Rule::NotAcknowledged]);
}

#[tokio::test]
async fn api_61_the_verdict_is_kept_with_reason_and_exit_code() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"log\n").await;
    let mut update = verdict("failed", b"log\n");
    update["failure_reason"] = "script_failure".into();
    update["exit_code"] = 37.into();
    let reply = client.put(&taken, update).await;
    assert_eq!((reply.status().as_u16(), header(&reply, "job-status")), (200, "failed"));
    let finished = job.wait_finished(SOON).await.unwrap();
    assert_eq!(finished.state, JobState::Failed);
    assert_eq!(finished.failure_reason.as_deref(), Some("script_failure"));
    assert_eq!((finished.exit_code, finished.checksum_ok), (Some(37), Some(true)));
    assert_eq!(finished.trace, "log\n");
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn api_46_a_verdict_is_pending_as_often_as_set() {
    let gitlab = GitLab::builder().pending_verdicts(2).start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"log").await;
    for interval in ["1", "2"] {
        let reply = client.put(&taken, verdict("success", b"log")).await;
        assert_eq!(reply.status(), 202);
        assert_eq!(header(&reply, "x-gitlab-trace-update-interval"), interval);
    }
    assert_eq!(job.state(), JobState::Running);
    assert_eq!(client.put(&taken, verdict("success", b"log")).await.status(), 200);
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn the_same_verdict_again_is_counted_and_another_is_a_violation() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.put(&taken, verdict("success", b"")).await;
    let again = client.put(&taken, verdict("success", b"")).await;
    assert_eq!((again.status().as_u16(), header(&again, "job-status")), (403, "success"));
    assert_eq!(job.wait_finished(SOON).await.unwrap().repeated_verdicts, 1);
    assert_eq!(gitlab.violations(), []);
    client.put(&taken, verdict("failed", b"")).await;
    assert_eq!(rules(&gitlab), [Rule::SecondVerdict]);
}

#[tokio::test]
async fn an_update_without_a_state_or_without_the_header_is_noted() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, taken) = running(&gitlab).await;
    assert_eq!(client.put(&taken, json!({})).await.status(), 400);
    assert_eq!(rules(&gitlab), [Rule::Body]);
    let body = json!({ "token": taken.token, "state": "running" });
    let call = client.call(Method::PUT, &format!("jobs/{}", taken.id)).json(&body);
    assert_eq!(call.send().await.unwrap().status(), 200);
    assert_eq!(rules(&gitlab), [Rule::Body, Rule::Header]);
}

#[tokio::test]
async fn a_token_opens_only_its_own_job() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, first) = running(&gitlab).await;
    gitlab.enqueue(JobSpec::new("other"));
    let mut second = client.take().await;
    second.token = first.token;
    assert_eq!(client.patch(&second, 0, b"x").await.status(), 403);
    assert_eq!(client.put(&second, json!({ "state": "running" })).await.status(), 403);
    assert_eq!(rules(&gitlab), [Rule::JobToken, Rule::JobToken]);
}

#[tokio::test]
async fn api_39_a_graceful_cancel_is_told_and_the_verdict_still_taken() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    job.cancel();
    let reply = client.patch(&taken, 0, b"stopped").await;
    assert_eq!((reply.status().as_u16(), header(&reply, "job-status")), (202, "canceling"));
    assert_eq!(client.put(&taken, verdict("failed", b"stopped")).await.status(), 200);
    assert_eq!(job.wait_finished(SOON).await.unwrap().state, JobState::Canceled);
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn a_forced_cancel_and_one_of_a_runner_that_knows_no_other_is_403_canceled() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    for graceful in [true, false] {
        let job = gitlab.enqueue(JobSpec::new("unit"));
        let taken = client.take_as(json!({ "cancel_gracefully": graceful })).await;
        if graceful {
            job.force_cancel();
        } else {
            job.cancel();
        }
        let reply = client.patch(&taken, 0, b"x").await;
        assert_eq!((reply.status().as_u16(), header(&reply, "job-status")), (403, "canceled"));
    }
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn a_job_waits_for_what_it_needs_and_is_skipped_when_that_fails() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    let good = gitlab.enqueue(JobSpec::new("good"));
    let bad = gitlab.enqueue(JobSpec::new("bad"));
    let after_good = gitlab.enqueue(JobSpec::new("after good").needs(&good));
    let after_bad = gitlab.enqueue(JobSpec::new("after bad").needs(&good).needs(&bad));
    let after_that = gitlab.enqueue(JobSpec::new("after that").needs(&after_bad));
    let (first, second) = (client.take().await, client.take().await);
    assert_eq!(client.request(json!({})).await.status(), 204);
    client.put(&first, verdict("success", b"")).await;
    client.put(&second, verdict("failed", b"")).await;
    assert_eq!(client.take().await.id, after_good.id());
    for skipped in [after_bad, after_that] {
        assert_eq!(skipped.wait_finished(SOON).await.unwrap().state, JobState::Skipped);
    }
}

#[tokio::test]
async fn who_waits_too_long_is_told_where_the_job_is() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"compiling").await;
    job.wait_trace("piling", SOON).await.unwrap();
    let error = job.wait_finished(Duration::from_millis(20)).await.unwrap_err().to_string();
    assert!(error.contains("is running") && error.ends_with("compiling"), "{error}");
}

#[tokio::test]
async fn every_request_is_recorded() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"12345").await;
    let requests = gitlab.requests();
    let last = requests.last().unwrap();
    assert_eq!((last.endpoint, last.status, last.received), (Endpoint::Trace, Some(202), 5));
    assert_eq!(last.path, format!("/api/v4/jobs/{}/trace?debug_trace=false", taken.id));
    assert_eq!((last.headers["content-range"].as_str(), last.job), ("0-4", Some(taken.id)));
    assert_eq!(gitlab.request_counts()[&Endpoint::RequestJob], 1);
}
