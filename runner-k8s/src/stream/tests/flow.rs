//! Back pressure, pings in the middle of it, and no deadlock.

use std::time::Duration;

use bytes::Bytes;
use runner_core::wire::{AgentFrame, Beat, MAX_TRACE, ManagerFrame};
use tokio::time::timeout;

use super::fake::{Fake, Peer, SUCCESS, drain, joined, patient, trace};
use crate::stream::{READ_AHEAD, Session, SessionEnd};

const V5: &str = "v5.channel.k8s.io";
/// Much more than the sockets of both sides hold.
const FLOOD: usize = 32 << 20;

fn piece(index: usize) -> AgentFrame {
    trace((index * MAX_TRACE) as u64, vec![index as u8; MAX_TRACE])
}

/// Writes the flood until the other side stops reading; how many pieces were taken.
async fn flood(peer: &mut impl Peer) -> usize {
    let mut index = 0;
    while index < FLOOD / MAX_TRACE
        && timeout(Duration::from_millis(300), peer.stdout([piece(index)])).await.is_ok()
    {
        index += 1;
    }
    index
}

async fn pings_are_answered_up_to_the_read_ahead(session: &mut Session, peer: &mut impl Peer) {
    let all = READ_AHEAD / MAX_TRACE - 1;
    for index in 0..all {
        peer.stdout([piece(index)]).await;
    }
    // Nobody takes anything, and still:
    peer.ping().await;
    for index in 0..all {
        let mut got = 0;
        while got < MAX_TRACE {
            let Ok(AgentFrame::Trace { offset, bytes }) = session.next().await else { panic!() };
            assert_eq!(offset.0, (index * MAX_TRACE + got) as u64);
            got += bytes.len();
        }
    }
}

#[tokio::test]
async fn pings_are_answered_while_nobody_reads_the_session() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket(V5, patient()).await;
    pings_are_answered_up_to_the_read_ahead(&mut session, &mut peer).await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    pings_are_answered_up_to_the_read_ahead(&mut session, &mut peer).await;
}

#[tokio::test]
async fn a_slow_consumer_stops_the_sender_and_loses_nothing() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket(V5, patient()).await;
    let taken = flood(&mut peer).await;
    assert!(taken < FLOOD / MAX_TRACE, "the session swallowed everything");
    // The write that was given up on is still in the peer's buffer; `finish` sends it first.
    let ending = async {
        peer.output(3, SUCCESS).await;
        peer.finish().await;
    };
    let ((frames, end), ()) = tokio::join!(drain(&mut session), ending);
    assert_eq!(joined(&frames).len(), (taken + 1) * MAX_TRACE);
    assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
}

/// A kubelet (1.36.2) drops the connection when it is sent a window update.
#[tokio::test]
async fn spdy_sends_no_window_updates_however_much_it_reads() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    let writing = async {
        for index in 0..32 {
            peer.stdout([piece(index)]).await;
        }
        peer.output(3, SUCCESS).await;
        peer.finish().await;
        assert_eq!(peer.next().await, None);
    };
    let reading = async {
        let (frames, end) = drain(&mut session).await;
        drop(session);
        assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
        joined(&frames).len()
    };
    let ((), read) = tokio::join!(writing, reading);
    assert_eq!(read, 32 * MAX_TRACE);
}

#[tokio::test]
async fn both_sides_may_send_at_once_without_reading_first() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket(V5, patient()).await;
    let sender = tokio::spawn(async move {
        // Never reads until all is written.
        for index in 0..FLOOD / MAX_TRACE {
            peer.stdout([piece(index)]).await;
        }
        let mut input = 0;
        peer.output(3, SUCCESS).await;
        while let Some(bytes) = peer.read().await {
            input += bytes.len();
        }
        input
    });
    // The same from our side: input first, more than any socket holds.
    let filler = ManagerFrame::Beat(Beat::default());
    for _ in 0..10_000 {
        session.send(filler.clone()).await.unwrap();
    }
    session.end_input();
    let mut got = 0;
    while let Ok(frame) = session.next().await {
        let AgentFrame::Trace { bytes, .. } = frame else { panic!("{frame:?}") };
        got += bytes.len();
        if got == FLOOD {
            break;
        }
    }
    assert_eq!(got, FLOOD);
    assert_eq!(sender.await.unwrap(), 10_000 * 7);
}

#[tokio::test]
async fn sending_to_somebody_who_does_not_read_is_bounded_and_can_be_given_up() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket(V5, patient()).await;
    let beat = ManagerFrame::Beat(Beat { length: Some(runner_core::ids::Offset(u64::MAX)) });
    let mut sent = 0_usize;
    while timeout(Duration::from_millis(200), session.send(beat.clone())).await.is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "nothing bounds it");
    }
    // The one that was given up on was not sent in part: all that arrive are whole.
    session.end_input();
    let mut arrived = 0;
    while let Some(frame) = peer.frame().await {
        assert_eq!(frame, beat);
        arrived += 1;
    }
    assert_eq!(arrived, sent);
}

#[tokio::test]
async fn next_can_be_given_up_at_any_time() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket(V5, patient()).await;
    let whole = super::fake::wire([trace(0, "first"), AgentFrame::Beat(Beat::default())]);
    let mut got = Vec::new();
    for byte in whole {
        peer.output(1, &[byte]).await;
        // Either the byte completes something, or the wait is given up.
        while let Ok(frame) = timeout(Duration::from_millis(5), session.next()).await {
            got.push(frame.unwrap());
        }
    }
    assert_eq!(joined(&got), Bytes::from_static(b"first"));
    assert_eq!(got.last(), Some(&AgentFrame::Beat(Beat::default())));
}
