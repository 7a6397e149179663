//! The executor against a small API server in memory, the way a user of the library would test.

mod adoption;
mod cluster;
mod lifecycle;
mod world;
