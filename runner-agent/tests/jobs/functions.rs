//! Jobs with `run:`. What `step-runner` itself does with the functions is not ours; what is around it is.

use runner_core::executor::Stop;
use runner_core::job::{Artifact, ArtifactWhen, Cache};
use runner_core::outcome::{InfraKind, Outcome};
use runner_testkit::objects::ObjectServer;

use crate::artifacts::{self, artifact, part, unzipped};
use crate::caches;
use crate::scripts::sources;
use crate::world::{World, stop, wait_for};

const FUNCTIONS: &str = r#"[{"name":"hello","script":"echo hi"}]"#;

fn world(step_runner: &str) -> World {
    let mut world = World::new(&[]).with_step_runner(step_runner);
    world.job.steps.clear();
    world.job.functions = Some(FUNCTIONS.into());
    world
}

#[tokio::test]
async fn stages_114_run_without_step_runner_in_the_image_is_a_configuration_error() {
    let mut world = World::new(&[]);
    world.job.steps.clear();
    world.job.functions = Some(r#"[{"name":"hello","script":"echo hi"}]"#.into());
    let seen = world.run().await;
    let Outcome::Infra(infra) = &seen.end.outcome else { panic!("{:?}", seen.end.outcome) };
    assert_eq!(infra.kind, InfraKind::Configuration);
    assert!(seen.text().contains("needs the program step-runner in the job's image"));
}

#[tokio::test]
async fn stages_115_functions_run_in_the_checkout_and_what_they_make_is_uploaded() {
    let repository = tempfile::tempdir().unwrap();
    let server = ObjectServer::start().await.unwrap();
    let script = "#!/bin/sh\nprintf '%s' \"$1 $STEPS $(cat file)\" > made; echo stepping";
    let mut world = world(script);
    world.job.sources = Some(sources(repository.path()));
    world.job.artifacts = vec![artifact(&["made"])];
    let seen = artifacts::run(&world, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    let (_, archive) = part(&server, "upload/0");
    assert_eq!(unzipped(&archive, "made"), format!("ci {FUNCTIONS} content"));
    let text = seen.text();
    let places = ["Getting source", "stepping", "Uploading artifacts"].map(|part| text.find(part));
    assert!(places.is_sorted() && places[0].is_some(), "{text}");
}

#[tokio::test]
async fn stages_115_functions_find_the_cache_and_what_they_add_is_saved() {
    let server = ObjectServer::start().await.unwrap();
    let paths = vec!["kept".to_owned()];
    let cache = Cache { key: "key".into(), paths, ..Cache::default() };
    for expected in ["0", "1"] {
        let mut world =
            world("#!/bin/sh\nls kept 2>/dev/null | wc -l; mkdir -p kept; touch kept/one");
        world.job.caches = vec![cache.clone()];
        let seen = caches::run(&world, &server).await;
        assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
        let counted = seen.text().lines().any(|line| line.trim() == expected);
        assert!(counted, "{expected}: {}", seen.text());
    }
}

#[tokio::test]
async fn stages_115_the_exit_status_of_step_runner_is_the_jobs() {
    let server = ObjectServer::start().await.unwrap();
    let mut world = world("#!/bin/sh\necho log > log; exit 7");
    let of = |when| Artifact { when, ..artifact(&["log"]) };
    world.job.artifacts = vec![of(ArtifactWhen::OnSuccess), of(ArtifactWhen::OnFailure)];
    let seen = artifacts::run(&world, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(7), "{}", seen.text());
    assert_eq!(server.names(), ["upload/1"]);
}

#[tokio::test]
async fn stages_115_a_cancel_ends_step_runner_and_what_it_has_started() {
    let world = world("#!/bin/sh\necho waiting; sleep 1000 & wait");
    let mut handle = world.start().await;
    wait_for(&mut *handle, "waiting").await;
    let seen = stop(&mut *handle, Stop::Cancel).await;
    assert_eq!(seen.end.outcome, Outcome::Cancelled, "{}", seen.text());
    handle.dispose().await.unwrap();
}
