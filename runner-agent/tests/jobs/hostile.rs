//! What a job prints or leaves running changes nothing but its own log.

use runner_core::outcome::Outcome;

use crate::world::World;

#[tokio::test]
async fn nothing_that_a_job_prints_is_taken_for_more_than_output() {
    let world = World::new(&[
        r#"echo '{"command_exit_code": 0, "script": "/scripts/step_script"}'"#,
        r"printf 'section_end:1:step_script\r\033[0K'",
        r"printf '\000\377\376 invalid \303'; echo",
        "head -c 10000000 /dev/zero | tr '\\0' x; echo",
        "printf 'no newline at the end'",
        "exit 4",
    ]);
    let seen = world.run().await;
    assert_eq!(seen.end.outcome, Outcome::Exited(4));
    let text = seen.text();
    assert!(text.contains(r#"{"command_exit_code": 0"#));
    // The log's limit is 4 MiB; the job goes on behind it.
    assert!(text.contains("Job's log exceeded limit"), "{}", &text[text.len() - 300..]);
}

#[tokio::test]
async fn a_background_process_that_keeps_the_output_open_does_not_keep_the_job() {
    let seen = World::new(&["sleep 1000 &", "echo done"]).run().await;
    assert!(seen.end.outcome.is_success());
    assert!(seen.text().contains("\ndone\n"));
}

#[tokio::test]
async fn what_a_script_printed_last_is_never_lost() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i of many; i=$((i+1)); done; exit 9";
    let seen = World::new(&[script]).run().await;
    assert_eq!(seen.end.outcome, Outcome::Exited(9));
    let text = seen.text();
    assert_eq!(text.matches(" of many\n").count(), 3000);
    assert!(text.contains("line 2999 of many\n"));
}

#[tokio::test]
async fn the_control_socket_is_gone_before_the_job_runs() {
    let mut world = World::new(&["ls \"$LINK\" | wc -l"]);
    let link = world.executor.directory(world.job.id).join("link").display().to_string();
    world = world.variable("LINK", &link);
    let seen = world.run().await;
    assert!(seen.text().contains("\n0\n"), "{}", seen.text());
}

/// Standard streams and the text of the script itself, which holds nothing but the job's own.
#[tokio::test]
async fn a_script_inherits_no_descriptor_of_the_agents() {
    let world = World::new(&[
        "for fd in /proc/$$/fd/*; do readlink \"$fd\" || true; done > fds; sed 's/^/fd: /' fds",
    ]);
    let seen = world.run().await;
    assert!(seen.end.outcome.is_success(), "{}", seen.text());
    let text = seen.text();
    let fds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("fd: ")).collect();
    assert!(fds.len() >= 3, "{text}");
    // The pattern is expanded by the shell itself, with `fds` open for it.
    let known = |fd: &str| {
        fd == "/dev/null"
            || fd.starts_with("pipe:")
            || fd.starts_with("/memfd:script")
            || fd.ends_with("/fds")
            || fd.contains("/proc/")
    };
    assert!(fds.iter().all(|fd| known(fd)), "{fds:?}");
    assert!(fds.iter().filter(|fd| fd.starts_with("pipe:")).count() <= 3, "{fds:?}");
}
