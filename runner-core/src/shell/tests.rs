//! What the text does, shown by the shells themselves.

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

#[test]
fn stages_06_the_exit_status_of_the_commands_is_the_shells() {
    Case::of(&["echo hello"]).exits_with(0);
    Case::of(&["exit 37"]).exits_with(37);
    Case::of(&["(exit 42)", "echo never"]).exits_with(42);
    Case::of(&["sh -c 'exit 5'"]).exits_with(5);
    Case::of(&["exit 0", "false"]).exits_with(0);
    Case::of(&[]).exits_with(0);
    Case::of(&["command-that-is-not-there"]).exits_with(127);
    Case::of(&["sh -c 'kill -KILL $$'"]).exits_with(137);
}

#[test]
fn stages_99_the_first_failing_command_ends_the_script() {
    Case::of(&["echo one", "false", "echo three"]).each(|shell, Seen { code, stdout, .. }| {
        assert_eq!(code, 1, "{shell:?}");
        assert!(stdout.contains("one\n") && !stdout.contains("three"), "{shell:?}");
    });
    Case::of(&["echo a\nfalse\necho b"]).each(|shell, Seen { code, stdout, .. }| {
        assert_eq!(code, 1, "{shell:?}");
        assert!(!stdout.contains("b\n"), "{shell:?}: {stdout}");
    });
}

#[test]
fn stages_99_errexit_has_the_exceptions_that_shells_make() {
    Case::of(&["false || true", "if false; then :; fi", "! true", "echo end"]).each(
        |shell, Seen { code, stdout, .. }| {
            assert_eq!(code, 0, "{shell:?}");
            assert!(stdout.contains("end\n"));
        },
    );
    Case::of(&["set +e", "false", "echo on"]).exits_with(0);
    Case::of(&["set +e", "false"]).exits_with(1);
    Case::of(&["test -e /nowhere && echo"]).exits_with(1);
    Case::of(&["f() { return 9; }", "f", "echo no"]).exits_with(9);
}

#[test]
fn stages_99_pipefail_where_the_shell_has_it() {
    Case::of(&["false | cat", "echo reached"]).each(|shell, Seen { code, stdout, .. }| {
        let has = Command::new(shell.words[0])
            .args(&shell.words[1..])
            .args(["-c", "set -o pipefail"])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success();
        assert_eq!((code, stdout.contains("reached\n")), if has { (1, false) } else { (0, true) });
        assert!(has || shell.kind == ShellKind::Posix);
    });
}

#[test]
fn stages_99_noclobber_and_nounset_are_off() {
    Case::of(&["echo 1 > f", "echo 2 > f", "test -z \"$NOT_SET_ANYWHERE\""]).exits_with(0);
}

#[test]
fn stages_99_commands_that_read_standard_input_get_its_end() {
    Case::of(&["cat", "read line || echo \"end of input\"", "echo after"]).each(
        |shell, Seen { code, stdout, .. }| {
            assert_eq!(code, 0, "{shell:?}");
            assert!(stdout.contains("end of input\n"), "{shell:?}: {stdout}");
            assert!(stdout.ends_with("after\n"), "{shell:?}: {stdout}");
        },
    );
    // Even a job that opens another standard input does not get to read, or run, the script's rest.
    Case::of(&["echo 'echo stolen' > f", "exec < f"]).each(|shell, Seen { code, stdout, .. }| {
        assert_eq!(code, 0, "{shell:?}");
        assert!(!stdout.contains("\nstolen"), "{shell:?}: {stdout}");
    });
}

#[test]
fn commands_share_one_shell_and_begin_in_the_project() {
    Case::of(&["pwd -P > where", "x=5; cd /; f() { echo \"f$x\"; }", "f; pwd"]).each(
        |_, Seen { code, stdout, project, .. }| {
            assert_eq!(code, 0);
            assert!(stdout.ends_with("f5\n/\n"), "{stdout}");
            let at = fs::read_to_string(project.join("where")).unwrap();
            assert_eq!(Path::new(at.trim_end()), project.canonicalize().unwrap());
        },
    );
}

