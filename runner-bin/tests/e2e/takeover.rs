//! A manager is gone, and another one with another system id brings its jobs to their end.

use std::time::Duration;

use rstest::rstest;
use runner_testkit::cluster::{ClusterSettings, Fault, ImageSpec, Pull, RequestFilter};
use runner_testkit::gitlab::{Artifact, Endpoint, Finished, GitLab, JobRef, JobSpec, JobState};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::place::is_real;
use crate::trace::normalized;
use crate::world::{PATIENCE, World, failure, success, text};

/// Longer than any test waits for a phase, so that a job stays in it.
const HELD: Duration = Duration::from_secs(600);
/// Long enough to be hit, short enough to be waited for.
const SHORT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    BeforeRecord,
    BeforeAccept,
    NoNode,
    ImagePull,
    GetSources,
    DownloadArtifacts,
    Script,
    AfterScript,
    UploadArtifacts,
    BeforeFinalUpdate,
    BeforePodIsDeleted,
    BeforeRecordIsDeleted,
}

/// A job that takes its time in the phase, which was prepared before it was queued.
async fn job(world: &World, phase: Option<Phase>, needed: &JobRef) -> JobRef {
    let pause = |at: Phase| if phase == Some(at) { "sleep 2" } else { "true" };
    let repo = world
        .gitlab
        .repo("group/project")
        .commit("First", [("README.md", "# greeting\n")])
        .branch("main")
        .create()
        .await
        .unwrap();
    // The command's text stands in the trace, so it is the same in every phase.
    let wait = |at: Phase| format!("eval \"$WAIT_{at:?}\"");
    let mut spec = JobSpec::new("build").repo(&repo).git_ref("main").needs(needed);
    if !is_real() {
        spec = spec.image("slow:test");
    }
    let spec = spec
        .variable("WAIT_Script", pause(Phase::Script))
        .variable("WAIT_AfterScript", pause(Phase::AfterScript))
        .script(["cat made.txt".to_owned(), wait(Phase::Script), "seq 1 50 > out.txt".to_owned()])
        .after_script([format!("echo \"after: $CI_JOB_STATUS\"; {}", wait(Phase::AfterScript))])
        .artifact(Artifact::archive(["out.txt"]));
    world.gitlab.enqueue(spec)
}

fn hold(world: &World, phase: Phase) {
    let gitlab = &world.gitlab;
    let held = |verb: &str, resource: &str| {
        let filter = RequestFilter::of(verb, resource);
        world.cluster().fail_next(1, filter, Fault::Delay(HELD));
    };
    match phase {
        Phase::BeforeRecord => held("create", "secrets"),
        Phase::BeforeAccept => gitlab.script(Endpoint::UpdateJob).delay(SHORT).once(),
        Phase::NoNode => world.cluster().set_schedulable(false),
        Phase::ImagePull => {
            let pull = Pull { delay: SHORT, ..Pull::default() };
            let image = ImageSpec { pull, ..ImageSpec::default() };
            world.cluster().register_image("slow:test", image);
        }
        Phase::GetSources => gitlab.script(Endpoint::Git).delay(SHORT).once(),
        Phase::DownloadArtifacts => gitlab.script(Endpoint::DownloadArtifact).delay(SHORT).once(),
        Phase::UploadArtifacts => gitlab.script(Endpoint::UploadArtifact).delay(SHORT).once(),
        Phase::Script | Phase::AfterScript => {}
        Phase::BeforeFinalUpdate => {
            // The first update accepts the job.
            gitlab.script(Endpoint::UpdateJob).delay(Duration::ZERO).once();
            gitlab.script(Endpoint::UpdateJob).delay(SHORT).once();
        }
        Phase::BeforePodIsDeleted => held("delete", "pods"),
        Phase::BeforeRecordIsDeleted => held("delete", "secrets"),
    }
}

