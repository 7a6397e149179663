//! `podwright run` as a process: configuration, reload, signals, pages.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]
#![expect(clippy::print_stderr, reason = "a failed test shows the manager's log")]

mod away;
mod boot_verify;
mod browser;
mod capacity;
mod events;
mod house;
mod pages;
mod prometheus;
mod reload;
mod sentry;
mod sessions;
mod signals;
mod single;
mod traces;
