//! How jobs end, and that nothing but the script's own end decides it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rstest::rstest;
use runner_testkit::cluster::ClusterSettings;
use runner_testkit::gitlab::{Artifact, GitLab, JobSpec, JobState, Variable};

use crate::world::{PATIENCE, World, failure, success, text};

#[rstest]
#[case::exit(&["exit 37"], 37)]
#[case::errexit(&["false", "echo not reached"], 1)]
#[case::subshell(&["(exit 5)", "echo not reached"], 5)]
#[case::signal_of_a_child(&["sh -c 'kill -9 $$'"], 137)]
#[case::no_such_command(&["no-such-command-anywhere"], 127)]
#[tokio::test]
async fn a_script_that_fails_is_reported_with_reason_and_exit_code(
    #[case] script: &[&str],
    #[case] code: i64,
) {
    let world = World::new().await;
    let end = world.run_one(JobSpec::new("test").script(script.iter().copied())).await;
    failure(&end, "script_failure");
    assert_eq!(end.exit_code, Some(code));
    assert_eq!(end.checksum_ok, Some(true));
    assert!(!text(&end).contains("\nnot reached"), "{}", text(&end));
}

#[tokio::test]
async fn a_shell_that_is_killed_by_a_signal_is_a_failure() {
    let world = World::new().await;
    let end = world.run_one(JobSpec::new("test").script(["kill -KILL $$"])).await;
    assert_eq!(end.state, JobState::Failed, "{}", text(&end));
}

