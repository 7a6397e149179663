//! What servers send, in the order of Autobahn's chapters; then laws.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rstest::rstest;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

use super::{Decoder, Frame, FrameError, MAX_MESSAGE, Part, Said, encode};

const WHOLE: Part = Part { first: true, last: true };

/// Frames of a message that came in one frame and one piece.
fn data(bytes: &'static [u8]) -> Frame {
    Frame::Data { bytes: Bytes::from_static(bytes), part: WHOLE }
}

/// A message as it comes out of any division: its bytes so far, and whether that is all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(Vec<u8>, bool),
    Control(Frame),
}

fn read(pieces: &[&[u8]]) -> (Vec<Seen>, Option<FrameError>) {
    let (mut decoder, mut seen, mut open) = (Decoder::default(), Vec::new(), None);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
                Ok(Some(Frame::Data { bytes, part })) => {
                    assert_eq!(part.first, open.is_none());
                    let at = *open.get_or_insert_with(|| {
                        seen.push(Seen::Message(Vec::new(), false));
                        seen.len() - 1
                    });
                    if part.last {
                        open = None;
                    }
                    let Seen::Message(all, done) = &mut seen[at] else { unreachable!() };
                    all.extend_from_slice(&bytes);
                    *done = part.last;
                }
                Ok(Some(control)) => seen.push(Seen::Control(control)),
            }
        }
        assert!(input.is_empty());
    }
    (seen, None)
}

fn whole(bytes: impl Into<Vec<u8>>) -> Seen {
    Seen::Message(bytes.into(), true)
}

fn ping(bytes: &'static [u8]) -> Seen {
    Seen::Control(Frame::Ping(Bytes::from_static(bytes)))
}

fn pong(bytes: &'static [u8]) -> Seen {
    Seen::Control(Frame::Pong(Bytes::from_static(bytes)))
}

fn close(code: Option<u16>) -> Seen {
    Seen::Control(Frame::Close(code))
}

fn long(head: &[u8], length: usize) -> Vec<u8> {
    [head, &vec![7; length]].concat()
}

#[rstest]
#[case::c1_an_empty_message(&[0x82, 0], &[whole([])])]
#[case::c1_a_short_message(&[0x82, 2, 1, 2], &[whole([1, 2])])]
#[case::c1_125_bytes(&long(&[0x82, 125], 125), &[whole([7; 125])])]
#[case::c1_126_bytes(&long(&[0x82, 126, 0, 126], 126), &[whole([7; 126])])]
#[case::c1_65535_bytes(&long(&[0x82, 126, 255, 255], 65535), &[whole([7; 65535])])]
#[case::c1_65536_bytes(&long(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65536), &[whole([7; 65536])])]
#[case::c1_a_longer_length_than_needed(&[0x82, 126, 0, 1, 9], &[whole([9])])]
#[case::c2_pings(&[0x89, 0, 0x89, 1, b'x'], &[ping(b""), ping(b"x")])]
#[case::c2_125_bytes(&long(&[0x89, 125], 125), &[ping(&[7; 125])])]
#[case::c2_an_unasked_pong(&[0x8a, 1, b'x', 0x89, 0], &[pong(b"x"), ping(b"")])]
#[case::c5_two_fragments(&[2, 1, 1, 0x80, 1, 2], &[whole([1, 2])])]
#[case::c5_a_ping_between(&[2, 1, 1, 0x89, 0, 0x80, 1, 2], &[whole([1, 2]), ping(b"")])]
#[case::c5_many_fragments(&[2, 1, 1, 0, 1, 2, 0, 1, 3, 0x80, 1, 4], &[whole([1, 2, 3, 4])])]
#[case::c6_empty_fragments(&[2, 0, 0, 0, 0x80, 0], &[whole([])])]
#[case::c6_content_in_the_middle(&[2, 0, 0, 1, 5, 0x80, 0], &[whole([5])])]
#[case::c6_two_messages(&[2, 0, 0x80, 1, 5, 0x82, 0], &[whole([5]), whole([])])]
#[case::c7_a_close(&[0x88, 0], &[close(None)])]
#[case::c7_a_code(&[0x88, 2, 3, 232], &[close(Some(1000))])]
#[case::c7_a_reason(&[0x88, 5, 3, 243, b'b', b'a', b'd'], &[close(Some(1011))])]
#[case::c7_the_longest_reason(&long(&[0x88, 125, 15, 160], 123), &[close(Some(4000))])]
fn what_a_server_may_send_is_read(#[case] wire: &[u8], #[case] expected: &[Seen]) {
    assert_eq!(read(&[wire]), (expected.to_vec(), None));
    let bytes: Vec<_> = wire.chunks(1).collect();
    assert_eq!(read(&bytes), (expected.to_vec(), None));
}

