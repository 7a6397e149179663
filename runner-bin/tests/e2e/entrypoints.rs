//! Images' own entry points, with FF_KUBERNETES_HONOR_ENTRYPOINT.

use runner_testkit::cluster::ImageSpec;
use runner_testkit::gitlab::{Image, JobSpec};

use crate::place::is_real;
use crate::world::{World, failure, success, text};

const FLAG: &str = "FF_KUBERNETES_HONOR_ENTRYPOINT";

/// A job whose image has this entry point, as a command of `sh`.
fn job(world: &World, entrypoint: &str) -> JobSpec {
    let image = Image::new(&world.settings.image);
    let image = image.entrypoint(["sh", "-c", entrypoint, "entrypoint"]);
    JobSpec::new("test").image(image).variable(FLAG, "true")
}

#[tokio::test]
async fn k8s_83_the_entry_point_that_the_job_writes_runs_and_its_output_is_in_the_log() {
    let world = World::new().await;
    let entrypoint = "echo from the entry point; export MADE=yes; sleep 1; exec \"$@\"";
    let spec = job(&world, entrypoint).script(["sleep 1; echo \"made: $MADE\""]);
    let end = world.run_one(spec).await;
    success(&end);
    let text = text(&end);
    assert_eq!(text.matches("from the entry point\n").count(), 1, "{text}");
    assert!(text.contains("made: yes\n"), "the shell should be the entry point's child: {text}");
}

/// Not by `exec`: the agent is not the container's first process then.
#[tokio::test]
async fn k8s_83_an_entry_point_may_stay_around() {
    let world = World::new().await;
    let entrypoint = "sh -c 'sleep 1000' & \"$@\"; status=$?; exit $status";
    let end = world.run_one(job(&world, entrypoint).script(["echo hello", "exit 5"])).await;
    failure(&end, "script_failure");
    assert_eq!(end.exit_code, Some(5));
}

#[tokio::test]
async fn k8s_83_the_images_own_entry_point_runs() {
    let Some(world) = World::simulated("an image with an entry point").await else { return };
    let words = ["sh", "-c", "echo of the image; exec \"$@\"", "entrypoint"];
    let image = ImageSpec { entrypoint: words.map(Into::into).into(), ..ImageSpec::present() };
    world.cluster().register_image("entry:test", image);
    let spec = JobSpec::new("test").image("entry:test").script(["sleep 1"]);
    let with = world.run_one(spec.clone().variable(FLAG, "true")).await;
    success(&with);
    assert!(text(&with).contains("of the image\n"), "{}", text(&with));
    let without = world.run_one(spec).await;
    success(&without);
    assert!(!text(&without).contains("of the image\n"), "{}", text(&without));
}

/// GitLab Runner waits for the job's whole time.
#[tokio::test]
async fn k8s_83_an_entry_point_that_never_starts_the_shell_ends_the_job_and_is_named() {
    let mut world = World::new().await;
    let limit = if is_real() { 15 } else { 4 };
    world.settings.poll_timeout = limit;
    let end = world.run_one(job(&world, "sleep 1000").script(["echo never"])).await;
    failure(&end, "runner_configuration_error");
    let text = text(&end);
    let expected = format!("has not started the job's shell within {limit}s");
    assert!(text.contains(&expected), "{text}");
}

#[tokio::test]
async fn k8s_83_an_entry_point_that_ends_by_itself_ends_the_job_at_once() {
    let world = World::new().await;
    let end = world.run_one(job(&world, "echo bye; exit 0").script(["echo never"])).await;
    failure(&end, "runner_configuration_error");
    let text = text(&end);
    assert!(text.contains("ended with exit status 0 and did not start the job's shell"), "{text}");
}

/// The way in which jobs say that the image's entry point is in their way.
#[tokio::test]
async fn k8s_83_an_empty_entry_point_is_none() {
    let world = World::new().await;
    for flag in ["true", "false"] {
        let image = Image::new(&world.settings.image).entrypoint([""]);
        let spec = JobSpec::new("test").image(image).variable(FLAG, flag).script(["echo hello"]);
        success(&world.run_one(spec).await);
    }
}
