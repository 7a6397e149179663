//! The settings as an operator writes them and a job changes them, seen in the pod that comes out.

#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

mod cases;
mod generator;
mod goldens;
mod overwrites;
mod pods;
mod refusals;
mod round_trip;
mod rules;
mod table;
mod taste;
mod world;
