//! What a job does: it waits and writes, and then ends.

use std::time::Duration;

use runner_core::outcome::Outcome;
use serde::{Deserialize, Serialize};

/// A script. It goes through a plan as its only command ([`Script::command`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// What it writes is made of this.
    pub seed: u64,
    /// What it does, in order.
    pub beats: Vec<Beat>,
    /// How it ends after that.
    pub end: End,
    /// It does not end on TERM.
    pub stubborn: bool,
}

/// A pause and what is written after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// How long it waits, in milliseconds.
    pub wait: u64,
    /// How many bytes it then writes.
    pub bytes: usize,
}

/// How a script ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl End {
    /// The outcome of a job of which nothing else became.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Exit(code) => Outcome::Exited(code),
            Self::Signal(signal) => Outcome::Signalled(signal),
        }
    }
}

const COMMAND: &str = "chaos ";

impl Script {
    /// How long it takes when nobody ends it.
    #[must_use]
    pub fn takes(&self) -> Duration {
        Duration::from_millis(self.beats.iter().map(|beat| beat.wait).sum())
    }

    /// The script as a command of a job.
    #[must_use]
    pub fn command(&self) -> String {
        // A structure of numbers always becomes JSON.
        format!("{COMMAND}{}", serde_json::to_string(self).unwrap_or_default())
    }

    /// The script that a command stands for.
    #[must_use]
    pub fn parse(command: &str) -> Option<Self> {
        serde_json::from_str(command.strip_prefix(COMMAND)?).ok()
    }
}

/// Bytes of a log: lines of all lengths, some with carriage returns, some longer than a screen, and
/// no line end where a piece ends.
#[must_use]
pub fn text(seed: u64, from: usize, bytes: usize) -> Vec<u8> {
    (from..from + bytes)
        .map(|at| {
            // 61 does not divide anything that matters: line ends fall everywhere in a piece.
            let mix = (seed ^ (at as u64 / 61)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            match (at % 61, mix % 8) {
                (60, 0) => b'\r',
                (60, 1..=6) => b'\n',
                (column, _) => b'a' + ((mix as usize + column) % 26) as u8,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Beat, End, Script, text};

    #[test]
    fn a_script_survives_the_way_through_a_plan() {
        let beats = vec![Beat { wait: 5, bytes: 7 }];
        let script = Script { seed: 1, beats, end: End::Signal(9), stubborn: true };
        assert_eq!(Script::parse(&script.command()), Some(script));
        assert_eq!(Script::parse("make"), None);
    }

    #[test]
    fn a_log_does_not_depend_on_the_pieces_it_is_written_in() {
        let whole = text(3, 0, 1000);
        assert_eq!([text(3, 0, 333), text(3, 333, 667)].concat(), whole);
        assert!(whole.contains(&b'\n') && whole.is_ascii());
    }
}
