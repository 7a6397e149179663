//! The command line of the program in the pod.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use runner_core::layout;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::process::{Reaper, protect_memory};
use crate::serve::{ServeOptions, serve};
use crate::supervise::{SuperviseOptions, supervise};
use crate::terminal::{TTY_SHELL, become_shell, terminal};

const HELP: &str = "\
podwright-agent: runs a CI job inside its pod

  supervise   in the helper container: run the plan, keep trace and verdict
  serve       in the build container: run the scripts
  install DIR copy this program, and the sh beside it, into a directory (init container)
  relay       for managers: pass frames between standard streams and the supervisor
  terminal    for managers: a shell in a terminal of its own, as frames on standard streams
  dial PORT   for managers: pass bytes between standard streams and a port of this pod

  --plan DIR  --state DIR  --link DIR  --shell FILE  --termination-log FILE
              where things lie (defaults are the pod's)
  --wait SECONDS
              there is no plan yet: a manager brings it within this time (supervise)
  --root DIR  put before all directories of the plan, outside of containers
";

/// Runs a command; `arguments` come without the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let command = arguments.next().unwrap_or_default();
    // What is started from outside in the build container (a terminal) runs beside the job as its user.
    // The call cannot fail with its arguments.
    let _ = protect_memory();
    if command == "install" {
        return install(arguments.next());
    }
    if command == TTY_SHELL {
        let shell = PathBuf::from(arguments.next().unwrap_or_default());
        return fail(&format!("cannot become a shell: {}", become_shell(&shell)));
    }
    let port = (command == "dial").then(|| arguments.next().unwrap_or_default());
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(message) => return fail(&message),
    };
    let work = async {
        let local = LocalSet::new();
        let reaper = Reaper::default();
        local
            .run_until(async {
                if command != "relay" && command != "dial" {
                    tokio::task::spawn_local(reaper.clone().run());
                }
                match command.to_str() {
                    Some("supervise") => {
                        supervise(&options.supervise(), reaper).await.map_err(|error| chain(&error))
                    }
                    Some("serve") => {
                        serve(&options.serve(), reaper).await.map_err(|error| chain(&error))
                    }
                    Some("relay") => {
                        let socket = options.state.join(layout::CONTROL);
                        crate::relay::relay(&socket, tokio::io::stdin(), tokio::io::stdout())
                            .await
                            .map_err(|error| chain(&error))
                    }
                    Some("terminal") => {
                        let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
                        terminal(&options.shell, input, output, &reaper)
                            .await
                            .map_err(|error| chain(&error))
                    }
                    Some("dial") => dial(&port.unwrap_or_default()).await,
                    _ => Err(HELP.to_owned()),
                }
            })
            .await
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot set up this process: {error}")),
    };
    let result = runtime.block_on(work);
    // A read of standard input that is still blocked must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // The kubelet shows it where the container's end is shown.
            let _ = std::fs::write(&options.termination_log, format!("podwright-agent: {message}"));
            fail(&message)
        }
    }
}

/// Passes bytes between the standard streams and a port of this pod, until both sides have ended.
async fn dial(port: &OsStr) -> Result<(), String> {
    let port: Option<u16> = port.to_str().and_then(|port| port.parse().ok());
    let port = port.ok_or("dial needs a port")?;
    let work = async {
        let mut stream = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?;
        let mut streams = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
        tokio::io::copy_bidirectional(&mut streams, &mut stream).await
    };
    work.await.map(drop).map_err(|error| format!("port {port}: {error}"))
}

/// Copies what the agent's image holds to where all containers of the pod see it.
fn install(directory: Option<OsString>) -> ExitCode {
    let Some(directory) = directory.map(PathBuf::from) else {
        return fail("install needs a directory");
    };
    let copy = || -> std::io::Result<()> {
        let own = std::env::current_exe()?;
        std::fs::copy(&own, directory.join("podwright-agent"))?;
        let shell = own.with_file_name("sh");
        if shell.is_file() {
            std::fs::copy(shell, directory.join("sh"))?;
        }
        Ok(())
    };
    match copy() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot install into {}: {error}", directory.display())),
    }
}

#[expect(clippy::print_stderr, reason = "the container's log is where an operator looks")]
fn fail(message: &str) -> ExitCode {
    eprintln!("podwright-agent: {message}");
    ExitCode::from(2)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

struct Options {
    plan: PathBuf,
    state: PathBuf,
    link: PathBuf,
    shell: PathBuf,
    termination_log: PathBuf,
    root: Option<String>,
    wait: Option<Duration>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        // The environment, for executors whose containers have no file system of their own.
        let root = std::env::var(layout::ROOT_VARIABLE).ok().filter(|root| !root.is_empty());
        // There the pod's own directories lie below it too; a flag says exactly where one lies.
        let below = |path: &str| PathBuf::from(format!("{}{path}", root.as_deref().unwrap_or("")));
        let mut options = Self {
            plan: below(layout::PLAN_DIR),
            state: below(layout::STATE_DIR),
            link: below(layout::LINK_DIR),
            shell: below(layout::SHELL),
            termination_log: below("/dev/termination-log"),
            root,
            wait: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{} needs a value\n{HELP}", name.to_string_lossy()))?;
            match name.to_str() {
                Some("--plan") => options.plan = value.into(),
                Some("--state") => options.state = value.into(),
                Some("--link") => options.link = value.into(),
                Some("--shell") => options.shell = value.into(),
                Some("--termination-log") => options.termination_log = value.into(),
                Some("--wait") => {
                    let seconds = value.to_str().and_then(|text| text.parse().ok());
                    let seconds = seconds.ok_or("--wait needs a number of seconds")?;
                    options.wait = Some(Duration::from_secs(seconds));
                }
                Some("--root") => options.root = Some(value.to_string_lossy().into_owned()),
                _ => return Err(format!("{} is no option\n{HELP}", name.to_string_lossy())),
            }
        }
        Ok(options)
    }

    fn supervise(&self) -> SuperviseOptions {
        SuperviseOptions {
            plan: self.plan.clone(),
            state: self.state.clone(),
            link: self.link.clone(),
            root: self.root.clone(),
            termination_log: self.termination_log.clone(),
            wait: self.wait,
        }
    }

    fn serve(&self) -> ServeOptions {
        ServeOptions { socket: self.link.join(layout::SOCKET), bundled_shell: self.shell.clone() }
    }
}
