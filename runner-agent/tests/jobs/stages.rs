//! Which stages run after what, seen from outside.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::time::Duration;

use rstest::rstest;
use runner_core::executor::{JobRequest, Stop};
use runner_core::job::{Artifact, ArtifactWhen, Dependency};
use runner_core::outcome::{InfraKind, Outcome};
use runner_core::plan::{HttpBody, HttpTransfer, Transfer};
use runner_core::planner::{Transfers, plan};
use runner_core::source::Ticket;

use crate::world::{PATIENCE, Seen, World, follow, stop, wait_for};

fn names(seen: &Seen) -> Vec<&str> {
    seen.end.stages.iter().map(|stage| stage.name.as_str()).collect()
}

/// An address at which nobody listens.
async fn nowhere() -> Transfer {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    Transfer::Http(HttpTransfer {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: HttpBody::Raw,
        tls_ca: None,
        timeout: Duration::from_secs(5),
    })
}

/// The world's job with an artifact for failures and one for successes, neither of which has files.
fn with_artifacts(mut world: World) -> World {
    for when in [ArtifactWhen::OnFailure, ArtifactWhen::OnSuccess] {
        let paths = vec!["nothing".to_owned()];
        world.job.artifacts.push(Artifact { when, paths, ..Artifact::default() });
    }
    world
}

async fn run(world: &World) -> Seen {
    let to = nowhere().await;
    let transfers = Transfers {
        downloads: world.job.dependencies.iter().map(|_| to.clone()).collect(),
        uploads: world.job.artifacts.iter().map(|_| Some(to.clone())).collect(),
        ..Transfers::default()
    };
    let plan = plan(&world.job, &world.settings, transfers).unwrap();
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job: &world.job, plan: &plan, ticket: &ticket, session: None };
    let executor: &dyn runner_core::executor::Executor = &world.executor;
    let mut handle = executor.reserve(request).await.unwrap();
    handle.start().await.unwrap();
    let seen = follow(&mut *handle, runner_core::ids::Offset::ZERO).await;
    handle.dispose().await.unwrap();
    seen
}

#[tokio::test]
async fn stages_08_a_failed_preparation_ends_the_job_with_its_own_words() {
    let world = World::new(&["echo not reached"]).after_script(&["true"]);
    let mut handle = world.reserve().await;
    // Where directories are to be, there is a file.
    let root = world.executor.directory(world.job.id).join("root");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("builds"), "").unwrap();
    handle.start().await.unwrap();
    let seen = follow(&mut *handle, runner_core::ids::Offset::ZERO).await;
    handle.dispose().await.unwrap();
    let Outcome::Infra(infra) = &seen.end.outcome else { panic!("{:?}", seen.end.outcome) };
    assert_eq!(infra.kind, InfraKind::System);
    assert!(infra.message.starts_with("prepare environment: cannot prepare"), "{infra}");
    assert_eq!(names(&seen), ["prepare_script", "cleanup_file_variables"]);
    let last = "ERROR: Job failed (system failure): prepare environment: ";
    assert!(seen.text().contains(last), "{}", seen.text());
}

#[tokio::test]
async fn stages_09_a_failed_download_runs_no_script_and_uploads_for_failures() {
    let mut world = with_artifacts(World::new(&["echo not reached"]).after_script(&["true"]));
    world.job.dependencies.push(Dependency {
        id: runner_core::ids::JobId(6),
        name: "build".into(),
        token: "t".into(),
        filename: "artifacts.zip".into(),
        size: 1,
    });
    let seen = run(&world).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(1), "{}", seen.text());
    let expected = [
        "prepare_script",
        "download_artifacts",
        "upload_artifacts_on_failure",
        "cleanup_file_variables",
    ];
    assert_eq!(names(&seen), expected);
}

