//! Trace bytes from a websocket (or SPDY) to the chunks of a PATCH body, beside a plain read of the
//! same bytes from the same kind of socket.
//!
//! The server is a thread that writes as fast as it can and is part of what is measured, so the plain
//! read is the ceiling of this machine.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use runner_core::ids::Offset;
use runner_core::wire::{AgentCodec, AgentFrame};
use runner_k8s::stream::spdy::frame::{Frame, encode};
use runner_k8s::stream::{ExecTarget, Patience, Session, Transport};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::codec::Encoder;

/// Read in one iteration.
const BATCH: usize = 16 << 20;
/// What becomes one request to the source.
const PATCH: usize = 1 << 20;

fn frame(payload: usize) -> Bytes {
    let mut frame = BytesMut::new();
    let bytes = Bytes::from(vec![b'x'; payload]);
    AgentCodec
        .encode(AgentFrame::Trace { offset: Offset(0), bytes }, &mut frame)
        .expect("a payload below the limit");
    frame.freeze()
}

/// About a megabyte of messages, each with one frame.
fn messages(transport: Transport, payload: usize) -> Vec<u8> {
    let frame = frame(payload);
    let mut one = BytesMut::new();
    match transport {
        Transport::Spdy => encode(&Frame::Data { stream: 5, bytes: frame, fin: false }, &mut one),
        Transport::WebSocket => {
            let length = 1 + frame.len();
            one.extend_from_slice(&[0x82]);
            match u16::try_from(length) {
                Ok(length @ 0..126) => one.extend_from_slice(&[length as u8]),
                Ok(length) => {
                    one.extend_from_slice(&[126]);
                    one.extend_from_slice(&length.to_be_bytes());
                }
                Err(_) => {
                    one.extend_from_slice(&[127]);
                    one.extend_from_slice(&(length as u64).to_be_bytes());
                }
            }
            one.extend_from_slice(&[1]);
            one.extend_from_slice(&frame);
        }
    }
    one.repeat((1 << 20) / one.len() + 1)
}

/// Answers the upgrade, then floods until the client goes away.
fn serve(mut socket: TcpStream, payload: usize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let mut answer = BytesMut::from("HTTP/1.1 101 X\r\nConnection: Upgrade\r\n");
    let transport = match key {
        Some(key) => {
            let accept = derive_accept_key(key.as_bytes());
            let lines = format!(
                "Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\
                 Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
            );
            answer.extend_from_slice(lines.as_bytes());
            Transport::WebSocket
        }
        None => {
            answer.extend_from_slice(
                b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n",
            );
            Transport::Spdy
        }
    };
    socket.write_all(&answer)?;
    let messages = messages(transport, payload);
    loop {
        socket.write_all(&messages)?;
    }
}

fn server(payload: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    // Ends with the process; a connection's thread ends when the client goes away.
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(socket, payload));
        }
    });
    address
}

async fn session(address: SocketAddr, transport: Transport) -> Session {
    let uri = format!("http://{address}").parse().expect("a URL");
    let client = kube::Client::try_from(kube::Config::new(uri)).expect("a client");
    let target = ExecTarget {
        namespace: "ci".into(),
        pod: "job".into(),
        container: "helper".into(),
        command: vec!["relay".into()],
    };
    Session::open(&client, &target, transport, Patience::default()).await.expect("a session")
}

/// Gathers chunks to bodies as the log path does: by reference.
async fn bodies(session: &mut Session) {
    let (mut body, mut length, mut total) = (Vec::new(), 0, 0);
    while total < BATCH {
        let Ok(AgentFrame::Trace { bytes, .. }) = session.next().await else {
            panic!("only trace frames are sent");
        };
        total += bytes.len();
        length += bytes.len();
        body.push(bytes);
        if length >= PATCH {
            black_box(&body);
            body.clear();
            length = 0;
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Bytes(BATCH as u64)).sample_size(20);
    group.measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    let runtime = runtime();
    for payload in [120, 4096, 32 * 1024 - 14, 64 * 1024] {
        let address = server(payload);
        group.bench_function(BenchmarkId::new("raw read", payload), |bencher| {
            let mut socket = runtime.block_on(async {
                use tokio::io::AsyncWriteExt;
                let mut socket = tokio::net::TcpStream::connect(address).await.expect("connect");
                socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("write");
                socket
            });
            let mut buffer = vec![0; 64 * 1024];
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut total = 0;
                    while total < BATCH {
                        total += socket.read(&mut buffer).await.expect("read");
                        black_box(&buffer);
                    }
                });
            });
        });
        for transport in [Transport::WebSocket, Transport::Spdy] {
            group.bench_function(BenchmarkId::new(transport.to_string(), payload), |bencher| {
                let mut session = runtime.block_on(session(address, transport));
                bencher.iter(|| runtime.block_on(bodies(&mut session)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
