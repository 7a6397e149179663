//! The whole way from what programs print to the bytes of the trace.

use jiff::Timestamp;

use super::checkpoint::{Checkpoint, ResumeError, StreamCheckpoint};
use super::lines::{Lines, Page};
use super::mask::{MaskState, Rules};
use super::message::limit_notice;
use super::repair::Repair;
use super::stamp::{Stamper, micros};
use super::stream::{Kind, Stream, label};
use crate::ids::Offset;
use crate::outcome::TraceSummary;
use crate::plan::LogSettings;

/// Input is worked on in pieces of this size, so that what one step has touched is still in the
/// cache when the next one comes.
const BLOCK: usize = 32 * 1024;

/// Makes a job's trace.
///
/// ```
/// use runner_core::log::{Kind, LogPipeline, Stream, Timestamp};
/// use runner_core::outcome::TraceSummary;
/// use runner_core::plan::LogSettings;
///
/// let masks = vec!["hunter22".into()];
/// let settings = LogSettings { masks, timestamps: false, ..LogSettings::default() };
/// let (mut pipeline, mut trace) = (LogPipeline::new(&settings), Vec::new());
/// let now = Timestamp::now();
/// // Where writes are cut does not matter: the value is found across them.
/// pipeline.write(Stream::Job, Kind::Out, b"password: hunt", now, &mut trace);
/// pipeline.write(Stream::Job, Kind::Out, b"er22\n", now, &mut trace);
/// let summary = pipeline.close(now, &mut trace);
/// assert_eq!(trace, b"password: [MASKED]\n");
/// assert_eq!(summary, TraceSummary::of(&trace));
/// ```
///
/// Bytes that it appends to the caller's buffer are final. Nothing depends on timers, nor on how the
/// input of a stream is cut into writes; only a line's header says when the write came in that began
/// the line.
///
/// Held back are, for each stream: bytes that may still become a masked value, the beginning of a
/// character, and, with time stamps, the unfinished line (at most 8 KiB).
pub struct LogPipeline {
    rules: Rules,
    timestamps: bool,
    limit: u64,
    /// The limit was reached: nothing is added any more.
    full: bool,
    length: u64,
    checksum: crc32fast::Hasher,
    stamper: Stamper,
    /// Few (two for the runner, two for the job, two for a service), so a list will do.
    chains: Vec<Chain>,
}

/// One stream's way.
struct Chain {
    stream: Stream,
    kind: Kind,
    mask: MaskState,
    repair: Repair,
    lines: Lines,
}

impl LogPipeline {
    /// An empty trace.
    #[must_use]
    pub fn new(settings: &LogSettings) -> Self {
        Self {
            rules: Rules::new(settings),
            timestamps: settings.timestamps,
            limit: settings.limit,
            full: false,
            length: 0,
            checksum: crc32fast::Hasher::new(),
            stamper: Stamper::new(),
            chains: Vec::new(),
        }
    }

    /// Goes on where a pipeline with the same settings was at the checkpoint. With the same input
    /// from there on it makes the same bytes.
    ///
    /// # Errors
    /// When the checkpoint cannot come from a pipeline with these settings.
    pub fn resume(settings: &LogSettings, checkpoint: &Checkpoint) -> Result<Self, ResumeError> {
        let mut pipeline = Self::new(settings);
        let TraceSummary { length: Offset(length), crc32 } = checkpoint.summary;
        pipeline.length = length;
        pipeline.full = checkpoint.full;
        pipeline.checksum = crc32fast::Hasher::new_with_initial_len(crc32, length);
        for stream in &checkpoint.streams {
            let chain = Chain::resume(&pipeline.rules, stream)
                .ok_or(ResumeError { offset: checkpoint.summary.length })?;
            pipeline.chains.push(chain);
        }
        Ok(pipeline)
    }

    /// Takes what a stream printed and appends to `out` what is final of it. `now` is the time of
    /// the lines that begin in it.
    pub fn write(
        &mut self,
        stream: Stream,
        kind: Kind,
        input: &[u8],
        now: Timestamp,
        out: &mut Vec<u8>,
    ) {
        let index = self.chain(stream, kind);
        for block in input.chunks(BLOCK) {
            if self.full {
                return;
            }
            let start = out.len();
            // Room for time stamps of lines of 64 bytes; the buffer grows by itself where needed.
            out.reserve(block.len() + block.len() / 2);
            let Self { rules, chains, stamper, .. } = self;
            let chain = &mut chains[index];
            if self.timestamps {
                chain.stamped(stamper, now, out, |mask, sink| mask.push(rules, block, sink));
            } else {
                chain.plain(out, |mask, sink| mask.push(rules, block, sink));
            }
            self.account(start, out);
        }
    }

    /// One stream is over, e.g. because its process has ended: what was held back of it is
    /// appended. The stream may be used again and begins anew then.
    pub fn end(&mut self, stream: Stream, kind: Kind, now: Timestamp, out: &mut Vec<u8>) {
        let index = self.chain(stream, kind);
        let mut chain = self.chains.swap_remove(index);
        if self.full {
            return;
        }
        let start = out.len();
        let Self { rules, stamper, .. } = self;
        if self.timestamps {
            chain.stamped(stamper, now, out, |mask, sink| mask.finish(rules, sink));
            let mut page = Page { label: label(stream, kind), now: micros(now), stamper, out };
            chain.repair.finish(&mut |text| chain.lines.push(text, &mut page));
            chain.lines.finish(&mut page);
        } else {
            chain.plain(out, |mask, sink| mask.finish(rules, sink));
            chain.repair.finish(&mut |text| out.extend_from_slice(text));
        }
        self.account(start, out);
    }

