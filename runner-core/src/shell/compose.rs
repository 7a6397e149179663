//! From commands and variables to shell text.
//!
//! ```text
//!   trap, options            ┐ run command by command
//!   export A='…' …           ┘ from wherever the shell reads its script
//!   { exec </dev/null        ┐ read as a whole before it runs, so the user's commands never
//!     set -o errexit         │ share standard input with the script
//!     eval '<all commands>'  │
//!     exit "$?"; }           ┘
//! ```
//!
//! Why one `eval`: constructs may span several entries of `script:` (an `if` in one, its `fi` in a
//! later one), and jobs rely on it. A shell's `eval` reads and runs line by line, so a syntax error
//! fails the job when its line is reached, with the commands before it done, as with GitLab Runner.
//!
//! Why no subshell: `$$` is the shell the user's commands run in, one process less is forked, and
//! the exit status needs no hand-over.
//!
//! The text does not depend on how it reaches the shell. A regular file or a memory file is the way
//! to choose for large texts: shells read a pipe byte by byte.

use std::collections::HashSet;

use super::env_file::{Assignment, is_name};
use super::powershell;
use super::quote::{quote, quote_into};
use crate::log::{section_end, section_start};
use crate::plan::{Directories, PlanVariable, Script};

/// Name of the file, in the job's temporary directory, whose path `$GITLAB_ENV` holds.
pub const ENV_FILE: &str = "gitlab_runner_env";

const GREEN: &str = "\x1b[32;1m";
const RESET: &str = "\x1b[0;m";

/// Which language the shell understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShellKind {
    /// bash of any version.
    Bash,
    /// Any other shell of the POSIX family: dash, busybox, ksh …
    Posix,
    /// `pwsh`.
    PowerShell,
}

/// What `CI_JOB_STATUS` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum JobStatus {
    /// Everywhere before `after_script`.
    Running,
    /// All user steps succeeded.
    Success,
    /// Something failed.
    Failed,
    /// Somebody cancelled the job.
    Canceled,
    /// The script's own timeout (`RUNNER_SCRIPT_TIMEOUT`) passed.
    TimedOut,
}

impl JobStatus {
    /// The word in `CI_JOB_STATUS`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedout",
        }
    }
}

/// Everything that goes into the text.
#[derive(Clone, Copy, Debug)]
pub struct Composition<'a> {
    /// Who will read it.
    pub shell: ShellKind,
    /// The plan's variables, in order; the last one of a name counts.
    pub variables: &'a [PlanVariable],
    /// What earlier stages wrote to `$GITLAB_ENV`; it wins over `variables`.
    pub env_file: &'a [Assignment],
    /// Where things lie; the commands begin in `project`.
    pub directories: &'a Directories,
    /// How the job stands.
    pub job_status: JobStatus,
    /// The commands.
    pub script: &'a Script,
    /// When the script begins, in seconds since the Unix epoch, for section markers.
    pub began: i64,
}

/// The text to feed to the shell. The shell's exit status is the commands'.
///
/// It holds the job's variables in clear: keep it out of the log, out of argument lists, and out of
/// files that others can read.
///
/// File variables are exported as paths (`<temp>/<name>`); the files must exist already. A name
/// that no shell takes is left out, and so are those that bash keeps to itself (`UID` …): GitLab
/// Runner's job dies of them.
#[must_use]
pub fn compose(job: &Composition<'_>) -> Vec<u8> {
    if job.shell == ShellKind::PowerShell {
        return powershell::compose(job);
    }
    let exports = exports(job);
    let body = body(job.script, job.began);
    // A guess without the quotes inside, so that the usual text is never copied while it grows.
    let size =
        exports.iter().map(|export| export.name.len() + export.value.len() + 32).sum::<usize>();
    let mut out = Vec::with_capacity(size + body.len() + body.len() / 8 + 1024);

    // Ends the shell with 1 when it is told to; without it bash before 4.4 and since 5.3 prints the
    // text of the interrupted `eval`, variables included.
    out.extend_from_slice(b"trap 'exit 1' TERM\n");
    // noclobber may be on through an image's SHELLOPTS; nounset is left as it is.
    out.extend_from_slice(b"set +o noclobber\n");
    match job.shell {
        ShellKind::Bash => out.extend_from_slice(b"set -o pipefail\n"),
        // `command` takes from `set` the right to end the shell where the option is unknown, so
        // the question costs neither a process nor a `grep`, which the image may not have.
        _ => out.extend_from_slice(b"command set -o pipefail 2>/dev/null || :\n"),
    }
    put_exports(&exports, job.script.xtrace, &mut out);

    out.extend_from_slice(b"{\nexec </dev/null\nset -o errexit\ncd ");
    quote_into(&mut out, job.directories.project.as_bytes());
    out.extend_from_slice(b"\neval ");
    quote_into(&mut out, &body);
    out.extend_from_slice(b"\nexit \"$?\"\n}\n");
    out
}

pub(super) struct Export<'a> {
    pub(super) name: &'a str,
    pub(super) value: std::borrow::Cow<'a, [u8]>,
}

