//! Streams over SPDY/3.1, as `kubectl` before 1.30 and roles with only `create` use them.
//!
//! The client opens one SPDY stream for each of the program's and names it in a header. Like a real
//! server's library, this one knows no flow control windows.

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::{HeaderMap, HeaderValue, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::super::refusal::Refusal;
use super::super::server::Body;
use super::dictionary::dictionary;
use super::{STDOUT, Session, Stdin, Wanted, feed, offers, switching};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// Longer frames than any client sends; what keeps a bad length from taking all memory.
const MAX_FRAME: usize = 1 << 20;
const PROTOCOL: &str = "v4.channel.k8s.io";

/// Chooses the protocol and answers the upgrade.
pub(super) fn accept(headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
    let offered = offers(headers, "x-stream-protocol-version");
    if !offered.iter().any(|p| p == PROTOCOL) {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts [{PROTOCOL}]"
        );
        return Err(Refusal::text(403, message));
    }
    let mut response = switching("SPDY/3.1");
    let protocol = HeaderValue::from_static(PROTOCOL);
    response.headers_mut().insert("x-stream-protocol-version", protocol);
    Ok(response)
}

/// A frame from the client.
#[derive(Debug)]
enum Frame {
    Open { stream: u32, kind: String },
    Data { stream: u32, bytes: Bytes, fin: bool },
    Reset { stream: u32 },
    Ping(u32),
    Goaway,
    Other,
}

/// Serves one connection to its end.
pub(super) async fn run(upgraded: Upgraded, wanted: Wanted, begin: impl Future<Output = Session>) {
    let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
    let mut decoder = Decompress::new(true);
    let mut encoder = Compress::new(Compression::fast(), true);
    if encoder.set_dictionary(&dictionary()).is_err() {
        return;
    }
    let mut streams: HashMap<String, u32> = HashMap::new();
    let kinds = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", wanted.resize),
    ];
    let expected: Vec<&str> = kinds.iter().filter(|(_, w)| *w).map(|(k, _)| *k).collect();
    // Input that comes before the last stream is open.
    let mut early = Vec::new();
    while !expected.iter().all(|k| streams.contains_key(*k)) {
        match next(&mut read, &mut decoder).await {
            Some(Frame::Open { stream, kind }) => {
                streams.insert(kind, stream);
                let Some(reply) = reply(&mut encoder, stream) else { return };
                if write.write_all(&reply).await.is_err() {
                    return;
                }
            }
            Some(Frame::Ping(id)) => {
                if write.write_all(&ping(id)).await.is_err() {
                    return;
                }
            }
            Some(Frame::Data { stream, bytes, fin }) => early.push((stream, bytes, fin)),
            Some(Frame::Goaway) | None => return,
            Some(Frame::Reset { .. } | Frame::Other) => {}
        }
    }
    let session = begin.await;
    let stdin: Stdin = session.stdin.clone();
    let input = streams.get("stdin").copied();
    // Answers to pings; a client sends one at a time.
    let (pongs, mut asked) = mpsc::channel::<u32>(8);
    let reader = async {
        for (stream, bytes, fin) in early {
            if Some(stream) == input {
                take(&stdin, &bytes, fin).await;
            }
        }
        while let Some(frame) = next(&mut read, &mut decoder).await {
            match frame {
                Frame::Data { stream, bytes, fin } if Some(stream) == input => {
                    take(&stdin, &bytes, fin).await;
                }
                Frame::Reset { stream } if Some(stream) == input => feed(&stdin, None).await,
                Frame::Ping(id) if pongs.send(id).await.is_err() => return,
                Frame::Goaway => return,
                _ => {}
            }
        }
    };
    let writer = async {
        let mut session = session;
        let id = |kind: &str| streams.get(kind).copied().unwrap_or(0);
        loop {
            let frame = tokio::select! {
                output = session.output.recv() => match output {
                    Some((channel, bytes)) => {
                        let kind = if channel == STDOUT { "stdout" } else { "stderr" };
                        data(id(kind), &bytes, false)
                    }
                    None => break,
                },
                Some(asked) = asked.recv() => ping(asked),
            };
            if write.write_all(&frame).await.is_err() {
                return;
            }
        }
        let Ok(status) = session.status.await else { return };
        let mut last = data(id("error"), status.as_bytes(), true);
        for kind in ["stdout", "stderr"].iter().filter(|k| streams.contains_key(**k)) {
            last.unsplit(data(id(kind), b"", true));
        }
        if write.write_all(&last).await.is_ok() {
            // The client may be gone already.
            drop(write.shutdown().await);
        }
    };
    tokio::select! {
        () = writer => {}
        () = reader => {}
    }
    feed(&stdin, None).await;
}

