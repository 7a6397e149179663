//! A runner's `limit` counts the jobs of all managers that have its token.

use runner_testkit::gitlab::{JobRef, JobSpec, JobState};
use tokio::time::Instant;

use crate::world::{PATIENCE, World, success};

/// How often managers have looked at each other's signs of life.
fn looks(world: &World) -> u64 {
    let requests = world.cluster().requests();
    requests.of("list", "leases") + requests.of("list", "configmaps")
}

/// Waits until each manager has shown how many jobs it has, and has seen it of the others. A manager
/// that thinks that it has room asks for a job several times in that time.
async fn all_have_looked(world: &World, managers: u64) {
    let (begin, deadline) = (looks(world), Instant::now() + PATIENCE);
    while looks(world) < begin + 4 * managers {
        assert!(Instant::now() < deadline, "the managers do not look at each other");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn states(jobs: &[JobRef]) -> Vec<JobState> {
    jobs.iter().map(JobRef::state).collect()
}

#[tokio::test]
async fn a_limit_of_two_holds_for_two_managers_together() {
    use JobState::{Canceled, Pending, Running};
    let Some(mut world) = World::simulated("how often managers looked at each other").await else {
        return;
    };
    world.limit = 2;
    let long = |name: &str| world.gitlab.enqueue(JobSpec::new(name).script(["sleep 600"]));
    let mut jobs = vec![long("one"), long("two"), long("three")];
    jobs.push(world.gitlab.enqueue(JobSpec::new("four").script(["true"])));

    let first = world.manager("s_first0000000").await;
    for job in &jobs[..2] {
        job.wait_trace("$ sleep 600", PATIENCE).await.unwrap();
    }
    all_have_looked(&world, 1).await;
    assert_eq!(states(&jobs), [Running, Running, Pending, Pending]);
    // From here on, whatever begins is the other's.
    first.drain_later();

    let second = world.manager("s_second000000").await;
    all_have_looked(&world, 2).await;
    assert_eq!(states(&jobs), [Running, Running, Pending, Pending], "the first has two");

    jobs[0].cancel();
    jobs[2].wait_trace("$ sleep 600", PATIENCE).await.unwrap();
    all_have_looked(&world, 2).await;
    assert_eq!(states(&jobs), [Canceled, Running, Running, Pending], "each has one");

    jobs[1].cancel();
    success(&jobs[3].wait_finished(PATIENCE).await.unwrap());
    assert_eq!(states(&jobs)[..3], [Canceled, Canceled, Running]);
    jobs[2].cancel();
    first.drain().await;
    second.drain().await;
    world.check().await;
}
