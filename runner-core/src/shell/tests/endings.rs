//! How a script ends, and where.

use super::*;

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
