//! What `podwright run` costs, as a process of its own, with all of its jobs in a simulated cluster: no process runs in a
//! pod, but an agent speaks the real protocol.
//!
//!     cargo build --release --features jemalloc
//!     cargo run --release -p benches --example manager load [JOBS RUNNERS SECONDS]
//!     cargo run --release -p benches --example manager memory [FROM TO]
#![expect(clippy::print_stdout, reason = "the numbers are the point")]

mod load;
mod memory;
mod process;
mod stage;

fn main() {
    // It fails only when there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut words = std::env::args().skip(1);
    let what = words.next();
    let numbers: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    match (what.as_deref(), &numbers[..]) {
        (Some("load"), []) => runtime.block_on(load::run(1000, 20, 60)),
        (Some("load"), [jobs, runners, seconds]) => {
            runtime.block_on(load::run(*jobs, *runners, *seconds as u64));
        }
        (Some("memory"), []) => runtime.block_on(memory::run(100, 1000)),
        (Some("memory"), [first, last]) if first < last => {
            runtime.block_on(memory::run(*first, *last));
        }
        _ => println!("manager load [JOBS RUNNERS SECONDS] | manager memory [FROM TO]"),
    }
}
