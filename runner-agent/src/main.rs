//! The static program in the pod. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One crypto provider for the whole process. It can only fail when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    runner_agent::cli::run(std::env::args_os().skip(1))
}
