//! Pods that keep room for jobs.

use std::time::Duration;

use runner_k8s::settings::raw::{RawAutoscaler, RawAutoscalerPolicy, RawDuration};
use runner_testkit::cluster::{ClusterSettings, ImageSpec, Rule};
use runner_testkit::gitlab::{GitLab, JobSpec};

use crate::world::{PATIENCE, World, success};

/// What GitLab Runner's documentation has operators grant for it.
fn rights() -> ClusterSettings {
    let mut rules = Rule::least_privilege();
    let verbs = ["get", "list", "create", "update", "delete"];
    rules.push(Rule::grouped("apps", &["deployments"], &verbs));
    let classes = Rule::grouped("scheduling.k8s.io", &["priorityclasses"], &["get", "create"]);
    ClusterSettings { rules, cluster_rules: vec![classes], ..ClusterSettings::default() }
}

async fn world() -> Option<World> {
    let what = "count pods of Deployments";
    let mut world = World::simulated_with(what, GitLab::builder(), rights()).await?;
    want(&mut world);
    Some(world)
}

/// One pause pod, and two for each job.
pub(crate) fn want(world: &mut World) {
    let pause = ["sleep", "1000"].map(Into::into).into();
    let image = ImageSpec { entrypoint: pause, ..ImageSpec::present() };
    world.cluster().register_image("registry.k8s.io/pause:3.10", image);
    world.settings.cpu_request = "250m".into();
    world.settings.helper_cpu_request = "100m".into();
    world.settings.autoscaler = Some(RawAutoscaler {
        policy: vec![RawAutoscalerPolicy {
            idle_count: 1,
            idle_time: RawDuration("1s".into()),
            scale_factor: 2.0,
            ..RawAutoscalerPolicy::default()
        }],
        ..RawAutoscaler::default()
    });
}

/// Waits for so many pause pods to run.
pub(crate) async fn pause_pods(world: &World, wanted: usize) {
    let look = async {
        loop {
            let pods = world.cluster().pods();
            let pods = pods.iter().filter_map(|name| world.cluster().pod(name)).filter(|pod| {
                pod["metadata"]["labels"]["runner.gitlab.com/pause-pod"] == "true"
                    && pod["status"]["phase"] == "Running"
            });
            if pods.count() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let message = format!("there should be {wanted} pause pods");
    tokio::time::timeout(PATIENCE, look).await.expect(&message);
}

#[tokio::test]
async fn k8s_91_pause_pods_come_with_the_manager_follow_its_jobs_and_go_with_it() {
    let Some(world) = world().await else { return };
    let manager = world.manager("s_first0000000").await;
    pause_pods(&world, 1).await;
    let pods = world.cluster().pods();
    let pod = world.cluster().pod(&pods[0]).unwrap();
    assert_eq!(pod["spec"]["priorityClassName"], "gitlab-runner-idle-capacity");
    let requests =
        |at: usize| pod["spec"]["containers"][at]["resources"]["requests"]["cpu"].clone();
    assert_eq!([requests(0), requests(1)], ["250m", "100m"], "as much as a job's pod asks for");

    let job = world.gitlab.enqueue(JobSpec::new("test").script(["sleep 3"]));
    pause_pods(&world, 2).await;
    success(&job.wait_finished(PATIENCE).await.unwrap());
    pause_pods(&world, 1).await;
    manager.drain().await;
    world.check().await;
    pause_pods(&world, 0).await;
}

#[tokio::test]
async fn k8s_91_pause_pods_of_a_dead_manager_are_taken_away_by_the_next_one() {
    let Some(mut world) = world().await else { return };
    let first = world.manager("s_first0000000").await;
    pause_pods(&world, 1).await;
    first.vanish();
    // The next one has no use for them, but looks after the runner's estate.
    if let Some(autoscaler) = &mut world.settings.autoscaler {
        autoscaler.policy[0].idle_count = 0;
    }
    let second = world.manager("s_second000000").await;
    pause_pods(&world, 0).await;
    second.drain().await;
    world.check().await;
}
