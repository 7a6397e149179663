//! Agents as each release recorded them, followed by the manager of this one: a rolling upgrade has
//! pods of the release before.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use runner_core::wire::{AgentCodec, AgentFrame, ManagerCodec, ManagerFrame};
use runner_testkit::cluster::{ImageSpec, ScriptedExec, ScriptedIo};
use runner_testkit::gitlab::JobSpec;
use tokio::io::AsyncWriteExt as _;
use tokio_util::codec::{Decoder as _, FramedRead};

use crate::place::IMAGE;
use crate::world::{World, success, text};

fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runner-core/tests/releases");
    let entries = std::fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().path().join("agent-frames.hex")).collect()
}

/// The bytes of a job that went well, as they were recorded: all frames to the first verdict.
fn good_job(recording: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(recording).unwrap();
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let mut rest: BytesMut = digits.chunks(2).map(byte).collect();
    let mut out = Vec::new();
    loop {
        let before = rest.clone();
        let frame = ManagerCodec.decode(&mut rest).unwrap().expect("there is a verdict");
        if matches!(frame, AgentFrame::Refused(_)) {
            continue;
        }
        out.extend_from_slice(&before[..before.len() - rest.len()]);
        if matches!(frame, AgentFrame::Verdict(_)) {
            return out;
        }
    }
}

async fn replay(io: ScriptedIo, recorded: Vec<u8>) -> Option<()> {
    let mut from = FramedRead::new(io.stdin, AgentCodec);
    let ManagerFrame::Hello(_) = from.next().await?.ok()? else { return None };
    let mut to = io.stdout;
    to.write_all(&recorded).await.ok()?;
    while let Some(Ok(frame)) = from.next().await {
        if frame == ManagerFrame::Release {
            return Some(());
        }
    }
    None
}

#[tokio::test]
async fn the_agents_of_all_recorded_releases_get_their_jobs_to_the_end() {
    for recording in recordings() {
        let Some(world) = World::simulated("to have another agent").await else { return };
        let recorded = good_job(&recording);
        let exec = ScriptedExec::new(move |io| {
            let recorded = recorded.clone();
            async move {
                replay(io, recorded).await;
                0
            }
        });
        world.cluster().register_image(IMAGE, ImageSpec::scripted(exec));
        let end = world.run_one(JobSpec::new("old").script(["true"])).await;
        success(&end);
        assert_eq!(text(&end), "hello", "{}", recording.display());
    }
}
