//! The program `podwright`: runs CI jobs on Kubernetes, a pod for each job.
//!
//! A library only so that fuzz targets reach what reads foreign text; it promises nothing to others.

mod cli;
mod commands;
mod config;
mod demo;
mod environment;
mod logging;
mod metrics;
mod run;
mod sessions;
mod system_id;
mod traces;
mod version;

use std::path::Path;
use std::process::ExitCode;

/// The agent's name in its image.
const AGENT: &str = "podwright-agent";

/// What the program does.
#[doc(hidden)]
pub fn main() -> ExitCode {
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
            ["supervise", "serve", "relay", "install", "terminal", "tty-shell", "dial"]
                .iter()
                .any(|role| second == role)
        })
    {
        return runner_agent::cli::run(rest.iter().cloned());
    }
    cli::run()
}

/// What `run` makes of a `config.toml` before it connects anywhere: its meaning, or its mistakes. The
/// environment is empty and there are no files.
///
/// # Errors
/// All mistakes, for people.
#[doc(hidden)]
pub fn explain_config(text: &str) -> Result<String, String> {
    let none = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let surroundings = config::Surroundings { variable: &|_| None, file: &|_| Err(none()) };
    let reading = config::read(text, &surroundings);
    let all: Vec<_> = reading.findings.0.iter().map(ToString::to_string).collect();
    if reading.config.is_none() || reading.findings.has(config::Severity::Fault) {
        return Err(all.join("; "));
    }
    // Everything that `config check` and a reload do with it, too.
    config::diff(&toml::Table::new(), &reading.table);
    Ok(format!("{}{}", config::effective(&reading.table), all.join("; ")))
}
