//! Commands and their exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runner_agent::image::AgentImage;

use crate::config::{self, LogFormat, LogLevel, Severity, Surroundings};
use crate::demo::Cluster;
use crate::run::{Overrides, RunOptions};
use crate::{demo, environment, logging, run};

/// Runs CI jobs on Kubernetes, a pod for each job.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a two-job pipeline against a GitLab stand-in.
    ///
    /// Without --kubeconfig the jobs run in pods of a simulated cluster, which are local processes.
    /// Exit code 0 only if all verdicts are right.
    Demo {
        /// Run on this cluster.
        #[arg(long, requires = "agent_image")]
        kubeconfig: Option<String>,
        /// The agent's image, as the cluster knows it (see `podwright agent image`).
        #[arg(long)]
        agent_image: Option<String>,
        /// Image of the jobs.
        #[arg(long, default_value = "debian:12")]
        image: String,
        /// Image with git.
        #[arg(long, default_value = "debian:12")]
        helper_image: String,
        /// Namespace of the pods.
        #[arg(long, default_value = "default")]
        namespace: String,
        /// Where the GitLab stand-in listens; pods have to reach it.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
        /// Least severe lines of the manager's own log: error, warn, info, debug or trace.
        #[arg(long, default_value = "warn")]
        log_level: String,
    },
    /// Look at a configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Run jobs as config.toml says, until told to stop.
    ///
    /// SIGQUIT: finish the running jobs first. SIGTERM, SIGINT: leave them to the next manager; they
    /// go on in their pods. A second one: end at once.
    Run {
        /// GitLab Runner's config.toml.
        #[arg(long, short, env = "CONFIG_FILE")]
        config: Option<PathBuf>,
        /// Address of metrics, health and debug pages; wins over the configuration.
        #[arg(long, env = "LISTEN_ADDRESS")]
        listen_address: Option<String>,
        /// Change to this directory first.
        #[arg(long, short = 'd')]
        working_directory: Option<PathBuf>,
    },
    /// The program in the pod, and its image.
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Make the agent's image, as an OCI layout in a tar file, without Docker or a registry.
    Image {
        /// Where to write it.
        #[arg(long)]
        out: PathBuf,
        /// The static agent program (built for the pods' architecture).
        #[arg(long)]
        agent: PathBuf,
        /// A static shell, e.g. busybox, for images that have none.
        #[arg(long)]
        sh: Option<PathBuf>,
        /// The image's full name with tag.
        #[arg(long)]
        name: String,
        /// Architecture in Go's words.
        #[arg(long, default_value = "amd64")]
        arch: String,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with a config.toml. Exit code 1 if there is a mistake.
    Check {
        /// The file.
        file: PathBuf,
        /// Print the settings too, with their defaults filled in and without secrets.
        #[arg(long)]
        effective: bool,
    },
    /// Print a JSON Schema of config.toml, for editors.
    Schema,
}

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo {
            log_level,
            kubeconfig,
            agent_image,
            image,
            helper_image,
            namespace,
            listen,
        } => {
            logging::start(
                LogLevel::parse(&log_level).unwrap_or(LogLevel::Warn),
                LogFormat::Runner,
            );
            let cluster = kubeconfig.zip(agent_image).map(|(kubeconfig, agent_image)| Cluster {
                kubeconfig,
                agent_image,
                image,
                helper_image,
                namespace,
            });
            demo::run(cluster, listen)
        }
        Command::Config { command: ConfigCommand::Check { file, effective } } => {
            check(&file, effective)
        }
        Command::Config { command: ConfigCommand::Schema } => {
            println!("{:#}", config::schema());
            ExitCode::SUCCESS
        }
        Command::Run { config, listen_address, working_directory } => run::run(RunOptions {
            config: config.unwrap_or_else(environment::default_config),
            overrides: Overrides { listen_address, ..Overrides::default() },
            working_directory,
        }),
        Command::Agent { command } => image(&command),
    }
}

#[expect(clippy::print_stderr, reason = "a person is watching")]
fn image(command: &AgentCommand) -> ExitCode {
    let AgentCommand::Image { out, agent, sh, name, arch } = command;
    let image = AgentImage { agent, shell: sh.as_deref(), name, architecture: arch };
    let result = std::fs::File::create(out).and_then(|file| image.write(file));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwright agent image: {}: {error}", out.display());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the findings are what was asked for")]
fn check(file: &Path, effective: bool) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            println!("{}: cannot be read: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let surroundings = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        file: &|path| std::fs::read_to_string(path),
    };
    let reading = config::read(&text, &surroundings);
    for finding in &reading.findings.0 {
        println!("{}: {}: {finding}", file.display(), word(finding.severity));
    }
    if effective {
        print!("{}", config::effective(&reading.table));
    }
    if reading.findings.has(Severity::Fault) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Fault => "error in this runner",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}
