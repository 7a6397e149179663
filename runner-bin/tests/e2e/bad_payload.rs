//! Nonsense from GitLab and from a pod: a clear end, nothing lost, and the manager goes on.

use std::os::unix::fs::PermissionsExt as _;

use rstest::rstest;
use runner_testkit::cluster::ImageSpec;
use runner_testkit::gitlab::JobSpec;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, failure, success, text};

/// Sets every leaf but the ones that say which job it is to null.
fn all_null(value: &mut Value, path: &str) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if path.is_empty() && matches!(key.as_str(), "id" | "token") {
                    continue;
                }
                all_null(value, key);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| all_null(value, path)),
        leaf => *leaf = Value::Null,
    }
}

#[rstest]
#[case::steps_is_text(|job: &mut Value| job["steps"] = "rm -rf /".into())]
#[case::variables_is_a_number(|job: &mut Value| job["variables"] = 7.into())]
#[case::image_is_a_number(|job: &mut Value| job["image"] = 12.into())]
#[case::job_info_is_text(|job: &mut Value| job["job_info"] = "x".into())]
#[tokio::test]
async fn a_payload_of_wrong_types_fails_the_job_and_says_where(#[case] change: fn(&mut Value)) {
    let world = World::new().await;
    let end = world.run_one(JobSpec::new("test").script(["true"]).patch(change)).await;
    failure(&end, "runner_system_failure");
    assert!(text(&end).contains("cannot be understood"), "{}", text(&end));
}

#[tokio::test]
async fn unknown_fields_are_no_obstacle() {
    let world = World::new().await;
    let spec = JobSpec::new("test").script(["echo fine"]).patch(|job| {
        job["from_the_future"] = json!({ "deep": [{ "er": null }] });
        job["job_info"]["from_the_future"] = json!(1.5);
        job["steps"][0]["from_the_future"] = json!(true);
    });
    success(&world.run_one(spec).await);
}

/// What is not said has a default, so a job of nulls may well run; it must not be lost.
#[tokio::test]
async fn null_everywhere_gets_a_verdict() {
    let world = World::new().await;
    let spec = JobSpec::new("test").script(["true"]).patch(|job| all_null(job, ""));
    let end = world.run_one(spec).await;
    assert!(end.state.is_final(), "{}", text(&end));
}

/// Without id and token there is nobody to speak for: GitLab gives the job out again.
#[tokio::test]
async fn a_payload_that_is_cut_off_does_not_stop_the_manager() {
    let world = World::new().await;
    let whole = std::sync::atomic::AtomicBool::new(false);
    let spec = JobSpec::new("test").script(["true"]).raw(move |job| {
        let bytes = job.to_string().into_bytes();
        match whole.swap(true, std::sync::atomic::Ordering::Relaxed) {
            true => bytes,
            false => bytes[..12].to_vec(),
        }
    });
    let cut = world.gitlab.enqueue(spec);
    let next = world.gitlab.enqueue(JobSpec::new("next").script(["true"]));
    let manager = world.manager("s_first0000000").await;
    success(&next.wait_finished(PATIENCE).await.unwrap());
    manager.drain().await;
    drop(cut);
    world.place.nothing_is_left(&world.source_id()).await;
}

/// More than a Secret, a pod or an environment can hold.
#[tokio::test]
async fn a_variable_of_50_mb_fails_the_job_and_says_what_is_too_large() {
    let world = World::new().await;
    let spec = JobSpec::new("test").variable("HUGE", "x".repeat(50 << 20)).script(["true"]);
    let huge = world.gitlab.enqueue(spec);
    let next = world.gitlab.enqueue(JobSpec::new("next").script(["true"]));
    let ends = world.run(&[huge, next]).await;
    assert_eq!(ends[0].state.as_str(), "failed", "{}", text(&ends[0]));
    assert!(text(&ends[0]).contains("too large"), "{}", text(&ends[0]));
    success(&ends[1]);
}

/// An agent that was replaced by something hostile: what it says is bounded and changes nothing.
#[rstest]
#[case::noise("cat /dev/urandom")]
#[case::endless_zeros("cat /dev/zero")]
#[case::huge_frame(r"printf '\377\377\377\377\001'; cat /dev/zero")]
#[case::silence("sleep 1000")]
#[case::nothing("exit 0")]
#[tokio::test]
async fn a_pod_that_talks_nonsense_is_stopped_like_any_other(#[case] says: &str) {
    let Some(world) = World::simulated("replace the agent").await else { return };
    let directory = world.directory().join("hostile");
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("podwright-agent");
    let script = format!("#!/bin/sh\ncase \"$1\" in relay) {says};; *) sleep 1000;; esac\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.cluster().register_image("podwright-agent:test", ImageSpec::volume(&directory));
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["true"]));
    let manager = world.manager("s_first0000000").await;
    let streams = || {
        let requests = world.cluster().requests();
        requests.of("create", "pods/exec") + requests.of("get", "pods/exec")
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while streams() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "the agent was not asked");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!job.state().is_final(), "nobody has said how the job did");
    job.force_cancel();
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    manager.drain().await;
    world.check().await;
}
