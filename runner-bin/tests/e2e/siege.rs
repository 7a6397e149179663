//! Thirty running jobs on a real cluster while managers are killed every ten seconds, the API server is restarted
//! twice and a kubelet once.
//!
//! `PODWRIGHT_E2E_RESTART_API` and `PODWRIGHT_E2E_RESTART_KUBELET`: shell commands that do it, and return when the API
//! server answers again or the kubelet runs again. Whoever runs this has the cluster for himself meanwhile.
//! `PODWRIGHT_E2E_SIEGE`: its length in seconds, 300 if it is not set.

use std::process::Stdio;
use std::time::Duration;

use rstest::rstest;
use runner_testkit::gitlab::{Artifact, Finished, JobRef, JobSpec, Variable};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::place::{Place, is_real};
use crate::process::Process;
use crate::world::{World, text};

const JOBS: u64 = 30;
/// At any time; the oldest is killed, so each lives three times [`EVERY`].
const MANAGERS: usize = 3;
const EVERY: Duration = Duration::from_secs(10);
/// Between two lines of a job.
const PAUSE: Duration = Duration::from_millis(250);
/// From the first job's start to the end of everything, beyond the siege itself.
const PATIENCE: Duration = Duration::from_secs(240);

/// One siege at a time: there is one API server.
static CLUSTER: Mutex<()> = Mutex::const_new(());

/// What a job does after its lines.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Fails,
    AfterScript,
    Uploads,
    /// By its author, a little before its lines are over.
    Cancelled,
}

struct Job {
    job: JobRef,
    kind: Kind,
    lines: u64,
    /// The pod's own file of the log, still readable when the pod has gone. Only where the node is this machine.
    spool: Option<std::fs::File>,
}

impl Job {
    fn enqueue(world: &World, number: u64, siege: Duration) -> Self {
        let kind = match number % 6 {
            0 => Kind::Fails,
            1 => Kind::AfterScript,
            2 => Kind::Uploads,
            3 if number == 3 => Kind::Cancelled,
            _ => Kind::Plain,
        };
        // The last tenth of the siege and as much again afterwards is when they end, one after the other.
        let begin = u64::try_from(siege.as_millis()).unwrap() * 9 / 10;
        let length = begin + (siege.as_millis() as u64 / 5) * number / JOBS;
        // Longer than anybody waits for it.
        let length = if matches!(kind, Kind::Cancelled) { 2 * length } else { length };
        let lines = length / u64::try_from(PAUSE.as_millis()).unwrap();
        let write = format!(
            "i=0; while [ $i -lt {lines} ]; do echo \"line $i of {number}\"; i=$((i+1)); sleep {}; done",
            PAUSE.as_secs_f64()
        );
        let spec = JobSpec::new(format!("job-{number}"))
            .with(Variable::new("PASSWORD", "hunter2-hunter2").masked());
        let spec = match kind {
            Kind::Plain => spec.script([write, "echo over".into()]),
            Kind::Fails => spec.script([write, "exit 3".into()]),
            Kind::AfterScript => spec
                .script([write, "echo over".into()])
                .after_script(["echo \"after: $CI_JOB_STATUS, $PASSWORD\""]),
            Kind::Uploads => spec
                .script([write, "echo over; seq 1 5000 > out.txt".into()])
                .artifact(Artifact::archive(["out.txt"])),
            Kind::Cancelled => spec
                .script([write, "echo never".into()])
                .after_script(["echo \"after: $CI_JOB_STATUS\""]),
        };
        Self { job: world.gitlab.enqueue(spec), kind, lines, spool: None }
    }

    /// Opens the pod's own file of the log.
    async fn find_spool(&mut self, world: &World) {
        let Place::Real(real) = &world.place else { return };
        if std::env::var_os("PODWRIGHT_E2E_LOCAL_NODE").is_none() {
            return;
        }
        let pod = real.pod_of(self.job.id()).await;
        let path = format!("{}/{}", runner_core::layout::STATE_DIR, runner_core::layout::SPOOL);
        self.spool = Some(real.open(&pod, "helper", &path).await);
    }

