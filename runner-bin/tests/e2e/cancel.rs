//! Jobs that are cancelled at GitLab.

use runner_testkit::gitlab::{JobSpec, JobState};

use crate::world::{PATIENCE, World, text};

#[tokio::test]
async fn a_job_that_is_being_cancelled_stops_its_script_and_runs_after_script() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .script(["echo started", "sleep 1000"])
        .after_script(["echo \"after: $CI_JOB_STATUS\""]);
    let job = world.gitlab.enqueue(spec);
    let running = world.manager("s_first0000000").await;
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    job.cancel();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    running.drain().await;
    assert_eq!(end.state, JobState::Canceled, "{}", text(&end));
    assert!(text(&end).contains("after: canceled"), "{}", text(&end));
    world.check().await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_for_good_is_stopped_at_once_and_its_pod_goes() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .script(["echo started", "sleep 1000"])
        .after_script(["echo not reached"]);
    let job = world.gitlab.enqueue(spec);
    let running = world.manager("s_first0000000").await;
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    job.force_cancel();
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    running.drain().await;
    world.check().await;
}