#[test]
fn a_construct_may_span_several_commands() {
    Case::of(&["for i in 1 2; do", "echo \"n$i\"", "done"]).each(
        |shell, Seen { code, stdout, .. }| {
            assert_eq!(code, 0, "{shell:?}");
            assert!(stdout.contains("n1\n") && stdout.contains("n2\n"), "{stdout}");
        },
    );
}

#[test]
fn a_syntax_error_fails_where_it_is_reached() {
    Case::of(&["echo before", "if", "echo after"]).each(
        |shell, Seen { code, stdout, stderr, .. }| {
            assert_ne!(code, 0, "{shell:?}");
            assert!(stdout.contains("before\n") && !stdout.contains("\nafter\n"), "{stdout}");
            assert!(!stderr.is_empty());
        },
    );
    // Text that would close the script's own brackets does not.
    Case::of(&["} ; echo escaped ; {"]).each(|shell, Seen { code, stdout, .. }| {
        assert_ne!(code, 0, "{shell:?}");
        assert!(!stdout.contains("\nescaped"), "{stdout}");
    });
    Case::of(&["cat <<END\nunfinished"]).each(|shell, Seen { stdout, .. }| {
        assert!(stdout.ends_with("unfinished\n"), "{shell:?}: {stdout}");
    });
}

#[test]
fn stages_100_each_command_is_shown_before_it_runs() {
    let commands = ["  echo 'a\\nb'  ", "", "echo one\necho two", "echo ⚙ '\x1b[1m'"];
    Case::of(&commands).each(|shell, Seen { code, stdout, .. }| {
        assert_eq!(code, 0, "{shell:?}");
        let parts = [
            "\x1b[32;1m$ echo 'a\\nb'\x1b[0;m\n",
            "\n\x1b[32;1m$ echo one # collapsed multi-line command\x1b[0;m\none\ntwo\n",
            "\x1b[32;1m$ echo ⚙ '\x1b[1m'\x1b[0;m\n⚙ \x1b[1m\n",
        ];
        let mut rest = stdout;
        for part in parts {
            let at = rest.find(part).unwrap_or_else(|| panic!("{shell:?}: {part:?} in {rest:?}"));
            rest = &rest[at + part.len()..];
        }
        assert_eq!(rest, "", "{shell:?}");
    });
    // The line shown resets `$?`, as with GitLab Runner.
    Case::of(&["set +e\nfalse", "test $? = 0"]).exits_with(0);
}

#[test]
fn stages_101_commands_of_several_lines_are_collapsed_sections_that_end_before_their_output() {
    let case = Case {
        commands: vec!["echo pre\necho two", "echo single", "printf 'out\\n'\ntrue"],
        sections: vec![
            CommandList { name: "pre_build_script".into(), commands: 1 },
            CommandList { name: "script_step".into(), commands: 2 },
        ],
        ..Case::default()
    };
    case.each(|shell, Seen { stdout, .. }| {
        let section = |name: &str, command: &str| {
            format!(
                "section_start:1700000000:{name}[hide_duration=true,collapsed=true]\r\x1b[0K\
                 \x1b[32;1m$ {command}\x1b[0;m\nsection_end:1700000000:{name}\r\x1b[0K"
            )
        };
        let expected = format!(
            "{}pre\ntwo\n\x1b[32;1m$ echo single\x1b[0;m\nsingle\n{}out\n",
            section("section_pre_build_script_0", "echo pre\necho two"),
            section("section_script_step_1", "printf 'out\\n'\ntrue"),
        );
        assert_eq!(stdout, expected, "{shell:?}");
    });
}

#[test]
fn stages_102_the_exit_status_is_looked_at_where_errexit_looks_away() {
    let case = |check_each| Case {
        commands: vec!["false && true", "echo reached"],
        check_each,
        ..Case::default()
    };
    case(false).exits_with(0);
    case(true).exits_with(1);
    let code = Case { commands: vec!["! true", "exit 0"], check_each: true, ..Case::default() };
    code.exits_with(1);
    let fine = Case {
        commands: vec!["if true; then", "echo a", "fi", "", "# a comment", "cat <<E\nb\nE"],
        check_each: true,
        ..Case::default()
    };
    fine.exits_with(0);
}

