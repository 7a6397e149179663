//! Getting the sources of a 200 MB repository beside plain `git clone` and `git checkout` with the same
//! options, in turns, over smart HTTP with authentication.
//!
//! The stage is the agent's, in a process of its own, with all that a job needs: its log, its journal,
//! credentials, a repository that the job's git can use. The CPU
//! time is that of git and all that it starts, without the server's, which is in this process.
//!
//!     cargo run --release -p benches --example clone [ROUNDS]
#![expect(clippy::print_stdout, reason = "the numbers are the point")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use runner_core::executor::{Executor, JobEvent, JobRequest};
use runner_core::ids::Offset;
use runner_core::job::Job;
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::source::Ticket;
use runner_testkit::gitlab::{GitLab, Repo};
use runner_testkit::local::LocalExecutor;
use serde_json::json;
use tokio::time::Instant;

const FILES: usize = 8_000;
const BLOBS: usize = 60;
const COMMITS: usize = 200;

/// Bytes that do not compress, from a fixed seed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(count).collect()
    }

    /// Lines of words, as code has them: about a third of it is information.
    fn text(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 40);
        while out.len() < count {
            let number = self.next();
            out.extend_from_slice(format!("let value = match {number:016x} {{ }}\n").as_bytes());
        }
        out
    }
}

async fn repository(gitlab: &GitLab) -> Repo {
    let mut noise = Noise(7);
    let path = |index: usize| format!("src/d{}/f{index}.rs", index % 200);
    let mut files: Vec<_> =
        (0..FILES).map(|index| (path(index), noise.text(4_000 + index % 9_000))).collect();
    files.extend((0..BLOBS).map(|index| (format!("data/{index}.bin"), noise.bytes(2_000_000))));
    let mut builder = gitlab.repo("group/large").commit("everything", files);
    for _ in 0..COMMITS {
        let changed: Vec<_> =
            (0..20).map(|_| (path(noise.next() as usize % FILES), noise.text(6_000))).collect();
        builder = builder.commit("a change", changed);
    }
    builder.create().await.expect("git makes the repository")
}

/// A `git` that writes down the CPU time it took.
struct Meter {
    path: String,
    log: PathBuf,
}

impl Meter {
    fn new(place: &Path) -> Self {
        let programs = place.join("programs");
        std::fs::create_dir(&programs).expect("a directory");
        let (git, log) = (programs.join("git"), place.join("cpu"));
        let own = std::env::var("PATH").expect("a path");
        // `times` says in its second line what the children took.
        let script = format!(
            "#!/bin/sh\nPATH={own}\ngit \"$@\"\nstatus=$?\ntimes > {0}.last; tail -n 1 {0}.last >> {0}\nexit $status\n",
            log.display()
        );
        std::fs::write(&git, script).expect("a file");
        std::fs::set_permissions(&git, Permissions::from_mode(0o755)).expect("our own file");
        Self { path: format!("{}:{own}", programs.display()), log }
    }

    /// What was taken since the last time, user and system.
    fn taken(&self) -> Duration {
        let text = std::fs::read_to_string(&self.log).expect("git was started");
        std::fs::remove_file(&self.log).expect("our own file");
        let times = text.split_whitespace().map(|time| {
            let (minutes, seconds) = time.trim_end_matches('s').split_once('m').expect("0m0.00s");
            let minutes: f64 = minutes.parse().expect("minutes");
            Duration::from_secs_f64(minutes * 60.0 + seconds.parse::<f64>().expect("seconds"))
        });
        times.sum()
    }
}

fn plain(url: &str, sha: &str, depth: u32, directory: &Path, path: &str) {
    let git = |arguments: &[&str], place: &Path| {
        let status = Command::new("git")
            .current_dir(place)
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("PATH", path)
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("git is there").success());
    };
    let depth = format!("--depth={depth}");
    let mut clone = vec!["clone", "--quiet", "--no-checkout", "--no-tags", "--single-branch"];
    clone.extend((depth != "--depth=0").then_some(depth.as_str()));
    clone.extend([url, "plain"]);
    git(&clone, directory);
    git(&["checkout", "--quiet", "--force", sha], &directory.join("plain"));
}

