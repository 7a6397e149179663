//! Answers on demand.

use runner_testkit::gitlab::{Endpoint, GitLab, JobSpec};
use serde_json::json;

use super::*;

#[tokio::test]
async fn api_05_a_scripted_status_comes_as_often_as_asked_and_has_no_effect() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    gitlab.script(Endpoint::Trace).reply(503).header("Retry-After", "1").times(2);
    gitlab.script(Endpoint::Trace).reply(429).once();
    for status in [503, 503, 429, 202] {
        let reply = client.patch(&taken, 0, b"x").await;
        assert_eq!(reply.status(), status);
        assert_eq!(header(&reply, "retry-after"), if status == 503 { "1" } else { "" });
        assert_eq!(job.trace().len(), usize::from(status == 202));
    }
    assert_eq!(gitlab.scripts_left(), 0);
}

#[tokio::test]
async fn headers_alone_are_put_on_the_natural_answer() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    gitlab.script(Endpoint::Trace).header("Job-Status", "canceled").once();
    let reply = client.patch(&taken, 0, b"x").await;
    assert_eq!((reply.status().as_u16(), header(&reply, "job-status")), (202, "canceled"));
    assert_eq!(job.trace(), "x");
}

#[tokio::test]
async fn a_script_can_be_for_one_job_only() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, first) = running(&gitlab).await;
    let job = gitlab.enqueue(JobSpec::new("second"));
    let second = client.take().await;
    gitlab.script(Endpoint::UpdateJob).reply(500).for_job(&job).always();
    assert_eq!(client.put(&first, json!({ "state": "running" })).await.status(), 200);
    assert_eq!(client.put(&second, json!({ "state": "running" })).await.status(), 500);
    gitlab.clear_scripts();
    assert_eq!(client.put(&second, json!({ "state": "running" })).await.status(), 200);
}

#[tokio::test]
async fn a_reset_before_and_a_reset_after_the_work_look_the_same_to_the_client() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    gitlab.script(Endpoint::Trace).reset().once();
    client.patch_as(&taken, "0-0", b"x").send().await.unwrap_err();
    assert_eq!(job.trace(), "");
    gitlab.script(Endpoint::Trace).lose_reply().once();
    client.patch_as(&taken, "0-0", b"x").send().await.unwrap_err();
    assert_eq!(job.trace(), "x");
    assert!(gitlab.requests().iter().rev().take(2).all(|request| request.status.is_none()));
}

#[tokio::test]
async fn a_body_can_be_cut_and_a_request_left_hanging() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    gitlab.enqueue(JobSpec::new("unit"));
    gitlab.script(Endpoint::RequestJob).cut_body(100).once();
    let mut reply = client.request(json!({})).await;
    let mut got = 0;
    let error = loop {
        match reply.chunk().await {
            Ok(Some(chunk)) => got += chunk.len(),
            Ok(None) => panic!("the body ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(got <= 100, "{got}: {error}");

    gitlab.script(Endpoint::RequestJob).hang().once();
    let hanging = client.request(json!({}));
    tokio::time::timeout(Duration::from_millis(50), hanging).await.unwrap_err();
}

#[tokio::test]
async fn a_delay_and_the_latency_are_kept() {
    let gitlab = GitLab::builder().latency(Duration::from_millis(30)).start().await.unwrap();
    let client = Client::of(&gitlab);
    gitlab.script(Endpoint::RequestJob).delay(Duration::from_millis(30)).once();
    let began = tokio::time::Instant::now();
    client.request(json!({})).await;
    assert!(began.elapsed() >= Duration::from_millis(60));
}
