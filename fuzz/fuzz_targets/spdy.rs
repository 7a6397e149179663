//! What an API server may send by SPDY: any bytes are frames or an error, however they are cut, and no
//! frame makes the reader wait for more than a control frame's length.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use runner_k8s::stream::spdy::frame::{Decoder, Frame, FrameError, MAX_CONTROL, encode};
use runner_k8s::stream::spdy::headers;

/// All frames of these pieces, and the error at their end.
fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(buffer.len() < MAX_CONTROL + 8, "{} bytes wait", buffer.len());
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, wire)) = data.split_first() else { return };
    // Bytes and end marks of a stream in their order, which is all that an exec makes of them.
    let flat = |(frames, error): (Vec<Frame>, Option<FrameError>)| {
        let mut flat = BytesMut::new();
        for frame in frames {
            match frame {
                Frame::Data { stream, bytes, fin } => {
                    for byte in bytes {
                        let bytes = Bytes::copy_from_slice(&[byte]);
                        encode(&Frame::Data { stream, bytes, fin: false }, &mut flat);
                    }
                    if fin {
                        encode(&Frame::Data { stream, bytes: Bytes::new(), fin }, &mut flat);
                    }
                }
                other => encode(&other, &mut flat),
            }
        }
        (flat, error)
    };
    let whole = decode(&[wire]);
    let mut names = headers::Decoder::default();
    for frame in &whole.0 {
        if let Frame::SynReply { headers, .. } | Frame::Headers { headers, .. } = frame
            && names.decode(headers).is_err()
        {
            break;
        }
    }
    let pieces: Vec<_> = wire.chunks(usize::from(cut).max(1)).collect();
    assert_eq!(flat(decode(&pieces)), flat(whole), "cut into {cut}");
});
