//! Jobs whose pods are made with a token of their own: `KUBERNETES_BEARER_TOKEN`.

use std::time::Duration;

use runner_testkit::cluster::Rule;
use runner_testkit::gitlab::{JobSpec, Variable};

use crate::world::{PATIENCE, World, failure, success, text};

const TEAM: &str = "team";

/// The runner may do nothing outside of its own namespace, and a service account of the team
/// everything that a job needs in the team's.
async fn world() -> Option<(World, String)> {
    let mut world = World::simulated("have accounts and namespaces of its own").await?;
    world.settings.namespace_overwrite_allowed = "^team$".into();
    world.settings.bearer_token_overwrite_allowed = true;
    world.cluster().add_namespace(TEAM);
    let rules = Rule::least_privilege();
    let token = world.cluster().add_service_account(TEAM, "deployer", rules);
    Some((world, token))
}

fn spec(token: &str) -> JobSpec {
    JobSpec::new("job")
        .variable("KUBERNETES_NAMESPACE_OVERWRITE", TEAM)
        .with(Variable::new("KUBERNETES_BEARER_TOKEN", token).masked())
}

#[tokio::test]
async fn k8s_07_a_jobs_pod_is_made_followed_and_removed_with_the_jobs_own_token_by_any_manager() {
    let Some((world, token)) = world().await else { return };
    let first = world.manager("s_first0000000").await;
    let job = world.gitlab.enqueue(spec(&token).script(["echo begun; sleep 3; echo done"]));
    job.wait_trace("begun\n", PATIENCE).await.unwrap();
    assert!(world.cluster().leftovers().pods.iter().any(|pod| pod.starts_with("team/")));
    first.vanish();
    // It finds the token where the first one has left it.
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    second.drain().await;
    success(&end);
    let said = text(&end);
    assert!(said.contains("bearer_token is the job's own (KUBERNETES_BEARER_TOKEN)"), "{said}");
    assert!(said.contains("done") && !said.contains(&token), "{said}");
    world.check().await;
}

#[tokio::test]
async fn k8s_07_without_the_token_the_runner_has_no_say_in_the_teams_namespace() {
    let Some((mut world, token)) = world().await else { return };
    world.settings.bearer_token_overwrite_allowed = false;
    world.slow_start = Some(Duration::ZERO);
    let end = world.run_one(spec(&token).script(["echo begun"])).await;
    failure(&end, "runner_system_failure");
    let said = text(&end);
    assert!(!said.contains("begun\n") && !said.contains(&token), "{said}");
    world.check().await;
}

#[tokio::test]
async fn k8s_07_a_token_of_nobody_fails_its_job_and_no_other() {
    let Some((world, _)) = world().await else { return };
    let manager = world.manager("s_first0000000").await;
    let job = world.gitlab.enqueue(spec("nobodys-token-0123456789").script(["echo begun"]));
    let other = world.gitlab.enqueue(JobSpec::new("other").script(["echo fine"]));
    success(&other.wait_finished(PATIENCE).await.unwrap());
    let end = job.wait_finished(PATIENCE).await.unwrap();
    failure(&end, "runner_configuration_error");
    let said = text(&end);
    assert!(!said.contains("nobodys-token") && !said.contains("begun\n"), "{said}");
    manager.drain().await;
    world.check().await;
}