#[rstest]
#[case::c2_a_ping_of_126_bytes(&[0x89, 126, 0, 126], FrameError::Control { length: 126 })]
#[case::c3_reserved_bit_1(&[0xc2, 0], FrameError::Reserved)]
#[case::c3_reserved_bit_2(&[0xa2, 0], FrameError::Reserved)]
#[case::c3_reserved_bit_3(&[0x92, 0], FrameError::Reserved)]
#[case::c3_in_a_control_frame(&[0xc9, 0], FrameError::Reserved)]
#[case::c4_opcode_3(&[0x83, 0], FrameError::Opcode(3))]
#[case::c4_opcode_7(&[0x87, 0], FrameError::Opcode(7))]
#[case::c4_opcode_11(&[0x8b, 0], FrameError::Opcode(11))]
#[case::c4_opcode_15(&[0x8f, 0], FrameError::Opcode(15))]
#[case::c5_a_divided_ping(&[9, 0], FrameError::Control { length: 0 })]
#[case::c5_a_divided_close(&[8, 0], FrameError::Control { length: 0 })]
#[case::c5_a_continuation_of_nothing(&[0x80, 0], FrameError::Order)]
#[case::c5_an_open_continuation_of_nothing(&[0, 1, 1], FrameError::Order)]
#[case::c5_a_continuation_after_the_end(&[2, 1, 1, 0x80, 1, 1, 0x80, 1, 1], FrameError::Order)]
#[case::c5_a_message_inside_another(&[2, 1, 1, 0x82, 1, 1], FrameError::Order)]
#[case::c6_text(&[0x81, 1, b'x'], FrameError::Text)]
#[case::c7_half_a_code(&[0x88, 1, 3], FrameError::Close)]
#[case::c7_code_999(&[0x88, 2, 3, 231], FrameError::Close)]
#[case::c7_code_1004(&[0x88, 2, 3, 236], FrameError::Close)]
#[case::c7_code_1005(&[0x88, 2, 3, 237], FrameError::Close)]
#[case::c7_code_1006(&[0x88, 2, 3, 238], FrameError::Close)]
#[case::c7_code_1015(&[0x88, 2, 3, 247], FrameError::Close)]
#[case::c7_code_2999(&[0x88, 2, 11, 183], FrameError::Close)]
#[case::c7_code_5000(&[0x88, 2, 19, 136], FrameError::Close)]
#[case::c7_a_close_of_126_bytes(&[0x88, 126, 0, 126], FrameError::Control { length: 126 })]
#[case::c9_a_message_above_the_limit(
    &[0x82, 127, 0, 0, 0, 0, 0, 64, 0, 1],
    FrameError::TooLong { length: 4 << 20 | 1 }
)]
#[case::c9_a_length_with_its_highest_bit(
    &[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255],
    FrameError::TooLong { length: u64::MAX }
)]
#[case::masked(&[0x82, 0x81, 1, 2, 3, 4, 5], FrameError::Masked)]
#[case::http(b"HTTP/1.1 200 OK\r\n\r\n", FrameError::Reserved)]
fn what_a_server_must_not_send_is_refused(#[case] wire: &[u8], #[case] expected: FrameError) {
    assert_eq!(read(&[wire]).1, Some(expected));
    let bytes: Vec<_> = wire.chunks(1).collect();
    assert_eq!(read(&bytes).1, Some(expected));
}

