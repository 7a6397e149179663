//! Caches, through GitLab, the manager, the cluster and back.

use runner_testkit::gitlab::{Finished, JobSpec};
use runner_testkit::objects::ObjectServer;
use serde_json::json;

use crate::world::{World, success, text};

fn spec(script: &str, policy: &str) -> JobSpec {
    let cache = json!([{
        "key": "main",
        "untracked": false,
        "policy": policy,
        "paths": ["vendor"],
        "when": "on_success",
        "fallback_keys": [],
    }]);
    JobSpec::new("test").script([script]).patch(move |payload| payload["cache"] = cache.clone())
}

async fn run(world: &World, spec: JobSpec) -> Finished {
    let end = world.run_one(spec).await;
    success(&end);
    end
}

#[tokio::test]
async fn what_one_job_saves_the_next_one_finds() {
    let Some(mut world) =
        World::simulated("caches of a server that only this machine reaches").await
    else {
        return;
    };
    let server = ObjectServer::start().await.unwrap();
    world.cache = Some(server.clone());
    run(&world, spec("mkdir vendor; echo kept > vendor/file", "pull-push")).await;
    let names = server.names();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("project/") && names[0].ends_with("/main"), "{names:?}");

    let end = run(&world, spec("cat vendor/file", "pull")).await;
    let text = text(&end);
    assert!(text.contains("Successfully extracted cache") && text.contains("kept"), "{text}");
}

#[tokio::test]
async fn a_cache_without_a_server_is_a_cache_of_the_pod() {
    let world = World::new().await;
    let end = run(&world, spec("mkdir vendor; echo kept > vendor/file", "pull-push")).await;
    let text = text(&end);
    assert!(text.contains("No URL provided, cache will not be uploaded"), "{text}");
}
