//! See `ARCHITECTURE.md`.

pub mod stream;
