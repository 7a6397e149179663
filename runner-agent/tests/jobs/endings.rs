//! How jobs end, and what their trace says then.

use std::time::Duration;

use rstest::rstest;
use runner_core::executor::Stop;
use runner_core::outcome::{Outcome, TimeLimit, TraceSummary};

use crate::world::{World, stop, wait_for};

#[tokio::test]
async fn a_job_that_succeeds_says_so_and_its_trace_is_proven() {
    let world =
        World::new(&["echo hello", "echo world"]).after_script(&["echo status=$CI_JOB_STATUS"]);
    let seen = world.run().await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    assert_eq!(seen.end.trace, Some(TraceSummary::of(&seen.trace)));
    let text = seen.text();
    for line in ["$ echo hello", "\nhello\n", "\nworld\n", "status=success", "Job succeeded"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let stages: Vec<_> = seen.end.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert!(stages.contains(&"step_script") && stages.contains(&"after_script"), "{stages:?}");
}

#[rstest]
#[case(&["exit 37"], 37)]
#[case(&["false", "echo not reached"], 1)]
#[case(&["(exit 5)", "echo not reached"], 5)]
#[case(&["true | false | true", "echo reached"], 1)]
#[case(&["sh -c 'kill -9 $$'"], 137)]
#[case(&["no-such-command-anywhere"], 127)]
#[tokio::test]
async fn a_scripts_exit_status_is_the_jobs(#[case] script: &[&str], #[case] code: i32) {
    let world = World::new(script).after_script(&["echo status=$CI_JOB_STATUS"]);
    let seen = world.run().await;
    let text = seen.text();
    assert_eq!(seen.end.outcome, Outcome::Exited(code), "{text}");
    assert!(!text.contains("\nnot reached"), "{text}");
    assert!(text.contains("status=failed"), "{text}");
    assert!(
        text.contains(&format!("ERROR: Job failed: command terminated with exit code {code}")),
        "{text}"
    );
}

#[tokio::test]
async fn a_shell_that_is_killed_is_no_success() {
    let seen = World::new(&["kill -KILL $$"]).run().await;
    assert_eq!(seen.end.outcome, Outcome::Signalled(9), "{}", seen.text());
}

#[tokio::test]
async fn stages_a_failing_after_script_is_a_warning() {
    let seen = World::new(&["true"]).after_script(&["exit 3"]).run().await;
    assert!(seen.end.outcome.is_success());
    let warning = "after_script failed, but job will continue unaffected: command terminated with exit code 3";
    assert!(seen.text().contains(warning), "{}", seen.text());
}

#[tokio::test]
async fn a_cancelled_job_stops_its_script_and_runs_after_script() {
    let world =
        World::new(&["echo started", "sleep 1000"]).after_script(&["echo status=$CI_JOB_STATUS"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nstarted\n").await;
    let seen = stop(&mut *handle, Stop::Cancel).await;
    assert_eq!(seen.end.outcome, Outcome::Cancelled);
    let text = seen.text();
    for line in ["script canceled externally", "status=canceled", "Job failed: canceled"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn an_aborted_job_runs_nothing_more() {
    let world = World::new(&["echo started", "sleep 1000"]).after_script(&["echo not reached"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nstarted\n").await;
    let seen = stop(&mut *handle, Stop::Abort).await;
    assert_eq!(seen.end.outcome, Outcome::Cancelled);
    assert!(!seen.text().contains("not reached"), "{}", seen.text());
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn stages_the_jobs_timeout_ends_everything() {
    let mut world = World::new(&["sleep 1000"]).after_script(&["echo not reached"]);
    world.job.timeout = Duration::from_secs(1);
    let seen = world.run().await;
    assert_eq!(seen.end.outcome, Outcome::TimedOut(TimeLimit::Job(Duration::from_secs(1))));
    let text = seen.text();
    assert!(text.contains("Job failed: execution took longer than 1s seconds"), "{text}");
    assert!(!text.contains("\nnot reached"), "{text}");
}

#[tokio::test]
async fn stages_a_script_timeout_leaves_time_for_after_script() {
    let world = World::new(&["sleep 1000"])
        .after_script(&["echo status=$CI_JOB_STATUS"])
        .variable("RUNNER_SCRIPT_TIMEOUT", "1s");
    let seen = world.run().await;
    assert_eq!(seen.end.outcome, Outcome::TimedOut(TimeLimit::Stage(Duration::from_secs(1))));
    assert!(seen.text().contains("status=timedout"), "{}", seen.text());
}

#[tokio::test]
async fn stages_an_after_script_timeout_is_a_warning() {
    let world = World::new(&["true"])
        .after_script(&["sleep 1000"])
        .variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s");
    let seen = world.run().await;
    assert!(seen.end.outcome.is_success(), "{}", seen.text());
    assert!(seen.text().contains("after_script could not run to completion"), "{}", seen.text());
}

#[tokio::test]
async fn a_job_that_ignores_term_is_killed_after_the_grace() {
    let world = World::new(&["trap '' TERM", "echo started", "while :; do sleep 1; done"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nstarted\n").await;
    let seen = stop(&mut *handle, Stop::Cancel).await;
    assert_eq!(seen.end.outcome, Outcome::Cancelled, "{}", seen.text());
    handle.dispose().await.unwrap();
}
