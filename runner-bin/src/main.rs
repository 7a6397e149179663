//! Runs CI jobs on Kubernetes, a pod for each job.

use std::process::ExitCode;

/// A thousand jobs' logs pass through in pieces of all sizes; glibc's allocator keeps several times of what
/// is in use then (`BENCHMARKS.md`, manager memory).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc when it starts: what is free goes back to the system after a second, also when the
/// process is idle; and two arenas, since memory of a wave of jobs in many of them stays in many.
#[cfg(feature = "jemalloc")]
#[expect(unsafe_code, reason = "a symbol by which jemalloc asks; nothing else has this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static JEMALLOC_SETTINGS: &[u8; 70] =
    b"dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:2,background_thread:true\0";

fn main() -> ExitCode {
    runner_bin::main()
}
