//! Jobs whose pod is told to end: all its containers get TERM, as the kubelet sends it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::time::Duration;

use runner_core::executor::{Executor, JobHandle, JobRequest};
use runner_core::ids::Offset;
use runner_core::job::{Artifact, ArtifactWhen, Cache};
use runner_core::outcome::{InfraKind, Outcome};
use runner_core::plan::{Disruption, OnDisruption};
use runner_core::planner::{Transfers, plan};
use runner_core::source::Ticket;
use runner_testkit::objects::ObjectServer;
use rustix::process::{Signal, kill_process};
use tokio::time::Instant;

use crate::artifacts::{artifact, part, transfer, unzipped};
use crate::world::{Seen, World, follow, wait_for};

/// Stops the steps at once.
const STOP: Disruption =
    Disruption { policy: OnDisruption::Stop, grace: Duration::from_secs(30), services: 0 };

/// Lets them go on for so long, a third of that more for saving.
fn finish(seconds: u64) -> Disruption {
    let grace = Duration::from_secs(seconds) * 4 / 3;
    Disruption { policy: OnDisruption::Finish, grace, services: 0 }
}

struct Disrupted {
    seen: Seen,
    server: ObjectServer,
    took: Duration,
}

/// A job that keeps `kept` whatever happens, in a pod that is told to end once the trace has `text`.
async fn disrupted(script: &[&str], text: &str, disruption: Disruption) -> Disrupted {
    let mut world = World::new(script).after_script(&["echo after the script"]);
    let kept = artifact(&["kept"]);
    world.job.artifacts = vec![Artifact { when: ArtifactWhen::Always, ..kept }];
    let cache = |key: &str, when| Cache {
        key: key.to_owned(),
        paths: vec!["kept".to_owned()],
        when,
        ..Cache::default()
    };
    world.job.caches =
        vec![cache("always", ArtifactWhen::Always), cache("success", ArtifactWhen::OnSuccess)];
    let server = ObjectServer::start().await.unwrap();
    let uploads = vec![Some(transfer(&server, "POST", "upload/0"))];
    let transfers = Transfers { uploads, ..Transfers::default() };
    let mut plan = plan(&world.job, &world.settings, transfers).unwrap();
    plan.disruption = disruption;
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job: &world.job, plan: &plan, ticket: &ticket, session: None };
    let mut handle = world.executor.reserve(request).await.unwrap();
    handle.start().await.unwrap();
    wait_for(&mut *handle, text).await;
    let began = Instant::now();
    for role in ["serve", "supervise"] {
        kill_process(world.pid(role), Signal::TERM).unwrap();
    }
    let seen = to_the_end(handle).await;
    Disrupted { seen, server, took: began.elapsed() }
}

async fn to_the_end(mut handle: Box<dyn JobHandle>) -> Seen {
    let seen = follow(&mut *handle, Offset::ZERO).await;
    handle.dispose().await.unwrap();
    seen
}

fn interrupted(seen: &Seen) -> &str {
    let Outcome::Infra(infra) = &seen.end.outcome else { panic!("{:?}", seen.end.outcome) };
    assert_eq!(infra.kind, InfraKind::Interrupted);
    &infra.message
}

fn stages(seen: &Seen) -> Vec<&str> {
    seen.end.stages.iter().map(|stage| stage.name.as_str()).collect()
}

const SAVED: [&str; 5] = [
    "prepare_script",
    "step_script",
    "archive_cache_on_failure",
    "upload_artifacts_on_failure",
    "cleanup_file_variables",
];

#[tokio::test]
async fn a_pod_that_is_told_to_end_stops_its_job_and_saves_what_is_always_kept() {
    let script = ["echo half > kept", "echo started", "sleep 1000"];
    let Disrupted { seen, server, took } = disrupted(&script, "\nstarted\n", STOP).await;
    assert!(interrupted(&seen).contains("told to end"), "{}", seen.text());
    let restored = ["prepare_script", "restore_cache"];
    let others: Vec<_> = stages(&seen).into_iter().filter(|s| *s != restored[1]).collect();
    assert_eq!(others, SAVED, "{}", seen.text());
    assert_eq!(unzipped(&part(&server, "upload/0").1, "kept"), "half\n");
    let text = seen.text();
    assert!(text.contains("WARNING: The pod was told to end within 30s"), "{text}");
    assert!(text.contains("the job is stopped"), "{text}");
    assert!(!text.contains("\nafter the script\n"), "{text}");
    assert!(!text.contains("success-"), "a cache that is kept on success is not saved: {text}");
    assert!(took < STOP.grace, "{took:?}");
}

#[tokio::test]
async fn a_job_that_may_finish_and_does_within_the_grace_has_succeeded() {
    let script = ["echo whole > kept", "echo started", "sleep 2", "echo done"];
    let Disrupted { seen, server, .. } = disrupted(&script, "\nstarted\n", finish(60)).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    let text = seen.text();
    assert!(text.contains("the job may go on for 1m0s."), "{text}");
    assert!(text.contains("\ndone\n") && text.contains("\nafter the script\n"), "{text}");
    assert_eq!(unzipped(&part(&server, "upload/0").1, "kept"), "whole\n");
}

#[tokio::test]
async fn a_job_that_may_finish_and_does_not_is_stopped_in_time_to_be_saved() {
    let script = ["echo half > kept", "echo started", "sleep 1000"];
    let Disrupted { seen, server, took } = disrupted(&script, "\nstarted\n", finish(6)).await;
    interrupted(&seen);
    assert_eq!(unzipped(&part(&server, "upload/0").1, "kept"), "half\n");
    assert!(took >= Duration::from_secs(6), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn a_script_that_ignores_term_leaves_half_of_the_time_for_saving() {
    let script = ["trap '' TERM", "echo half > kept; echo started", "while :; do sleep 1; done"];
    let short = Disruption { grace: Duration::from_secs(12), ..STOP };
    let Disrupted { seen, server, .. } = disrupted(&script, "\nstarted\n", short).await;
    interrupted(&seen);
    assert_eq!(unzipped(&part(&server, "upload/0").1, "kept"), "half\n");
}

#[tokio::test]
async fn what_follows_the_steps_of_a_job_is_saved_when_its_pod_is_told_to_end() {
    // The steps are over and `after_script` is theirs to the end, as after a cancel.
    let mut world = World::new(&["true"]).after_script(&["echo in after", "sleep 1", "echo end"]);
    world.settings.grace = Duration::from_secs(2);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nin after\n").await;
    for role in ["serve", "supervise"] {
        kill_process(world.pid(role), Signal::TERM).unwrap();
    }
    let seen = to_the_end(handle).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    assert!(seen.text().contains("\nend\n"), "{}", seen.text());
}

#[tokio::test]
async fn a_step_that_fails_beside_ending_services_has_not_failed_by_itself() {
    let script = ["echo started", "sleep 1", "echo no database; exit 3"];
    let with_services = Disruption { services: 1, ..finish(60) };
    let Disrupted { seen, .. } = disrupted(&script, "\nstarted\n", with_services).await;
    let message = interrupted(&seen);
    assert!(message.contains("exit code 3") && message.contains("services"), "{message}");
    let Disrupted { seen, .. } = disrupted(&script, "\nstarted\n", finish(60)).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(3), "{}", seen.text());
}
