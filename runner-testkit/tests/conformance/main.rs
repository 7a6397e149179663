//! The conformance kit: subjects that keep their promises are found to, and each broken one is
//! caught at the promise that it breaks.

mod executors;
mod process_executor;
mod queue;
mod sources;
mod stores;
