//! A `config.toml` up to what `run` would work with: understood, or refused with the place; no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match runner_bin::explain_config(text) {
        Ok(summary) => assert!(!summary.is_empty()),
        Err(mistakes) => assert!(!mistakes.is_empty()),
    }
});
