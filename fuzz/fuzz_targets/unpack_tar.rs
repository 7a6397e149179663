//! Tar archives of strangers, as they come in: unpacked inside of the project or refused; never
//! outside, never without end, no panic.
//!
//! Input: an odd first byte, then the bytes of a tar archive; or an even one, then entries to be made
//! into one with right checksums: kind, lengths of name, target and data, and these three.

#![no_main]

mod sandbox;

use libfuzzer_sys::fuzz_target;
use runner_agent::archive::unpack::unpack_tar_zstd;

use crate::sandbox::{LIMITS, Sandbox};

const KINDS: &[u8] = b"0\x0012345679xgLKSV";

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let tar = if first % 2 == 1 { rest.to_vec() } else { made(rest) };
    let packed = zstd::encode_all(tar.as_slice(), 1).expect("memory is enough");
    let sandbox = Sandbox::new();
    let result = unpack_tar_zstd(packed.as_slice(), &sandbox.project(), LIMITS);
    sandbox.check(result.ok());
});

fn made(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, name, target, data, rest @ ..] = input {
        let mut rest = rest;
        let mut take = |length: u8| {
            let (taken, left) = rest.split_at(usize::from(length).min(rest.len()));
            rest = left;
            taken
        };
        let (name, target, data) = (take(*name % 100), take(*target % 100), take(*data));
        input = rest;
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name);
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = KINDS[usize::from(*kind) % KINDS.len()];
        header[157..157 + target.len()].copy_from_slice(target);
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out
}
