//! How a stream is opened, and why it is not.

use std::time::Duration;

use rstest::rstest;
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::wire::{Hello, ManagerFrame, WIRE_VERSION};

use super::fake::{Fake, Peer, SPDY_UPGRADE, SpdyPeer, drain, patient, refusal, target, trace};
use crate::stream::{OpenErrorKind, Patience, Session, SessionEnd, Transport, open};

fn hello() -> ManagerFrame {
    ManagerFrame::Hello(Hello {
        version: WIRE_VERSION,
        job: JobId(1),
        epoch: Epoch(1),
        from: Offset(0),
        until: Offset(100),
    })
}

async fn converse(session: &mut Session, peer: &mut impl Peer) {
    session.send(hello()).await.unwrap();
    assert_eq!(peer.frame().await, Some(hello()));
    // As the API server does: each channel begins with an empty message.
    for channel in [1, 2, 3] {
        peer.output(channel, b"").await;
    }
    peer.stdout([trace(0, "line\n")]).await;
    peer.output(2, b"a warning\n").await;
    peer.output(3, super::fake::exit_status(3).as_bytes()).await;
    peer.finish().await;
    let (frames, end) = drain(session).await;
    assert_eq!(frames, [trace(0, "line\n")]);
    match &end {
        SessionEnd::Exited { code: 3, stderr } => assert_eq!(stderr.as_bytes(), b"a warning\n"),
        other => panic!("{other:?}"),
    }
    assert_eq!(end.to_string(), "the relay exited with status 3: a warning");
    // The end stays the end.
    assert!(matches!(session.next().await, Err(SessionEnd::Exited { code: 3, .. })));
    assert!(matches!(session.send(hello()).await, Err(SessionEnd::Exited { code: 3, .. })));
}

#[rstest]
#[case("v5.channel.k8s.io")]
#[case::an_old_kubelet("v4.channel.k8s.io")]
#[tokio::test]
async fn frames_go_both_ways_by_websocket(#[case] protocol: &str) {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.websocket(protocol, patient()).await;
    converse(&mut session, &mut peer).await;
}

#[tokio::test]
async fn frames_go_both_ways_by_spdy() {
    let fake = Fake::new().await;
    let (mut session, mut peer) = fake.spdy(patient()).await;
    converse(&mut session, &mut peer).await;
}

#[tokio::test]
async fn the_websocket_request_is_a_get_that_offers_v5_and_v4() {
    let fake = Fake::new().await;
    let (session, _socket, head) = fake
        .answer(Transport::WebSocket, patient(), async |head| head.websocket("v5.channel.k8s.io"))
        .await;
    session.unwrap();
    assert_eq!(head.line(), format!("GET {} HTTP/1.1", target().path()));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("sec-websocket-version"), Some("13"));
    let offer = head.header("sec-websocket-protocol");
    assert_eq!(offer, Some("v5.channel.k8s.io, v4.channel.k8s.io"));
}

#[tokio::test]
async fn a_role_that_refuses_the_websocket_is_served_by_spdy() {
    let fake = Fake::new().await;
    // Or the second request would come by the same connection.
    let answer = refusal(403, "Forbidden", "Connection: close\r\n");
    let (refused, socket, _) = fake.answer(Transport::WebSocket, patient(), async |_| answer).await;
    drop(socket);
    let error = refused.unwrap_err();
    assert_eq!((error.kind, error.suggests()), (OpenErrorKind::Forbidden, Some(Transport::Spdy)));
    assert_eq!(
        error.to_string(),
        "no websocket stream into ci/job-1/helper: the role does not allow get on pods/exec \
         (403: because)"
    );

    let (session, socket, head) =
        fake.answer(Transport::Spdy, patient(), async |_| SPDY_UPGRADE.to_owned()).await;
    assert_eq!(head.line(), format!("POST {} HTTP/1.1", target().path()));
    assert_eq!(head.header("upgrade"), Some("SPDY/3.1"));
    assert_eq!(head.header("x-stream-protocol-version"), Some("v4.channel.k8s.io"));
    let mut peer = SpdyPeer::new(socket);
    peer.accept_streams().await;
    converse(&mut session.unwrap(), &mut peer).await;
}

