//! More than one attempt.
