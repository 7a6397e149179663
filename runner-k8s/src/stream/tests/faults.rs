//! What a broken, lying or strange connection comes to. Never a success.

use bytes::{Bytes, BytesMut};
use rstest::rstest;
use runner_core::wire::FrameError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fake::{
    Fake, Peer, SPDY_UPGRADE, SUCCESS, drain, exit_status, joined, patient, target, trace, wire,
};
use crate::stream::spdy::frame::{Frame, encode};
use crate::stream::{LostError, Session, SessionEnd, Transport};

/// What a websocket server sends: a message that is shorter than 64 KiB, without a mask.
fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

fn channel(channel: u8, payload: &[u8]) -> Vec<u8> {
    message(2, &[&[channel], payload].concat())
}

/// All that one server sends, and where in it the exit status is complete.
struct Script {
    bytes: Vec<u8>,
    status_at: usize,
}

fn websocket_script(upgrade: &str) -> Script {
    let mut bytes = upgrade.as_bytes().to_vec();
    bytes.extend(channel(1, b""));
    bytes.extend(channel(1, &wire([trace(0, "hello ")])));
    bytes.extend(message(9, b"ping"));
    bytes.extend(channel(1, &wire([trace(6, "world")])));
    bytes.extend(channel(3, exit_status(1).as_bytes()));
    let status_at = bytes.len();
    bytes.extend(message(8, &[]));
    Script { bytes, status_at }
}

fn spdy_script() -> Script {
    let mut bytes = BytesMut::from(SPDY_UPGRADE);
    for stream in [1, 3, 5, 7] {
        encode(&Frame::SynReply { stream, fin: false, headers: Bytes::new() }, &mut bytes);
    }
    let mut data = |stream, payload: &[u8], fin| {
        let payload = Bytes::copy_from_slice(payload);
        encode(&Frame::Data { stream, bytes: payload, fin }, &mut bytes);
        bytes.len()
    };
    data(5, &wire([trace(0, "hello ")]), false);
    data(5, &wire([trace(6, "world")]), false);
    let status_at = data(1, exit_status(1).as_bytes(), true);
    data(5, b"", true);
    data(7, b"", true);
    Script { bytes: bytes.to_vec(), status_at }
}

#[rstest]
#[tokio::test]
async fn a_connection_that_drops_at_any_byte_is_never_a_clean_end(
    #[values(Transport::WebSocket, Transport::Spdy)] transport: Transport,
) {
    let fake = Fake::new().await;
    let target = target();
    let mut opened = 0;
    for cut in 0.. {
        let serve = async {
            let (mut socket, head) = fake.accept().await;
            let script = match transport {
                Transport::WebSocket => websocket_script(&head.websocket("v5.channel.k8s.io")),
                Transport::Spdy => spdy_script(),
            };
            socket.write_all(&script.bytes[..cut]).await.unwrap();
            socket.shutdown().await.unwrap();
            // Read what the client says, or its bytes would turn our farewell into a reset.
            tokio::spawn(async move { socket.read_to_end(&mut Vec::new()).await });
            script
        };
        let (session, script) =
            tokio::join!(Session::open(&fake.client, &target, transport, patient()), serve);
        let head = script.bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let Ok(mut session) = session else {
            assert!(cut < head, "not opened at byte {cut}");
            continue;
        };
        assert!(cut >= head, "opened at byte {cut}");
        opened += 1;
        let (frames, end) = drain(&mut session).await;
        let trace = joined(&frames);
        assert!(b"hello world".starts_with(&trace), "at byte {cut}");
        if cut >= script.status_at {
            assert_eq!(trace, b"hello world", "at byte {cut}");
            assert!(matches!(end, SessionEnd::Exited { code: 1, .. }), "at byte {cut}: {end:?}");
        } else {
            assert!(matches!(end, SessionEnd::Lost(_)), "at byte {cut}: {end:?}");
        }
        if cut == script.bytes.len() {
            break;
        }
    }
    assert!(opened > 200, "{opened}");
}

#[tokio::test]
async fn a_success_without_a_verdict_is_only_the_relays_success() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
    peer.output(3, SUCCESS).await;
    peer.finish().await;
    let (frames, end) = drain(&mut session).await;
    assert_eq!(frames, []);
    assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
}

#[tokio::test]
async fn a_close_without_a_status_has_its_own_name() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
    peer.output(2, b"panic").await;
    peer.finish().await;
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::ClosedWithoutStatus { .. }), "{end:?}");
    assert_eq!(end.to_string(), "the stream was closed without an exit status: panic");

    let (mut session, mut peer) = fake.spdy(patient()).await;
    peer.finish().await;
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::ClosedWithoutStatus { .. }), "{end:?}");
}