/// A job with nothing but its sources.
fn job(url: &str, sha: &str, depth: u32) -> Job {
    let job = json!({
        "id": 1, "name": "clone",
        "project": { "id": 1, "name": "large", "path": "group/large", "reference": "main", "sha": sha },
        "sources": {
            "url": url, "reference": "main", "sha": sha, "depth": depth, "object_format": "sha1",
            "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "allow_fetch": true,
        },
        "variables": [], "steps": [], "image": null, "services": [], "artifacts": [],
        "dependencies": [], "registries": [], "timeout": { "secs": 3600, "nanos": 0 },
        "features": { "trace_sections": false, "failure_reasons": [], "token_mask_prefixes": [] },
        "url": null,
    });
    serde_json::from_value(job).expect("what a job is, in JSON")
}

/// Wall clock of the stage, as the agent reports it.
async fn stage(job: &Job, directory: &Path, path: &str) -> Duration {
    let program = std::env::current_exe().expect("this program").display().to_string();
    let path = format!("PATH={path}");
    let agent = ["/usr/bin/env".to_owned(), path, program, "agent".to_owned()];
    let executor = LocalExecutor::new(directory, agent);
    let plan = plan(job, &PlanSettings::default(), Transfers::default()).expect("a plan");
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job, plan: &plan, ticket: &ticket, session: None };
    let mut handle = executor.reserve(request).await.expect("a place for the job");
    handle.start().await.expect("the agent starts");
    handle.follow(Offset::ZERO, Offset(u64::MAX)).await;
    let end = loop {
        if let JobEvent::Ended(end) = handle.event().await {
            break end;
        }
    };
    assert!(end.outcome.is_success(), "{end:?}");
    let sources = end.stages.iter().find(|stage| stage.name == "get_sources").expect("the stage");
    let took = Duration::from_millis(sources.took_ms);
    handle.dispose().await.expect("the job's directory can be removed");
    took
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What the rounds say: medians, shortest times, and the median of each round's own ratio, which a machine that is
/// busy for some of the rounds disturbs least.
fn report(depth: u32, what: &str, theirs: &[Duration], ours: &[Duration]) {
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let (theirs, ours) = (seconds(theirs), seconds(ours));
    let ratios = theirs.iter().zip(&ours).map(|(theirs, ours)| ours / theirs).collect();
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let best = least(&ours) / least(&theirs);
    println!(
        "depth {depth:2}, {what:4}: git clone {:6.2} s, the stage {:6.2} s, ratio of a round {:.3}, of the best {best:.3}",
        median(theirs),
        median(ours),
        median(ratios),
    );
}

async fn compare(rounds: usize) {
    let gitlab = GitLab::start().await.expect("a port");
    let repo = repository(&gitlab).await;
    let sha = repo.sha("main").expect("main").to_owned();
    let url = gitlab.url().replace("://", &format!("://gitlab-ci-token:{}@", gitlab.read_token()));
    let url = format!("{url}/group/large.git");
    let place = tempfile::tempdir().expect("a directory");
    let meter = Meter::new(place.path());
    for depth in [20, 0] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        let (mut their_cpu, mut our_cpu) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // Who is first finds another disk than who is second.
            for own in [round % 2 == 0, round % 2 != 0] {
                if own {
                    let jobs = place.path().join("jobs");
                    ours.push(stage(&job(&url, &sha, depth), &jobs, &meter.path).await);
                    our_cpu.push(meter.taken());
                    continue;
                }
                let (url_, sha_, place_) = (url.clone(), sha.clone(), place.path().to_owned());
                let path = meter.path.clone();
                let work = move || plain(&url_, &sha_, depth, &place_, &path);
                let began = Instant::now();
                tokio::task::spawn_blocking(work).await.expect("git does not panic");
                theirs.push(began.elapsed());
                their_cpu.push(meter.taken());
                std::fs::remove_dir_all(place.path().join("plain"))
                    .expect("the clone can be removed");
            }
        }
        report(depth, "wall", &theirs, &ours);
        report(depth, "CPU", &their_cpu, &our_cpu);
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == "agent").is_some() {
        return runner_agent::cli::run(arguments);
    }
    let rounds = arguments.next().and_then(|rounds| rounds.to_str()?.parse().ok()).unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("threads").block_on(compare(rounds));
    ExitCode::SUCCESS
}
