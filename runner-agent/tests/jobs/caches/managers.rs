//! Managers that come late, or not at all.

use super::*;

#[tokio::test]
async fn a_cache_waits_for_the_next_manager() {
    let server = ObjectServer::start().await.unwrap();
    run(&world(&["mkdir v; echo kept > v/a"], &[cache(&["v"])]), &server).await;
    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    let world = world(&["cat v/a"], &[pull]);
    let mut handle = reserve(&world, Some(&server)).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, Offset(u64::MAX)).await;
    // This manager hears the question and dies.
    let asked = async {
        loop {
            if let JobEvent::Asked(_) = handle.event().await {
                return;
            }
        }
    };
    timeout(PATIENCE, asked).await.unwrap();
    drop(handle);
    let mut handle = world.executor.recover().await.unwrap().remove(0);
    let seen = follow(&mut *handle, &server).await;
    handle.dispose().await.unwrap();
    assert!(seen.text().contains("kept"), "{}", seen.text());
}

#[tokio::test]
async fn without_a_manager_the_stage_gives_up_at_its_deadline() {
    let server = ObjectServer::start().await.unwrap();
    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    let world = world(&["echo went on"], &[pull]);
    let transfers = Transfers { cache: Some(server.scope(&world.job)), ..Transfers::default() };
    let mut plan = plan(&world.job, &world.settings, transfers).unwrap();
    for stage in &mut plan.stages {
        if let runner_core::plan::Operation::RestoreCaches(caches) = &mut stage.operation {
            caches.limit = Duration::from_millis(200);
        }
    }
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job: &world.job, plan: &plan, ticket: &ticket, session: None };
    let mut handle = world.executor.reserve(request).await.unwrap();
    handle.start().await.unwrap();
    // This manager never answers.
    let seen = crate::world::follow(&mut *handle, Offset::ZERO).await;
    handle.dispose().await.unwrap();
    let text = seen.text();
    assert!(
        text.contains("the cache could not be had within") && text.contains("went on"),
        "{text}"
    );
    assert_eq!(seen.end.outcome, Outcome::Exited(0));
}
