//! The conformance kit: subjects that keep their promises are found to, and each broken one is
//! caught at the promise that it breaks.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

mod executors;
mod process_executor;
mod queue;
mod sources;
mod stores;
