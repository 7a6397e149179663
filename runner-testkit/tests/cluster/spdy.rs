//! Exec over SPDY, by a client that is written from the protocol and shares nothing with the server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use runner_testkit::cluster::Isolation;
use serde_json::Value;

use crate::support::{PATIENCE, Sim, exec_path, pod, settings};

/// A SPDY client that sends its headers uncompressed inside zlib and with no dictionary, which
/// every decoder must take, and ignores the headers of replies.
struct Client {
    tcp: TcpStream,
}

struct Frame {
    stream: Option<u32>,
    kind: u16,
    fin: bool,
    bytes: Vec<u8>,
}

impl Client {
    fn open(sim: &Sim, token: &str, path: &str) -> Result<Client, (u16, String)> {
        let mut tcp = TcpStream::connect(sim.cluster.address()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let path = sim.path(path);
        write!(tcp, "POST {path} HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let code: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if code != 101 {
            return Err((code, head));
        }
        assert!(
            head.to_lowercase().contains("x-stream-protocol-version: v4.channel.k8s.io"),
            "{head}"
        );
        Ok(Client { tcp })
    }

    fn control(&mut self, kind: u16, payload: &[u8]) {
        let mut frame = vec![0x80, 3];
        frame.extend(kind.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        self.tcp.write_all(&frame).unwrap();
    }

    fn data(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        let mut frame = stream.to_be_bytes().to_vec();
        let length = u32::try_from(bytes.len()).unwrap() | if fin { 1 << 24 } else { 0 };
        frame.extend(length.to_be_bytes());
        frame.extend(bytes);
        self.tcp.write_all(&frame).unwrap();
    }

    /// Opens the streams error, stdin, stdout, stderr as 1, 3, 5, 7.
    fn streams(&mut self) {
        let mut zlib = flate2::Compress::new(flate2::Compression::none(), true);
        for (stream, kind) in [(1_u32, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            let mut plain = 1_u32.to_be_bytes().to_vec();
            for text in ["streamtype", kind] {
                plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                plain.extend(text.as_bytes());
            }
            let mut payload = stream.to_be_bytes().to_vec();
            payload.extend([0; 6]);
            let mut block = Vec::with_capacity(256);
            zlib.compress_vec(&plain, &mut block, flate2::FlushCompress::Sync).unwrap();
            payload.extend(block);
            self.control(1, &payload);
        }
    }

    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 8];
        self.tcp.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let mut bytes = vec![0; length];
        self.tcp.read_exact(&mut bytes).ok()?;
        let control = head[0] & 0x80 != 0;
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        Some(Frame {
            stream: (!control).then_some(first),
            kind: u16::from_be_bytes([head[2], head[3]]),
            fin: head[4] & 1 != 0,
            bytes,
        })
    }

    /// Everything until the connection ends: stdout, stderr, status, and the replies and pings seen.
    fn read(&mut self) -> (Vec<u8>, Vec<u8>, Option<Value>, Vec<u16>) {
        let (mut out, mut err, mut status, mut control) =
            (Vec::new(), Vec::new(), None, Vec::new());
        while let Some(frame) = self.next() {
            match frame.stream {
                Some(5) => out.extend(frame.bytes),
                Some(7) => err.extend(frame.bytes),
                Some(1) => {
                    assert!(frame.fin);
                    status = Some(serde_json::from_slice(&frame.bytes).unwrap());
                }
                Some(other) => panic!("stream {other}"),
                None => control.push(frame.kind),
            }
        }
        (out, err, status, control)
    }
}

async fn idle(isolation: Isolation) -> Sim {
    let sim = Sim::start(settings(isolation));
    sim.create(&pod("p", "sleep 1000")).await;
    sim.until_running("p").await;
    sim
}

#[rstest::rstest]
#[tokio::test]
async fn k8s_88_a_role_with_only_create_runs_programs_over_spdy(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = idle(isolation).await;
    let token = sim.cluster.token().to_owned();
    let path = exec_path("p", "main", &["sh", "-c", "cat; echo err >&2; exit 7"]);
    let mut client = Client::open(&sim, &token, &path).unwrap();
    client.streams();
    client.control(6, &9_u32.to_be_bytes());
    client.data(3, b"hello ", false);
    client.data(3, b"world", true);
    let (out, err, status, control) = client.read();
    assert_eq!((out.as_slice(), err.as_slice()), (&b"hello world"[..], &b"err\n"[..]));
    let status = status.unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "7");
    assert_eq!(control, [2, 2, 2, 2, 6], "four replies and the ping");
}

#[tokio::test]
async fn much_output_arrives_whole_over_spdy_and_breaks_where_told() {
    let sim = idle(Isolation::Auto).await;
    let token = sim.cluster.token().to_owned();
    let path = exec_path("p", "main", &["sh", "-c", "seq 1 200000"]);
    let mut client = Client::open(&sim, &token, &path).unwrap();
    client.streams();
    let (out, _, status, _) = client.read();
    assert_eq!(status.unwrap()["status"], "Success");
    assert_eq!(out.len(), 1_288_895);
    assert!(out.ends_with(b"\n199999\n200000\n"));
    sim.cluster.drop_stream_after(10_000);
    let mut client = Client::open(&sim, &token, &path).unwrap();
    client.streams();
    let (out, _, status, _) = client.read();
    assert!(status.is_none() && out.len() < 10_000);
}

#[tokio::test]
async fn nobody_without_create_comes_in() {
    let sim = idle(Isolation::Plain).await;
    let token = sim.cluster.add_service_account("ci", "none", Vec::new());
    let path = exec_path("p", "main", &["true"]);
    let (code, _) = Client::open(&sim, &token, &path).err().unwrap();
    assert_eq!(code, 403);
    // A half-open client holds nothing up.
    let admin = sim.cluster.admin_token().to_owned();
    let client = Client::open(&sim, &admin, &path).unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_millis(10)).await;
    sim.run(&pod("q", "true")).await;
}
