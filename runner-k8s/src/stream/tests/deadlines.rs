//! Silence, and leave-taking. The deadlines are short here; [`keepalive`](super::super::keepalive)
//! has the tests of the rules.

use std::time::Duration;

use runner_core::wire::{Beat, ManagerFrame};
use tokio::io::AsyncReadExt;

use super::fake::{Fake, Peer, SUCCESS, drain, patient, trace};
use crate::stream::{Patience, SessionEnd, Silence};

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_given_up() {
    let fake = Fake::new().await;
    let patience = Patience { ping: SHORT / 3, pong: SHORT, ..patient() };
    let (mut session, _peer) = fake.websocket("v5.channel.k8s.io", patience).await;
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::Silent(Silence::Connection(SHORT))), "{end:?}");
    let (mut session, _peer) = fake.spdy(patience).await;
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::Silent(Silence::Connection(SHORT))), "{end:?}");
}

#[tokio::test]
async fn a_relay_that_says_nothing_is_given_up_although_pings_are_answered() {
    let fake = Fake::new().await;
    let patience = Patience { ping: SHORT / 6, pong: SHORT, agent: SHORT * 4, ..patient() };
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patience).await;
    let (end, input) = tokio::join!(drain(&mut session), peer.read());
    assert!(matches!(end.1, SessionEnd::Silent(Silence::Agent(_))), "{end:?}");
    assert_eq!(input, None);

    let (mut session, mut peer) = fake.spdy(patience).await;
    let reading = async {
        assert_eq!(peer.read().await, None);
        peer.pings
    };
    let (end, pings) = tokio::join!(
        async {
            let end = drain(&mut session).await.1;
            drop(session);
            end
        },
        reading
    );
    assert!(matches!(end, SessionEnd::Silent(Silence::Agent(_))), "{end:?}");
    assert!(pings > 1, "{pings}");
}

#[tokio::test]
async fn a_server_that_stays_after_the_exit_status_is_left() {
    let fake = Fake::new().await;
    let patience = Patience { linger: SHORT, ..patient() };
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patience).await;
    peer.output(3, SUCCESS).await;
    // Later than the status, but there.
    peer.stdout([trace(0, "late")]).await;
    let (frames, end) = drain(&mut session).await;
    assert_eq!(frames, [trace(0, "late")]);
    assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
}

#[tokio::test]
async fn close_sends_what_is_queued_and_says_good_bye() {
    let fake = Fake::new().await;
    let beat = ManagerFrame::Beat(Beat::default());
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
    session.send(beat.clone()).await.unwrap();
    session.send(ManagerFrame::Release).await.unwrap();
    let closing = tokio::spawn(session.close());
    assert_eq!(peer.frame().await, Some(beat.clone()));
    assert_eq!(peer.frame().await, Some(ManagerFrame::Release));
    assert_eq!(peer.frame().await, None);
    drop(peer);
    closing.await.unwrap();

    let (mut session, mut peer) = fake.spdy(patient()).await;
    session.send(ManagerFrame::Release).await.unwrap();
    let closing = tokio::spawn(session.close());
    assert_eq!(peer.frame().await, Some(ManagerFrame::Release));
    assert_eq!(peer.frame().await, None);
    drop(peer);
    closing.await.unwrap();
}

#[tokio::test]
async fn close_does_not_wait_for_ever() {
    let fake = Fake::new().await;
    let patience = Patience { linger: SHORT, ..patient() };
    let (session, _peer) = fake.websocket("v5.channel.k8s.io", patience).await;
    session.close().await;
    let (session, _peer) = fake.spdy(patience).await;
    session.close().await;
}

#[tokio::test]
async fn a_dropped_session_closes_its_socket() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    peer.stdout([trace(0, "x")]).await;
    session.next().await.unwrap();
    drop(session);
    assert_eq!(peer.socket.read(&mut [0; 16]).await.unwrap(), 0);
}