async fn take(stdin: &Stdin, bytes: &[u8], fin: bool) {
    if !bytes.is_empty() {
        feed(stdin, Some(bytes)).await;
    }
    if fin {
        feed(stdin, None).await;
    }
}

/// The next frame; `None` when the connection ends or makes no sense any more.
async fn next(read: &mut (impl AsyncRead + Unpin), decoder: &mut Decompress) -> Option<Frame> {
    let mut head = [0; 8];
    read.read_exact(&mut head).await.ok()?;
    let mut head = &head[..];
    let (first, second) = (head.get_u32(), head.get_u32());
    let (flags, length) = ((second >> 24) as u8, (second & 0xff_ffff) as usize);
    if length > MAX_FRAME {
        return None;
    }
    let mut bytes = vec![0; length];
    read.read_exact(&mut bytes).await.ok()?;
    let mut bytes = Bytes::from(bytes);
    let fin = flags & FIN != 0;
    if first >> 31 == 0 {
        return Some(Frame::Data { stream: first, bytes, fin });
    }
    let frame = match (first & 0xffff) as u16 {
        SYN_STREAM => {
            let stream = bytes.try_get_u32().ok()?;
            if bytes.len() < 6 {
                return None;
            }
            // Associated stream, priority, slot.
            bytes.advance(6);
            let headers = headers(decoder, &bytes)?;
            let kind = headers.into_iter().find(|(k, _)| k.eq_ignore_ascii_case("streamtype"))?.1;
            Frame::Open { stream, kind }
        }
        RST_STREAM => Frame::Reset { stream: bytes.try_get_u32().ok()? },
        PING => Frame::Ping(bytes.try_get_u32().ok()?),
        GOAWAY => Frame::Goaway,
        _ => Frame::Other,
    };
    Some(frame)
}

fn headers(decoder: &mut Decompress, block: &[u8]) -> Option<Vec<(String, String)>> {
    let mut plain = Vec::with_capacity(16 << 10);
    let begin = decoder.total_in();
    loop {
        let used = usize::try_from(decoder.total_in() - begin).ok()?;
        match decoder.decompress_vec(&block[used..], &mut plain, FlushDecompress::Sync) {
            Ok(_) => break,
            Err(error) if error.needs_dictionary().is_some() => {
                decoder.set_dictionary(&dictionary()).ok()?;
            }
            Err(_) => return None,
        }
    }
    let mut plain = &plain[..];
    let count = plain.try_get_u32().ok()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let mut text = || {
            let length = plain.try_get_u32().ok()? as usize;
            let (text, rest) = plain.split_at_checked(length)?;
            plain = rest;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        headers.push((text()?, text()?));
    }
    Some(headers)
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u16(0x8000 | 3);
    frame.put_u16(kind);
    frame.put_u8(flags);
    frame.put_uint(payload.len() as u64, 3);
    frame.put_slice(payload);
    frame
}

fn ping(id: u32) -> BytesMut {
    control(PING, 0, &id.to_be_bytes())
}

fn reply(encoder: &mut Compress, stream: u32) -> Option<BytesMut> {
    let mut payload = stream.to_be_bytes().to_vec();
    // Compresses "no headers" behind the stream's number.
    payload.reserve(128);
    encoder.compress_vec(&0_u32.to_be_bytes(), &mut payload, FlushCompress::Sync).ok()?;
    Some(control(SYN_REPLY, 0, &payload))
}

fn data(stream: u32, bytes: &[u8], fin: bool) -> BytesMut {
    let mut frame = BytesMut::with_capacity(8 + bytes.len());
    frame.put_u32(stream);
    frame.put_u8(if fin { FIN } else { 0 });
    frame.put_uint(bytes.len() as u64, 3);
    frame.put_slice(bytes);
    frame
}
