//! Chaos with real processes and sockets: managers are killed and replaced while jobs run and small
//! things go wrong. A seed decides what is done; when exactly it hits what is up to the machine, so a
//! failure is not shrunk.
//!
//! `PODWRIGHT_SEED` and `PODWRIGHT_RUNS` choose the runs (`just chaos-processes SEED N`).

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use runner_testkit::chaos::Random;
use runner_testkit::cluster::{ClusterSettings, Fault, RequestFilter};
use runner_testkit::gitlab::{Endpoint, GitLab, JobRef, JobSpec, Rule, Violation};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use crate::process::Process;
use crate::world::{World, text};

/// Runs of the ordinary test.
const RUNS: u64 = 20;
/// Runs side by side: most of a run is waiting.
const AT_ONCE: usize = 4;
const JOBS: u64 = 5;
const EVENTS: u64 = 8;
/// Longest wait for one job, on a machine with two busy cores.
const PATIENCE: Duration = Duration::from_secs(150);

struct Job {
    job: JobRef,
    state: &'static str,
    code: Option<i64>,
    lines: u64,
}

fn enqueue(world: &World, number: u64, random: &mut Random) -> Job {
    let (lines, pause) = (random.within(20..200), random.within(1..30));
    let write = format!(
        "i=0; while [ $i -lt {lines} ]; do echo \"line $i of {number}\"; i=$((i+1)); sleep 0.0{pause:02}; done"
    );
    let spec = JobSpec::new(format!("job-{number}"));
    let (spec, state, code) = match random.within(0..4) {
        0 => (spec.script([write, "exit 3".into()]), "failed", Some(3)),
        1 => (spec.script([write]).after_script(["echo after"]), "success", Some(0)),
        _ => (spec.script([write]), "success", Some(0)),
    };
    Job { job: world.gitlab.enqueue(spec), state, code: code.filter(|code| *code > 0), lines }
}

/// Something goes wrong.
async fn hurt(world: &World, managers: &mut Vec<Process>, random: &mut Random) {
    let cluster = world.cluster();
    match random.within(0..10) {
        0..=2 => {
            let at = random.within(0..managers.len() as u64) as usize;
            managers.remove(at).kill();
            managers.push(world.process());
        }
        3 => {
            // A rolling upgrade: the new one first.
            managers.push(world.process());
            let status = managers.remove(0).end_by(Signal::TERM).await;
            assert!(status.code().is_some(), "{status:?}");
        }
        4 => cluster.drop_streams(),
        5 => cluster.restart_api(),
        6 => cluster.api_away(random.millis(200..3000)),
        7 => {
            let verb = *random.pick(&["create", "delete"]);
            let resource = *random.pick(&["pods", "secrets"]);
            let fault = *random.pick(&[Fault::Internal, Fault::Drop, Fault::LoseAnswer]);
            cluster.fail_next(1, RequestFilter::of(verb, resource), fault);
        }
        8 => {
            let endpoint = *random.pick(&[Endpoint::UpdateJob, Endpoint::Trace]);
            let script = world.gitlab.script(endpoint);
            match random.within(0..3) {
                0 => script.reply(503).once(),
                1 => script.reset().once(),
                _ => script.lose_reply().once(),
            }
        }
        _ => {
            let pods = cluster.pods();
            if !pods.is_empty() {
                // Its pod may be gone by now; a helper that is killed comes back.
                let pod: &String = random.pick(&pods);
                drop(cluster.kill_pid1(pod, "helper"));
            }
        }
    }
}

/// The object by which a manager shows that it lives, once it has said so.
fn sign(manager: &Process) -> Option<String> {
    let log = manager.log();
    let line = log.lines().find(|line| line.contains("this manager's sign of life has a name"))?;
    let name = line.split("sign=").nth(1)?.split_whitespace().next()?;
    Some(format!("ci/{name}"))
}

/// What all managers of a run have logged, those that were killed too.
fn logs(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.directory()).unwrap().flatten();
    entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("log")).ok()).collect()
}

