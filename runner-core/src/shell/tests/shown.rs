//! What a script shows of its commands.

use super::*;

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
