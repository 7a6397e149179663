//! A server that goes away, and a proxy in front of it.

use runner_testkit::fault::{Direction, Fault, FaultPlan, FaultProxy};
use runner_testkit::gitlab::{GitLab, JobSpec};
use serde_json::json;

use super::*;

#[tokio::test]
async fn api_43_while_it_is_away_nothing_connects_and_afterwards_nothing_is_lost() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    client.patch(&taken, 0, b"before ").await;
    gitlab.go_away().await;
    // The first finds its kept connection reset, the second none to be had.
    client.patch_as(&taken, "7-7", b"x").send().await.unwrap_err();
    let error = client.patch_as(&taken, "7-7", b"x").send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    gitlab.come_back().unwrap();
    assert_eq!(client.patch(&taken, 7, b"after").await.status(), 202);
    assert_eq!(job.trace(), "before after");
}

#[tokio::test]
async fn an_outage_breaks_a_parked_poll_and_ends_by_itself() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    let value = client.request(json!({})).await;
    let body = json!({
        "token": client.runner, "info": {}, "last_update": header(&value, "x-gitlab-last-update"),
    });
    let parked = client.call(Method::POST, "jobs/request").json(&body).send();
    let (parked, ()) = tokio::join!(parked, async {
        assert!(gitlab.wait_parked_polls(1, SOON).await);
        gitlab.away(Duration::from_millis(50)).await;
    });
    parked.unwrap_err();
    let back = async {
        while tokio::net::TcpStream::connect(gitlab.addr()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, back).await.unwrap();
    assert_eq!(client.request(json!({})).await.status(), 204);
}

#[tokio::test]
async fn a_job_through_a_proxy_that_resets_at_random_ends_right() {
    let gitlab = GitLab::start().await.unwrap();
    let proxy = FaultProxy::start(gitlab.addr()).await.unwrap();
    gitlab.advertise(format!("http://{}", proxy.addr()));
    let mut client = Client::of(&gitlab);
    // A connection for each request, so that each draws its own fate.
    client.http = http().pool_max_idle_per_host(0).build().unwrap();
    let job = gitlab.enqueue(JobSpec::new("unit"));
    let taken = client.take().await;
    proxy.set(FaultPlan::random(42).probability(0.5).within(0..300));
    let log: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    let mut sent = 0;
    while sent < log.len() {
        let end = (sent + 1000).min(log.len());
        let range = format!("{sent}-{}", end - 1);
        if let Ok(reply) = client.patch_as(&taken, &range, &log[sent..end]).send().await {
            let stored = header(&reply, "range").trim_start_matches("0-");
            sent = stored.parse().unwrap();
        }
    }
    while client.put_as(&taken, verdict("success", &log)).send().await.is_err() {}
    let finished = job.wait_finished(SOON).await.unwrap();
    assert_eq!(finished.checksum_ok, Some(true));
    assert!(finished.trace == log);
    assert!(proxy.counts().reset > 3, "{:?}", proxy.counts());
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn a_request_that_stops_half_way_has_no_effect() {
    let gitlab = GitLab::start().await.unwrap();
    let proxy = FaultProxy::start(gitlab.addr()).await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    let through = Client { api: format!("http://{}/api/v4", proxy.addr()), ..client };
    proxy.set(FaultPlan::each(Fault::Close).at(Direction::ToServer, 5_000));
    through.patch_as(&taken, "0-9999", &[b'x'; 10_000]).send().await.unwrap_err();
    assert_eq!(job.trace(), "");
}