    /// All streams are over. Returns what the whole trace came to.
    pub fn close(&mut self, now: Timestamp, out: &mut Vec<u8>) -> TraceSummary {
        // By name: the order must not depend on which stream spoke first, since a checkpoint does
        // not keep that.
        let mut open: Vec<_> = self.chains.iter().map(|chain| (chain.stream, chain.kind)).collect();
        open.sort_unstable();
        for (stream, kind) in open {
            self.end(stream, kind, now, out);
        }
        self.summary()
    }

    /// Length and checksum of all bytes that were handed out so far.
    #[must_use]
    pub fn summary(&self) -> TraceSummary {
        TraceSummary { length: Offset(self.length), crc32: self.checksum.clone().finalize() }
    }

    /// Whether the limit was reached: everything that comes now is dropped.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// All that is needed to go on from here, see [`LogPipeline::resume`].
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let mut streams = Vec::new();
        if !self.full {
            streams.extend(self.chains.iter().map(|chain| chain.checkpoint(&self.rules)));
            streams.retain(|stream: &StreamCheckpoint| !stream.is_fresh());
        }
        Checkpoint { summary: self.summary(), full: self.full, streams }
    }

    fn chain(&mut self, stream: Stream, kind: Kind) -> usize {
        let found =
            self.chains.iter().position(|chain| chain.stream == stream && chain.kind == kind);
        found.unwrap_or_else(|| {
            self.chains.push(Chain::new(stream, kind));
            self.chains.len() - 1
        })
    }

    /// Counts what was appended since `start`, and ends the trace where it has become too long.
    ///
    /// As in GitLab Runner, reaching the limit exactly counts too, and the notice comes on top of it.
    fn account(&mut self, start: usize, out: &mut Vec<u8>) {
        let added = out.len() - start;
        let room = self.limit.saturating_sub(self.length);
        if added > 0 && added as u64 >= room {
            // At most `added`, so it fits.
            let mut cut = start + room as usize;
            // What was appended is valid UTF-8: go back to where a character begins.
            while cut < out.len() && out[cut] & 0b1100_0000 == 0b1000_0000 {
                cut -= 1;
            }
            out.truncate(cut);
            out.extend_from_slice(limit_notice(self.limit).as_bytes());
            self.full = true;
            self.chains.clear();
        }
        self.checksum.update(&out[start..]);
        self.length += (out.len() - start) as u64;
    }
}

impl std::fmt::Debug for LogPipeline {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogPipeline")
            .field("length", &self.length)
            .field("limit", &self.limit)
            .field("full", &self.full)
            .finish_non_exhaustive()
    }
}

impl Chain {
    fn new(stream: Stream, kind: Kind) -> Self {
        Self {
            stream,
            kind,
            mask: MaskState::new(),
            repair: Repair::default(),
            lines: Lines::default(),
        }
    }

    /// Masked bytes come from `input` into the sink it gets; they leave as lines with headers.
    #[inline]
    fn stamped(
        &mut self,
        stamper: &mut Stamper,
        now: Timestamp,
        out: &mut Vec<u8>,
        input: impl FnOnce(&mut MaskState, &mut dyn FnMut(&[u8])),
    ) {
        let Self { mask, repair, lines, .. } = self;
        let mut page =
            Page { label: label(self.stream, self.kind), now: micros(now), stamper, out };
        input(mask, &mut |bytes| repair.push(bytes, &mut |text| lines.push(text, &mut page)));
        // A line begins when its first byte comes, even if that byte is held back. Held back are
        // the beginning of a character, or of a value that will appear as itself or as a mask.
        let held = mask.next_held().is_some_and(|byte| !matches!(byte, b'\n' | b'\r' | 0x1b));
        if held || !repair.is_idle() {
            lines.begin(&mut page);
        }
    }

    /// The same without headers: nothing waits for the end of its line.
    #[inline]
    fn plain(
        &mut self,
        out: &mut Vec<u8>,
        input: impl FnOnce(&mut MaskState, &mut dyn FnMut(&[u8])),
    ) {
        let Self { mask, repair, .. } = self;
        input(mask, &mut |bytes| repair.push(bytes, &mut |text| out.extend_from_slice(text)));
    }

    fn checkpoint(&self, rules: &Rules) -> StreamCheckpoint {
        StreamCheckpoint {
            stream: self.stream,
            kind: self.kind,
            mask: self.mask.checkpoint(rules),
            repair: self.repair.clone(),
            line: self.lines.clone(),
        }
    }

    fn resume(rules: &Rules, checkpoint: &StreamCheckpoint) -> Option<Self> {
        if !checkpoint.repair.is_possible() || !checkpoint.line.is_possible() {
            return None;
        }
        Some(Self {
            stream: checkpoint.stream,
            kind: checkpoint.kind,
            mask: MaskState::resume(rules, &checkpoint.mask)?,
            repair: checkpoint.repair.clone(),
            lines: checkpoint.line.clone(),
        })
    }
}
