//! The short ones: `list`, `lint`, `status`, `health-check`.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;
use tracing::{info, warn};

use super::file::{ConfigFile, Opened};
use crate::config::Severity;
use crate::run::read;

/// Print the runners of the file.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    file: ConfigFile,
}

impl List {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.file.path();
        info!(ConfigFile = %path.display(), "Listing configured runners");
        match Opened::read(&path) {
            Ok(opened) => {
                for runner in opened.config.runners {
                    let token = runner.token.expose();
                    info!(
                        Executor = "kubernetes",
                        Token = token,
                        URL = runner.url,
                        "{}",
                        runner.name
                    );
                }
            }
            // GitLab Runner only warns too.
            Err(error) => warn!("{error:#}"),
        }
        Ok(())
    }
}

/// Say what is wrong with the file. Exit code 1 for anything but notes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Lint {
    #[command(flatten)]
    file: ConfigFile,
}

impl Lint {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.file.path();
        let reading = read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let findings: Vec<String> = reading
            .findings
            .0
            .iter()
            .filter(|finding| finding.severity >= Severity::Warning)
            .map(ToString::to_string)
            .collect();
        if !findings.is_empty() {
            bail!("{} is not valid: {}", path.display(), findings.join("; "));
        }
        info!("Configuration file is valid.");
        Ok(())
    }
}

/// Say whether a manager runs, by asking its pages. Exit code 1 if none answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    file: ConfigFile,
    /// Where its pages are. Default: listen_address of the configuration.
    #[arg(long, env = "LISTEN_ADDRESS")]
    listen_address: Option<String>,
}

impl Status {
    #[expect(clippy::print_stdout, reason = "scripts read this line")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let from_file = || Some(Opened::read(&self.file.path()).ok()?.config.listen_address);
        let address = self.listen_address.clone().or_else(from_file).unwrap_or_default();
        if address.is_empty() {
            bail!("there is no listen_address, so nothing can be asked whether a manager runs");
        }
        let address = crate::metrics::reachable(&address)?;
        ask(&address).context("the service is not running")?;
        println!("gitlab-runner: Service is running");
        Ok(())
    }
}

/// Whether the pages at this address say that they live.
fn ask(address: &str) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let target = address.to_socket_addrs()?.next().context("the address leads nowhere")?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    // A few bytes, and the peer closes.
    stream.take(4096).read_to_string(&mut answer)?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        other => bail!("{address} answered {other:?}"),
    }
}

/// Wait until TCP ports answer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HealthCheck {
    /// A port of this machine; may be repeated. Default: the first pair of variables ending in
    /// _TCP_ADDR and _TCP_PORT.
    #[arg(long, short)]
    port: Vec<u16>,
}

impl HealthCheck {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let addresses: Vec<String> = match self.port.as_slice() {
            [] => vec![from_environment().context("no address to check: there is no *_TCP_ADDR")?],
            ports => ports.iter().map(|port| format!("localhost:{port}")).collect(),
        };
        let give_up = Instant::now() + Duration::from_secs(300);
        for address in addresses {
            while !answers(&address) {
                if Instant::now() > give_up {
                    bail!("{address} did not answer within five minutes");
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Ok(())
    }
}

fn from_environment() -> Option<String> {
    let mut names: Vec<(String, String)> = std::env::vars().collect();
    names.sort();
    names.into_iter().find_map(|(name, address)| {
        let stem = name.strip_suffix("_TCP_ADDR")?;
        let port = std::env::var(format!("{stem}_TCP_PORT")).ok()?;
        Some(format!("{address}:{port}"))
    })
}

fn answers(address: &str) -> bool {
    let Ok(mut targets) = address.to_socket_addrs() else { return false };
    targets.any(|target| TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok())
}
