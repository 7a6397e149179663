//! What scripts, hooks and functions see, and what the trace says about them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::path::Path;
use std::process::Command;

use rstest::rstest;
use runner_core::job::{Sources, Step};
use runner_core::outcome::Outcome;

use crate::world::World;

/// A repository with one commit, as sources of a job.
pub(crate) fn sources(directory: &Path) -> Sources {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(arguments)
            .current_dir(directory)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "-b", "main"]);
    std::fs::write(directory.join("file"), "content").unwrap();
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "First"]);
    Sources {
        url: format!("file://{}", directory.display()).into(),
        reference: "main".into(),
        sha: git(&["rev-parse", "HEAD"]),
        refspecs: vec!["+refs/heads/*:refs/remotes/origin/*".into()],
        depth: 0,
        object_format: Default::default(),
        allow_fetch: true,
        correlation_id: None,
    }
}

pub(crate) fn hook(name: &str, script: &str) -> Step {
    Step { name: name.into(), script: vec![script.into()] }
}

#[track_caller]
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} does not follow in\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

#[tokio::test]
async fn stages_62_hooks_run_around_the_sources_and_the_configurations_are_the_outer_ones() {
    let repository = tempfile::tempdir().unwrap();
    let mut world = World::new(&["echo \"passed on: $FROM_HOOK\""]);
    world.job.sources = Some(sources(repository.path()));
    world.job.hooks = vec![
        hook("pre_get_sources_script", "echo author before; cat \"$A_FILE\""),
        hook(
            "post_get_sources_script",
            "echo author after: $(cat file); echo FROM_HOOK=yes > $GITLAB_ENV",
        ),
    ];
    world.job.variables.push(runner_core::job::Variable {
        key: "A_FILE".into(),
        value: "of the file".into(),
        file: true,
        ..Default::default()
    });
    world.settings.pre_get_sources_script = Some("echo operator before".into());
    world.settings.post_get_sources_script = Some("echo operator after".into());
    let seen = world.run().await;
    assert!(seen.end.outcome.is_success(), "{}", seen.text());
    in_order(
        &seen.text(),
        &[
            "\noperator before\n",
            "\nauthor before\nof the file",
            "Checking out",
            "\nauthor after: content\n",
            "\noperator after\n",
            "\npassed on: yes\n",
        ],
    );
}

#[tokio::test]
async fn stages_62_a_hook_that_fails_fails_the_job_with_its_exit_status() {
    let repository = tempfile::tempdir().unwrap();
    let mut world = World::new(&["echo not reached"]);
    world.job.sources = Some(sources(repository.path()));
    world.job.hooks = vec![hook("pre_get_sources_script", "exit 9")];
    let seen = world.run().await;
    assert_eq!(seen.end.outcome, Outcome::Exited(9), "{}", seen.text());
    assert!(!seen.text().contains("\nnot reached"), "{}", seen.text());
}

#[rstest]
#[case("none")]
#[case("empty")]
#[tokio::test]
async fn stages_62_no_hook_runs_where_no_sources_are_got(#[case] strategy: &str) {
    let repository = tempfile::tempdir().unwrap();
    let mut world = World::new(&["true"]).variable("GIT_STRATEGY", strategy);
    world.job.sources = Some(sources(repository.path()));
    world.job.hooks = vec![hook("pre_get_sources_script", "exit 9")];
    let seen = world.run().await;
    assert!(seen.end.outcome.is_success(), "{}", seen.text());
}

#[tokio::test]
async fn stages_36_lines_that_are_no_assignments_are_named_by_number() {
    let world = World::new(&["printf 'GOOD=1\\nsecret words\\n' >> $GITLAB_ENV"])
        .after_script(&["echo \"good: $GOOD\""]);
    let seen = world.run().await;
    in_order(
        &seen.text(),
        &["WARNING: GITLAB_ENV: skipped what is not NAME=value, line 2", "\ngood: 1\n"],
    );
    assert!(seen.end.outcome.is_success());
}

#[tokio::test]
async fn stages_118_notices_come_right_before_the_commands_and_once() {
    let mut world = World::new(&["echo hello"]).after_script(&["true"]);
    world.job.notices = vec!["Job triggered by policy \"A\".".into()];
    let seen = world.run().await;
    in_order(
        &seen.text(),
        &["Running on", "\x1b[32;1mJob triggered by policy \"A\".\x1b[0;m\n", "$ echo hello"],
    );
    assert_eq!(seen.text().matches("policy").count(), 1, "{}", seen.text());
}

#[tokio::test]
async fn a_summary_closes_the_log_unless_the_job_does_not_want_it() {
    let run = |wanted: &'static str| async move {
        let mut world =
            World::new(&["sleep 0.2; exit 3"]).variable("PODWRIGHT_JOB_SUMMARY", wanted);
        world.job.features.trace_sections = true;
        world.job.waited = Some(std::time::Duration::from_secs(7));
        world.run().await.text()
    };
    let text = run("true").await;
    in_order(
        &text,
        &[
            ":job_summary[collapsed=true]\r",
            "Summary: ",
            "in the queue       7.0s",
            "script             0.",
            "failed             step_script: command terminated with exit code 3",
            ":job_summary\r",
            "ERROR: Job failed: command terminated with exit code 3",
        ],
    );
    assert!(!run("false").await.contains("summary"));
}