async fn reached(world: &World, phase: Phase, job: &JobRef) {
    let trace = async |text: &str| job.wait_trace(text, PATIENCE).await.unwrap();
    let requests = |verb: &str, resource: &str| world.cluster().requests().of(verb, resource);
    match phase {
        // Two jobs before this one wrote theirs.
        Phase::BeforeRecord => until(|| requests("create", "secrets") > 2).await,
        Phase::BeforeAccept => world.record().await,
        Phase::NoNode | Phase::ImagePull => drop(world.pod().await),
        Phase::GetSources => trace(":get_sources").await,
        Phase::DownloadArtifacts => trace(":download_artifacts").await,
        Phase::Script => trace("$ eval \"$WAIT_Script\"").await,
        Phase::AfterScript => trace("after: success").await,
        Phase::UploadArtifacts => trace(":upload_artifacts_on_success").await,
        Phase::BeforeFinalUpdate => trace("Job succeeded").await,
        Phase::BeforePodIsDeleted => until(|| requests("delete", "pods") > 2).await,
        Phase::BeforeRecordIsDeleted => until(|| requests("delete", "secrets") > 2).await,
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the phase was not reached");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn world(phase: Phase) -> Option<World> {
    // GitLab gives a job that nobody accepted to the next one who asks.
    let deadline = if phase == Phase::BeforeRecord { 2 } else { 60 };
    let gitlab = GitLab::builder().commit_deadline(Duration::from_secs(deadline));
    let settings = ClusterSettings::default();
    let world = match phase {
        Phase::BeforeRecord
        | Phase::NoNode
        | Phase::ImagePull
        | Phase::BeforePodIsDeleted
        | Phase::BeforeRecordIsDeleted => {
            World::simulated_with("hold a request", gitlab, settings).await?
        }
        _ => World::with(gitlab, settings).await,
    };
    if !is_real() {
        world.cluster().register_image("slow:test", ImageSpec::present());
    }
    Some(world)
}

/// A job whose artifacts the other one needs, and that one as it runs undisturbed.
async fn undisturbed(world: &World) -> (JobRef, Finished) {
    let spec = JobSpec::new("make")
        .script(["echo made > made.txt"])
        .artifact(Artifact::archive(["made.txt"]));
    let needed = world.gitlab.enqueue(spec);
    let job = job(world, None, &needed).await;
    let manager = world.process();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert!(manager.end_by(Signal::QUIT).await.success());
    world.check().await;
    (needed, end)
}

#[track_caller]
fn same(trace: &str, expected: &str) {
    for (line, wanted) in trace.lines().zip(expected.lines()) {
        assert_eq!(line, wanted, "in\n{trace}");
    }
    assert_eq!(trace.lines().count(), expected.lines().count(), "{trace}");
}

#[rstest]
#[case(Phase::BeforeRecord)]
#[case(Phase::BeforeAccept)]
#[case(Phase::NoNode)]
#[case(Phase::ImagePull)]
#[case(Phase::GetSources)]
#[case(Phase::DownloadArtifacts)]
#[case(Phase::Script)]
#[case(Phase::AfterScript)]
#[case(Phase::UploadArtifacts)]
#[case(Phase::BeforeFinalUpdate)]
#[case(Phase::BeforePodIsDeleted)]
#[case(Phase::BeforeRecordIsDeleted)]
#[tokio::test]
async fn a_manager_that_is_killed_in_any_phase_is_followed_by_one_that_finishes_the_job(
    #[case] phase: Phase,
) {
    let Some(world) = world(phase).await else { return };
    let (needed, expected) = undisturbed(&world).await;
    success(&expected);

    hold(&world, phase);
    let job = job(&world, Some(phase), &needed).await;
    let first = world.process();
    reached(&world, phase, &job).await;
    first.kill();
    let second = world.process();
    if phase == Phase::NoNode {
        world.cluster().set_schedulable(true);
    }
    let end = job.wait_finished(PATIENCE).await.unwrap();
    success(&end);
    // What is left goes as soon as the first manager is taken for dead.
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    assert!(second.end_by(Signal::QUIT).await.success());
    world.check().await;
    same(&normalized(&end), &normalized(&expected));
}

#[tokio::test]
async fn a_pod_that_is_deleted_while_no_manager_runs_fails_the_job_with_that_reason() {
    let world = World::new().await;
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo started", "sleep 1000"]));
    let first = world.process();
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    let pod = world.pod().await;
    first.kill();
    world.place.delete_pod(&pod).await;
    let second = world.process();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    failure(&end, "runner_system_failure");
    assert!(text(&end).contains("deleted"), "{}", text(&end));
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    assert!(second.end_by(Signal::QUIT).await.success());
    world.check().await;
}

#[tokio::test]
async fn a_manager_that_is_terminated_leaves_its_jobs_to_the_next_one() {
    let world = World::new().await;
    let spec = JobSpec::new("test").script(["echo started", "sleep 3", "echo ended"]);
    let job = world.gitlab.enqueue(spec);
    let first = world.process();
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    let asked = Instant::now();
    assert!(first.end_by(Signal::TERM).await.success());
    assert!(asked.elapsed() < Duration::from_secs(2), "it waited for its job");
    assert_eq!(job.state(), JobState::Running);
    let second = world.process();
    success(&job.wait_finished(PATIENCE).await.unwrap());
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    assert!(second.end_by(Signal::TERM).await.success());
    world.check().await;
}

#[tokio::test]
async fn a_manager_that_is_told_to_quit_finishes_its_jobs_first() {
    let world = World::new().await;
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo started", "sleep 2"]));
    let manager = world.process();
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    assert!(manager.end_by(Signal::QUIT).await.success());
    assert_eq!(job.state(), JobState::Success);
    world.check().await;
}
