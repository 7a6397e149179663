//! Many managers, jobs and faults in one process and without time: the real managers, executors,
//! HTTP clients, streams and agents over pipes, on the simulated API server and a source in memory.
//!
//! ```text
//!   Queue ◄── Line ── Manager ── KubernetesExecutor ── HTTP over Line ──► Cluster (in memory)
//!                                                                             │ exec, TERM, kill
//!                                    Truth ◄── Witness ◄── supervise_in ◄── Node
//! ```
//!
//! The same seed is the same run: see [`fixed`]. What must hold is in [`laws`].
//!
//! `CHAOS_SEED` and `CHAOS_RUNS` choose the runs (`just chaos SEED N`), each in a process of its own
//! ([`child`]). After a failure nothing new begins, unless `CHAOS_GO_ON=1` asks for all failures;
//! `CHAOS_SHRINK=0` leaves the first one as it is. `CHAOS_RUN` is one run, as a failure names it:
//! `CHAOS_RUN="…" CHAOS_LOG=debug cargo test -p runner-bin --test chaos told -- --nocapture`.

#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

mod child;
mod faults;
mod fixed;
mod laws;
mod manager;
mod node;
mod run;
mod serve;
mod symptoms;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use child::{Answer, Part};
use parking_lot::Mutex;
use runner_testkit::chaos::{Schedule, shrink};

/// Jobs and most faults of a full run (`just chaos`).
const FULL: (usize, usize) = (20, 40);
/// Of a small one.
const SMALL: (usize, usize) = (4, 16);
/// So many of the ordinary test's runs are small for each full one: without optimisation a full one
/// takes more than a second.
const SMALL_FOR_EACH_FULL: u64 = 4;

/// How many jobs and at most how many faults the run of a seed has. Somebody who looks for a cause may
/// make it smaller.
fn size(seed: u64) -> (usize, usize) {
    let (jobs, faults) = match seed.is_multiple_of(SMALL_FOR_EACH_FULL + 1) {
        true => FULL,
        false => SMALL,
    };
    let size = |name, default: usize| number(name).map_or(default, |size| size as usize);
    (size("CHAOS_JOBS", jobs), size("CHAOS_FAULTS", faults))
}

fn schedule(seed: u64) -> Schedule {
    let (jobs, faults) = size(seed);
    Schedule::new(seed, jobs, faults)
}

/// Managers' logs on standard error, where wanted.
fn log() {
    if let Ok(filter) = std::env::var("CHAOS_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        // Somebody else of this process may have been first.
        drop(
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .try_init(),
        );
    }
}
/// Runs of the ordinary test.
const RUNS: u64 = 500;

/// A directory for spools and volumes, in memory where there is such a place.
fn work_dir() -> tempfile::TempDir {
    let parent = Path::new("/dev/shm");
    let parent = if parent.is_dir() { parent.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("chaos-").tempdir_in(parent).unwrap()
}

/// Runs a schedule in a process of its own.
fn try_once(schedule: &Schedule) -> Answer {
    let dir = work_dir();
    child::run(&Part::of(size(schedule.seed), schedule), dir.path())
}

/// What a run was like, so that two runs can be compared.
fn digest(end: &run::Outcome) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{:?}\n", end.took);
    for job in &end.jobs {
        let verdict = job.verdict.as_ref().map(|(outcome, at)| (outcome, *at - end.begin));
        let trace = runner_core::outcome::TraceSummary::of(&job.trace);
        let starts = end.truths.get(&job.plan.id).map_or(0, |truth| truth.starts);
        let _ = writeln!(text, "{} {} {verdict:?} {trace:?} {starts}", job.plan.id, job.given);
    }
    text
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is broken, in a schedule that is as small as can be.
fn report(schedule: &Schedule) -> String {
    let small = shrink(schedule.clone(), 300, |smaller| !try_once(smaller).broken.is_empty());
    let part = Part::of(size(schedule.seed), &small);
    let still = try_once(&small).broken.join("\n  ");
    format!("smallest: CHAOS_RUN=\"{part}\"\n{small:#?}\n  {still}")
}

#[test]
fn whatever_goes_wrong_every_job_ends_once_with_its_verdict_and_its_log() {
    let first = number("CHAOS_SEED").unwrap_or(1);
    let runs = number("CHAOS_RUNS").unwrap_or(RUNS);
    let on = number("CHAOS_GO_ON").is_some_and(|on| on != 0);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(BTreeSet::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs || (!on && !failed.lock().is_empty()) {
                        return;
                    }
                    let broken = try_once(&schedule(seed)).broken;
                    if !broken.is_empty() {
                        println!("seed {seed}:\n  {}", broken.join("\n  "));
                        failed.lock().insert(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let smallest = failed.first().filter(|_| number("CHAOS_SHRINK") != Some(0));
    let report = smallest.map(|seed| report(&schedule(*seed))).unwrap_or_default();
    assert!(failed.is_empty(), "{} of {runs} runs, seeds {failed:?}\n{report}", failed.len());
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 11] {
        let plan = schedule(seed);
        assert_eq!(try_once(&plan).digest, try_once(&plan).digest, "seed {seed}");
    }
}

#[test]
fn every_kind_of_fault_comes_up_as_the_page_says() {
    let faults = (1..=RUNS).flat_map(|seed| Schedule::new(seed, 1, 40).events);
    let kinds: HashSet<_> = faults.map(|event| std::mem::discriminant(&event.fault)).collect();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
    let page = std::fs::read_to_string(page).unwrap();
    let said = format!("faults of {} kinds", kinds.len());
    assert!(page.contains(&said), "docs/reliability.md does not say {said:?}");
}
