//! The supervisor's container is killed in the middle of a job.

use std::time::Duration;

use rstest::rstest;
use runner_testkit::gitlab::{Artifact, Endpoint, JobSpec};

use crate::trace::normalized;
use crate::world::{PATIENCE, World, success, text};

const SHORT: Duration = Duration::from_secs(2);

/// Where the job is when PID 1 of `helper` is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Sources,
    Download,
    Script,
    AfterScript,
    Upload,
}

async fn job(world: &World, stage: Option<Stage>) -> JobSpec {
    let pause = |at: Stage| if stage == Some(at) { "sleep 4" } else { "true" };
    let repo = world
        .gitlab
        .repo("group/project")
        .commit("First", [("README.md", "# greeting\n")])
        .branch("main")
        .create()
        .await
        .unwrap();
    let count = "for i in $(seq 1 200); do echo line $i; done";
    JobSpec::new("build")
        .repo(&repo)
        .git_ref("main")
        .variable("WAIT_Script", pause(Stage::Script))
        .variable("WAIT_AfterScript", pause(Stage::AfterScript))
        .script([count, "eval \"$WAIT_Script\"", count, "seq 1 50 > out.txt"])
        .after_script(["echo \"after: $CI_JOB_STATUS\"; eval \"$WAIT_AfterScript\""])
        .artifact(Artifact::archive(["out.txt"]))
}

/// The kubelet starts the container again, and the next supervisor goes on where the journal ends.
#[rstest]
#[case(Stage::Sources)]
#[case(Stage::Download)]
#[case(Stage::Script)]
#[case(Stage::AfterScript)]
#[case(Stage::Upload)]
#[tokio::test]
async fn a_job_whose_helper_is_killed_goes_on_and_loses_no_byte(#[case] stage: Stage) {
    let world = World::new().await;
    if !world.place.can_kill() {
        return;
    }
    let needed = world.gitlab.enqueue(
        JobSpec::new("make")
            .script(["echo made > made.txt"])
            .artifact(Artifact::archive(["made.txt"])),
    );
    let spec = job(&world, None).await.needs(&needed);
    let expected = world.gitlab.enqueue(spec);
    let expected = world.run(&[needed.clone(), expected]).await.remove(1);
    success(&expected);

    let slow = |endpoint| world.gitlab.script(endpoint).delay(SHORT).once();
    match stage {
        Stage::Sources => slow(Endpoint::Git),
        Stage::Download => slow(Endpoint::DownloadArtifact),
        Stage::Upload => slow(Endpoint::UploadArtifact),
        Stage::Script | Stage::AfterScript => {}
    }
    let job = world.gitlab.enqueue(job(&world, Some(stage)).await.needs(&needed));
    let running = world.manager("s_first0000000").await;
    let reached = match stage {
        Stage::Sources => ":get_sources",
        Stage::Download => ":download_artifacts",
        Stage::Script => "$ eval \"$WAIT_Script\"",
        Stage::AfterScript => "after: success",
        Stage::Upload => ":upload_artifacts_on_success",
    };
    job.wait_trace(reached, PATIENCE).await.unwrap();
    let pod = world.pod().await;
    world.place.kill_pid1(&pod, "helper").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    running.drain().await;
    success(&end);
    world.check().await;
    if matches!(stage, Stage::Script | Stage::AfterScript) {
        // Nothing has to be done again: the trace is that of an undisturbed job.
        assert_eq!(normalized(&end), normalized(&expected));
    }
    let text = text(&end);
    for line in 1..=200 {
        assert_eq!(text.matches(&format!("line {line}\n")).count(), 2, "line {line} of {text}");
    }
}