#[test]
fn after_script_says_so_and_sees_how_the_job_went() {
    let case = Case {
        commands: vec!["echo \"[$CI_JOB_STATUS]\""],
        announce: Some("Running after script...".to_owned()),
        status: Some(JobStatus::TimedOut),
        variables: vec![variable("CI_JOB_STATUS", "running")],
        ..Case::default()
    };
    case.each(|_, Seen { code, stdout, .. }| {
        assert_eq!(code, 0);
        assert!(stdout.starts_with("\x1b[32;1mRunning after script...\x1b[0;m\n"), "{stdout}");
        assert!(stdout.ends_with("[timedout]\n"), "{stdout}");
    });
}

#[test]
fn stages_103_values_reach_the_job_byte_by_byte() {
    let every_char: String = (1..0x250).filter_map(char::from_u32).collect();
    let values = [
        "a;id",
        "it's \"$HOME\" `x` $(y) \\ \\n ${z}",
        "two\nlines\n\n",
        "{a,b} ~ * ? [x] ! # % & | < > ( )",
        "\t \r\n",
        "",
        "-n -e",
        "⚙️ ünïcode \u{81}\u{82}\u{88}",
        every_char.as_str(),
    ];
    let mut variables: Vec<_> =
        (0..).zip(values).map(|(i, v)| variable(&format!("V_{i}"), v)).collect();
    variables.push(variable("V_0", "b"));
    let case = Case {
        commands: vec![
            "n=0; while test $n -lt 9; do eval \"printf %s \\\"\\$V_$n\\\" > v$n\"; n=$((n+1)); done",
            "sh -c 'printf %s \"$V_1\" > child'",
        ],
        variables,
        ..Case::default()
    };
    case.each(|shell, Seen { code, stderr, project, .. }| {
        assert_eq!((code, stderr), (0, ""), "{shell:?}");
        for (i, value) in values.iter().enumerate() {
            let expected = if i == 0 { "b" } else { value };
            let got = fs::read(project.join(format!("v{i}"))).unwrap();
            assert_eq!(String::from_utf8_lossy(&got), expected, "{shell:?} V_{i}");
        }
        assert_eq!(fs::read_to_string(project.join("child")).unwrap(), values[1]);
    });
}

#[test]
fn a_value_larger_than_any_argument_list_is_a_variable_all_the_same() {
    // Few quotes: bash in a UTF-8 locale takes time that grows with the square of their number.
    let big = format!("{}'", "x".repeat(8191)).repeat(256);
    let case = Case {
        // Not exported any more before the first program is started: execve would refuse 2 MiB.
        commands: vec!["test ${#BIG} -eq 2097152", "unset BIG", "cat /dev/null"],
        variables: vec![variable("BIG", &big)],
        ..Case::default()
    };
    case.exits_with(0);
}

#[test]
fn names_that_no_shell_takes_do_not_end_the_job() {
    let names = [
        "a-b",
        "1X",
        "",
        "a b",
        "x;id",
        "UID",
        "EUID",
        "PPID",
        "BASHOPTS",
        "SHELLOPTS",
        "BASH_VERSINFO",
        "OPTIND",
        "ü",
        "../x",
    ];
    let case = Case {
        commands: vec!["echo \"good=$GOOD\""],
        variables: names
            .iter()
            .map(|name| variable(name, "x y"))
            .chain([variable("GOOD", "1")])
            .collect(),
        ..Case::default()
    };
    case.each(|shell, Seen { code, stdout, stderr, .. }| {
        assert_eq!((code, stderr), (0, ""), "{shell:?}");
        assert!(stdout.ends_with("good=1\n"));
    });
}

#[test]
fn stages_34_a_file_variable_is_exported_as_its_path() {
    let case = Case {
        commands: vec!["echo \"$KUBECONFIG\""],
        variables: vec![PlanVariable { file: true, ..variable("KUBECONFIG", "secret content") }],
        ..Case::default()
    };
    case.each(|_, Seen { stdout, project, .. }| {
        let path = project.with_file_name("tmp").join("KUBECONFIG");
        assert!(stdout.ends_with(&format!("{}\n", path.display())), "{stdout}");
        assert!(!stdout.contains("secret content"));
    });
}

