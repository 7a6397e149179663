//! The manager in one namespace, its jobs in others, with the roles of `deploy/rbac` and nothing else.

use std::time::Duration;

use rstest::rstest;
use runner_k8s::settings::OneOrMany;
use runner_testkit::cluster::{ClusterSettings, ImageSpec, Rule};
use runner_testkit::gitlab::{GitLab, Image, JobSpec};
use serde::Deserialize;
use serde_json::Value;

use crate::place::is_real;
use crate::world::{PATIENCE, World, failure, success, text};

/// As much of a role as matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleRule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// The rules of a file of `deploy/rbac`: those of its Roles, and those of its ClusterRoles.
fn rules(file: &str) -> (Vec<Rule>, Vec<Rule>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/rbac/");
    let yaml = std::fs::read_to_string(format!("{path}{file}.yaml")).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    let of = |kind: &str| {
        let roles = documents.iter().filter(|document| document["kind"] == kind);
        let rules = roles.flat_map(|role| role["rules"].as_array().unwrap().clone());
        let rule = |rule: Value| {
            let RoleRule { api_groups, resources, verbs } = serde_json::from_value(rule).unwrap();
            let [group] = &api_groups[..] else { panic!("one group in each rule") };
            Rule { group: group.clone(), resources, verbs }
        };
        rules.map(rule).collect()
    };
    (of("Role"), of("ClusterRole"))
}

fn with_role(file: &str) -> ClusterSettings {
    let (rules, cluster_rules) = rules(file);
    ClusterSettings { rules, cluster_rules, ..ClusterSettings::default() }
}

async fn world(cluster: ClusterSettings) -> Option<World> {
    World::simulated_with("have several namespaces", GitLab::builder(), cluster).await
}

/// For a namespace for each job: on a real cluster by a service account that has
/// `namespace-per-job.yaml` and nothing else.
pub(crate) async fn per_job() -> Option<World> {
    if !is_real() {
        return world(with_role("namespace-per-job")).await;
    }
    let kubeconfig = std::env::var("PODWRIGHT_E2E_PER_JOB_KUBECONFIG").unwrap_or_default();
    if kubeconfig.is_empty() {
        eprintln!("left out: PODWRIGHT_E2E_PER_JOB_KUBECONFIG names no account with the role");
        return None;
    }
    let mut world = World::new().await;
    world.settings.kubeconfig = kubeconfig;
    Some(world)
}

