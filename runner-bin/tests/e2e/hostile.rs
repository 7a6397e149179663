//! A job that wants to do harm: its own verdict may suffer, nothing else.

use std::time::Duration;

use rstest::rstest;
use runner_testkit::gitlab::{Artifact, JobSpec, JobState};

use crate::place::is_real;
use crate::world::{PATIENCE, World, success, text};

/// Runs a hostile job beside a good one: the good one is right, and nothing is left of both.
async fn beside_a_good_one(world: &World, hostile: JobSpec) -> (JobState, String) {
    let good = world.gitlab.enqueue(JobSpec::new("good").script([
        "echo begin",
        "sleep 2",
        "echo end > out",
        "cat out",
    ]));
    let hostile = world.gitlab.enqueue(hostile);
    let manager = world.manager("s_first0000000").await;
    let end = hostile.wait_finished(PATIENCE).await.unwrap();
    let good = good.wait_finished(PATIENCE).await.unwrap();
    success(&good);
    // The manager lives and takes more.
    let after = world.gitlab.enqueue(JobSpec::new("after").script(["true"]));
    success(&after.wait_finished(PATIENCE).await.unwrap());
    manager.drain().await;
    world.place.nothing_is_left(&world.source_id()).await;
    (end.state, text(&end))
}

/// Settings and hooks of git that would run commands where git runs next: in `helper`.
#[tokio::test]
async fn git_settings_and_hooks_that_a_job_plants_are_not_obeyed_later() {
    let world = World::new().await;
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let marker = "/tmp/podwright-planted";
    let plant = format!("printf '#!/bin/sh\\necho PLANTED RAN >&2; touch {marker}-$$\\n' > evil");
    let mut spec = JobSpec::new("hostile").repo(&repo).git_ref("main").script([
        plant.as_str(),
        "chmod +x evil",
        "git config core.fsmonitor \"$PWD/evil\"",
        "git config core.hooksPath \"$PWD/hooks\"; mkdir hooks; cp evil hooks/post-index-change",
        "git config filter.x.clean \"$PWD/evil\"; echo '* filter=x' > .gitattributes",
        "git config include.path /proc/self/environ",
        "git config core.sshCommand \"$PWD/evil\"; git config core.pager \"$PWD/evil\"",
        "git config alias.ls-files '!./evil'",
        "cp evil .git/hooks/post-checkout; cp evil .git/hooks/pre-commit",
    ]);
    // Untracked files are asked from git, after the script.
    spec = spec.artifact(Artifact::archive(["file"]).untracked());
    let (_, trace) = beside_a_good_one(&world, spec).await;
    assert!(!trace.contains("PLANTED RAN\n"), "{trace}");
}

/// The control socket is gone once the build container is connected; what stays of the directory
/// is read-only; and the agent's process does not show what it knows. (Simulated containers see the
/// host's `/tmp`, where all of them live.)
#[tokio::test]
async fn the_agent_cannot_be_reached_or_read() {
    let world = World::new().await;
    let spec = JobSpec::new("hostile").script([
        "for s in $(find / -xdev -name '*.sock' -path '*podwright*' -not -path '/tmp/sim-*' 2>/dev/null); do echo \"SOCKET $s\"; done",
        "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = podwright-agent ]; then \
         head -c 1 $p/mem >/dev/null 2>&1 && echo READ MEM; ls -l $p/fd >/dev/null 2>&1 && [ \"$(id -u)\" != 0 ] && echo READ FD; fi; done; true",
        "kill -STOP 1 2>/dev/null; true",
        "echo survived",
    ]);
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Success, "{trace}");
    for word in ["SOCKET ", "\nREAD MEM", "\nREAD FD"] {
        assert!(!trace.replace("01O ", "\n").contains(&format!("\n{word}")), "{trace}");
    }
}

#[rstest]
#[case::ignores_term("trap '' TERM INT HUP; while :; do sleep 1; done")]
#[case::forks(
    "ulimit -u 2000 2>/dev/null; i=0; while [ $i -lt 300 ]; do (trap '' TERM; sleep 1000) & i=$((i+1)); done; wait"
)]
#[case::fills_the_disk(
    "ulimit -f 20000; while :; do cat /dev/zero > big 2>/dev/null; sleep 0.1; done"
)]
#[case::leaves_its_group("setsid sh -c 'trap \"\" TERM; sleep 1000' & trap '' TERM; sleep 1000")]
#[case::prints_without_end("yes 'this goes on and on'")]
#[tokio::test]
async fn a_job_that_does_not_end_by_itself_is_ended(#[case] script: &str) {
    let world = World::new().await;
    let spec = JobSpec::new("hostile").script([script]).timeout(Duration::from_secs(4));
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Failed, "{}", &trace[trace.len().saturating_sub(2000)..]);
}

/// The kubelet ends a pod that takes more of the node's disk than it may; nobody else's.
#[tokio::test]
async fn a_job_that_fills_the_nodes_disk_is_evicted_and_told_so() {
    if !is_real() {
        return eprintln!("left out: only a kubelet measures what containers write");
    }
    let mut world = World::new().await;
    let good = world.gitlab.enqueue(JobSpec::new("good").script(["echo begin", "sleep 20"]));
    let first = world.manager("s_first0000000").await;
    good.wait_trace("begin\n", PATIENCE).await.unwrap();
    first.drain_later();
    world.settings.ephemeral_storage_limit = "20Mi".into();
    world.settings.ephemeral_storage_request = "10Mi".into();
    let second = world.manager("s_second000000").await;
    let job = world.gitlab.enqueue(
        JobSpec::new("hostile").script(["head -c 200000000 /dev/zero > big", "sleep 1000"]),
    );
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.failure_reason.as_deref(), Some("runner_system_failure"), "{}", text(&end));
    assert!(text(&end).contains("ephemeral"), "{}", text(&end));
    success(&good.wait_finished(PATIENCE).await.unwrap());
    second.drain().await;
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
}

/// The program that runs the scripts is PID 1, which cannot be killed from inside; where it can (a
/// shared process namespace), nothing can go on.
#[tokio::test]
async fn a_job_that_kills_its_runner_is_a_failure_unless_the_kill_does_nothing() {
    let world = World::new().await;
    let spec = JobSpec::new("hostile")
        .script(["echo going; kill -9 $PPID; sleep 1; echo survived, parent $PPID"])
        .timeout(Duration::from_secs(20));
    let (state, trace) = beside_a_good_one(&world, spec).await;
    let survived = trace.contains("survived, parent 1\n");
    assert_eq!(state, if survived { JobState::Success } else { JobState::Failed }, "{trace}");
}

#[tokio::test]
async fn frames_that_a_job_writes_to_every_descriptor_are_nothing_but_output() {
    let world = World::new().await;
    let spec = JobSpec::new("hostile").script([
        "for fd in 1 2 3 4 5 6 7 8 9 10 11 12; do \
         (printf '\\000\\000\\000\\020\\001\\000\\000\\000\\013\\000verdict\\000{\"outcome\":{\"exited\":0}}' >&$fd) 2>/dev/null || true; done",
        "exit 7",
    ]);
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Failed, "{trace}");
    assert!(trace.contains("exit code 7"), "{trace}");
}
