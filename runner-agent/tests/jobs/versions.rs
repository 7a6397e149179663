//! Managers of releases that this agent does not know. The next two releases' are understood: a frame
//! or a field more is skipped (`runner-core/tests/releases.rs`).

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use futures_util::{SinkExt, StreamExt};
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::outcome::Outcome;
use runner_core::wire::{
    AgentFrame, Hello, ManagerCodec, ManagerFrame, RefusalReason, WIRE_VERSION,
};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use crate::world::{PATIENCE, World, follow, wait_for};

/// What the agent of a running job answers to a manager of this version.
async fn answer(world: &World, version: u32, epoch: Epoch) -> AgentFrame {
    let socket = world.executor.directory(world.job.id).join("state/control.sock");
    let mut session = Framed::new(UnixStream::connect(socket).await.unwrap(), ManagerCodec);
    let (from, until) = (Offset::ZERO, Offset::ZERO);
    let hello = Hello { version, job: JobId(7), epoch, from, until };
    session.send(ManagerFrame::Hello(hello)).await.unwrap();
    timeout(PATIENCE, session.next()).await.unwrap().expect("an answer").unwrap()
}

#[tokio::test]
async fn a_manager_whose_version_is_not_known_is_told_so_and_does_not_get_the_job() {
    let gate = tempfile::tempdir().unwrap();
    let go = gate.path().join("go");
    let wait = format!("echo runs; until [ -e '{}' ]; do sleep 0.02; done", go.display());
    let world = World::new(&[&wait]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nruns\n").await;

    let AgentFrame::Refused(refused) = answer(&world, 0, Epoch(u64::MAX)).await else {
        panic!("a manager of version 0 was welcome")
    };
    assert_eq!(refused.reason, RefusalReason::Version);
    for part in ["version 0 of the protocol", env!("CARGO_PKG_VERSION"), "a newer manager"] {
        assert!(refused.message.contains(part), "{part}: {}", refused.message);
    }

    // Its epoch was the highest that there is, and counts for nothing.
    std::fs::write(&go, "").unwrap();
    let seen = follow(&mut *handle, Offset::ZERO).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_newer_manager_is_welcome_and_told_which_version_the_agent_speaks() {
    let world = World::new(&["sleep 60"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "$ sleep 60").await;
    let AgentFrame::Welcome(welcome) = answer(&world, WIRE_VERSION + 2, Epoch(1)).await else {
        panic!("a newer manager was refused")
    };
    assert_eq!(welcome.version, WIRE_VERSION);
    handle.dispose().await.unwrap();
}
