//! What a job source, an executor or an artifact store promises, as checks for anybody's own.
//!
//! A test hands the kit its subject and gets a [`Report`] that says in plain words which promise is
//! broken, what was seen, and how to run that check alone:
//!
//! * [`executor`]: of the place where jobs run, told through [`Site`];
//! * [`source`]: of the queue and the place for logs and verdicts, told through [`Counter`];
//! * [`artifact_store`]: of the shelf for archives, told through [`Shelf`].
//!
//! ```no_run
//! # use runner_testkit::conformance::{self, Site};
//! # async fn example(mine: impl Site) {
//! conformance::executor(&mine).await.assert_kept();
//! # }
//! ```
//!
//! The checks play the manager: they call what a manager calls, in the order in which it does, with
//! the interruptions that it may suffer. A promise that the subject gives the kit no means to look
//! at is reported as left out, never as kept.

mod archives;
mod executor;
mod job;
mod report;
mod source;

pub use archives::{Shelf, StorePromise, artifact_store, artifact_store_check};
pub use executor::{ExecutorPromise, Site, executor, executor_check};
pub use report::{Check, Promise, Report, Verdict};
pub use source::{Counter, Shown, SourcePromise, source, source_check};
