//! Both ends of the wire: any bytes are frames or an error, never a panic; frames that were read
//! come out the same after being written; cutting the bytes changes nothing.

#![no_main]

use std::fmt::Debug;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use runner_core::wire::{AgentCodec, FrameError, ManagerCodec};
use tokio_util::codec::{Decoder, Encoder};

type Frames<F> = (Vec<F>, bool);

/// All frames of these pieces, and whether they end in an error.
fn decode<C, F>(codec: &mut C, pieces: &[&[u8]]) -> Frames<F>
where
    C: Decoder<Item = F, Error = FrameError>,
{
    let (mut frames, mut buffer) = (Vec::new(), BytesMut::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn check<D, E, F>(mut decoder: D, mut encoder: E, cut: usize, wire: &[u8])
where
    D: Decoder<Item = F, Error = FrameError>,
    E: Encoder<F, Error = FrameError>,
    F: Clone + Debug + PartialEq,
{
    let whole = decode(&mut decoder, &[wire]);
    let pieces: Vec<_> = wire.chunks(cut.max(1)).collect();
    assert_eq!(decode(&mut decoder, &pieces), whole, "cut into {cut}");
    let mut again = BytesMut::new();
    for frame in &whole.0 {
        // JSON grows where a short spelling was read and the full one is written.
        if encoder.encode(frame.clone(), &mut again).is_err() {
            return;
        }
    }
    assert_eq!(decode(&mut decoder, &[&again]), (whole.0, false));
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, wire)) = data.split_first() else { return };
    check(ManagerCodec, AgentCodec, usize::from(cut), wire);
    check(AgentCodec, ManagerCodec, usize::from(cut), wire);
});
