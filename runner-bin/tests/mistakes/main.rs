//! Configurations that are wrong: each mistake is named with its line, its key and what is allowed, by every command that
//! reads the file; the exit code says so; and no file is changed.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

mod desk;
mod table;

use desk::Desk;
use table::{ERRORS, FAULTS, GOOD};

#[test]
fn manager_05_there_are_at_least_forty_ways_to_be_wrong() {
    assert!(ERRORS.len() >= 40, "{}", ERRORS.len());
    let mut files: Vec<String> = ERRORS.iter().chain(FAULTS).map(table::Mistake::file).collect();
    let count = files.len();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), count, "each is another one");
}

#[tokio::test]
async fn manager_05_config_check_names_each_mistake_and_exits_with_1() {
    let desk = Desk::new().await;
    let path = desk.file();
    let arguments = ["config", "check", path.to_str().unwrap()];
    for (mistakes, word) in [(ERRORS, ": error: "), (FAULTS, ": error in this runner: ")] {
        for mistake in mistakes {
            desk.write(&mistake.file());
            let done = desk.run(&arguments).await;
            let lines: Vec<&str> = done.out.lines().filter(|line| line.contains(word)).collect();
            assert!(mistake.is_named_in(&lines.join("\n")), "{}\n{}", mistake.file(), done.out);
            assert_eq!(done.code, Some(1), "{}", mistake.file());
        }
    }
    desk.write(GOOD);
    assert_eq!(desk.run(&arguments).await.code, Some(0));
}

#[tokio::test]
async fn manager_05_a_file_that_cannot_be_used_stops_run_and_every_command_before_anything_is_done()
{
    let desk = Desk::new().await;
    let (url, token) = (desk.gitlab.url(), desk.gitlab.runner_token());
    let register = ["register", "-n", "--url", &url, "--token", token, "--executor", "kubernetes"];
    let commands =
        [&["run"][..], &register, &["verify", "--delete"], &["unregister", "--all-runners"]];
    for mistake in ERRORS {
        desk.write(&mistake.file());
        let before = desk.everything();
        for arguments in commands {
            let done = desk.run(arguments).await;
            assert_eq!(done.code, Some(1), "{arguments:?} with {}", mistake.file());
            assert!(mistake.is_named_in(&done.log), "{arguments:?}: {}", done.log);
        }
        assert_eq!(desk.everything(), before, "nothing was written");
    }
    assert!(
        desk.gitlab.requests().is_empty(),
        "GitLab was not asked: {:?}",
        desk.gitlab.requests()
    );
}

#[tokio::test]
async fn manager_05_a_running_manager_names_each_mistake_and_goes_on_with_what_it_had() {
    let desk = Desk::new().await;
    desk.write(GOOD);
    let mut manager = desk.start();
    manager.says("Configuration loaded").await;
    for mistake in ERRORS {
        let from = manager.log().len();
        desk.write(&mistake.file());
        manager.says_after(from, "the one before stays in force").await;
        let log = manager.log();
        assert!(mistake.is_named_in(&log[from..]), "{}\n{}", mistake.file(), &log[from..]);
    }
    for mistake in FAULTS {
        let from = manager.log().len();
        desk.write(&mistake.file());
        manager.says_after(from, "this runner is left out").await;
        let log = manager.log();
        assert!(mistake.is_named_in(&log[from..]), "{}\n{}", mistake.file(), &log[from..]);
    }
    let from = manager.log().len();
    desk.write(GOOD);
    manager.says_after(from, "Configuration loaded").await;
    assert!(manager.runs());
}

/// Flags, variables, and words that have to be said.
type Given =
    (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);

/// Flags and variables of `register`: what is given, and what is said.
const GIVEN: &[Given] = &[
    (&["--limit", "many"], &[], &["--limit", "many", "integer"]),
    (&["--request-concurrency", "1.5"], &[], &["--request-concurrency", "1.5", "integer"]),
    (&["--output-limit", "4M"], &[], &["--output-limit", "4M", "integer"]),
    (&["--unhealthy-interval", "60 min"], &[], &["--unhealthy-interval", "60 min", "1h30m"]),
    (&["--kubernetes-privileged=maybe"], &[], &["--kubernetes-privileged", "maybe", "true"]),
    (&["--feature-flags", "FF_X"], &[], &["--feature-flags", "FF_X", "KEY:"]),
    (&["--access-level", "all"], &[], &["--access-level", "not_protected or ref_protected"]),
    (&["--executor", "docker"], &[], &["Invalid executor", "docker", "kubernetes"]),
    (&["--kubernetes-imag", "x"], &[], &["--kubernetes-imag", "--kubernetes-image"]),
    (&[], &[("RUNNER_LIMIT", "many")], &["RUNNER_LIMIT", "many", "integer"]),
    (&[], &[("KUBERNETES_PRIVILEGED", "maybe")], &["KUBERNETES_PRIVILEGED", "maybe", "true"]),
    (&[], &[("REGISTER_LOCKED", "maybe")], &["REGISTER_LOCKED", "maybe", "true"]),
    (&[], &[("REGISTER_MAXIMUM_TIMEOUT", "1h")], &["REGISTER_MAXIMUM_TIMEOUT", "number"]),
    (&["--template-config", "/no/such"], &[], &["/no/such", "exactly one"]),
];

#[tokio::test]
async fn manager_41_what_register_is_given_wrongly_is_named_and_nothing_is_done() {
    let desk = Desk::new().await;
    let (url, token) = (desk.gitlab.url(), desk.gitlab.runner_token());
    desk.write(GOOD);
    let before = desk.everything();
    for (arguments, variables, says) in GIVEN {
        let common = ["register", "-n", "--url", &url, "--token", token];
        let executor: &[&str] =
            if arguments.contains(&"--executor") { &[] } else { &["--executor", "kubernetes"] };
        let done = desk.run_with(&[&common[..], executor, arguments].concat(), variables).await;
        assert_eq!(done.code, Some(1), "{arguments:?} {variables:?}: {}", done.log);
        let said = says.iter().all(|word| done.log.contains(word));
        assert!(said, "{arguments:?} {variables:?} should say {says:?}: {}", done.log);
    }
    assert_eq!(desk.everything(), before, "nothing was written");
    assert!(
        desk.gitlab.requests().is_empty(),
        "GitLab was not asked: {:?}",
        desk.gitlab.requests()
    );
}
