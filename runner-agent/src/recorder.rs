//! Makes the trace and keeps it: log pipeline, spool and journal together.
//!
//! Bytes count once the journal says so, and nobody sees them before. So a supervisor that was
//! killed between two steps goes on from the last commit, and what readers have seen stays true.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use runner_core::ids::{Epoch, Offset};
use runner_core::layout;
use runner_core::log::{Kind, LogPipeline, Message, Stream, section_end, section_start};
use runner_core::outcome::{StageReport, Verdict};
use runner_core::plan::{HeaderLine, LineLevel, LogSettings};
use runner_core::wire::StageFrame;
use tokio::sync::watch;

use crate::companions::Heard;
use crate::journal::{Journal, Running, State};
use crate::spool::{Spool, SpoolReader};

/// What readers of the trace wait for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// How much of the trace counts.
    pub length: Offset,
    /// Everything that happened to stages.
    pub stages: Vec<StageFrame>,
    /// The last word.
    pub verdict: Option<Verdict>,
}

/// The one writer of a job's trace and journal.
#[derive(Debug)]
pub struct Recorder {
    pipeline: LogPipeline,
    spool: Spool,
    journal: Journal,
    progress: watch::Sender<Progress>,
    sections: bool,
    /// Made by the pipeline and not yet in the spool; kept for its capacity.
    fresh: Vec<u8>,
}

