//! Shows jobs to a person as they run: their log with the job's name in front, and their progress.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runner_core::ids::JobId;
use runner_core::manager::{JobLabel, JobUpdate, Observer};
use runner_core::outcome::StageReport;
use tokio::time::Instant;

/// When what happened to a job.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) received: Instant,
    pub(super) running: Option<Instant>,
    pub(super) concluded: Option<Instant>,
    pub(super) disposed: Option<Instant>,
    pub(super) stages: Vec<StageReport>,
    pub(super) bytes: usize,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

/// Writes to standard output and remembers times.
#[derive(Debug)]
pub(super) struct Screen {
    began: Instant,
    jobs: Mutex<HashMap<JobId, Times>>,
}

impl Screen {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), jobs: Mutex::default() })
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn times(&self, job: JobId) -> Option<Times> {
        self.jobs.lock().get(&job).cloned()
    }
}

impl Observer for Screen {
    fn update(&self, job: &JobLabel, update: &JobUpdate) {
        let name = job.name.as_deref().unwrap_or("?");
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        let times = jobs.entry(job.id).or_insert_with(|| Times {
            received: now,
            running: None,
            concluded: None,
            disposed: None,
            stages: Vec::new(),
            bytes: 0,
            partial: Vec::new(),
        });
        let progress = |what: fmt::Arguments<'_>| line(format_args!("[{name}] -- {what}"));
        match update {
            JobUpdate::Received => progress(format_args!("waiting: taken from the queue")),
            JobUpdate::Starting { place } => progress(format_args!("starting in {place}")),
            JobUpdate::Waiting { reason } => progress(format_args!("waiting: {reason}")),
            JobUpdate::Running => times.running = Some(now),
            JobUpdate::StageStarted { name } => progress(format_args!("stage {name}")),
            JobUpdate::StageFinished(report) => times.stages.push(report.clone()),
            JobUpdate::TraceStored { chunks, .. } => {
                for chunk in chunks {
                    times.bytes += chunk.len();
                    times.partial.extend_from_slice(chunk);
                }
                while let Some(end) = times.partial.iter().position(|byte| *byte == b'\n') {
                    let rest = times.partial.split_off(end + 1);
                    let text = readable(&std::mem::replace(&mut times.partial, rest));
                    if !text.is_empty() {
                        line(format_args!("[{name}] {text}"));
                    }
                }
            }
            JobUpdate::Concluded { outcome, .. } => {
                times.concluded = Some(now);
                progress(format_args!("done: {outcome:?}"));
            }
            JobUpdate::Disposed { .. } => times.disposed = Some(now),
            _ => {}
        }
    }
}

/// A line of a trace without time stamp and section markers.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    let stamped =
        text.as_bytes().get(26) == Some(&b'Z') && text.is_char_boundary(32.min(text.len()));
    let text = if stamped { text.get(32..).unwrap_or_default() } else { text };
    // A marker ends with a carriage return; what follows it is for people.
    text.rsplit('\r').next().unwrap_or_default().trim_start_matches("\x1b[0K").to_owned()
}

/// A duration for a table.
pub(super) fn seconds(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), |duration| format!("{:.2} s", duration.as_secs_f64()))
}

#[expect(clippy::print_stdout, reason = "this is what the demo is for")]
pub(super) fn line(text: fmt::Arguments<'_>) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn a_line_is_shown_without_what_is_for_machines() {
        let line = b"2026-09-01T12:34:56.123456Z 01O hello\n";
        assert_eq!(readable(line), "hello");
        assert_eq!(readable(b"section_start:1:x\r\x1b[0Kheading\n"), "heading");
        assert_eq!(readable(b"plain\n"), "plain");
    }
}