#[test]
fn stages_36_what_a_stage_writes_to_gitlab_env_arrives_in_the_next() {
    for shell in shells() {
        let room = Room::new();
        let mut case = Case::of(&[
            "echo \"A=from 'script' \\$x \" >> \"$GITLAB_ENV\"; echo >> \"$GITLAB_ENV\"; printf 'bad name=1\\nB=2' >> $GITLAB_ENV",
        ]);
        let first = run_in(&room, shell, Delivery::File, &case.text(shell, &room));
        assert!(first.status.success(), "{first:?}");

        let file = fs::read(room.root.join("tmp").join(super::ENV_FILE)).unwrap();
        case = Case::of(&["echo \"[$A][$B]\""]);
        case.env_file = env_file::parse(&file).assignments;
        case.variables = vec![variable("B", "from the plan")];
        let second = run_in(&room, shell, Delivery::File, &case.text(shell, &room));
        let stdout = String::from_utf8_lossy(&second.stdout);
        assert!(stdout.ends_with("[from 'script' $x][2]\n"), "{shell:?}: {stdout}");
    }
}

#[test]
fn stages_41_xtrace_shows_commands_on_standard_error_and_no_text_of_the_script() {
    let case = Case {
        commands: vec!["x=$(echo captured)", "echo \"got $x\" > f", "cat f"],
        variables: vec![
            variable("SHOWN", "plain value"),
            variable("HIDDEN", "pass'word"),
            variable("SHOWN_TOO", "x"),
        ],
        xtrace: true,
        ..Case::default()
    };
    case.each(|shell, Seen { code, stdout, stderr, project }| {
        assert_eq!(code, 0, "{shell:?}");
        assert!(stderr.contains("+ cat f"), "{shell:?}: {stderr}");
        assert!(stderr.contains("SHOWN=") && stderr.contains("SHOWN_TOO="), "{stderr}");
        assert!(!stderr.contains("HIDDEN"), "{shell:?}: {stderr}");
        assert!(!stderr.contains("+ eval") && !stderr.contains("set +o xtrace"), "{stderr}");
        assert!(stdout.ends_with("got captured\n"), "{stdout}");
        assert_eq!(fs::read_to_string(project.join("f")).unwrap(), "got captured\n");
    });
    let quiet = Case { xtrace: false, ..case };
    quiet.each(|shell, Seen { stderr, .. }| assert_eq!(stderr, "", "{shell:?}"));
}

#[test]
fn stages_104_a_terminated_shell_ends_with_1_and_prints_nothing_of_the_script() {
    let case = Case {
        commands: vec!["kill -TERM $$", "echo 'survived the signal'"],
        variables: vec![variable("TOKEN", "very-secret-value")],
        ..Case::default()
    };
    case.each(|shell, Seen { code, stdout, stderr, .. }| {
        assert_eq!(code, 1, "{shell:?}");
        assert!(!stdout.contains("\nsurvived"), "{stdout}");
        assert!(!stderr.contains("very-secret-value") && !stderr.contains("survived"), "{stderr}");
    });
    // The job's own traps run, and decide.
    Case::of(&["trap 'echo cleaned; exit 3' EXIT", "kill -TERM $$"]).each(
        |shell, Seen { code, stdout, .. }| {
            assert_eq!(code, 3, "{shell:?}");
            assert!(stdout.ends_with("cleaned\n"));
        },
    );
}

#[test]
fn a_missing_project_directory_is_a_failure_with_a_message() {
    for shell in shells() {
        let room = Room::new();
        fs::remove_dir_all(room.project()).unwrap();
        let case = Case::of(&["echo never"]);
        let output = run_in(&room, shell, Delivery::File, &case.text(shell, &room));
        assert_ne!(output.status.code(), Some(0), "{shell:?}");
        assert_eq!(output.stdout, b"", "{shell:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("project"), "{output:?}");
    }
}
