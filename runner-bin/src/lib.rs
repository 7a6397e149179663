//! Runs CI jobs on Kubernetes, a pod for each job.

mod cli;
mod config;
mod demo;
mod logging;
mod run;
mod system_id;

use std::path::Path;
use std::process::ExitCode;

/// The agent's name in its image.
const AGENT: &str = "podwright-agent";

fn main() -> ExitCode {
    // One crypto provider for the whole process; it fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The agent has a command line of its own, so that the program in the pod stays small. Making its
    // image is not that program's business.
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    // In a pod of the simulated cluster this program is the agent, under the agent's name.
    if Path::new(&name).file_name().is_some_and(|name| name == AGENT) {
        return runner_agent::cli::run(arguments);
    }
    if let [first, rest @ ..] = arguments.as_slice()
        && first == "agent"
        && rest.first().is_some_and(|second| {
            ["supervise", "serve", "relay", "install"].iter().any(|role| second == role)
        })
    {
        return runner_agent::cli::run(rest.iter().cloned());
    }
    cli::run()
}
