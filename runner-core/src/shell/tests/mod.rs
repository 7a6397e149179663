//! What the text does, shown by the shells themselves.

mod endings;
mod shown;
mod values;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::env_file::{self, Assignment};
use super::{Composition, JobStatus, ShellKind, compose};
use crate::plan::{CommandList, Directories, PlanVariable, Script};
use crate::secret::Secret;

/// A shell of this machine.
#[derive(Clone, Copy, Debug)]
struct Shell {
    words: &'static [&'static str],
    kind: ShellKind,
}

const CANDIDATES: &[Shell] = &[
    Shell { words: &["sh"], kind: ShellKind::Posix },
    Shell { words: &["bash"], kind: ShellKind::Bash },
    // What an unknown `sh` may well be.
    Shell { words: &["bash", "--posix"], kind: ShellKind::Posix },
    Shell { words: &["dash"], kind: ShellKind::Posix },
    Shell { words: &["busybox", "sh"], kind: ShellKind::Posix },
    Shell { words: &["ksh"], kind: ShellKind::Posix },
    Shell { words: &["mksh"], kind: ShellKind::Posix },
];

impl Shell {
    fn is_here(self) -> bool {
        Command::new(self.words[0])
            .args(&self.words[1..])
            .args(["-c", "exit 0"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// The shells there are; `sh` at least.
fn shells() -> Vec<Shell> {
    let shells: Vec<_> = CANDIDATES.iter().copied().filter(|shell| shell.is_here()).collect();
    assert!(shells.iter().any(|shell| shell.words == ["sh"]), "there is no `sh` on this machine");
    shells
}

/// How the text gets to the shell; it must not matter.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    File,
    Stdin,
}

/// A directory of one test.
struct Room {
    root: PathBuf,
}

impl Room {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("podwright-shell-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("it's a project")).unwrap();
        fs::create_dir_all(root.join("tmp")).unwrap();
        Self { root }
    }

    fn directories(&self) -> Directories {
        let below = |name: &str| self.root.join(name).display().to_string();
        Directories {
            builds: below(""),
            project: below("it's a project"),
            temp: below("tmp"),
            cache: below("cache"),
        }
    }

    fn project(&self) -> PathBuf {
        self.root.join("it's a project")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn run_in(room: &Room, shell: Shell, delivery: Delivery, text: &[u8]) -> Output {
    let mut command = Command::new(shell.words[0]);
    command.args(&shell.words[1..]).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    match delivery {
        Delivery::File => {
            let path = room.root.join("script");
            fs::write(&path, text).unwrap();
            // An open standard input that never ends would hang a command that reads it.
            command.arg(&path).stdin(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let keep = child.stdin.take();
            let output = child.wait_with_output().unwrap();
            drop(keep);
            output
        }
        Delivery::Stdin => {
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let text = text.to_owned();
            // A shell that exits early closes the pipe; that is no mistake.
            let feeder = std::thread::spawn(move || drop(stdin.write_all(&text)));
            let output = child.wait_with_output().unwrap();
            feeder.join().unwrap();
            output
        }
    }
}

/// What came of it.
struct Seen<'a> {
    code: i32,
    stdout: &'a str,
    stderr: &'a str,
    project: &'a Path,
}

/// What a test gives to [`each`].
#[derive(Default)]
struct Case {
    commands: Vec<&'static str>,
    variables: Vec<PlanVariable>,
    env_file: Vec<Assignment>,
    announce: Option<String>,
    xtrace: bool,
    status: Option<JobStatus>,
    sections: Vec<CommandList>,
    check_each: bool,
}

impl Case {
    fn of(commands: &[&'static str]) -> Self {
        Self { commands: commands.to_vec(), ..Self::default() }
    }

    fn text(&self, shell: Shell, room: &Room) -> Vec<u8> {
        compose(&Composition {
            shell: shell.kind,
            variables: &self.variables,
            env_file: &self.env_file,
            directories: &room.directories(),
            job_status: self.status.unwrap_or(JobStatus::Running),
            script: &Script {
                commands: self.commands.iter().map(|&command| command.to_owned()).collect(),
                announce: self.announce.clone(),
                xtrace: self.xtrace,
                sections: self.sections.clone(),
                check_each: self.check_each,
                ..Script::default()
            },
            began: 1_700_000_000,
        })
    }

    /// Runs the case in every shell, delivered in every way.
    fn each(&self, check: impl Fn(Shell, Seen<'_>)) {
        for shell in shells() {
            for delivery in [Delivery::File, Delivery::Stdin] {
                let room = Room::new();
                let output = run_in(&room, shell, delivery, &self.text(shell, &room));
                let code = output.status.code().unwrap_or(-1);
                let stdout = String::from_utf8_lossy(&output.stdout);
                let stderr = String::from_utf8_lossy(&output.stderr);
                eprintln!("{shell:?} {delivery:?}: {code}\n{stdout}\n{stderr}");
                let project = &room.project();
                check(shell, Seen { code, stdout: &stdout, stderr: &stderr, project });
            }
        }
    }

    /// The exit status in every shell is this one.
    fn exits_with(&self, expected: i32) {
        self.each(|shell, Seen { code, .. }| assert_eq!(code, expected, "{shell:?}"));
    }
}

fn variable(key: &str, value: &str) -> PlanVariable {
    PlanVariable { key: key.to_owned(), value: Secret::new(value), file: false }
}
