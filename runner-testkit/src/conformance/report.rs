//! What a run of the kit found.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;

/// Something that an implementation promises to its manager.
///
/// ```
/// use runner_testkit::conformance::{Promise, SourcePromise};
///
/// /// What a subject of this kind promises, for a page of your own.
/// fn list<P: Promise>(promises: &[P]) -> String {
///     promises.iter().map(|promise| format!("* {}: {}\n", P::SUBJECT, promise.text())).collect()
/// }
///
/// let page = list(&SourcePromise::ALL);
/// assert!(page.contains("* source: a piece of trace that is said twice is stored once\n"));
/// ```
pub trait Promise: Copy + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Kind of the subject, e.g. `executor`; also the name of the kit's function.
    const SUBJECT: &'static str;
    /// The enum's name, for the line that says how to run a check alone.
    const TYPE: &'static str;

    /// The promise in a sentence.
    fn text(self) -> &'static str;
}

/// What became of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise was kept.
    Kept,
    /// The subject gives no means to look; why.
    LeftOut(String),
    /// The promise is broken; what was seen.
    Broken(String),
}

/// One promise and what became of it.
#[derive(Clone, Debug)]
pub struct Check<P> {
    /// Which.
    pub promise: P,
    /// Whether it is kept.
    pub verdict: Verdict,
}

/// All promises and what became of them.
#[derive(Clone, Debug)]
#[must_use = "a report that nobody reads finds nothing"]
pub struct Report<P> {
    /// In the order in which they were looked at.
    pub checks: Vec<Check<P>>,
}

impl<P: Promise> Report<P> {
    /// The promises that are broken.
    #[must_use]
    pub fn broken(&self) -> Vec<P> {
        let broken = |check: &&Check<P>| matches!(check.verdict, Verdict::Broken(_));
        self.checks.iter().filter(broken).map(|check| check.promise).collect()
    }

    /// Whether this one was looked at and is kept.
    pub fn keeps(&self, promise: P) -> bool {
        self.checks.iter().any(|check| check.promise == promise && check.verdict == Verdict::Kept)
    }

    /// Ends the test with the whole report unless every promise that could be looked at is kept.
    ///
    /// # Panics
    /// When one is broken.
    pub fn assert_kept(&self) {
        assert!(self.broken().is_empty(), "{self}");
    }
}

impl<P: Promise> fmt::Display for Report<P> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broken, all) = (self.broken().len(), self.checks.len());
        writeln!(out, "{}: {broken} of {all} promises broken", P::SUBJECT)?;
        for check in &self.checks {
            let text = check.promise.text();
            match &check.verdict {
                Verdict::Kept => writeln!(out, "  kept      {text}")?,
                Verdict::LeftOut(why) => writeln!(out, "  left out  {text}: {why}")?,
                Verdict::Broken(seen) => {
                    writeln!(out, "  BROKEN    {text}")?;
                    writeln!(out, "            seen: {seen}")?;
                    let (subject, kind) = (P::SUBJECT, P::TYPE);
                    let promise = check.promise;
                    writeln!(
                        out,
                        "            alone: conformance::{subject}_check(&subject, {kind}::{promise:?})"
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Why a check did not come to "kept".
pub(super) enum Finding {
    Broken(String),
    LeftOut(String),
}

/// A promise is broken when the check says so.
pub(super) fn broken(seen: impl Into<String>) -> Finding {
    Finding::Broken(seen.into())
}

/// Fails a check with this text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::conformance::report::broken(format!($($text)+)));
        }
    };
}
pub(super) use ensure;

/// Runs a check within its time. A subject that panics has broken the promise that was looked at.
pub(super) async fn judge<P: Promise>(
    promise: P,
    patience: Duration,
    check: impl Future<Output = Result<(), Finding>>,
) -> Check<P> {
    let verdict = match timeout(patience, AssertUnwindSafe(check).catch_unwind()).await {
        Ok(Ok(Ok(()))) => Verdict::Kept,
        Ok(Ok(Err(Finding::LeftOut(why)))) => Verdict::LeftOut(why),
        Ok(Ok(Err(Finding::Broken(seen)))) => Verdict::Broken(seen),
        Ok(Err(panic)) => Verdict::Broken(format!("it panicked: {}", words(panic.as_ref()))),
        Err(_) => Verdict::Broken(format!("it took longer than {} s", patience.as_secs())),
    };
    Check { promise, verdict }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
