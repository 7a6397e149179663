//! Agents that do not speak as agents do: their own jobs fail, the manager and its memory do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rstest::rstest;
use runner_core::ids::Offset;
use runner_core::outcome::{Infra, InfraKind, Outcome, StageReport, TraceSummary, Verdict};
use runner_core::wire::{AgentCodec, AgentFrame, ManagerFrame, StageFrame, WIRE_VERSION, Welcome};
use runner_testkit::cluster::{ImageSpec, ScriptedExec, ScriptedIo};
use runner_testkit::gitlab::{JobSpec, JobState};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::place::IMAGE;
use crate::world::{PATIENCE, World, success};

/// What an agent does instead of its work: gets the job's number and where to write.
pub(crate) type Act = Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>;

/// Agents that answer with a verdict at once, but for those whose job `act` has something for.
pub(crate) fn agent(
    act: impl Fn(u64, DuplexStreamOf) -> Act + Send + Sync + 'static,
) -> ScriptedExec {
    let act = Arc::new(act);
    ScriptedExec::new(move |io| {
        let act = Arc::clone(&act);
        async move {
            talk(io, &*act).await;
            0
        }
    })
}

/// Where an agent writes; taken by who uses it.
pub(crate) type DuplexStreamOf = Arc<parking_lot::Mutex<Option<DuplexStream>>>;

async fn talk(io: ScriptedIo, act: &(impl Fn(u64, DuplexStreamOf) -> Act + ?Sized)) -> Option<()> {
    let mut from = FramedRead::new(io.stdin, AgentCodec);
    let ManagerFrame::Hello(hello) = from.next().await?.ok()? else { return None };
    let stdout = Arc::new(parking_lot::Mutex::new(Some(io.stdout)));
    if let Some(act) = act(hello.job.0, Arc::clone(&stdout)) {
        // Until the manager hangs up: it is not heard any more.
        tokio::join!(act, async { while let Some(Ok(_)) = from.next().await {} });
        return Some(());
    }
    let mut to = FramedWrite::new(stdout.lock().take()?, AgentCodec);
    to.send(welcome(0)).await.ok()?;
    let trace = TraceSummary::of(b"");
    let verdict = Verdict { outcome: Outcome::Exited(0), trace, stages: Vec::new() };
    to.send(AgentFrame::Verdict(verdict)).await.ok()?;
    while let Some(Ok(frame)) = from.next().await {
        if frame == ManagerFrame::Release {
            return Some(());
        }
    }
    None
}

fn welcome(length: u64) -> AgentFrame {
    let (version, release) = (WIRE_VERSION, "hostile".to_owned());
    AgentFrame::Welcome(Welcome { version, release, length: Offset(length) })
}

/// How much a flood is: far more than a manager may use for it.
const FLOOD: usize = 512 << 20;

fn frames(frames: impl IntoIterator<Item = AgentFrame>) -> Bytes {
    use tokio_util::codec::Encoder as _;
    let mut out = bytes::BytesMut::new();
    for frame in frames {
        AgentCodec.encode(frame, &mut out).unwrap();
    }
    out.freeze()
}

/// What an agent sends again and again; it gets the number of the time.
type Flood = Box<dyn Fn(usize) -> Bytes + Send + Sync>;

fn always(bytes: Bytes) -> Flood {
    Box::new(move |_| bytes.clone())
}

fn noise() -> Bytes {
    (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A frame that claims 4 GiB.
fn endless_frame() -> Bytes {
    Bytes::from_static(&[255, 255, 255, 255, 65])
}

/// More trace than was asked for, for ever the same place.
fn unasked_trace() -> Bytes {
    let bytes = Bytes::from(vec![b'x'; 60_000]);
    frames([welcome(u64::MAX), AgentFrame::Trace { offset: Offset(0), bytes }])
}

/// Trace from places that nobody asked for.
fn trace_with_gaps() -> Bytes {
    let piece = |at| AgentFrame::Trace { offset: Offset(at), bytes: Bytes::from_static(b"gap") };
    frames([welcome(1 << 40), piece(1 << 39), piece(7), piece(1 << 38)])
}

/// Stages without end, with long names.
fn stages() -> Bytes {
    let name = "n".repeat(200_000);
    frames([welcome(0), AgentFrame::Stage(StageFrame::Started { name })])
}

/// The same, each of another name and with a long story.
fn ever_new_stages() -> Flood {
    let name = "n".repeat(2000);
    let story = "s".repeat(200_000);
    Box::new(move |number| {
        let report = StageReport {
            name: format!("{name}{number}"),
            started_ms: 0,
            took_ms: 0,
            outcome: Outcome::Infra(Infra::new(InfraKind::System, story.clone())),
        };
        let started = StageFrame::Started { name: format!("{story}{number}") };
        let short = StageReport { outcome: Outcome::Exited(0), ..report.clone() };
        let all = [started, StageFrame::Finished(report), StageFrame::Finished(short)];
        let welcome = (number == 0).then(|| welcome(0));
        frames(welcome.into_iter().chain(all.map(AgentFrame::Stage)))
    })
}

/// Answers without a question.
fn welcomes() -> Bytes {
    frames((0..100).map(welcome))
}

#[rstest]
#[case::noise(always(noise()))]
#[case::endless_frame(always(endless_frame()))]
#[case::unasked_trace(always(unasked_trace()))]
#[case::trace_with_gaps(always(trace_with_gaps()))]
#[case::stages(always(stages()))]
#[case::welcomes(always(welcomes()))]
#[case::ever_new_stages(ever_new_stages())]
#[tokio::test]
async fn a_hostile_agent_harms_only_its_own_job(#[case] flood: Flood) {
    let Some(world) = World::simulated("to have another agent").await else { return };
    let hostile = world.gitlab.enqueue(JobSpec::new("hostile").script(["true"]));
    let (id, sent) = (hostile.id(), Arc::new(AtomicU64::new(0)));
    let (count, flood) = (Arc::clone(&sent), Arc::new(flood));
    world.cluster().register_image(
        IMAGE,
        ImageSpec::scripted(agent(move |job, out| {
            let (flood, count) = (Arc::clone(&flood), Arc::clone(&count));
            (job == id).then(|| {
                Box::pin(async move {
                    let Some(mut out) = out.lock().take() else { return };
                    // Until the manager hangs up, or has had enough of it.
                    let mut done = 0;
                    for number in 0.. {
                        let piece = flood(number);
                        if done >= FLOOD || out.write_all(&piece).await.is_err() {
                            return;
                        }
                        done += piece.len();
                        count.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    }
                }) as _
            })
        })),
    );
    let manager = world.process();
    let heard = async {
        while sent.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What a flood can do it does in this time, or it is a slow one.
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    let good = world.gitlab.enqueue(JobSpec::new("good").script(["true"]));
    success(&good.wait_finished(PATIENCE).await.unwrap());
    hostile.force_cancel();
    let end = hostile.wait_finished(PATIENCE).await.unwrap();
    assert_ne!(end.state, JobState::Success);
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    let most = manager.most_memory();
    let sent = sent.load(Ordering::Relaxed) >> 20;
    assert!(most < 150 << 20, "{} MiB in use after {sent} MiB\n{}", most >> 20, manager.log());
}
