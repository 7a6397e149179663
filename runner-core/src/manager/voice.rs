//! What a manager itself says in a trace.
//!
//! Lines look as GitLab Runner's own do: a prefix for the level, colours, and the time stamp of the
//! stream for runner messages (`00`) where the trace has time stamps.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::outcome::{Infra, InfraKind, Outcome, TimeLimit};

/// Makes lines for one trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    timestamps: bool,
}

impl Voice {
    pub(super) fn new(timestamps: bool) -> Self {
        Self { timestamps }
    }

    /// What a slow job waits for.
    pub(super) fn waiting(self, place: &str, reason: &str) -> Bytes {
        self.lines("\x1b[0K", 'O', &format!("Waiting for {place} to run: {reason}"))
    }

    /// That the job is over, and waits for somebody who looks into it.
    pub(super) fn visited(self, patience: Duration) -> Bytes {
        let text = format!("Terminal is connected, will time out in {}s...", patience.as_secs());
        self.lines("\x1b[0K", 'O', &text)
    }

    /// How a job ended that cannot say so itself.
    pub(super) fn verdict(self, outcome: &Outcome) -> Bytes {
        let text = match outcome {
            Outcome::Exited(0) => return self.lines("\x1b[32;1m", 'O', "Job succeeded"),
            Outcome::Infra(infra) if is_system_failure(infra) => {
                format!("ERROR: Job failed (system failure): {infra}")
            }
            Outcome::Unknown => {
                "ERROR: Job failed (system failure): how the job ended is not known: \
                                 its pod left no record"
                    .to_owned()
            }
            other => format!("ERROR: Job failed: {}", describe(other)),
        };
        self.lines("\x1b[31;1m", 'O', &text)
    }

    fn lines(self, prefix: &str, kind: char, text: &str) -> Bytes {
        let mut out = String::new();
        for line in text.lines() {
            if self.timestamps {
                // Writing to a string cannot fail.
                let _ = write!(out, "{:.6} 00{kind} ", Timestamp::now());
            }
            let _ = writeln!(out, "{prefix}{line}\x1b[0;m");
        }
        Bytes::from(out)
    }
}

/// Whether the source will be told `runner_system_failure`, which GitLab Runner also says in words.
fn is_system_failure(infra: &Infra) -> bool {
    matches!(infra.kind, InfraKind::System | InfraKind::ImagePull)
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited(code) => format!("command terminated with exit code {code}"),
        Outcome::Signalled(signal) => format!("command terminated by signal {signal}"),
        Outcome::TimedOut(TimeLimit::Job(limit)) => {
            format!("execution took longer than {} seconds", limit.as_secs())
        }
        Outcome::TimedOut(TimeLimit::Stage(limit)) => {
            format!("a stage took longer than {} seconds", limit.as_secs())
        }
        Outcome::Cancelled => "canceled".to_owned(),
        Outcome::Infra(infra) => infra.message.clone(),
        Outcome::Unknown => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Voice;
    use crate::outcome::{Infra, InfraKind, Outcome};

    #[test]
    fn a_lost_job_says_why_in_the_authors_words() {
        let outcome = Outcome::Infra(Infra::new(InfraKind::System, "the pod was evicted"));
        let line = Voice::new(false).verdict(&outcome);
        assert_eq!(
            line,
            "\x1b[31;1mERROR: Job failed (system failure): the pod was evicted\x1b[0;m\n"
        );
    }

    #[test]
    fn each_line_carries_the_stamp_of_the_runners_own_stream() {
        let line = Voice::new(true).waiting("the pod", "an image is pulled");
        let text = std::str::from_utf8(&line).unwrap();
        assert_eq!(&text[26..32], "Z 00O ");
        assert!(text[32..].starts_with("\x1b[0KWaiting for the pod"));
    }
}