#[tokio::test]
async fn a_half_closed_connection_is_lost_although_its_other_half_lives() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
    peer.socket.get_mut().shutdown().await.unwrap();
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::Lost(_)), "{end:?}");

    let (mut session, mut peer) = fake.spdy(patient()).await;
    peer.socket.shutdown().await.unwrap();
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::Lost(_)), "{end:?}");
}

#[rstest]
#[case::unreadable(b"{\"status\":\"Succ", "lost")]
#[case::no_status(b"{}", "lost")]
#[case::no_such_program(br#"{"status":"Failure","message":"no such file","code":500}"#, "refused")]
#[tokio::test]
async fn a_strange_exit_status_is_no_exit(
    #[case] status: &[u8],
    #[case] expected: &str,
    #[values(Transport::WebSocket, Transport::Spdy)] transport: Transport,
) {
    async fn end(session: &mut Session, peer: &mut impl Peer, status: &[u8]) -> SessionEnd {
        peer.output(3, status).await;
        peer.finish().await;
        drain(session).await.1
    }
    let fake = Fake::new().await;
    let end = match transport {
        Transport::WebSocket => {
            let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
            end(&mut session, &mut peer, status).await
        }
        Transport::Spdy => {
            let (mut session, mut peer) = fake.spdy(patient()).await;
            end(&mut session, &mut peer, status).await
        }
    };
    match (&end, expected) {
        (SessionEnd::Lost(_), "lost") => {}
        (SessionEnd::Refused { status, .. }, "refused") => assert_eq!(status.code, 500),
        _ => panic!("{end:?}"),
    }
}

#[rstest]
#[case::a_message_above_the_limit(&[0x82, 127, 0, 0, 0, 0, 0x7f, 0, 0, 0])]
#[case::a_reserved_opcode(&[0x87, 0])]
#[case::a_masked_message(&[0x82, 0x81, 1, 2, 3, 4, 5])]
#[case::text(&[0x81, 1, b'x'])]
#[case::no_channel(&[0x82, 0])]
#[case::http(&[b'H'; 200])]
#[tokio::test]
async fn what_is_no_exec_websocket_ends_the_session(#[case] bytes: &[u8]) {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
    peer.socket.get_mut().write_all(bytes).await.unwrap();
    let end = drain(&mut session).await.1;
    let SessionEnd::Lost(cause) = &end else { panic!("{end:?}") };
    assert!(matches!(**cause, LostError::Transport { .. }), "{cause:?}");
}

#[rstest]
#[case::a_control_frame_above_the_limit(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff])]
#[case::another_version(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1])]
#[case::an_unknown_stream(&[0, 0, 0, 99, 0, 0, 0, 1, b'x'])]
#[case::a_pushed_stream(&[0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0])]
#[case::an_unhappy_farewell(&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 1])]
#[case::http(b"HTTP/1.1 500 Oops\r\n\r\n")]
#[tokio::test]
async fn what_is_no_exec_by_spdy_ends_the_session(#[case] bytes: &[u8]) {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    peer.socket.write_all(bytes).await.unwrap();
    // For the text, which reads as a data frame of a strange stream, too.
    let end = drain(&mut session).await.1;
    let SessionEnd::Lost(cause) = &end else { panic!("{end:?}") };
    assert!(matches!(**cause, LostError::Transport { .. }), "{cause:?}");
}

#[tokio::test]
async fn a_program_that_is_no_relay_is_a_protocol_error_after_the_frames_before_it() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket("v5.channel.k8s.io", patient()).await;
    peer.stdout([trace(0, "x")]).await;
    peer.output(1, b"OCI runtime exec failed: no such file").await;
    let (frames, end) = drain(&mut session).await;
    assert_eq!(frames, [trace(0, "x")]);
    let SessionEnd::Protocol(cause) = &end else { panic!("{end:?}") };
    assert!(matches!(**cause, FrameError::Length { .. }));
}

#[tokio::test]
async fn a_command_that_closes_its_stdin_is_still_heard() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    peer.write(&Frame::Reset { stream: 3, status: 5 }).await;
    peer.stdout([trace(0, "still here")]).await;
    assert_eq!(session.next().await.unwrap(), trace(0, "still here"));
    peer.output(3, SUCCESS).await;
    peer.finish().await;
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
}

#[tokio::test]
async fn an_exit_status_in_two_parts_is_joined() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    let status = exit_status(7);
    peer.output(3, &status.as_bytes()[..20]).await;
    peer.output(3, &status.as_bytes()[20..]).await;
    peer.finish().await;
    let end = drain(&mut session).await.1;
    assert!(matches!(end, SessionEnd::Exited { code: 7, .. }), "{end:?}");
}
