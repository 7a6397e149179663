//! What an API server may send by websocket: any bytes are frames or an error, however they are cut, and
//! nothing waits in the reader but a header or a control frame.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use runner_k8s::stream::websocket::frame::{Decoder, Frame, FrameError, MAX_CONTROL, MAX_MESSAGE};

/// What all frames of these pieces say: messages whole, as far as they have come, and control frames
/// in their order.
#[derive(Debug, Default, PartialEq)]
struct Said {
    messages: Vec<(Vec<u8>, bool)>,
    control: Vec<(usize, Frame)>,
    error: Option<FrameError>,
}

fn decode(pieces: &[&[u8]]) -> Said {
    let (mut decoder, mut said, mut open) = (Decoder::default(), Said::default(), false);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Err(error) => {
                    said.error = Some(error);
                    return said;
                }
                Ok(Some(Frame::Data { bytes, part })) => {
                    assert_eq!(part.first, !open);
                    if part.first {
                        said.messages.push(Default::default());
                    }
                    let (message, whole) = said.messages.last_mut().expect("one has begun");
                    message.extend_from_slice(&bytes);
                    *whole = part.last;
                    open = !part.last;
                    assert!(message.len() <= MAX_MESSAGE);
                }
                Ok(Some(control)) => {
                    if let Frame::Ping(bytes) | Frame::Pong(bytes) = &control {
                        assert!(bytes.len() <= MAX_CONTROL);
                    }
                    // Where it stands: behind so many bytes of messages.
                    let behind = said.messages.iter().map(|(message, _)| message.len()).sum();
                    said.control.push((behind, control));
                }
            }
        }
        assert!(input.is_empty());
    }
    said
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, wire)) = data.split_first() else { return };
    let pieces: Vec<_> = wire.chunks(usize::from(cut).max(1)).collect();
    assert_eq!(decode(&pieces), decode(&[wire]), "cut into {cut}");
});