#[rstest]
#[case(401, OpenErrorKind::Unauthorized)]
#[case(403, OpenErrorKind::Forbidden)]
#[case(404, OpenErrorKind::NotFound)]
#[case(400, OpenErrorKind::Rejected)]
#[case(429, OpenErrorKind::TooManyRequests)]
#[case(500, OpenErrorKind::Server)]
#[case(503, OpenErrorKind::Server)]
#[tokio::test]
async fn a_refusal_keeps_its_meaning(
    #[case] code: u16,
    #[case] kind: OpenErrorKind,
    #[values(Transport::WebSocket, Transport::Spdy)] transport: Transport,
) {
    let fake = Fake::new().await;
    let answer = refusal(code, "Reason", "Retry-After: 7\r\n");
    let (refused, _socket, _) = fake.answer(transport, patient(), async |_| answer).await;
    let error = refused.unwrap_err();
    assert_eq!((error.kind, error.transport), (kind, transport));
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    let status = error.status.unwrap();
    assert_eq!((status.code, &*status.message, &*status.reason), (code, "because", "Reason"));
}

#[tokio::test]
async fn an_error_that_is_no_status_object_keeps_its_code_and_text() {
    let fake = Fake::new().await;
    let page = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 12\r\n\r\n<html>\x1b[31m\n";
    let (refused, _socket, _) =
        fake.answer(Transport::Spdy, patient(), async |_| page.to_owned()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Server);
    let status = error.status.unwrap();
    assert_eq!((status.code, &*status.message), (502, r"<html>\u{1b}[31m"));
}

#[rstest]
#[case::wrong_key("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x")]
#[case::protocol_that_was_not_offered("v5.channel", "v1.channel")]
#[case::no_protocol("Sec-WebSocket-Protocol", "X-Other")]
#[case::other_upgrade("Upgrade: websocket", "Upgrade: h2c")]
#[case::no_connection_header("Connection: Upgrade", "Connection: close")]
#[tokio::test]
async fn a_wrong_websocket_handshake_is_not_used(#[case] right: &str, #[case] wrong: &str) {
    let fake = Fake::new().await;
    let (refused, _socket, _) = fake
        .answer(Transport::WebSocket, patient(), async |head| {
            let answer = head.websocket("v5.channel.k8s.io");
            assert!(answer.contains(right));
            answer.replace(right, wrong)
        })
        .await;
    let error = refused.unwrap_err();
    assert_eq!((error.kind, error.suggests()), (OpenErrorKind::Upgrade, Some(Transport::Spdy)));
}

#[rstest]
#[case::version("v4.channel", "v2.channel")]
#[case::no_version("X-Stream-Protocol-Version", "X-Other")]
#[case::other_upgrade("Upgrade: SPDY/3.1", "Upgrade: SPDY/2")]
#[tokio::test]
async fn a_wrong_spdy_handshake_is_not_used(#[case] right: &str, #[case] wrong: &str) {
    let fake = Fake::new().await;
    let answer = SPDY_UPGRADE.replace(right, wrong);
    assert_ne!(answer, SPDY_UPGRADE);
    let (refused, _socket, _) = fake.answer(Transport::Spdy, patient(), async |_| answer).await;
    let error = refused.unwrap_err();
    assert_eq!(
        (error.kind, error.suggests()),
        (OpenErrorKind::Upgrade, Some(Transport::WebSocket))
    );
}

#[tokio::test]
async fn an_answer_without_upgrade_suggests_the_other_transport() {
    let fake = Fake::new().await;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (refused, _socket, _) =
        fake.answer(Transport::WebSocket, patient(), async |_| answer.to_owned()).await;
    assert_eq!(refused.unwrap_err().suggests(), Some(Transport::Spdy));
}

#[tokio::test]
async fn no_answer_is_not_waited_for_for_ever() {
    let fake = Fake::new().await;
    let patience = Patience { open: Duration::from_millis(50), ..patient() };
    let refused = Session::open(&fake.client, &target(), Transport::WebSocket, patience).await;
    assert_eq!(refused.unwrap_err().kind, OpenErrorKind::TimedOut);
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_unreachable() {
    let client = {
        let fake = Fake::new().await;
        fake.client.clone()
    };
    let error = open(&client, &target(), Transport::Spdy).await.unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Unreachable);
    assert!(std::error::Error::source(&error).is_some());
}
