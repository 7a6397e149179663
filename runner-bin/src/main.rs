//! Runs CI jobs on Kubernetes, a pod for each job.

use std::process::ExitCode;

/// A thousand jobs' logs pass through in pieces of all sizes; glibc's allocator keeps several times of what
/// is in use then (`BENCHMARKS.md`, manager memory).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc when it starts. What is free goes back to the system after a tenth of a second, also when the process is
/// idle. One arena, since memory of a wave of jobs in many of them stays in many; threads keep nothing above 4 KiB for
/// themselves. Together that is 14 MiB less at the peak of a thousand jobs, for a tenth of the time on processors until
/// all run (`BENCHMARKS.md`).
#[cfg(feature = "jemalloc")]
#[expect(unsafe_code, reason = "a symbol by which jemalloc asks; nothing else has this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static JEMALLOC_SETTINGS: &[u8; 86] =
    b"dirty_decay_ms:100,muzzy_decay_ms:0,narenas:1,lg_tcache_max:12,background_thread:true\0";

fn main() -> ExitCode {
    runner_bin::main()
}
