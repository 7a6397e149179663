//! Runs CI jobs on Kubernetes, a pod for each job.

mod cli;
mod config;
mod demo;
mod logging;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One crypto provider for the whole process; it fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "agent") {
        // The agent has a command line of its own, so that the program in the pod stays small.
        return runner_agent::cli::run(arguments.skip(1));
    }
    cli::run()
}
