//! Commands and their exit codes.

mod generate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use runner_agent::image::AgentImage;
use tracing::{error, info};

use crate::commands::{
    ConfigFile, HealthCheck, Lint, List, PodPreview, Register, ResetToken, RunSingle, Status,
    Unregister, Verify,
};
use crate::config::{self, LogFormat, LogLevel, Severity};
use crate::demo::Cluster;
use crate::run::{Overrides, RunOptions};
use crate::{demo, logging, run, version};

/// Runs CI jobs on Kubernetes, a pod for each job.
///
/// Takes GitLab Runner's config.toml and answers to its commands, also under the name gitlab-runner.
#[derive(Debug, Parser)]
#[command(
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start with: podwright config check FILE, then podwright run --config FILE"
)]
struct Arguments {
    #[command(flatten)]
    log: Log,
    /// Print version and platform.
    #[arg(long, short = 'v', visible_short_alias = 'V')]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How much is logged; before or after the command.
#[derive(Clone, Debug, clap::Args)]
struct Log {
    /// Log what is decided, too.
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    debug: Option<bool>,
    /// Least severe lines: panic, fatal, error, warn, info, debug or trace.
    #[arg(long, short = 'l', global = true, env = "LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// runner (for people), text (key=value) or json.
    #[arg(long, global = true, env = "LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Accepted for GitLab Runner's sake.
    #[arg(long, global = true, env = "CPU_PROFILE", hide = true)]
    cpuprofile: Option<String>,
}

impl Log {
    /// What the flags and variables say; empty ones say nothing.
    fn overrides(&self) -> Result<Overrides, String> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let level = match said(&self.log_level) {
            Some(text) => Some(
                LogLevel::parse(&text)
                    .ok_or_else(|| format!("--log-level {text:?} is not a level"))?,
            ),
            None => None,
        };
        let format = match said(&self.log_format) {
            Some(text) => Some(
                LogFormat::parse(&text)
                    .ok_or_else(|| format!("--log-format {text:?} is not runner, text or json"))?,
            ),
            None => None,
        };
        let variable = || std::env::var("RUNNER_DEBUG").is_ok_and(|text| is_true(&text));
        let debug = self.debug.unwrap_or_else(variable);
        let log_level = if debug { Some(LogLevel::Debug) } else { level };
        Ok(Overrides { log_level, log_format: format, listen_address: None })
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1" | "t" | "T" | "TRUE" | "True")
}

/// The name in help, manual pages and completions.
const NAME: &str = "podwright";

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
    },
    /// Look at a configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look at pods before there are any.
    Pod {
        #[command(subcommand)]
        command: PodCommand,
    },
    /// Run jobs as config.toml says, until told to stop.
    ///
    /// HUP: read the configuration (a change of the file is noticed anyway). QUIT: finish the running
    /// jobs first. TERM, INT: leave them to the next manager; they go on in their pods (or stop them,
    /// with on_terminate = "stop"). A second one: end at once.
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Address of metrics, health and debug pages; wins over the configuration.
        #[arg(long, env = "LISTEN_ADDRESS")]
        listen_address: Option<String>,
        /// Change to this directory first.
        #[arg(long, short = 'd')]
        working_directory: Option<PathBuf>,
        /// Accepted: it is for the shell executor.
        #[arg(long, short, hide = true)]
        user: Option<String>,
        /// Accepted: there is no service manager here.
        #[arg(long, short = 'n', hide = true)]
        service: Option<String>,
        /// Accepted: the log goes to standard error.
        #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        syslog: Option<bool>,
    },
    Register(Box<Register>),
    Unregister(Unregister),
    Verify(Verify),
    List(List),
    Lint(Lint),
    ResetToken(ResetToken),
    RunSingle(Box<RunSingle>),
    Status(Status),
    HealthCheck(HealthCheck),
    /// Print a script that completes commands and flags in a shell.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command.
    Man {
        /// Into this directory.
        directory: PathBuf,
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
        /// The licence of that shell, for whoever passes the image on (see docs/licences.md); of busybox
        /// `/usr/share/common-licenses/GPL-2`.
        #[arg(long, requires = "sh")]
        sh_licence: Option<PathBuf>,
        /// The image's full name with tag.
        #[arg(long)]
        name: String,
        /// Architecture in Go's words.
        #[arg(long, default_value = "amd64")]
        arch: String,
    },
}

#[derive(Debug, Subcommand)]
enum PodCommand {
    Preview(PodPreview),
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

/// Runs the command that was given. Exit code 1 for anything that is wrong, as GitLab Runner's.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn run() -> ExitCode {
    // A command is needed for anything else, so this is looked at before.
    if std::env::args().nth(1).is_some_and(|first| ["-v", "-V", "--version"].contains(&&*first)) {
        generate::version();
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to be told that nothing can be printed.
            let _ = error.print();
            let help = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            return if help { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let overrides = match arguments.log.overrides() {
        Ok(overrides) => overrides,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let Some(command) = arguments.command else { return ExitCode::SUCCESS };
    dispatch(command, overrides)
}

#[expect(clippy::print_stdout, reason = "the schema is what was asked for")]
fn dispatch(command: Command, overrides: Overrides) -> ExitCode {
    match command {
        Command::Demo { kubeconfig, agent_image, image, helper_image, namespace, listen } => {
            logging::start(overrides.log_level.unwrap_or(LogLevel::Warn), LogFormat::Runner);
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
        Command::Pod { command: PodCommand::Preview(preview) } => match preview.run() {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                begin(&overrides);
                error!("FATAL: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::Run { file, listen_address, working_directory, .. } => run::run(RunOptions {
            config: file.path(),
            overrides: Overrides { listen_address, ..overrides },
            working_directory,
        }),
        Command::Agent { command } => image(&command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { directory } => generate::man(Arguments::command(), &directory),
        Command::RunSingle(single) => {
            begin(&overrides);
            single.run().unwrap_or_else(|error| {
                error!("FATAL: {error:#}");
                ExitCode::FAILURE
            })
        }
        Command::Register(register) => finish(&overrides, || register.run()),
        Command::Unregister(unregister) => finish(&overrides, || unregister.run()),
        Command::Verify(verify) => finish(&overrides, || verify.run()),
        Command::List(list) => finish(&overrides, || list.run()),
        Command::Lint(lint) => finish(&overrides, || lint.run()),
        Command::ResetToken(reset) => finish(&overrides, || reset.run()),
        Command::Status(status) => finish(&overrides, || status.run()),
        Command::HealthCheck(check) => finish(&overrides, || check.run()),
    }
}

fn begin(overrides: &Overrides) {
    logging::start(
        overrides.log_level.unwrap_or_default(),
        overrides.log_format.unwrap_or_default(),
    );
    info!(
        arch = std::env::consts::ARCH,
        os = std::env::consts::OS,
        pid = std::process::id(),
        revision = version::REVISION,
        version = version::VERSION,
        "Runtime platform"
    );
}

/// Runs a command that either works or says why not.
fn finish(overrides: &Overrides, command: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    begin(overrides);
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("FATAL: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a person is watching")]
fn image(command: &AgentCommand) -> ExitCode {
    let AgentCommand::Image { out, agent, sh, sh_licence, name, arch } = command;
    let image = AgentImage {
        agent,
        shell: sh.as_deref(),
        shell_licence: sh_licence.as_deref(),
        name,
        architecture: arch,
    };
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
    let reading = config::read_from_environment(&text);
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
