//! The link between helper and build, whose build end a job may try to speak for, and the frames of
//! terminals: any bytes are frames or an error, cutting them changes nothing, and no frame is longer
//! than it may be.

#![no_main]

use std::fmt::Debug;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use runner_agent::link::{FromServe, LinkCodec, Piece, ToServe};
use runner_core::wire::TerminalCodec;
use tokio_util::codec::Decoder;

/// All frames of these pieces as text, and whether they end in an error.
fn decode<C>(codec: &mut C, pieces: &[&[u8]]) -> (Vec<String>, bool)
where
    C: Decoder,
    C::Item: Debug,
{
    let (mut frames, mut buffer) = (Vec::new(), BytesMut::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(format!("{frame:?}")),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        assert!(buffer.capacity() < 4 << 20, "{} bytes are waited for", buffer.capacity());
    }
    (frames, false)
}

fn check<C>(make: impl Fn() -> C, cut: usize, wire: &[u8])
where
    C: Decoder,
    C::Item: Debug,
{
    let whole = decode(&mut make(), &[wire]);
    let pieces: Vec<_> = wire.chunks(cut.max(1)).collect();
    assert_eq!(decode(&mut make(), &pieces), whole, "cut into {cut}");
}

/// What the supervisor says is trusted and may be long (it holds all variables): only its form matters.
fn trusted(wire: &[u8]) {
    let mut buffer = BytesMut::from(wire);
    let length = wire.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
    if length < 1 << 20 {
        let mut codec = LinkCodec::<ToServe>::from_supervisor();
        let _: Result<Option<Piece<ToServe>>, _> = codec.decode(&mut buffer);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, wire)) = data.split_first() else { return };
    check(LinkCodec::<FromServe>::from_serve, usize::from(cut), wire);
    check(|| TerminalCodec, usize::from(cut), wire);
    trusted(wire);
});
