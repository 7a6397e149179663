//! What a chaos test is made of: a seed becomes jobs and faults, a source in memory hands the jobs
//! out and remembers everything that it was told, and a schedule that breaks something is shrunk.
//!
//! Who runs managers, a cluster and agents under a schedule is the test's business; Podwright's own
//! is `runner-bin/tests/chaos`.

mod fault;
mod random;
mod schedule;
mod script;
mod shrink;
mod source;

pub use fault::{ApiCall, Fault, Part};
pub use random::Random;
pub use schedule::{Event, JobPlan, Schedule};
pub use script::{Beat, End, Script, text};
pub use shrink::shrink;
pub use source::{Line, MemoryJob, MemorySource, Queue};