    /// The verdict is the job's own, the log whole.
    fn judge(&mut self, end: &Finished) {
        let (name, log) = (self.job.name(), text(end));
        let (state, code) = match self.kind {
            Kind::Fails => ("failed", Some(3)),
            Kind::Cancelled => ("canceled", None),
            _ => ("success", None),
        };
        assert_eq!(end.state.as_str(), state, "{name}: {log}");
        if state != "canceled" {
            assert_eq!(end.exit_code.filter(|code| *code > 0), code, "{name}: {log}");
        }
        assert_eq!(end.checksum_ok, Some(true), "{name}: {log}");
        assert_eq!(end.handouts, 1, "{name} was handed out again");

        // What the script has written, without stamps: each line once, in order.
        let number = name.trim_start_matches("job-").to_owned();
        let written = lines_of(&log);
        let count = written.lines().count() as u64;
        let cancelled = matches!(self.kind, Kind::Cancelled);
        assert!(if cancelled { count < self.lines } else { count == self.lines }, "{name}: {log}");
        let expected: String = (0..count).map(|i| format!("line {i} of {number}\n")).collect();
        assert_eq!(sha256(written.as_bytes()), sha256(expected.as_bytes()), "{name}: {log}");

        let has = |text: &str| log.contains(text);
        assert_eq!(has("Job succeeded"), state == "success", "{name}: {log}");
        let after = matches!(self.kind, Kind::AfterScript | Kind::Cancelled);
        let word = if cancelled { "canceled" } else { "success" };
        assert_eq!(has(&format!("O after: {word}")), after, "{name}: {log}");
        assert!(!has("hunter2"), "{name}: {log}");

        if let Some(spool) = &mut self.spool {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(spool, &mut bytes).unwrap();
            assert_eq!(
                sha256(&end.trace),
                sha256(&bytes),
                "{name}: GitLab's trace and the pod's spool differ"
            );
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines that the script's loop has written: behind 27 bytes of stamp and the stream's name.
fn lines_of(log: &str) -> String {
    let own = |line: &'_ str| {
        line.get(27..).and_then(|rest| rest.strip_prefix(" 01O line ")).map(str::to_owned)
    };
    log.split_inclusive('\n').filter_map(own).map(|rest| format!("line {rest}")).collect()
}

async fn shell(command: &str) {
    let started = Instant::now();
    let status = tokio::process::Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(PATIENCE, status).await;
    assert!(status.unwrap().unwrap().success(), "{command}");
    eprintln!("{command}: {:?}", started.elapsed());
}

/// How long the logs stood still: looked at every quarter of a second, until all jobs are over.
async fn longest_gaps(jobs: &[JobRef]) -> Vec<Duration> {
    let begin = Instant::now();
    let mut seen: Vec<_> = jobs.iter().map(|_| (0, begin, Duration::ZERO)).collect();
    while jobs.iter().any(|job| !job.state().is_final()) {
        for (job, (size, since, longest)) in jobs.iter().zip(&mut seen) {
            if job.state().is_final() {
                continue;
            }
            *longest = (*longest).max(since.elapsed());
            let now = job.trace().len();
            if now != *size {
                (*size, *since) = (now, Instant::now());
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
    let mut gaps: Vec<_> = seen.into_iter().map(|(.., longest)| longest).collect();
    gaps.sort();
    gaps
}

/// The oldest manager is killed and a new one comes, until the siege and all jobs are over.
async fn killing(world: &World, managers: &mut Vec<Process>, end: Instant, jobs: &[JobRef]) -> u32 {
    let mut kills = 0;
    let mut next = Instant::now() + EVERY;
    loop {
        sleep_until(next).await;
        if Instant::now() >= end && jobs.iter().all(|job| job.state().is_final()) {
            return kills;
        }
        managers.remove(0).kill();
        managers.push(world.process());
        kills += 1;
        next += EVERY;
    }
}

#[rstest]
// Shorter than the API server is away: managers that live are taken for dead, and fenced off.
#[case::a_lease_of_two_seconds(2)]
#[case::the_default_lease(20)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_jobs_end_right_while_managers_api_server_and_kubelet_die(#[case] lease: i64) {
    let command = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(api), Some(kubelet)) =
        (command("PODWRIGHT_E2E_RESTART_API"), command("PODWRIGHT_E2E_RESTART_KUBELET"))
    else {
        return eprintln!(
            "left out: PODWRIGHT_E2E_RESTART_API and PODWRIGHT_E2E_RESTART_KUBELET say no commands"
        );
    };
    if !is_real() {
        return eprintln!("left out: only a real cluster has a kubelet to restart");
    }
    let siege = command("PODWRIGHT_E2E_SIEGE").map_or(300, |seconds| seconds.parse().unwrap());
    let siege = Duration::from_secs(siege);
    let _alone = CLUSTER.lock().await;
    let mut world = World::new().await;
    world.concurrent = 40;
    world.settings.manager_lease_duration = lease;
    let mut managers: Vec<_> = (0..MANAGERS).map(|_| world.process()).collect();
    let mut jobs: Vec<_> = (0..JOBS).map(|number| Job::enqueue(&world, number, siege)).collect();
    let begun = Instant::now();
    for job in &mut jobs {
        job.job.wait_trace("line 2 of", PATIENCE).await.unwrap();
        job.find_spool(&world).await;
    }
    eprintln!("all {JOBS} jobs run after {:?}", begun.elapsed());

    let refs: Vec<_> = jobs.iter().map(|job| job.job.clone()).collect();
    let begin = Instant::now();
    let restarts = async {
        for (fifths, command) in [(1, &api), (2, &kubelet), (3, &api)] {
            sleep_until(begin + siege * fifths / 5).await;
            shell(command).await;
        }
        let cancelled = jobs.iter().find(|job| matches!(job.kind, Kind::Cancelled)).unwrap();
        sleep_until(begin + siege * 4 / 5).await;
        cancelled.job.cancel();
    };
    let all = async {
        tokio::join!(
            killing(&world, &mut managers, begin + siege, &refs),
            restarts,
            longest_gaps(&refs)
        )
    };
    let besieged = tokio::time::timeout(siege + PATIENCE, all).await;
    let Ok((kills, (), gaps)) = besieged else {
        let open = refs.iter().filter(|job| !job.state().is_final()).map(JobRef::name);
        panic!("not over: {:?}", open.collect::<Vec<_>>());
    };
    for job in &mut jobs {
        let end = job.job.wait_finished(PATIENCE).await.unwrap();
        job.judge(&end);
    }
    eprintln!(
        "lease {lease} s: {kills} managers killed in {:?}; a log stood still for {:?} at most, in the median job {:?}",
        begin.elapsed(),
        gaps.last().unwrap(),
        gaps[gaps.len() / 2],
    );
    assert_eq!(world.gitlab.violations(), []);
    // Those who live take away the signs of life of the dead: of the one that was killed last, a lease later.
    world.place.nothing_but_signs_is_left(&world.source_id()).await;
    let signs = async {
        while world.place.signs(&world.source_id()).await != MANAGERS {
            sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(PATIENCE, signs).await.expect("signs of dead managers are left");
    for manager in managers {
        assert!(manager.end_by(Signal::TERM).await.success());
    }
    world.check().await;
}
