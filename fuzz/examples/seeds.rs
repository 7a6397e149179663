//! Makes the seeds of the corpora that are not text: `cargo run --example seeds` in this directory.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use runner_agent::archive::pack::{Format, pack};
use runner_agent::archive::{Entries, Entry, Level, Origin};
use runner_agent::link::{FromServe, LinkCodec, Piece, RunId, ToServe};
use runner_agent::recorder::Recorder;
use runner_core::ids::{JobId, Offset};
use runner_core::job::Job;
use runner_core::layout;
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::wire::{AgentCodec, AgentFrame, Beat};
use runner_k8s::stream::spdy::frame::{Frame, encode};
use runner_k8s::stream::spdy::headers::Encoder;
use tokio_util::codec::Encoder as _;

/// How a command's end looks.
const STATUS: &[u8] = br#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode",
"details":{"causes":[{"reason":"ExitCode","message":"37"}]}}"#;

fn stdout() -> Bytes {
    let mut out = BytesMut::new();
    let frames = [
        AgentFrame::Trace { offset: Offset(0), bytes: Bytes::from_static(b"hello\n") },
        AgentFrame::Beat(Beat { length: Some(Offset(6)) }),
    ];
    for frame in frames {
        AgentCodec.encode(frame, &mut out).expect("short frames");
    }
    out.freeze()
}

fn spdy() -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut names = Encoder::new().expect("zlib");
    for stream in [1, 3, 5, 7] {
        let headers = names.encode(&[("streamtype", "error")]).expect("zlib");
        encode(&Frame::SynReply { stream, fin: false, headers }, &mut out);
    }
    let status = Bytes::from_static(STATUS);
    for frame in [
        Frame::Data { stream: 5, bytes: stdout(), fin: false },
        Frame::Ping(2),
        Frame::Data { stream: 7, bytes: Bytes::from_static(b"warning"), fin: true },
        Frame::WindowUpdate { stream: 0, delta: 65536 },
        Frame::Reset { stream: 3, status: 5 },
        Frame::Other(4),
        Frame::Data { stream: 1, bytes: status, fin: true },
        Frame::Data { stream: 5, bytes: Bytes::new(), fin: true },
        Frame::GoAway { last: 7, status: 0 },
    ] {
        encode(&frame, &mut out);
    }
    out.to_vec()
}

fn websocket() -> Vec<u8> {
    let mut out = Vec::new();
    let mut frame = |first: u8, payload: &[u8]| {
        out.push(first);
        match payload.len() {
            short @ 0..126 => out.push(short as u8),
            long => out.extend([&[126][..], &(long as u16).to_be_bytes()].concat()),
        }
        out.extend(payload);
    };
    for channel in [1, 2, 3] {
        frame(0x82, &[channel]);
    }
    frame(0x82, &[&[1], &stdout()[..]].concat());
    frame(0x89, b"are you there?");
    frame(0x8a, b"");
    // A message in three fragments with a ping inside.
    frame(0x02, &[2]);
    frame(0x00, b"warn");
    frame(0x89, b"");
    frame(0x80, b"ing");
    frame(0x82, &[&[3], STATUS].concat());
    frame(0x88, &[3, 232]);
    out
}

/// What the build container's program says of a script.
fn link() -> Vec<u8> {
    let run = RunId { stage: 3, attempt: 1 };
    let mut out = BytesMut::new();
    let hello = FromServe::Hello { token: Some("token".to_owned()), run: None };
    for piece in [
        Piece::Word(hello),
        Piece::Output { offset: 0, bytes: Bytes::from_static(b"hello\n") },
        Piece::Word(FromServe::Skipped { run, lines: vec![1, 7] }),
        Piece::Word(FromServe::Failed { run, message: "no shell".to_owned() }),
    ] {
        LinkCodec::<ToServe>::from_supervisor().encode(piece, &mut out).expect("short frames");
    }
    out.to_vec()
}

/// A plan, and the last record of a journal that was kept under it.
fn state() -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let plan = plan(&Job::empty(JobId(7)), &PlanSettings::default(), Transfers::default())
        .map_err(std::io::Error::other)?;
    let directory = tempfile::tempdir()?;
    let mut recorder = Recorder::open(directory.path(), &plan.log)?;
    recorder.script_output(b"half a line", 11)?;
    recorder.note(|state| state.token = Some("token".to_owned()))?;
    let journal = std::fs::read(directory.path().join(layout::JOURNAL))?;
    let mut rest = &journal[..];
    loop {
        let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        match rest.len() > 8 + length {
            true => rest = &rest[8 + length..],
            false => return Ok((plan.to_json(), rest[8..].to_vec())),
        }
    }
}

/// An archive of a file, a directory and links, as the agent packs it.
fn archive(format: Format) -> std::io::Result<Vec<u8>> {
    let project = tempfile::tempdir()?;
    std::fs::create_dir(project.path().join("d"))?;
    std::fs::write(project.path().join("d/f"), "content ".repeat(20))?;
    std::os::unix::fs::symlink("d/f", project.path().join("link"))?;
    let mut entries = Entries::new();
    for name in ["d", "d/f", "link"] {
        let data = std::fs::symlink_metadata(project.path().join(name))?;
        entries.extend(Entry::of(&data).map(|entry| (name.into(), entry)));
    }
    let mut out = Vec::new();
    let origin = Origin::open(project.path())?;
    pack(&origin, &entries, format, Level::Default, &mut out).map_err(std::io::Error::other)?;
    Ok(out)
}

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let job = std::fs::read(here.join("../runner-gitlab/fixtures/job.json"))?;
    let (plan, record) = state()?;
    // The first byte says how the target cuts the rest, or what it is.
    for (target, name, cut, bytes) in [
        ("payload", "seed-job", 200, job),
        ("spdy", "seed-exec", 7, spdy()),
        ("websocket", "seed-exec", 7, websocket()),
        ("link", "seed-script", 7, link()),
        ("state", "seed-plan", 0, plan),
        ("state", "seed-record", 2, record),
    ] {
        let directory = here.join("corpus").join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), [&[cut], &bytes[..]].concat())?;
    }
    // An odd first byte: a tar archive as it is.
    let tar = zstd::decode_all(archive(Format::TarZstd)?.as_slice())?;
    for (target, name, bytes) in [
        ("unpack_zip", "seed-deflate", archive(Format::Zip)?),
        ("unpack_zip", "seed-zstd", archive(Format::ZipZstd)?),
        ("unpack_tar", "seed-tar", [&[1], &tar[..]].concat()),
        ("unpack_tar", "seed-made", b"\0\0\x01\0\x01ax\x02\x01\x02\0b..\0\x03\0\x01b/cx".to_vec()),
        ("globs", "seed", b"{a,b/**}/[!x-z]?*.\\[\na/bc.[".to_vec()),
    ] {
        let directory = here.join("corpus").join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}