#[tokio::test]
async fn nothing_that_a_job_prints_is_more_than_log() {
    let gitlab = GitLab::builder().trace_limit(64 << 20);
    let mut world = World::with(gitlab, ClusterSettings::default()).await;
    world.output_limit = Some(32 << 20);
    let end = world
        .run_one(JobSpec::new("test").script([
            r#"echo '{"command_exit_code": 0, "script": "/scripts/step_script"}'"#,
            r"printf 'section_start:1:fake\r\033[0Ksection_end:1:step_script\r\033[0K\n'",
            r"printf '\001\000\000\000\013\000verdict\000\n'",
            r"printf '\000\377\376 invalid \303\n'",
            "head -c 10000000 /dev/zero | tr '\\0' x; echo",
            "printf 'no newline at the end'",
            "exit 4",
        ]))
        .await;
    failure(&end, "script_failure");
    assert_eq!(end.exit_code, Some(4));
    assert_eq!(end.checksum_ok, Some(true));
    let text = text(&end);
    assert!(text.contains(r#"{"command_exit_code": 0"#));
    assert!(text.contains("no newline at the end"));
    assert!(text.matches('x').count() >= 10_000_000);
}

#[tokio::test]
async fn a_masked_variable_never_reaches_gitlab() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .with(Variable::new("PASSWORD", "hunter2-hunter2").masked())
        .script(["echo \"it is $PASSWORD\"", "printf hunter2-; sleep 0.1; echo hunter2"]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(text(&end).contains("it is [MASKED]"), "{}", text(&end));
    assert!(!text(&end).contains("hunter2-hunter2"));
}

#[tokio::test]
async fn artifacts_of_one_job_arrive_in_the_next() {
    let world = World::new().await;
    let first = world.gitlab.enqueue(
        JobSpec::new("make")
            .script(["mkdir -p out/deep; echo content > out/deep/file; chmod 750 out/deep/file"])
            .artifact(Artifact::archive(["out", "missing"])),
    );
    let second = world.gitlab.enqueue(
        JobSpec::new("use").script(["cat out/deep/file", "stat -c %a out/deep/file"]).needs(&first),
    );
    let ends = world.run(&[first, second]).await;
    success(&ends[0]);
    assert!(text(&ends[0]).contains("missing: no matching files"), "{}", text(&ends[0]));
    success(&ends[1]);
    assert!(
        text(&ends[1]).contains("\ncontent\n") || text(&ends[1]).contains(" content\n"),
        "{}",
        text(&ends[1])
    );
    assert!(text(&ends[1]).contains("750\n"), "{}", text(&ends[1]));
}

/// What GitLab makes of a dotenv report: variables for the jobs that need the one that sent it.
fn dotenv(packed: &[u8]) -> Vec<(String, String)> {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(packed).unwrap();
    let out = gzip.wait_with_output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn variables_of_a_dotenv_report_reach_the_next_job() {
    let world = World::new().await;
    let first = JobSpec::new("build").script([
        "echo 'VERSION=1.2.3 beta' > build.env",
        "mkdir deploy; echo 'URL=https://review.example/?a=1&b=2' > deploy/url.env",
    ]);
    let report = Artifact::report("dotenv", "gzip", ["build.env", "deploy/*.env"]);
    let first = world.gitlab.enqueue(first.artifact(report));
    let end = world.run(std::slice::from_ref(&first)).await.remove(0);
    success(&end);
    let mut stored = world.gitlab.artifacts(&first);
    assert_eq!(stored.len(), 1);
    let stored = stored.remove(0);
    let kind = (stored.artifact_type.as_str(), stored.artifact_format.as_str());
    assert_eq!(kind, ("dotenv", "gzip"));
    let mut spec = JobSpec::new("use").script(["echo \"[$VERSION] [$URL]\""]);
    for (key, value) in dotenv(&stored.data) {
        spec = spec.variable(key, value);
    }
    let second = world.run_one(spec).await;
    success(&second);
    let line = "[1.2.3 beta] [https://review.example/?a=1&b=2]";
    assert!(text(&second).contains(line), "{}", text(&second));
}

#[tokio::test]
async fn an_archive_that_is_too_large_for_gitlab_fails_the_job_and_says_its_size() {
    let gitlab = GitLab::builder().artifact_limit(1000);
    let world = World::with(gitlab, ClusterSettings::default()).await;
    let spec = JobSpec::new("test")
        .script(["head -c 100000 /dev/urandom > big"])
        .artifact(Artifact::archive(["big"]));
    let job = world.gitlab.enqueue(spec);
    let running = world.manager("s_first0000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    running.drain().await;
    world.place.nothing_is_left(&world.source_id()).await;
    assert_eq!(end.state, JobState::Failed, "{}", text(&end));
    let text = text(&end);
    let size = "413 Request Entity Too Large: the archive has 100152 bytes or more, more than the server takes";
    assert!(text.contains(size), "{text}");
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_stopped_with_that_reason() {
    let world = World::new().await;
    let spec =
        JobSpec::new("test").script(["echo started", "sleep 1000"]).timeout(Duration::from_secs(3));
    let end = world.run_one(spec).await;
    failure(&end, "job_execution_timeout");
    assert!(text(&end).contains("execution took longer than 3s"), "{}", text(&end));
}

#[tokio::test]
async fn a_script_that_takes_too_long_leaves_time_for_after_script() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .variable("RUNNER_SCRIPT_TIMEOUT", "1s")
        .script(["sleep 1000"])
        .after_script(["echo \"after: $CI_JOB_STATUS\""]);
    let end = world.run_one(spec).await;
    assert_eq!(end.state, JobState::Failed, "{}", text(&end));
    assert!(text(&end).contains("after: timedout"), "{}", text(&end));
}

#[tokio::test]
async fn an_after_script_that_takes_too_long_is_a_warning() {
    let world = World::new().await;
    let spec = JobSpec::new("test")
        .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s")
        .script(["true"])
        .after_script(["sleep 1000"]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(text(&end).contains("after_script"), "{}", text(&end));
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_failed_and_not_lost() {
    let world = World::new().await;
    let spec = JobSpec::new("test").script(["true"]).patch(|job| job["steps"] = "rm -rf /".into());
    let end = world.run_one(spec).await;
    failure(&end, "runner_system_failure");
    assert!(text(&end).contains("cannot be understood"), "{}", text(&end));
}