impl Recorder {
    /// Opens what an earlier supervisor left in this directory, or begins anew.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub fn open(directory: &Path, settings: &LogSettings) -> io::Result<Self> {
        let journal = Journal::open(&directory.join(layout::JOURNAL))?;
        let state = journal.state();
        let spool = Spool::open(&directory.join(layout::SPOOL), state.trace)?;
        let pipeline = match &state.checkpoint {
            Some(checkpoint) => {
                LogPipeline::resume(settings, checkpoint).map_err(io::Error::other)?
            }
            None => LogPipeline::new(settings),
        };
        // A stage that is over needs no beginning.
        let stages =
            state.finished.iter().map(|(_, report)| StageFrame::Finished(report.clone())).collect();
        let progress =
            Progress { length: state.trace.length, stages, verdict: state.verdict.clone() };
        Ok(Self {
            pipeline,
            spool,
            progress: watch::Sender::new(progress),
            journal,
            sections: settings.sections,
            fresh: Vec::new(),
        })
    }

    /// What is written down.
    pub fn state(&self) -> &State {
        self.journal.state()
    }

    /// For readers of the trace.
    pub fn subscribe(&self) -> (watch::Receiver<Progress>, SpoolReader) {
        (self.progress.subscribe(), self.spool.reader())
    }

    /// A line of the runner's own.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn say(&mut self, message: &Message) -> io::Result<()> {
        self.write(Stream::Runner, Kind::Out, message.as_bytes())?;
        self.commit(self.state().input)
    }

    /// A line that the plan brings.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn header(&mut self, line: &HeaderLine) -> io::Result<()> {
        let HeaderLine { text, level, at } = line;
        let at = at.unwrap_or_else(|| Timestamp::now().as_second());
        let marker = match level {
            LineLevel::Plain => return self.say(&Message::plain(text)),
            LineLevel::Info => return self.say(&Message::info(text)),
            LineLevel::Warning => return self.say(&Message::warning(text)),
            LineLevel::Error => return self.say(&Message::error(text)),
            LineLevel::Heading => return self.say(&Message::heading(text)),
            LineLevel::SectionStart => section_start(text, at),
            LineLevel::SectionEnd => section_end(text, at),
        };
        if !self.sections {
            return Ok(());
        }
        self.write(Stream::Runner, Kind::Out, marker.as_bytes())?;
        self.commit(self.state().input)
    }

    /// Output of a program of the runner's own (git), in the job's stream.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn helper_output(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(Stream::Job, Kind::Out, bytes)?;
        self.commit(self.state().input)
    }

    /// Output of the job's script; `input` is how much of it there is with these bytes.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn script_output(&mut self, bytes: &[u8], input: u64) -> io::Result<()> {
        self.write(Stream::Job, Kind::Out, bytes)?;
        self.commit(input)
    }

    /// Output of another container, of which this much has been heard with it.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn companion_output(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        container: &str,
        heard: Heard,
    ) -> io::Result<()> {
        self.write(stream, Kind::Out, bytes)?;
        self.commit_with(self.state().input, Some((container.to_owned(), heard)))
    }

    /// Begins a stage: section, heading and journal.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn stage_started(
        &mut self,
        running: Running,
        name: &str,
        title: Option<&str>,
    ) -> io::Result<()> {
        self.journal.change(|state| {
            state.running = Some(running);
            state.input = 0;
        })?;
        if let Some(title) = title {
            if self.sections {
                let marker = section_start(name, Timestamp::now().as_second());
                self.write(Stream::Runner, Kind::Out, marker.as_bytes())?;
            }
            self.write(Stream::Runner, Kind::Out, Message::heading(title).as_bytes())?;
            self.commit(0)?;
        }
        let name = name.to_owned();
        self.progress.send_modify(|progress| progress.stages.push(StageFrame::Started { name }));
        Ok(())
    }

    /// Opens a section for something that is no stage of the plan.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn section_opened(&mut self, name: &str, title: &str) -> io::Result<()> {
        if self.sections {
            let marker = section_start(name, Timestamp::now().as_second());
            self.write(Stream::Runner, Kind::Out, marker.as_bytes())?;
        }
        self.say(&Message::heading(title))
    }

    /// Closes it.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn section_closed(&mut self, name: &str) -> io::Result<()> {
        if self.sections {
            let marker = section_end(name, Timestamp::now().as_second());
            self.write(Stream::Runner, Kind::Out, marker.as_bytes())?;
        }
        self.commit(self.state().input)
    }

    /// Ends a stage: what is left of an unfinished line, section and journal.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn stage_finished(
        &mut self,
        index: usize,
        report: StageReport,
        has_section: bool,
    ) -> io::Result<()> {
        self.pipeline.end(Stream::Job, Kind::Out, Timestamp::now(), &mut self.fresh);
        if has_section && self.sections {
            let marker = section_end(&report.name, Timestamp::now().as_second());
            self.write(Stream::Runner, Kind::Out, marker.as_bytes())?;
        }
        self.commit(0)?;
        let kept = report.clone();
        self.journal.change(|state| {
            state.running = None;
            state.finished.push((index, kept));
        })?;
        self.progress.send_modify(|progress| progress.stages.push(StageFrame::Finished(report)));
        Ok(())
    }

    /// Writes a section that is no stage: heading and lines. Nothing where there are no sections.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn section(
        &mut self,
        (start, end): (&str, &str),
        heading: &str,
        lines: &[String],
    ) -> io::Result<()> {
        if !self.sections {
            return Ok(());
        }
        let now = Timestamp::now().as_second();
        self.write(Stream::Runner, Kind::Out, section_start(start, now).as_bytes())?;
        self.write(Stream::Runner, Kind::Out, Message::heading(heading).as_bytes())?;
        for line in lines {
            self.write(Stream::Runner, Kind::Out, Message::plain(line).as_bytes())?;
        }
        self.write(Stream::Runner, Kind::Out, section_end(end, now).as_bytes())?;
        self.commit(self.state().input)
    }

    /// Notes anything that needs no trace.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn note(&mut self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        self.journal.change(change)
    }

    /// Takes a manager's claim. The result says whether it is the highest so far.
    ///
    /// # Errors
    /// When it cannot be kept; the claim does not count then.
    pub fn claim(&mut self, epoch: Epoch) -> io::Result<bool> {
        if epoch < self.state().epoch {
            return Ok(false);
        }
        if epoch > self.state().epoch {
            self.journal.change(|state| state.epoch = epoch)?;
        }
        Ok(true)
    }

    /// Ends the trace and writes the verdict.
    ///
    /// # Errors
    /// When it cannot be kept: there is no verdict then.
    pub fn conclude(&mut self, outcome: runner_core::outcome::Outcome) -> io::Result<Verdict> {
        self.pipeline.close(Timestamp::now(), &mut self.fresh);
        self.commit(0)?;
        let stages = self.state().finished.iter().map(|(_, report)| report.clone()).collect();
        let verdict = Verdict { outcome, trace: self.state().trace, stages };
        let kept = verdict.clone();
        self.journal.change(|state| state.verdict = Some(kept))?;
        self.progress.send_modify(|progress| progress.verdict = Some(verdict.clone()));
        Ok(verdict)
    }

    fn write(&mut self, stream: Stream, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        self.pipeline.write(stream, kind, bytes, Timestamp::now(), &mut self.fresh);
        Ok(())
    }

    fn commit(&mut self, input: u64) -> io::Result<()> {
        self.commit_with(input, None)
    }

    fn commit_with(&mut self, input: u64, heard: Option<(String, Heard)>) -> io::Result<()> {
        let before = self.spool.summary();
        let trace = if self.fresh.is_empty() { before } else { self.spool.append(&self.fresh)? };
        if let Err(error) = self.journal.commit(trace, self.pipeline.checkpoint(), input, heard) {
            self.spool.rewind(before);
            return Err(error);
        }
        self.fresh.clear();
        if trace != before {
            self.progress.send_modify(|progress| progress.length = trace.length);
        }
        Ok(())
    }
}
