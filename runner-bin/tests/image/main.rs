//! The images that `deploy/image/build` makes, as containers: what is in them, and what the official chart's scripts do
//! with them.
//!
//! Needs root, `runc`, and images in `PODWRIGHT_TEST_IMAGES`; `.ci/run image` sees to all of it. Without the variable each
//! test says so and does nothing.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

mod container;
mod contents;
mod official;
mod own;
mod pod;

use std::time::Duration;

use tokio::time::Instant;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something to become true.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
