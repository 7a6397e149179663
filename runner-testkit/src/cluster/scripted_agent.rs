//! An agent that runs nothing: it has a trace, waits, and gives a verdict when it is told to.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use runner_core::ids::Offset;
use runner_core::outcome::{Outcome, TraceSummary, Verdict};
use runner_core::wire::{
    AgentCodec, AgentFrame, Beat, MAX_TRACE, ManagerFrame, WIRE_VERSION, Welcome,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::scripted::{ScriptedExec, ScriptedIo};

/// How often an agent shows that it is there.
const BEAT: Duration = Duration::from_secs(15);

/// The agent of every job of an image: each has the same trace, and ends well once `finish` is true.
#[must_use]
pub fn scripted_agent(trace: Bytes, finish: watch::Receiver<bool>) -> ScriptedExec {
    let summary = TraceSummary::of(&trace);
    ScriptedExec::new(move |io| {
        let talk = Talk {
            trace: trace.clone(),
            summary,
            finish: finish.clone(),
            sent: 0,
            until: 0,
            told: false,
        };
        async move {
            // The manager went away, as managers do.
            i32::from(talk.run(io).await.is_none())
        }
    })
}

struct Talk {
    trace: Bytes,
    summary: TraceSummary,
    finish: watch::Receiver<bool>,
    sent: usize,
    until: usize,
    told: bool,
}

impl Talk {
    async fn run(mut self, io: ScriptedIo) -> Option<()> {
        let mut from = FramedRead::new(io.stdin, AgentCodec);
        let mut to = FramedWrite::new(io.stdout, AgentCodec);
        let mut beat = Instant::now() + BEAT;
        loop {
            let done = self.sent == self.trace.len() && *self.finish.borrow_and_update();
            tokio::select! {
                frame = from.next() => match frame?.ok()? {
                    ManagerFrame::Hello(hello) => {
                        (self.sent, self.until) = (self.at(hello.from), self.at(hello.until));
                        let (version, length) = (WIRE_VERSION, self.summary.length);
                        let welcome = Welcome { version, release: "scripted".into(), length };
                        to.send(AgentFrame::Welcome(welcome)).await.ok()?;
                    }
                    ManagerFrame::Want(want) => {
                        self.sent = want.from.map_or(self.sent, |from| self.at(from));
                        self.until = self.at(want.until);
                    }
                    ManagerFrame::Release => return Some(()),
                    _ => {}
                },
                () = sleep_until(beat) => {
                    to.send(AgentFrame::Beat(Beat { length: Some(self.summary.length) })).await.ok()?;
                    beat = Instant::now() + BEAT;
                }
                changed = self.finish.changed(), if !done => changed.ok()?,
                () = std::future::ready(()), if self.sent < self.until => {
                    let end = self.until.min(self.sent + MAX_TRACE);
                    let (offset, bytes) = (Offset(self.sent as u64), self.trace.slice(self.sent..end));
                    to.send(AgentFrame::Trace { offset, bytes }).await.ok()?;
                    self.sent = end;
                }
                () = std::future::ready(()), if done && !self.told => {
                    let (outcome, stages) = (Outcome::Exited(0), Vec::new());
                    let verdict = Verdict { outcome, trace: self.summary, stages };
                    to.send(AgentFrame::Verdict(verdict)).await.ok()?;
                    self.told = true;
                }
            }
        }
    }

    /// A place in the trace.
    fn at(&self, offset: Offset) -> usize {
        usize::try_from(offset.0).unwrap_or(usize::MAX).min(self.trace.len())
    }
}
