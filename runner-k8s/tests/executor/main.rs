//! The executor against a small API server in memory, the way a user of the library would test.

#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

mod adoption;
mod cluster;
mod lifecycle;
mod orphans;
mod world;
