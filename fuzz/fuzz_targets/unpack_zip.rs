//! Zip archives of strangers: unpacked inside of the project or refused; never outside, never without
//! end, no panic.

#![no_main]

mod sandbox;

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use runner_agent::archive::unpack::{Magic, unpack};

use crate::sandbox::{LIMITS, Sandbox};

fuzz_target!(|data: &[u8]| {
    if Magic::of(data) != Magic::Zip {
        return;
    }
    let sandbox = Sandbox::new();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("room for an archive");
    let result = unpack(file, &sandbox.project(), LIMITS);
    sandbox.check(result.ok());
});
