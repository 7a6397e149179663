//! Pods that are lost or never start: never a success, and the log's last lines say why.

use std::time::Duration;

use rstest::rstest;
use runner_testkit::cluster::{ImageSpec, Pull};
use runner_testkit::gitlab::{Artifact, Finished, Image, JobRef, JobSpec};

use crate::place::{IMAGE, is_real};
use crate::world::{PATIENCE, World, failure, success, text};

/// The end of the log, where people look.
fn last_lines(end: &Finished) -> String {
    let text = text(end);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

#[track_caller]
fn says(end: &Finished, words: &[&str]) {
    let last = last_lines(end);
    for word in words {
        assert!(last.contains(word), "{word:?} is not in the last lines: {last}");
    }
}

async fn ends(job: &JobRef, reason: &str, words: &[&str]) {
    let end = job.wait_finished(PATIENCE).await.unwrap();
    failure(&end, reason);
    says(&end, words);
    // What was proven complete is said to be, and what was not is not.
    assert_ne!(end.checksum_ok, Some(false));
}

/// A job that runs, in a pod of this name.
async fn running(world: &World, spec: JobSpec) -> (JobRef, String) {
    let job = world.gitlab.enqueue(spec);
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    (job, world.pod().await)
}

fn sleeper() -> JobSpec {
    JobSpec::new("test").script(["echo started", "sleep 1000"])
}

const SYSTEM: &str = "runner_system_failure";

#[tokio::test]
async fn a_pod_that_someone_deletes() {
    let world = World::new().await;
    let manager = world.manager("s_first0000000").await;
    let (job, pod) = running(&world, sleeper()).await;
    world.place.delete_pod(&pod).await;
    ends(&job, SYSTEM, &["deleted"]).await;
    manager.drain().await;
    world.check().await;
}

/// What becomes of a job whose pod is taken away while it runs.
#[rstest]
#[case::drained_to_stop("stop", true)]
#[case::drained_to_finish("finish", true)]
#[case::deleted_to_finish("finish", false)]
#[tokio::test]
async fn a_pod_that_is_taken_away_ends_its_job_as_the_settings_say(
    #[case] policy: &str,
    #[case] by_drain: bool,
) {
    let mut world = World::new().await;
    world.settings.pod_disruption_policy = policy.into();
    let manager = world.manager("s_first0000000").await;
    let spec = JobSpec::new("test")
        .script(["echo half > kept", "echo started", "sleep 4", "echo whole > kept"])
        .artifact(Artifact::report("sast", "raw", ["kept"]).when("always"));
    let (job, pod) = running(&world, spec).await;
    let node = world.place.node_of(&pod).await;
    if by_drain {
        world.place.drain_pod(&pod).await;
    } else {
        world.place.delete_pod(&pod).await;
    }
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert!(text(&end).contains("The pod was told to end within"), "{}", text(&end));
    let kept = match policy {
        "finish" => {
            success(&end);
            "whole\n"
        }
        _ => {
            // GitLab's `retry: when` knows this one.
            failure(&end, SYSTEM);
            says(&end, &[&format!("evicted from its node {node}, e.g. to drain it")]);
            "half\n"
        }
    };
    let saved: Vec<_> = world.gitlab.artifacts(&job).into_iter().map(|file| file.data).collect();
    assert_eq!(saved, [kept]);
    assert_eq!(end.checksum_ok, Some(true));
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_pod_that_is_evicted() {
    let Some(world) = World::simulated("evict a pod").await else { return };
    let manager = world.manager("s_first0000000").await;
    let (job, pod) = running(&world, sleeper()).await;
    world.cluster().evict(&pod).unwrap();
    ends(&job, SYSTEM, &["evicted", "low on resource: memory"]).await;
    manager.drain().await;
    world.check().await;
}

/// A helper that is killed for its memory once is started again and goes on; one that is killed again
/// and again ends the job.
#[rstest]
#[case::build("build", "the job's container")]
#[case::helper("helper", "helper")]
#[tokio::test]
async fn a_container_that_uses_too_much_memory(#[case] container: &str, #[case] named: &str) {
    let Some(world) = World::simulated("kill a container for its memory").await else { return };
    let manager = world.manager("s_first0000000").await;
    let (job, pod) = running(&world, sleeper()).await;
    while !job.state().is_final() {
        // It may be between two lives.
        drop(world.cluster().oom_kill(&pod, container));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ends(&job, SYSTEM, &["memory", named]).await;
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_service_that_uses_too_much_memory_is_named_and_the_job_goes_on() {
    let Some(world) = World::simulated("kill a container for its memory").await else { return };
    let manager = world.manager("s_first0000000").await;
    let spec = JobSpec::new("test")
        .service(Image::new(IMAGE).alias("db").command(["sleep", "1000"]))
        .script(["echo started", "sleep 2", "exit 3"]);
    let (job, pod) = running(&world, spec).await;
    world.cluster().oom_kill(&pod, "svc-0").unwrap();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    // What becomes of the job is the script's to say.
    failure(&end, "script_failure");
    assert_eq!(end.exit_code, Some(3));
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_node_that_is_lost() {
    let Some(world) = World::simulated("lose the node").await else { return };
    let manager = world.manager("s_first0000000").await;
    let (job, _) = running(&world, sleeper()).await;
    world.cluster().lose_node();
    world.cluster().remove_node();
    ends(&job, SYSTEM, &["node"]).await;
    manager.drain().await;
    world.check().await;
}

#[rstest]
#[case::not_there("registry.invalid:5000/no/such:1", &["could not be pulled", "registry.invalid:5000/no/such:1"])]
#[case::bad_name("UPPER CASE//", &["UPPER CASE//"])]
#[tokio::test]
async fn an_image_that_cannot_be_had(#[case] image: &str, #[case] words: &[&str]) {
    let world = World::new().await;
    let manager = world.manager("s_first0000000").await;
    let job = world.gitlab.enqueue(JobSpec::new("test").image(image).script(["true"]));
    let end = job.wait_finished(PATIENCE).await.unwrap();
    manager.drain().await;
    assert_eq!(end.state.as_str(), "failed", "{}", text(&end));
    says(&end, words);
    world.check().await;
}

fn away() -> String {
    "rpc error: code = Unknown desc = failed to do request: dial tcp 192.0.2.1:443: i/o timeout"
        .into()
}

#[tokio::test]
async fn an_image_whose_registry_is_away_for_a_moment() {
    let Some(world) = World::simulated("have pulls fail twice").await else { return };
    let pull = Pull { failures: vec![away(), away()], ..Pull::default() };
    world.cluster().register_image("later:1", ImageSpec { pull, ..ImageSpec::default() });
    let end = world.run_one(JobSpec::new("test").image("later:1").script(["echo here"])).await;
    success(&end);
}

#[tokio::test]
async fn an_image_whose_registry_stays_away() {
    let Some(world) = World::simulated("have pulls fail for ever").await else { return };
    let pull = Pull { failures: vec![away(); 100], ..Pull::default() };
    world.cluster().register_image("never:1", ImageSpec { pull, ..ImageSpec::default() });
    let end = world.run_one(JobSpec::new("test").image("never:1").script(["true"])).await;
    assert_eq!(end.state.as_str(), "failed", "{}", text(&end));
    says(&end, &["could not be pulled", "dial tcp 192.0.2.1:443: i/o timeout"]);
}

#[tokio::test]
async fn a_namespace_without_quota_left() {
    let Some(world) = World::simulated("set a quota").await else { return };
    world.cluster().set_pod_quota(world.cluster().namespace(), Some(0));
    let end = world.run_one(JobSpec::new("test").script(["true"])).await;
    failure(&end, SYSTEM);
    says(&end, &["quota"]);
}

#[tokio::test]
async fn a_pod_that_admission_refuses() {
    let Some(world) = World::simulated("refuse pods at admission").await else { return };
    world.cluster().refuse_pods(Some("images must come from registry.example"));
    let end = world.run_one(JobSpec::new("test").script(["true"])).await;
    failure(&end, SYSTEM);
    says(&end, &["images must come from registry.example"]);
}

#[tokio::test]
async fn a_pod_that_no_node_takes_until_the_poll_timeout() {
    let mut world = World::new().await;
    world.settings.cpu_request = "4000".into();
    world.settings.poll_timeout = 2;
    let end = world.run_one(JobSpec::new("test").script(["true"])).await;
    failure(&end, SYSTEM);
    says(&end, &["Insufficient cpu"]);
    if is_real() {
        assert!(text(&end).contains("nodes are available"), "{}", text(&end));
    }
}
