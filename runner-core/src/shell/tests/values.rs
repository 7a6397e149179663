//! How variables come in and go on.

use super::*;

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

        let file = fs::read(room.root.join("tmp").join(crate::shell::ENV_FILE)).unwrap();
        case = Case::of(&["echo \"[$A][$B]\""]);
        case.env_file = env_file::parse(&file).assignments;
        case.variables = vec![variable("B", "from the plan")];
        let second = run_in(&room, shell, Delivery::File, &case.text(shell, &room));
        let stdout = String::from_utf8_lossy(&second.stdout);
        assert!(stdout.ends_with("[from 'script' $x][2]\n"), "{shell:?}: {stdout}");
    }
}
