//! GitLab or the API server is away for a while: the job ends right all the same.

use std::time::Duration;

use runner_testkit::gitlab::JobSpec;

use crate::world::{PATIENCE, World, success, text};

/// Longer than any single try, its retries and a lease of the tests.
const OUTAGE: Duration = Duration::from_secs(60);
const COUNT: &str =
    "i=0; while [ $i -lt 400 ]; do echo line $i of many; i=$((i+1)); sleep 0.01; done";

#[track_caller]
fn every_line_once(text: &str) {
    for line in 0..400 {
        assert_eq!(text.matches(&format!("line {line} of many\n")).count(), 1, "{line}: {text}");
    }
}

#[tokio::test]
async fn gitlab_is_away_for_a_minute_in_the_middle() {
    let world = World::new().await;
    let job = world.gitlab.enqueue(JobSpec::new("test").script([COUNT, "sleep 62", COUNT]));
    let manager = world.manager("s_first0000000").await;
    job.wait_trace("line 3 of many", PATIENCE).await.unwrap();
    world.gitlab.away(OUTAGE).await;
    let end = job.wait_finished(PATIENCE * 2).await.unwrap();
    manager.drain().await;
    success(&end);
    assert_eq!(text(&end).matches("line 399 of many\n").count(), 2);
    world.check().await;
}

#[tokio::test]
async fn gitlab_is_away_for_a_minute_at_the_end() {
    let world = World::new().await;
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo started", "sleep 1", COUNT]));
    let manager = world.manager("s_first0000000").await;
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    world.gitlab.away(OUTAGE).await;
    let end = job.wait_finished(PATIENCE * 2).await.unwrap();
    manager.drain().await;
    success(&end);
    every_line_once(&text(&end));
    world.check().await;
}

#[tokio::test]
async fn the_api_server_is_away_for_a_minute_in_the_middle() {
    let Some(world) = World::simulated("stop the API server").await else { return };
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo started", "sleep 3", COUNT]));
    let manager = world.manager("s_first0000000").await;
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    world.cluster().api_away(OUTAGE);
    let end = job.wait_finished(PATIENCE * 2).await.unwrap();
    manager.drain().await;
    success(&end);
    every_line_once(&text(&end));
    world.check().await;
}
