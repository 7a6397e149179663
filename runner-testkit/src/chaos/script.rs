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
            let mix = mixed(seed ^ (at as u64 / 61));
            match (at % 61, mix % 8) {
                (60, 0) => b'\r',
                (60, 1..=6) => b'\n',
                (column, _) => b'a' + (mix.rotate_left(column as u32) % 26) as u8,
            }
        })
        .collect()
}

/// All bits of it depend on all bits (the last steps of splitmix64): what one script writes must not be
/// found in what another one writes, however long that is.
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Beat, End, Script, text};

    #[test]
    fn what_one_script_writes_is_not_found_in_what_another_one_writes() {
        // It was: seed 10044 of the harness.
        let (short, long) = (text(4_763_961_461_337_132_128, 0, 476), 3_110_696_111_188_152_928);
        let long = text(long, 0, 60_794);
        assert!(!long.windows(short.len()).any(|window| window == short));
    }

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
