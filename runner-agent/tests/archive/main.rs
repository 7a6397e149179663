//! Archives as a specification: what goes in comes out, other tools read what is packed here and the
//! other way round, and hostile archives are refused.

#![expect(clippy::unwrap_used, reason = "tests")]

mod hostile;
mod large;
mod support;
mod tools;
mod trips;
