//! Pods that are ready before their job is there.

use std::time::Duration;

use rstest::rstest;
use runner_k8s::settings::raw::RawWarmPods;
use runner_testkit::cluster::{ClusterSettings, Fault, RequestFilter, Rule};
use runner_testkit::gitlab::{GitLab, Image, JobSpec, Rule as GitLabRule, Variable};
use serde_json::Value;

use crate::world::{PATIENCE, World, failure, success, text};

fn rights() -> ClusterSettings {
    let mut rules = Rule::least_privilege();
    rules.push(Rule::core(&["pods"], &["patch"]));
    ClusterSettings { rules, ..ClusterSettings::default() }
}

async fn world(count: i64) -> Option<World> {
    let what = "look at pods in passing";
    let mut world = World::simulated_with(what, GitLab::builder(), rights()).await?;
    want(&mut world, count);
    Some(world)
}

/// So many warm pods of the default image.
pub(crate) fn want(world: &mut World, count: i64) {
    let image = world.settings.image.clone();
    world.settings.warm_pods = vec![RawWarmPods { image, count, ..RawWarmPods::default() }];
}

fn pods(world: &World) -> Vec<Value> {
    world.cluster().pods().iter().filter_map(|name| world.cluster().pod(name)).collect()
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Waits for so many pods that run and have no job; their names.
pub(crate) async fn warm(world: &World, wanted: usize) -> Vec<String> {
    let look = async {
        loop {
            let all = pods(world);
            let ready = all.iter().filter(|pod| {
                let statuses = pod["status"]["containerStatuses"].as_array();
                pod["metadata"]["labels"]["podwright.dev/warm"] == "ready"
                    && statuses.is_some_and(|all| all.iter().all(|c| c["ready"] == true))
            });
            let ready: Vec<String> = ready.map(name).collect();
            if ready.len() == wanted {
                return ready;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let message = format!("there should be {wanted} warm pods");
    tokio::time::timeout(PATIENCE, look).await.expect(&message)
}

#[tokio::test]
async fn a_job_gets_a_warm_pod_which_becomes_its_own_and_does_no_other() {
    let Some(world) = world(1).await else { return };
    let manager = world.manager("s_first0000000").await;
    let first = warm(&world, 1).await.remove(0);
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let spec = JobSpec::new("test")
        .repo(&repo)
        .git_ref("main")
        .with(Variable::new("PASSWORD", "s3cr3t-value").masked())
        .variable("CI_PUBLIC", "seen")
        .script(["cat file; echo \"$CI_PUBLIC $PASSWORD\"; sleep 2"]);
    let job = world.gitlab.enqueue(spec.clone());
    job.wait_trace("seen [MASKED]", PATIENCE).await.unwrap();
    let pod = world.cluster().pod(&first).expect("the job runs in the warm pod");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["podwright.dev/job"], job.id().to_string());
    assert_eq!(labels["podwright.dev/warm"], Value::Null);
    assert_eq!(pod["metadata"]["annotations"]["job.runner.gitlab.com/name"], "test");
    assert!(pod["spec"]["activeDeadlineSeconds"].as_u64().is_some());
    assert!(!pod.to_string().contains("s3cr3t"), "a reader of pods must not see the plan");
    // Another one takes its place at once.
    let second = warm(&world, 1).await.remove(0);
    assert_ne!(first, second);
    success(&job.wait_finished(PATIENCE).await.unwrap());

    let again = world.gitlab.enqueue(spec);
    again.wait_trace("seen [MASKED]", PATIENCE).await.unwrap();
    assert!(world.cluster().pod(&first).is_none(), "its pod goes with a job");
    let pod = world.cluster().pod(&second).unwrap();
    assert_eq!(pod["metadata"]["labels"]["podwright.dev/job"], again.id().to_string());
    success(&again.wait_finished(PATIENCE).await.unwrap());
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_job_that_needs_another_pod_gets_one_of_its_own() {
    let Some(mut world) = world(1).await else { return };
    world.settings.cpu_limit_overwrite_max_allowed = "4".into();
    let manager = world.manager("s_first0000000").await;
    let idle = warm(&world, 1).await;
    let image = world.settings.image.clone();
    let service = Image::new(&image).entrypoint(["sleep", "100"]);
    for spec in [
        JobSpec::new("services").service(service),
        JobSpec::new("limit").variable("KUBERNETES_CPU_LIMIT", "2"),
        JobSpec::new("policy").image(Image::new(&image).user("1234")),
    ] {
        let job = world.gitlab.enqueue(spec.script(["echo \"in $(hostname)\"; sleep 1"]));
        let end = job.wait_finished(PATIENCE).await.unwrap();
        success(&end);
        assert_eq!(warm(&world, 1).await, idle, "nobody took it");
    }
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn two_jobs_never_get_one_warm_pod() {
    let Some(world) = world(2).await else { return };
    let manager = world.manager("s_first0000000").await;
    warm(&world, 2).await;
    let spec = |n| JobSpec::new(format!("job-{n}")).script(["echo started; sleep 4"]);
    let jobs: Vec<_> = (0..4).map(|n| world.gitlab.enqueue(spec(n))).collect();
    for job in &jobs {
        job.wait_trace("started\n", PATIENCE).await.unwrap();
    }
    let label =
        |pod: &Value| pod["metadata"]["labels"]["podwright.dev/job"].as_str().map(str::to_owned);
    let mut of_jobs: Vec<_> = pods(&world).iter().filter_map(label).collect();
    of_jobs.sort();
    let mut expected: Vec<_> = jobs.iter().map(|job| job.id().to_string()).collect();
    expected.sort();
    assert_eq!(of_jobs, expected, "a pod for each");
    for job in jobs {
        success(&job.wait_finished(PATIENCE).await.unwrap());
    }
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_manager_that_dies_before_the_plan_is_handed_over_loses_no_job() {
    let Some(world) = world(1).await else { return };
    let first = world.manager("s_first0000000").await;
    warm(&world, 1).await;
    // The record names the pod, and then nothing more happens.
    // Two: the pod that takes its place is patched too.
    let patch = RequestFilter::of("patch", "pods");
    world.cluster().fail_next(2, patch, Fault::Delay(Duration::from_secs(600)));
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo once; sleep 1"]));
    world.record().await;
    let asked = async {
        while world.cluster().requests().of("patch", "pods") < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    first.vanish();
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    success(&end);
    assert_eq!(text(&end).matches("\nonce\n").count() + text(&end).matches(" once\n").count(), 1);
    second.drain().await;
    world.check().await;
}

/// Waits until so many requests were made that change pods.
async fn patched(world: &World, times: u64) {
    let asked = async {
        while world.cluster().requests().of("patch", "pods") < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the pod should be made the job's");
}

/// The record names the pod, and the manager goes before the pod has the job: nothing of it has run,
/// and what happened to pods since tells that.
#[rstest]
#[case::deleted(WarmPodGoes::Deleted)]
#[case::ended(WarmPodGoes::Ended)]
#[tokio::test]
async fn a_job_of_a_dead_manager_whose_warm_pod_went_before_it_had_the_job_runs_once_in_another_one(
    #[case] how: WarmPodGoes,
) {
    let Some(world) = world(1).await else { return };
    let first = world.manager("s_first0000000").await;
    let lost = warm(&world, 1).await.remove(0);
    let before = world.cluster().requests().of("patch", "pods");
    // Two: the pod that takes its place is patched too.
    let patch = RequestFilter::of("patch", "pods");
    world.cluster().fail_next(2, patch, Fault::Delay(Duration::from_secs(600)));
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo once; sleep 1"]));
    world.record().await;
    patched(&world, before + 2).await;
    first.vanish();
    match how {
        WarmPodGoes::Deleted => world.cluster().delete_pod(&lost, Some(Duration::ZERO)).unwrap(),
        WarmPodGoes::Ended => world.cluster().evict(&lost).unwrap(),
    }
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    success(&end);
    assert_eq!(text(&end).matches(" once\n").count(), 1, "{}", text(&end));
    second.drain().await;
    world.check().await;
}

/// How a warm pod is lost.
#[derive(Clone, Copy, Debug)]
enum WarmPodGoes {
    Deleted,
    /// It is there, but nothing of it runs.
    Ended,
}

/// The same a moment later: the pod is the job's, which may have run. It must not run again.
#[tokio::test]
async fn a_job_of_a_dead_manager_whose_warm_pod_went_with_the_job_is_not_run_again() {
    let Some(world) = world(1).await else { return };
    let first = world.manager("s_first0000000").await;
    let lost = warm(&world, 1).await.remove(0);
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo once; sleep 100"]));
    job.wait_trace(" once\n", PATIENCE).await.unwrap();
    first.vanish();
    world.cluster().delete_pod(&lost, Some(Duration::ZERO)).unwrap();
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    failure(&end, "runner_system_failure");
    assert!(text(&end).contains("deleted by someone"), "{}", text(&end));
    assert_eq!(text(&end).matches(" once\n").count(), 1, "{}", text(&end));
    second.drain().await;
    // Nobody is left who knows how far the trace is. The heir offers its words at the beginning, which
    // the source refuses with the place where it stands (the trace above has both).
    let broken = world.gitlab.violations();
    assert!(broken.iter().all(|one| one.rule == GitLabRule::TraceRewritten), "{broken:?}");
    assert!(world.place.records(&world.source_id()).await.is_empty());
}

/// The request that makes the pod the job's never arrives in time: nobody has given it a plan.
#[tokio::test]
async fn a_job_whose_warm_pod_is_deleted_before_it_is_its_own_gets_another_pod_and_runs_once() {
    let Some(world) = world(1).await else { return };
    let manager = world.manager("s_first0000000").await;
    let lost = warm(&world, 1).await.remove(0);
    let patch = RequestFilter::of("patch", "pods");
    // Two: the pod that takes its place is patched too.
    world.cluster().fail_next(2, patch, Fault::Delay(Duration::from_secs(2)));
    let before = world.cluster().requests().of("patch", "pods");
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo once; sleep 1"]));
    let asked = async {
        while world.cluster().requests().of("patch", "pods") < before + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    world.cluster().delete_pod(&lost, Some(Duration::ZERO)).unwrap();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    success(&end);
    assert_eq!(text(&end).matches(" once\n").count(), 1, "{}", text(&end));
    manager.drain().await;
    world.check().await;
}

#[tokio::test]
async fn warm_pods_go_with_their_manager_and_those_of_a_dead_one_after_a_while() {
    let Some(world) = world(2).await else { return };
    let first = world.manager("s_first0000000").await;
    let idle = warm(&world, 2).await;
    first.vanish();
    let second = world.manager("s_second000000").await;
    let look = async {
        while pods(&world).iter().any(|pod| idle.contains(&name(pod))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the dead manager's pods should go");
    warm(&world, 2).await;
    second.drain().await;
    world.check().await;
}

#[tokio::test]
async fn without_the_right_to_patch_there_are_none_and_jobs_run_all_the_same() {
    let Some(mut world) = World::simulated("have the least role").await else { return };
    let image = world.settings.image.clone();
    world.settings.warm_pods = vec![RawWarmPods { image, count: 1, ..RawWarmPods::default() }];
    success(&world.run_one(JobSpec::new("test").script(["echo hello"])).await);
}
