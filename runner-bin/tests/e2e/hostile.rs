//! A job that wants to do harm: its own verdict may suffer, nothing else.

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rstest::rstest;
use runner_testkit::gitlab::{Artifact, JobSpec, JobState, Variable};

use crate::place::{Place, is_real};
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

/// Says on a connection who ran it. `$1` is where to.
const TELL: &str = r#"use IO::Socket::INET;
my $c = IO::Socket::INET->new($ARGV[0]) or exit 0; print $c "run by ", ($ENV{RUN_BY} // "git of a later stage"), "\n";"#;

/// Everything that is said to this listener until it is dropped.
fn listen(world: &World) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let host = match &world.place {
        Place::Simulated(_) => [127, 0, 0, 1].into(),
        Place::Real(real) => real.host,
    };
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let out = Arc::clone(&said);
    // Ends with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut text = String::new();
            let _ = connection.unwrap().read_to_string(&mut text);
            out.lock().unwrap().push(text);
        }
    });
    (address, said)
}

/// Settings and hooks of git that would run commands where git runs next: in `helper`, for the list
/// of untracked files.
#[tokio::test]
async fn git_settings_and_hooks_that_a_job_plants_are_not_obeyed_later() {
    let world = World::new().await;
    let (address, said) = listen(&world);
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let evil = format!("printf '#!/bin/sh\\nperl -e \"$TELL\" {address}\\n' > evil; chmod +x evil");
    let spec = JobSpec::new("hostile")
        .repo(&repo)
        .git_ref("main")
        .with(Variable::new("TELL", TELL).raw())
        .script([
            "export RUN_BY='the script'",
            // The program text is in the file: a later stage need not have the variable.
            "printf '%s' \"$TELL\" > tell.pl",
            &evil.replace("perl -e \"$TELL\"", "perl \"'$PWD'/tell.pl\""),
            "git config core.fsmonitor \"$PWD/evil\"",
            "git config core.hooksPath \"$PWD/hooks\"; mkdir hooks; cp evil hooks/post-index-change",
            "git config filter.x.clean \"$PWD/evil\"; echo '* filter=x' > .gitattributes",
            "git config core.sshCommand \"$PWD/evil\"; git config core.pager \"$PWD/evil\"",
            "git config alias.ls-files '!./evil'",
            "mkdir -p .git/hooks; cp evil .git/hooks/post-checkout; cp evil .git/hooks/pre-commit",
            "touch file; git status --short",
            "echo planted",
        ])
        .artifact(Artifact::archive(["file"]).untracked());
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Success, "{trace}");
    assert!(trace.contains("untracked: found"), "{trace}");
    let said = said.lock().unwrap();
    // Where settings are obeyed, they work.
    assert!(!said.is_empty(), "{trace}");
    assert!(said.iter().all(|by| by == "run by the script\n"), "{said:?}");
}

/// Connects to every socket below `$1`.
const CONNECT: &str = r#"use IO::Socket::UNIX;
for (split /\n/, `find $ARGV[0] -type s`) { print "found $_\n"; print "CONNECTED $_\n" if IO::Socket::UNIX->new(Peer => $_); }"#;

/// The socket is gone once the build container is connected; its directory is read-only; what the
/// helper keeps is not mounted.
#[tokio::test]
async fn the_agents_sockets_and_files_cannot_be_reached() {
    let world = World::new().await;
    if !is_real() && !world.cluster().has_namespaces() {
        return eprintln!("left out: without namespaces, containers see each other's files");
    }
    let spec = JobSpec::new("hostile").with(Variable::new("CONNECT", CONNECT).raw()).script([
        "perl -e \"$CONNECT\" /podwright",
        "for d in /podwright/link /podwright/bin; do test -d $d; if touch $d/x 2>/dev/null; then echo \"WROTE $d\"; fi; done",
        "for d in /podwright/plan /podwright/state; do if ls -d $d 2>/dev/null; then echo \"SAW $d\"; fi; done",
        "if cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'podwright-agent[ ]supervise'; then echo SAW THE SUPERVISOR; fi",
        "echo looked",
    ]);
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Success, "{trace}");
    for word in ["CONNECTED /", "WROTE /", "SAW /", "O SAW THE"] {
        assert!(!trace.contains(word), "{trace}");
    }
}

/// The agent beside the scripts is not dumpable: what it has in memory, environment and behind its
/// descriptors is not for them, even as root (without the capability to trace). The numbers of the
/// descriptors are: root may list any directory that root owns.
#[tokio::test]
async fn the_agents_process_does_not_show_what_it_knows() {
    if !is_real() {
        return eprintln!("left out: a simulated container has all of the host's capabilities");
    }
    let world = World::new().await;
    let spec = JobSpec::new("hostile").script([
        "cat /proc/$$/environ /proc/$$/maps > own; ls -l /proc/$$/fd/ /proc/$$/root/ > own-fds; test -s own -a -s own-fds",
        "grep -a podwright-agent /proc/1/cmdline && echo 'pid 1 is the agent'",
        "for f in environ maps mem auxv; do if head -c 1 /proc/1/$f 2>/dev/null | grep -q .; then echo \"READ $f\"; fi; done",
        "for d in root cwd; do if ls /proc/1/$d/ 2>/dev/null | grep -q .; then echo \"LISTED $d\"; fi; done",
        "readlink /proc/$$/fd/0 /proc/$$/root /proc/$$/exe && echo 'links can be read'",
        "for l in root cwd exe fd/0 fd/1 fd/2 $(cd /proc/1 && ls -d fd/* 2>/dev/null); do if readlink /proc/1/$l; then echo \"READ LINK $l\"; fi; done",
        "for f in $(cd /proc/1 && ls -d fd/* 2>/dev/null); do if (exec 3< /proc/1/$f || exec 3> /proc/1/$f) 2>/dev/null; then echo \"OPENED $f\"; fi; done",
        "kill -STOP 1 2>/dev/null; true",
        "echo survived",
    ]);
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Success, "{trace}");
    assert!(trace.contains("pid 1 is the agent\n"), "{trace}");
    for file in ["environ", "maps", "mem", "auxv"] {
        assert!(!trace.contains(&format!("O READ {file}")), "{trace}");
    }
    for directory in ["root", "cwd"] {
        assert!(!trace.contains(&format!("O LISTED {directory}")), "{trace}");
    }
    assert!(trace.contains("O links can be read\n"), "{trace}");
    for word in ["O READ LINK", "O OPENED"] {
        assert!(!trace.contains(word), "{trace}");
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
async fn a_job_that_closes_every_descriptor_ends_as_it_says() {
    let world = World::new().await;
    let spec = JobSpec::new("hostile").script([
        "echo going",
        // In one line: before the next one its text is said, which cannot be done any more.
        "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec 0<&- 1>&- 2>&-; exit 6",
    ]);
    let (state, trace) = beside_a_good_one(&world, spec).await;
    assert_eq!(state, JobState::Failed, "{trace}");
    assert!(trace.contains("exit code 6"), "{trace}");
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