/// Two managers can have one job for a moment: who could not show a sign of life for its lease (1 s
/// here) loses its jobs while it lives, and an heir may have asked GitLab whether the job runs just
/// before the other one gave the verdict. GitLab has no conditional write, so the one that did not
/// give the verdict may send a piece of the trace after it. That is harmless if every such piece was
/// refused, and if each came from a manager that gave no verdict and left the job alone after it.
fn is_harmless(violation: &Violation, logs: &[String], world: &World) -> bool {
    let Some(job) = violation.job.filter(|_| violation.rule == Rule::TraceAfterVerdict) else {
        return false;
    };
    let said = |log: &String, what: &str| {
        let of_job = format!(" job={job} ");
        log.lines().filter(|line| line.contains(what) && line.contains(&of_job)).count()
    };
    let of_job = |other: &&Violation| other.rule == violation.rule && other.job == Some(job);
    let late = world.gitlab.violations().iter().filter(of_job).count();
    let requests = world.gitlab.requests();
    let refused = requests.iter().filter(|request| {
        let is_piece = request.endpoint == Endpoint::Trace && request.job == Some(job);
        is_piece && request.status == Some(403)
    });
    let gave_none = |log: &&String| said(log, "Submitting job to coordinator... ok") == 0;
    let without = logs.iter().filter(gave_none);
    let left_alone: usize = without.map(|log| said(log, "job aborted by the source")).sum();
    refused.count() == late && late <= left_alone
}

async fn run(seed: u64) {
    let mut random = Random::new(seed);
    // A job that was given to a manager that is killed right then is given out again after two minutes.
    let gitlab = GitLab::builder().commit_deadline(Duration::from_secs(15));
    let cluster = ClusterSettings::default();
    let Some(mut world) = World::simulated_with("fail at random", gitlab, cluster).await else {
        return;
    };
    world.concurrent = 4;
    let mut managers = vec![world.process(), world.process()];
    let jobs: Vec<_> = (0..JOBS).map(|number| enqueue(&world, number, &mut random)).collect();
    let begin = Instant::now();
    let mut at = Duration::ZERO;
    for _ in 0..EVENTS {
        at += random.millis(100..1500);
        sleep_until(begin + at).await;
        hurt(&world, &mut managers, &mut random).await;
    }
    world.cluster().api_back();
    let mut traces = Vec::new();
    for Job { job, state, code, lines } in &jobs {
        let end = job.wait_finished(PATIENCE).await;
        let end = end.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let log = text(&end);
        assert_eq!(end.state.as_str(), *state, "seed {seed}, {}: {log}", job.name());
        assert_eq!(end.checksum_ok, Some(true), "seed {seed}, {}: {log}", job.name());
        if code.is_some() {
            assert_eq!(end.exit_code, *code, "seed {seed}, {}: {log}", job.name());
        }
        let number = job.name().trim_start_matches("job-").to_owned();
        for line in 0..*lines {
            let found = log.matches(&format!("line {line} of {number}\n")).count();
            assert_eq!(found, 1, "seed {seed}, {}, line {line}: {log}", job.name());
        }
        traces.push((job, end.trace));
    }
    world.gitlab.clear_scripts();
    // What is left goes with the managers that live, the signs of those that were killed too: with
    // the last manager nobody would be left to take them away. Their number says nothing: a manager
    // that has just started may have shown none yet.
    let source = world.source_id();
    let give_up = Instant::now() + PATIENCE;
    loop {
        let records = world.place.records(&source).await;
        let signs: BTreeSet<_> = world.cluster().leftovers().config_maps.into_iter().collect();
        let living: Option<BTreeSet<_>> = managers.iter().map(sign).collect();
        if records.is_empty() && living.as_ref() == Some(&signs) {
            break;
        }
        let left = format!("{records:?} and {signs:?} are left, {living:?} live");
        assert!(Instant::now() < give_up, "seed {seed}: {left}");
        // Nothing tells a test of a change in a cluster.
        sleep(Duration::from_millis(50)).await;
    }
    for manager in managers {
        manager.end_by(Signal::TERM).await;
    }
    let mut violations = world.gitlab.violations();
    // A manager that was killed before it could say that a job runs.
    violations.retain(|violation| violation.rule != Rule::AcknowledgedTooLate);
    let logs = logs(&world);
    violations.retain(|violation| !is_harmless(violation, &logs, &world));
    assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    for (job, trace) in &traces {
        assert_eq!(job.trace(), trace, "seed {seed}, {}: written after its end", job.name());
    }
    world.place.nothing_is_left(&source).await;
}

#[tokio::test]
async fn processes_that_are_killed_and_replaced_bring_every_job_to_its_end() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("PODWRIGHT_SEED").unwrap_or(1);
    let runs = number("PODWRIGHT_RUNS").unwrap_or(RUNS);
    let all = futures_util::stream::iter(first..first + runs).map(|seed| Box::pin(run(seed)));
    all.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