/// The last value of each name, in the order of those last values.
pub(super) fn exports<'a>(job: &Composition<'a>) -> Vec<Export<'a>> {
    let temp = job.directories.temp.as_str();
    let own = [
        ("CI_JOB_STATUS", job.job_status.as_str().to_owned()),
        ("GITLAB_ENV", format!("{temp}/{ENV_FILE}")),
    ];
    let plan = job.variables.iter().map(|variable| Export {
        name: &variable.key,
        value: if variable.file {
            format!("{temp}/{}", variable.key).into_bytes().into()
        } else {
            variable.value.expose().as_bytes().into()
        },
    });
    let file = job
        .env_file
        .iter()
        .map(|assignment| Export { name: &assignment.name, value: assignment.value[..].into() });
    let own =
        own.into_iter().map(|(name, value)| Export { name, value: value.into_bytes().into() });
    let all: Vec<_> = plan.chain(file).chain(own).collect();

    let mut seen = HashSet::new();
    let mut last: Vec<_> = all
        .into_iter()
        .rev()
        .filter(|export| is_exportable(export) && seen.insert(export.name))
        .collect();
    last.reverse();
    last
}

/// Names that bash refuses to set, and one that dash takes as a number or dies.
fn is_exportable(export: &Export<'_>) -> bool {
    match export.name {
        "UID" | "EUID" | "PPID" | "BASHOPTS" | "SHELLOPTS" | "BASH_VERSINFO" => false,
        "OPTIND" => export.value.iter().all(u8::is_ascii_digit) && !export.value.is_empty(),
        name => is_name(name),
    }
}

fn put_exports(exports: &[Export<'_>], xtrace: bool, out: &mut Vec<u8>) {
    let mut traced = false;
    for export in exports {
        // With xtrace on, a shell prints each value in its own quoting, in which a masked value
        // with a quote or a control character is no longer found. Those are not traced; the others
        // are, because that is what people switch CI_DEBUG_TRACE on for.
        let wanted =
            xtrace && export.value.iter().all(|byte| matches!(byte, b' '..=b'~' if *byte != b'\''));
        if wanted != traced {
            out.extend_from_slice(if wanted { b"set -o xtrace\n" } else { UNTRACE });
            traced = wanted;
        }
        out.extend_from_slice(b"export ");
        out.extend_from_slice(export.name.as_bytes());
        out.push(b'=');
        quote_into(out, &export.value);
        out.push(b'\n');
    }
    if traced {
        out.extend_from_slice(UNTRACE);
    }
}

/// Off, without the trace of switching it off.
const UNTRACE: &[u8] = b"{ set +o xtrace; } 2>/dev/null\n";

fn body(script: &Script, began: i64) -> Vec<u8> {
    let mut body = Vec::with_capacity(
        script.commands.iter().map(|command| command.len() * 2 + 64).sum::<usize>() + 128,
    );
    // Inside, or the trace would show the whole text of the `eval`.
    if script.xtrace {
        body.extend_from_slice(b"set -o xtrace\n");
    }
    if let Some(line) = &script.announce {
        put_echo(&format!("{GREEN}{line}{RESET}\n"), &mut body);
    }
    let mut sections = section_names(script);
    for command in &script.commands {
        let section = sections.next();
        let command = command.trim();
        put_echo(&shown(command, section.as_deref(), began), &mut body);
        body.extend_from_slice(command.as_bytes());
        body.push(b'\n');
        if script.check_each && !command.is_empty() {
            body.extend_from_slice(CHECK);
        }
    }
    body
}

/// Ends the script after a command that failed where `errexit` looks away. The name is GitLab
/// Runner's: scripts that read it exist.
const CHECK: &[u8] = b"_runner_exit_code=$?; if [ \"$_runner_exit_code\" -ne 0 ]; then exit \"$_runner_exit_code\"; fi\n";

/// What is printed before a command runs.
pub(super) fn shown(command: &str, section: Option<&str>, began: i64) -> String {
    match (command.split_once('\n'), section) {
        (None, _) if command.is_empty() => "\n".to_owned(),
        (None, _) => format!("{GREEN}$ {command}{RESET}\n"),
        // The section holds the command and not its output. It is over at once and its duration is
        // hidden, so any time will do: the script's beginning costs no process to find out.
        (Some(_), Some(name)) => {
            let start = section_start(&format!("{name}{HIDDEN}"), began);
            format!("{start}{GREEN}$ {command}{RESET}\n{}", section_end(name, began))
        }
        (Some((first, _)), None) => {
            format!("{GREEN}$ {first} # collapsed multi-line command{RESET}\n")
        }
    }
}

const HIDDEN: &str = "[hide_duration=true,collapsed=true]";

/// The section of each command; none where sections are not wanted.
pub(super) fn section_names(script: &Script) -> impl Iterator<Item = String> + '_ {
    script.sections.iter().flat_map(|list| {
        (0..list.commands).map(move |index| format!("section_{}_{index}", list.name))
    })
}

/// `printf` rather than `echo`, which reads backslashes in dash and options in bash. A line feed at
/// the end is the format's, so that a debug trace shows one line.
fn put_echo(text: &str, out: &mut Vec<u8>) {
    let (format, text) = match text.strip_suffix('\n') {
        Some(line) => ("'%s\\n'", line),
        None => ("%s", text),
    };
    out.extend_from_slice(format!("printf {format} ").as_bytes());
    out.extend_from_slice(&quote(text.as_bytes()));
    out.push(b'\n');
}
