//! Pieces of trace and what is checked of them.

use runner_testkit::gitlab::{GitLab, JobState, Rule};

use super::*;

#[tokio::test]
async fn api_32_pieces_in_order_are_taken_with_the_headers_a_runner_reads() {
    let gitlab = GitLab::builder().trace_interval(Some(7)).start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello ").await;
    let reply = client.patch(&taken, 6, b"world").await;
    assert_eq!(reply.status(), 202);
    assert_eq!(header(&reply, "range"), "0-11");
    assert_eq!(header(&reply, "job-status"), "running");
    assert_eq!(header(&reply, "x-gitlab-trace-update-interval"), "7");
    assert_eq!(job.trace(), "hello world");
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn api_36_a_gap_is_416_with_the_stored_size_and_a_violation() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello").await;
    let reply = client.patch(&taken, 9, b"world").await;
    assert_eq!((reply.status().as_u16(), header(&reply, "range")), (416, "0-5"));
    assert_eq!(job.trace(), "hello");
    assert_eq!(rules(&gitlab), [Rule::TraceRange]);
}

#[tokio::test]
async fn the_last_piece_once_more_is_taken_and_a_longer_one_from_there_is_416() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello").await;
    assert_eq!(client.patch(&taken, 0, b"hello").await.status(), 202);
    let reply = client.patch(&taken, 0, b"hello world").await;
    assert_eq!((reply.status().as_u16(), header(&reply, "range")), (416, "0-5"));
    assert_eq!(job.trace(), "hello");
    // What a client does after a lost answer is no violation, as long as the bytes are the same.
    assert_eq!(gitlab.violations(), []);
    client.patch(&taken, 0, b"jello").await;
    assert_eq!(rules(&gitlab), [Rule::TraceRewritten]);
}

#[tokio::test]
async fn a_range_that_does_not_fit_the_body_is_noted_and_one_that_is_none_is_400() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, taken) = running(&gitlab).await;
    // One too many, which GitLab itself does not mind.
    let reply = client.patch_as(&taken, "0-5", b"hello").send().await.unwrap();
    assert_eq!(reply.status(), 202);
    assert_eq!(rules(&gitlab), [Rule::TraceRange]);
    let reply = client.patch_as(&taken, "bytes 5-9/10", b"world").send().await.unwrap();
    assert_eq!(reply.status(), 400);
    assert_eq!(rules(&gitlab), [Rule::TraceRange, Rule::Header]);
}

#[tokio::test]
async fn api_47_a_wrong_checksum_is_412_and_the_trace_can_be_sent_again() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello").await;
    job.corrupt_trace(1);
    assert_eq!(client.put(&taken, verdict("success", b"hello")).await.status(), 412);
    assert_eq!(gitlab.violations(), [], "the server's own fault");
    assert_eq!(client.patch(&taken, 0, b"hello").await.status(), 202);
    assert_eq!(client.put(&taken, verdict("success", b"hello")).await.status(), 200);
    let finished = job.wait_finished(SOON).await.unwrap();
    assert_eq!((finished.checksum_ok, finished.rejected_verdicts), (Some(true), 1));
}

#[tokio::test]
async fn api_48_a_checksum_of_other_bytes_is_412_and_a_violation() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello").await;
    assert_eq!(client.put(&taken, verdict("success", b"jello")).await.status(), 412);
    assert_eq!(rules(&gitlab), [Rule::TraceChecksum]);
}

#[tokio::test]
async fn api_48_a_size_that_does_not_fit_is_412() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, _, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello").await;
    let mut update = verdict("success", b"hello");
    update["output"]["bytesize"] = 6.into();
    assert_eq!(client.put(&taken, update).await.status(), 412);
    assert_eq!(rules(&gitlab), [Rule::TraceChecksum]);
}

#[tokio::test]
async fn a_verdict_without_a_checksum_is_taken_and_proves_nothing() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello").await;
    client.put(&taken, serde_json::json!({ "state": "failed" })).await;
    assert_eq!(job.wait_finished(SOON).await.unwrap().checksum_ok, None);
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn trace_after_the_verdict_is_403_and_a_violation() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.put(&taken, verdict("success", b"")).await;
    let reply = client.patch(&taken, 0, b"late").await;
    assert_eq!((reply.status().as_u16(), header(&reply, "job-status")), (403, "success"));
    assert_eq!(rules(&gitlab), [Rule::TraceAfterVerdict]);
    assert_eq!(job.trace(), "");
}

#[tokio::test]
async fn api_36_a_trace_that_the_server_lost_is_asked_for_again() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"hello ").await;
    job.truncate_trace(2);
    let reply = client.patch(&taken, 6, b"world").await;
    assert_eq!((reply.status().as_u16(), header(&reply, "range")), (416, "0-2"));
    assert_eq!(client.patch(&taken, 2, b"llo world").await.status(), 202);
    assert_eq!(job.trace(), "hello world");
    assert_eq!(gitlab.violations(), [], "the server's own fault");
}

#[tokio::test]
async fn a_trace_above_the_limit_ends_the_job() {
    let gitlab = GitLab::builder().trace_limit(4).start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    assert_eq!(client.patch(&taken, 0, b"1234").await.status(), 202);
    assert_eq!(client.patch(&taken, 4, b"5").await.status(), 403);
    let finished = job.wait_finished(SOON).await.unwrap();
    assert_eq!(finished.state, JobState::Failed);
    assert_eq!(finished.failure_reason.as_deref(), Some("trace_size_exceeded"));
}

#[tokio::test]
async fn api_77_traces_of_two_jobs_do_not_mix() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, one, first) = running(&gitlab).await;
    let two = gitlab.enqueue(runner_testkit::gitlab::JobSpec::new("two"));
    let second = client.take().await;
    for n in 0..20 {
        let (a, b) =
            tokio::join!(client.patch(&first, n, b"1"), client.patch(&second, 2 * n, b"22"));
        assert_eq!((a.status().as_u16(), b.status().as_u16()), (202, 202));
    }
    assert_eq!((one.trace(), two.trace()), ("1".repeat(20).into(), "2".repeat(40).into()));
}
