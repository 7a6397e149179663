//! What a manager that is gone for good leaves in a real cluster, and that the next one of the runner removes it. The cluster's own
//! garbage collector and namespace controller are part of it, which the simulated one does not have.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use runner_k8s::settings::raw::RawWarmPods;
use runner_testkit::gitlab::{JobRef, JobSpec};
use tokio::time::{Instant, sleep};

use crate::namespaces::{no_namespace_is_left, per_job};
use crate::place::{Place, Real, is_real};
use crate::world::{PATIENCE, World};

fn real(world: &World) -> &Real {
    match &world.place {
        Place::Real(real) => real,
        Place::Simulated(_) => panic!("asked on a real cluster only"),
    }
}

/// Waits for so many pods that run and wait for a job.
async fn warm(world: &World, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    let source = runner_k8s::names::source_hash(&world.source_id());
    let ready = format!("podwright.dev/source={source},podwright.dev/warm=ready");
    loop {
        let pods =
            real(world).pods().list(&ListParams::default().labels(&ready)).await.unwrap().items;
        let running = |pod: &&Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions
                .is_some_and(|all| all.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
        };
        if pods.iter().filter(running).count() == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "there should be {wanted} warm pods");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn runs(world: &World) -> JobRef {
    let job = world.gitlab.enqueue(JobSpec::new("long").script(["echo started", "sleep 1000"]));
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    job
}

/// Whether the manager may have everything.
fn with_all_rights() -> bool {
    if !is_real() {
        eprintln!(
            "left out: only a real cluster has a garbage collector and a namespace controller"
        );
        return false;
    }
    let least = std::env::var_os("PODWRIGHT_E2E_MANAGER_KUBECONFIG");
    if least.is_some_and(|file| !file.is_empty()) {
        eprintln!("left out: the least role allows neither warm pods nor budgets nor namespaces");
        return false;
    }
    true
}

fn with_warm_pods(world: &mut World, count: i64) {
    let image = world.settings.image.clone();
    world.settings.warm_pods = vec![RawWarmPods { image, count, ..RawWarmPods::default() }];
}

#[tokio::test]
async fn warm_pods_budgets_and_jobs_of_managers_that_are_gone_for_good_are_removed() {
    if !with_all_rights() {
        return;
    }
    let mut world = World::new().await;
    world.settings.pod_disruption_budget = true;
    let first = world.manager("s_first0000000").await;
    let job = runs(&world).await;
    let budgets = real(&world).names::<PodDisruptionBudget>(&world.source_id()).await;
    assert_eq!(budgets.len(), 1, "{budgets:?}");
    with_warm_pods(&mut world, 2);
    let second = world.manager("s_second000000").await;
    warm(&world, 2).await;
    let of_the_dead = world.place.pods(&world.source_id()).await;
    assert_eq!(of_the_dead.len(), 3);

    first.vanish();
    second.vanish();
    // Nobody wants the job any more, and nobody says so to a manager that is gone.
    job.force_cancel();
    with_warm_pods(&mut world, 1);
    let last = world.manager("s_third0000000").await;
    let gone = async {
        while world.place.pods(&world.source_id()).await.iter().any(|pod| of_the_dead.contains(pod))
        {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the pods of the dead should go");
    warm(&world, 1).await;
    last.drain().await;
    // Pods, records, budgets, and the signs of the dead.
    world.check().await;
}

/// What nobody inherits goes ten minutes after a manager has seen it first. `PODWRIGHT_E2E_ORPHANS=1`, since it takes that long.
#[tokio::test]
async fn what_belongs_to_nobody_is_removed_after_ten_minutes() {
    if std::env::var_os("PODWRIGHT_E2E_ORPHANS").is_none() {
        return eprintln!("left out: without PODWRIGHT_E2E_ORPHANS nobody waits for ten minutes");
    }
    if !with_all_rights() {
        return;
    }
    let mut world = World::new().await;
    world.settings.pod_disruption_budget = true;
    with_warm_pods(&mut world, 1);
    let first = world.manager("s_first0000000").await;
    warm(&world, 1).await;
    let away = JobSpec::new("away").image("docker.io/library/busybox:test");
    let home = world.gitlab.enqueue(away.clone().script(["echo started", "sleep 2000"]));
    home.wait_trace("started\n", PATIENCE).await.unwrap();
    world.settings.warm_pods.clear();
    world.settings.namespace_per_job = true;
    first.drain_later();
    let second = world.manager("s_second000000").await;
    let elsewhere = world.gitlab.enqueue(away.script(["echo started", "sleep 2000"]));
    elsewhere.wait_trace("started\n", PATIENCE).await.unwrap();
    assert_eq!(world.place.namespaces_of_jobs(&world.source_id()).await.len(), 1);
    first.vanish();
    second.vanish();
    // Somebody deletes the records by hand.
    real(&world).delete_records(&world.source_id()).await;
    home.force_cancel();
    elsewhere.force_cancel();

    let last = world.manager("s_third0000000").await;
    let begun = Instant::now();
    let gone = async {
        let source = world.source_id();
        while !world.place.pods(&source).await.is_empty()
            || !world.place.namespaces_of_jobs(&source).await.is_empty()
        {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(900), gone).await.expect("orphans are left");
    eprintln!("everything without an owner had gone after {:?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(590), "too early for what has lost its owner");
    last.drain().await;
    world.check().await;
}

#[tokio::test]
async fn the_namespace_of_a_job_whose_manager_is_gone_for_good_is_removed() {
    if !is_real() {
        return eprintln!("left out: only a real cluster has a namespace controller");
    }
    let Some(mut world) = per_job().await else { return };
    world.settings.namespace_per_job = true;
    let first = world.manager("s_first0000000").await;
    let job = runs(&world).await;
    assert_eq!(world.place.namespaces_of_jobs(&world.source_id()).await.len(), 1);
    first.vanish();
    job.force_cancel();
    let last = world.manager("s_second000000").await;
    no_namespace_is_left(&world).await;
    last.drain().await;
    world.check().await;
}