#[test]
fn a_message_in_many_fragments_has_the_same_limit() {
    let fragment = [&[0, 127, 0, 0, 0, 0, 0, 16, 0, 0][..], &vec![0; 1 << 20]].concat();
    let begin = [2, 1, 0];
    let mut wire = begin.to_vec();
    (0..3).for_each(|_| wire.extend_from_slice(&fragment));
    assert_eq!(read(&[&wire]).1, None);
    wire.extend_from_slice(&fragment);
    let length = MAX_MESSAGE as u64 + 1;
    assert_eq!(read(&[&wire]).1, Some(FrameError::TooLong { length }));
}

#[test]
fn a_payload_is_a_slice_of_what_arrived() {
    let wire = Bytes::from_static(&[0x82, 3, 1, 2, 3, 2, 1, 4, 0x80, 1, 5]);
    let (mut decoder, mut input) = (Decoder::default(), wire.clone());
    for at in [2, 7, 10] {
        match decoder.decode(&mut input) {
            Ok(Some(Frame::Data { bytes, .. })) => {
                assert_eq!(bytes.as_ptr(), wire[at..].as_ptr());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(decoder.decode(&mut input), Ok(None));
    let (mut decoder, mut input) = (Decoder::default(), wire.slice(..4));
    let first = Part { first: true, last: false };
    let bytes = Bytes::from_static(&[1, 2]);
    assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::Data { bytes, part: first })));
    let (bytes, last) = (Bytes::from_static(&[3]), Part { first: false, last: true });
    let mut input = wire.slice(4..5);
    assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::Data { bytes, part: last })));
    assert_eq!(decoder.decode(&mut wire.slice(..5)), Ok(Some(data(&[1, 2, 3]))));
}

/// Written by a library's server: what it takes for frames.
fn server(messages: &[Message]) -> Vec<u8> {
    let mut socket = std::io::Cursor::new(Vec::new());
    let mut server = WebSocketContext::new(Role::Server, None);
    for message in messages {
        server.write(&mut socket, message.clone()).unwrap();
    }
    server.flush(&mut socket).unwrap();
    socket.into_inner()
}

/// Read by a library's server: what it makes of our bytes.
/// What is written to it is lost: a library answers pings while it reads.
struct OneWay<'a>(&'a [u8]);

impl std::io::Read for OneWay<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for OneWay<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn understood(wire: &[u8]) -> Vec<Message> {
    let mut socket = OneWay(wire);
    let mut server = WebSocketContext::new(Role::Server, None);
    std::iter::from_fn(|| server.read(&mut socket).ok()).collect()
}

fn said() -> impl Strategy<Value = Said> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
    prop_oneof![
        (any::<u8>(), bytes(70_000)).prop_map(|(channel, bytes)| Said::Message(channel, bytes)),
        (any::<u8>(), bytes(200)).prop_map(|(channel, bytes)| Said::Message(channel, bytes)),
        Just(Said::Ping),
        bytes(126).prop_map(Said::Pong),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_library_understands_what_is_written(
        all in prop::collection::vec((said(), any::<[u8; 4]>()), 0..6),
    ) {
        let mut wire = BytesMut::new();
        let mut expected = Vec::new();
        for (said, mask) in all {
            encode(&said, mask, &mut wire);
            expected.push(match said {
                Said::Message(channel, bytes) => {
                    Message::Binary([&[channel], &bytes[..]].concat().into())
                }
                Said::Ping => Message::Ping(Bytes::new()),
                Said::Pong(bytes) => Message::Pong(bytes),
                Said::Close => Message::Close(None),
            });
        }
        encode(&Said::Close, [1, 2, 3, 4], &mut wire);
        expected.push(Message::Close(None));
        prop_assert_eq!(understood(&wire), expected);
    }

    #[test]
    fn what_a_library_writes_is_understood_however_it_is_cut(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
        cut in 1usize..600,
    ) {
        let wire = server(&messages.iter().map(|m| Message::Binary(m.clone().into())).collect::<Vec<_>>());
        let pieces: Vec<_> = wire.chunks(cut).collect();
        let expected: Vec<_> = messages.into_iter().map(whole).collect();
        prop_assert_eq!(read(&pieces), (expected, None));
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![Just(0x82), Just(2u8), Just(0x80), 0..6u8, any::<u8>()], 0..60),
        cut in 1usize..20,
    ) {
        let pieces: Vec<_> = bytes.chunks(cut).collect();
        prop_assert_eq!(read(&pieces), read(&[&bytes]));
    }
}