/// Namespaces take their time to go, since everything in them goes first.
pub(crate) async fn no_namespace_is_left(world: &World) {
    let source = world.source_id();
    let gone = async {
        while !world.place.namespaces_of_jobs(&source).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the jobs' namespaces should go");
}

/// Something of everything: sources, artifacts are in other tests; here a service that talks.
fn spec(world: &World) -> JobSpec {
    let service = Image::new(&world.settings.image)
        .alias("db")
        .entrypoint(["sh", "-c", "echo \"from $SECRET\"; sleep 1000"])
        .variable("SECRET", "the service");
    JobSpec::new("test")
        .service(service)
        .variable("CI_DEBUG_SERVICES", "true")
        .script(["echo hello; sleep 2"])
}

/// Where the pods are.
fn places(world: &World) -> Vec<String> {
    let pods = world.cluster().leftovers().pods;
    pods.iter().map(|pod| pod.split('/').next().unwrap().to_owned()).collect()
}

#[rstest]
#[case("same-namespace")]
#[case("other-namespace")]
#[tokio::test]
async fn k8s_88_the_role_is_enough_for_jobs_in_one_namespace(#[case] file: &str) {
    let Some(world) = world(with_role(file)).await else { return };
    let end = world.run_one(spec(&world)).await;
    success(&end);
    assert!(text(&end).contains("from the service"), "{}", text(&end));
}

#[tokio::test]
async fn k8s_9_each_job_has_a_namespace_of_its_own_that_goes_with_it() {
    let Some(mut world) = per_job().await else { return };
    world.settings.namespace_per_job = true;
    for script in ["exit 0", "exit 7"] {
        let spec = spec(&world).script(["echo begun; sleep 2", script]);
        let job = world.gitlab.enqueue(spec);
        let manager = world.manager("s_first0000000").await;
        job.wait_trace("begun", PATIENCE).await.unwrap();
        assert_eq!(
            world.place.namespaces_of_jobs(&world.source_id()).await,
            [format!("ci-job-{}", job.id())]
        );
        let end = job.wait_finished(PATIENCE).await.unwrap();
        manager.drain().await;
        match script {
            "exit 0" => success(&end),
            _ => failure(&end, "script_failure"),
        }
        assert!(text(&end).contains("from the service"), "{}", text(&end));
        world.check().await;
        no_namespace_is_left(&world).await;
    }
}

#[tokio::test]
async fn k8s_9_another_manager_goes_on_with_a_job_in_its_own_namespace() {
    let Some(mut world) = per_job().await else { return };
    world.settings.namespace_per_job = true;
    let job = world.gitlab.enqueue(spec(&world).script(["echo begun; sleep 4; echo over"]));
    let first = world.manager("s_first0000000").await;
    job.wait_trace("begun", PATIENCE).await.unwrap();
    first.vanish();
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    second.drain().await;
    success(&end);
    world.check().await;
    no_namespace_is_left(&world).await;
}

/// The pod that takes another's place is made where that was, and nothing of either stays.
#[tokio::test]
async fn k8s_19_the_next_pull_policy_gets_its_pod_in_the_jobs_own_namespace() {
    let Some(mut world) = world(with_role("namespace-per-job")).await else { return };
    world.settings.namespace_per_job = true;
    world.settings.pull_policy = OneOrMany::Many(vec!["never".into(), "if-not-present".into()]);
    world.cluster().register_image("elsewhere:1", ImageSpec::default());
    let manager = world.manager("s_first0000000").await;
    let spec = JobSpec::new("test").image("elsewhere:1").script(["echo once; sleep 2"]);
    let job = world.gitlab.enqueue(spec);
    job.wait_trace(" once", PATIENCE).await.unwrap();
    let namespace = format!("ci-job-{}", job.id());
    assert_eq!(
        world.place.namespaces_of_jobs(&world.source_id()).await,
        std::slice::from_ref(&namespace)
    );
    // The first one may still be on its way out.
    assert!(places(&world).iter().all(|place| *place == namespace), "{:?}", places(&world));
    assert_eq!(world.cluster().requests().of("create", "pods"), 2, "one for each policy");
    let end = job.wait_finished(PATIENCE).await.unwrap();
    success(&end);
    let trace = text(&end);
    assert_eq!(trace.matches(" once\n").count(), 1, "{trace}");
    manager.drain().await;
    no_namespace_is_left(&world).await;
    world.check().await;
}

#[tokio::test]
async fn k8s_8_a_job_runs_in_the_namespace_that_it_may_ask_for() {
    let (rules, _) = rules("other-namespace");
    // The role in each of the namespaces; nothing outside of namespaces is asked for.
    let cluster = ClusterSettings { cluster_rules: rules, ..ClusterSettings::default() };
    let Some(mut world) = world(cluster).await else { return };
    world.settings.namespace_overwrite_allowed = "^team-.*$".into();
    world.cluster().add_namespace("team-blue");
    let spec = spec(&world).variable("KUBERNETES_NAMESPACE_OVERWRITE", "team-blue");
    let job = world.gitlab.enqueue(spec);
    let manager = world.manager("s_first0000000").await;
    job.wait_trace("hello", PATIENCE).await.unwrap();
    assert_eq!(places(&world), ["team-blue"]);
    success(&job.wait_finished(PATIENCE).await.unwrap());
    manager.drain().await;
    world.check().await;
    assert!(world.cluster().namespaces().contains(&"team-blue".to_owned()));
}

#[tokio::test]
async fn k8s_88_a_role_that_may_not_make_namespaces_is_named() {
    let Some(mut world) = world(with_role("same-namespace")).await else { return };
    world.settings.namespace_per_job = true;
    let job = world.gitlab.enqueue(spec(&world));
    let manager = world.manager("s_first0000000").await;
    let end = tokio::time::timeout(Duration::from_secs(60), job.wait_finished(PATIENCE)).await;
    let end = end.unwrap().unwrap();
    assert_eq!(end.state.as_str(), "failed", "{}", text(&end));
    assert!(text(&end).contains("namespaces"), "{}", text(&end));
    manager.drain().await;
}

/// `options.yaml`, on top of the role for one namespace.
#[tokio::test]
async fn k8s_88_the_options_are_enough_for_pause_pods_warm_pods_and_budgets() {
    let (mut rules, _) = rules("same-namespace");
    let (options, cluster_rules) = self::rules("options");
    rules.extend(options);
    let cluster = ClusterSettings { rules, cluster_rules, ..ClusterSettings::default() };
    let Some(mut world) = world(cluster).await else { return };
    crate::pause::want(&mut world);
    crate::warm::want(&mut world, 1);
    world.settings.pod_disruption_budget = true;
    world.settings.resource_availability_check_max_attempts = 1;
    world.settings.service_account = "default".into();
    let manager = world.manager("s_first0000000").await;
    let idle = crate::warm::warm(&world, 1).await.remove(0);
    crate::pause::pause_pods(&world, 1).await;
    let job = world.gitlab.enqueue(JobSpec::new("test").script(["echo begun; sleep 2"]));
    job.wait_trace("begun", PATIENCE).await.unwrap();
    let label = &world.cluster().pod(&idle).unwrap()["metadata"]["labels"]["podwright.dev/job"];
    assert_eq!(*label, job.id().to_string());
    success(&job.wait_finished(PATIENCE).await.unwrap());
    manager.drain().await;
    world.check().await;
}
