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

#[tokio::test]
async fn warm_pods_budgets_and_jobs_of_a_manager_that_is_gone_for_good_are_removed() {
    if !is_real() {
        return eprintln!("left out: only a real cluster has a garbage collector");
    }
    if std::env::var_os("PODWRIGHT_E2E_MANAGER_KUBECONFIG").is_some_and(|file| !file.is_empty()) {
        return eprintln!("left out: the least role allows neither warm pods nor budgets");
    }
    let mut world = World::new().await;
    world.settings.pod_disruption_budget = true;
    let first = world.manager("s_first0000000").await;
    let job = runs(&world).await;
    let budgets = real(&world).names::<PodDisruptionBudget>(&world.source_id()).await;
    assert_eq!(budgets.len(), 1, "{budgets:?}");
    let image = world.settings.image.clone();
    world.settings.warm_pods = vec![RawWarmPods { image, count: 2, ..RawWarmPods::default() }];
    let second = world.manager("s_second000000").await;
    warm(&world, 2).await;

    first.vanish();
    second.vanish();
    // Nobody wants the job any more, and nobody says so to a manager that is gone.
    job.force_cancel();
    world.settings.warm_pods.clear();
    let last = world.manager("s_third0000000").await;
    // Pods, records, budgets, and the signs of the dead.
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
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