#[rstest]
#[case(&["true"], "upload_artifacts_on_success", Outcome::Exited(0))]
#[case(&["exit 4"], "upload_artifacts_on_failure", Outcome::Exited(4))]
#[tokio::test]
async fn stages_90_archives_without_files_harm_no_job(
    #[case] script: &[&str],
    #[case] stage: &str,
    #[case] outcome: Outcome,
) {
    let seen = run(&with_artifacts(World::new(script))).await;
    assert_eq!(seen.end.outcome, outcome, "{}", seen.text());
    let uploads: Vec<_> = names(&seen).into_iter().filter(|n| n.starts_with("upload")).collect();
    assert_eq!(uploads, [stage]);
    assert!(seen.text().contains("ERROR: No files to upload"), "{}", seen.text());
}

#[tokio::test]
async fn stages_13_a_cancel_during_after_script_has_no_effect() {
    let world =
        World::new(&["true"]).after_script(&["echo in after", "sleep 1", "echo after done"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nin after\n").await;
    let seen = stop(&mut *handle, Stop::Cancel).await;
    handle.dispose().await.unwrap();
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    assert!(seen.text().contains("\nafter done\n"), "{}", seen.text());
    assert!(!seen.text().contains("canceled"), "{}", seen.text());
}

#[tokio::test]
async fn stages_14_a_cancel_before_the_script_stops_the_job_and_uploads_nothing() {
    let repository = tempfile::tempdir().unwrap();
    let mut world = World::new(&["echo not reached"]).after_script(&["true"]);
    world.job.sources = Some(crate::scripts::sources(repository.path()));
    world.settings.pre_get_sources_script = Some("echo in hook; sleep 1000".into());
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nin hook\n").await;
    let seen = stop(&mut *handle, Stop::Cancel).await;
    handle.dispose().await.unwrap();
    assert_eq!(seen.end.outcome, Outcome::Cancelled, "{}", seen.text());
    assert_eq!(names(&seen), ["prepare_script", "get_sources", "cleanup_file_variables"]);
    assert!(seen.text().contains("ERROR: Job failed: canceled"), "{}", seen.text());
}

#[tokio::test]
async fn stages_24_a_pod_that_is_told_to_end_stops_the_job_and_says_why() {
    let world = World::new(&["echo started", "sleep 1000"]).after_script(&["echo not reached"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nstarted\n").await;
    let supervisor = world.pid("supervise");
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
    let seen = follow(&mut *handle, runner_core::ids::Offset::ZERO).await;
    handle.dispose().await.unwrap();
    let Outcome::Infra(infra) = &seen.end.outcome else { panic!("{:?}", seen.end.outcome) };
    assert_eq!(infra.kind, InfraKind::Interrupted, "{}", seen.text());
    assert!(!seen.text().contains("\nnot reached"), "{}", seen.text());
}

#[tokio::test]
async fn stages_106_output_that_looks_like_a_runners_own_marker_is_output() {
    let marker = r#"{"command_exit_code": 0, "script": "/scripts-1-7/step_script"}"#;
    let print = format!("echo '{marker}'; echo '{{\"script\": \"x\"}}'");
    let seen = World::new(&[&print, "echo still here", "exit 3"]).run().await;
    assert_eq!(seen.end.outcome, Outcome::Exited(3), "{}", seen.text());
    for line in [marker, "{\"script\": \"x\"}", "still here"] {
        assert!(seen.text().contains(&format!("\n{line}\n")), "{}", seen.text());
    }
}

#[tokio::test]
async fn stages_108_a_line_of_3_mib_and_bytes_that_are_no_text_arrive() {
    let script =
        "head -c 3145728 /dev/zero | tr '\\0' x; echo; printf '\\377\\000\\376\\n'; echo end";
    let seen = World::new(&[script]).run().await;
    assert!(seen.end.outcome.is_success());
    let longest = seen.trace.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap();
    assert!(longest >= 3 << 20, "{longest}");
    assert!(seen.text().contains("\n\u{fffd}\0\u{fffd}\nend\n"));
}

#[tokio::test]
async fn stages_109_a_background_process_does_not_hold_the_job() {
    let began = tokio::time::Instant::now();
    let seen = World::new(&["sleep 1000 &", "echo done"]).run().await;
    assert!(seen.end.outcome.is_success(), "{}", seen.text());
    assert!(began.elapsed() < PATIENCE / 2);
}
