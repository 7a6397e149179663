//! The agent as a program of this package, so that its tests need no image: the simulated cluster
//! starts it. In a real cluster it comes with the agent's image.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One crypto provider for the whole process. It can only fail when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    runner_agent::cli::run(std::env::args_os().skip(1))
}
