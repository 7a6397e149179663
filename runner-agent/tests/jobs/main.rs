//! Whole jobs through the real program: supervisor and `serve` as two processes, followed over the
//! wire as a manager would.

mod artifacts;
mod caches;
mod conformance;
mod disruption;
mod endings;
mod escape;
mod functions;
mod hostile;
mod recovery;
mod scripts;
mod sources;
mod stages;
mod versions;
mod world;
