//! How often the API server is asked, counted by the simulated cluster.
//!
//! What a manager asks once for all its jobs (version, watch, what other managers left behind, its
//! signs of life) is not a job's.

use std::time::Duration;

use bytes::Bytes;
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Requests, scripted_agent};
use runner_testkit::gitlab::{GitLab, JobRef, JobSpec};
use tokio::sync::watch;

use crate::place::IMAGE;
use crate::world::{PATIENCE, World, success};

/// Those of jobs, by verb and resource.
fn of_jobs(requests: &Requests) -> Vec<(&str, &str, u64)> {
    let shared = |verb: &str, resource: &str| {
        matches!(verb, "list" | "watch")
            || resource == "configmaps"
            || resource == "leases"
            || !["pods", "secrets", "pods/exec", "pods/attach", "pods/log"].contains(&resource)
    };
    requests.iter().filter(|(verb, resource, _)| !shared(verb, resource)).collect()
}

fn total(cluster: &Cluster) -> u64 {
    of_jobs(&cluster.requests()).iter().map(|(_, _, count)| count).sum()
}

/// A world in whose pods an agent has this trace and ends when it is told to.
async fn world(trace: Bytes, cluster: ClusterSettings) -> Option<(World, watch::Sender<bool>)> {
    let world = World::simulated_with("to count requests", GitLab::builder(), cluster).await?;
    let (finish, finished) = watch::channel(false);
    let image = ImageSpec::scripted(scripted_agent(trace, finished));
    world.cluster().register_image(IMAGE, image);
    Some((world, finish))
}

fn trace(length: usize) -> Bytes {
    b"a line of the job's log\n".iter().copied().cycle().take(length).collect()
}

/// Lets a job end and its pod and record be removed.
async fn finish(world: &World, job: &JobRef, end: &watch::Sender<bool>) {
    end.send_replace(true);
    success(&job.wait_finished(PATIENCE).await.unwrap());
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
}

#[tokio::test]
async fn a_job_is_five_requests_whatever_it_logs_and_however_long_it_runs() {
    let Some((world, end)) = world(trace(3 << 20), ClusterSettings::default()).await else {
        return;
    };
    let running = world.manager("s_counts0000000").await;
    let mut counts = Vec::new();
    for name in ["first", "second", "third"] {
        end.send_replace(false);
        let before = total(world.cluster());
        let job = world.gitlab.enqueue(JobSpec::new(name).script(["true"]));
        job.wait_trace("a line of the job's log", PATIENCE).await.unwrap();
        // Several signs of life of both sides: that a job costs nothing by only running is what is tested, so
        // that it has to run for a while.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        finish(&world, &job, &end).await;
        counts.push(total(world.cluster()) - before);
    }
    running.drain().await;
    let all = world.cluster().requests();
    // The role may not `get` pods/exec, so a manager's first stream is tried by websocket and then made
    // by SPDY.
    assert!(counts[0] <= 6, "{counts:?} {:?}", of_jobs(&all));
    assert_eq!(counts[1..], [5, 5], "{:?}", of_jobs(&all));
}

#[tokio::test]
async fn a_reconnect_is_one_request_more() {
    let Some((world, end)) = world(trace(3 << 20), ClusterSettings::default()).await else {
        return;
    };
    let running = world.manager("s_counts0000000").await;
    for name in ["first", "second"] {
        end.send_replace(false);
        let before = total(world.cluster());
        let job = world.gitlab.enqueue(JobSpec::new(name).script(["true"]));
        job.wait_trace("a line of the job's log", PATIENCE).await.unwrap();
        world.cluster().drop_streams();
        // The watch's connection stays, and a stream comes again.
        let back = async {
            while world.cluster().open_streams() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, back).await.unwrap();
        finish(&world, &job, &end).await;
        let count = total(world.cluster()) - before;
        if name == "second" {
            assert_eq!(count, 6, "{:?}", of_jobs(&world.cluster().requests()));
        }
    }
    running.drain().await;
}

#[tokio::test]
async fn a_slow_start_is_one_request_more() {
    let Some((mut world, end)) = world(trace(100), ClusterSettings::default()).await else {
        return;
    };
    world.slow_start = Some(Duration::from_millis(300));
    let running = world.manager("s_counts0000000").await;
    for (name, schedulable) in [("first", true), ("slow", false)] {
        end.send_replace(false);
        let before = total(world.cluster());
        world.cluster().set_schedulable(schedulable);
        let job = world.gitlab.enqueue(JobSpec::new(name).script(["true"]));
        if !schedulable {
            job.wait_trace("aiting for", PATIENCE).await.unwrap();
            world.cluster().set_schedulable(true);
        }
        job.wait_trace("a line of the job's log", PATIENCE).await.unwrap();
        finish(&world, &job, &end).await;
        let count = total(world.cluster()) - before;
        if !schedulable {
            assert_eq!(count, 6, "{:?}", of_jobs(&world.cluster().requests()));
        }
    }
    running.drain().await;
}
