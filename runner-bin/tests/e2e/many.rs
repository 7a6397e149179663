//! Many jobs at once while everything goes wrong now and then.

use std::time::Duration;

use runner_testkit::cluster::{ClusterSettings, Fault, RandomDrops, RequestFilter};
use runner_testkit::gitlab::{Artifact, Endpoint, GitLab, JobRef, JobSpec, Rule};

use crate::world::{World, text};

const JOBS: u64 = 300;
const AT_ONCE: usize = 60;
/// For all of them, on a machine with two busy cores.
const PATIENCE: Duration = Duration::from_secs(300);

/// A small generator (SplitMix64), so that a seed always means the same faults.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a job does, and how it has to end.
fn job(number: u64, random: &mut Random) -> (JobSpec, &'static str, Option<i64>) {
    let spec = JobSpec::new(format!("job-{number}"));
    let lines =
        format!("for i in $(seq 1 {}); do echo \"$i of {number}\"; done", random.below(400));
    match random.below(6) {
        0 => (spec.script([lines, "exit 3".into()]), "failed", Some(3)),
        1 => (spec.script([lines, "kill -TERM $$".into()]), "failed", None),
        2 => (
            spec.script([lines, format!("echo {number} > out.txt")])
                .artifact(Artifact::archive(["out.txt"])),
            "success",
            None,
        ),
        3 => (spec.script([lines]).after_script(["echo after"]), "success", None),
        _ => (spec.script([lines, "sleep 0.2".into()]), "success", None),
    }
}

/// Puts a fault into the way of the next requests.
fn disturb(world: &World, random: &mut Random) {
    let cluster = world.cluster();
    let verbs =
        [("create", "pods"), ("create", "secrets"), ("delete", "pods"), ("delete", "secrets")];
    let (verb, resource) = verbs[usize::try_from(random.below(4)).unwrap()];
    let fault = match random.below(6) {
        0 => Fault::Internal,
        1 => Fault::Unavailable,
        2 => Fault::TooManyRequests { retry_after: Duration::from_secs(1) },
        3 => Fault::Drop,
        4 => Fault::LoseAnswer,
        _ => Fault::Delay(Duration::from_millis(300)),
    };
    cluster.fail_next(1, RequestFilter::of(verb, resource), fault);
    let endpoints = [Endpoint::UpdateJob, Endpoint::Trace, Endpoint::RequestJob];
    let endpoint = endpoints[usize::try_from(random.below(3)).unwrap()];
    let script = world.gitlab.script(endpoint);
    match random.below(5) {
        0 => script.reply(500).once(),
        1 => script.reply(503).once(),
        2 => script.reset().once(),
        // A job whose hand-out is lost is GitLab's to give out again.
        3 if endpoint != Endpoint::RequestJob => script.lose_reply().once(),
        _ => script.delay(Duration::from_millis(300)).once(),
    }
    if random.below(8) == 0 {
        cluster.drop_streams();
    }
    if random.below(40) == 0 {
        cluster.restart_api();
    }
    // A helper that is killed comes back and goes on.
    if random.below(4) == 0 {
        let pods = cluster.pods();
        if !pods.is_empty() {
            let at = usize::try_from(random.below(pods.len() as u64)).unwrap();
            // Its pod may be gone by now.
            drop(cluster.kill_pid1(&pods[at], "helper"));
        }
    }
}

#[tokio::test]
async fn three_hundred_jobs_end_right_while_small_things_go_wrong() {
    let seed = std::env::var("PODWRIGHT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
    });
    eprintln!("PODWRIGHT_SEED={seed}");
    let mut random = Random(seed);
    let cluster = ClusterSettings { node_cpus: 1000, ..ClusterSettings::default() };
    let gitlab = GitLab::builder();
    let Some(mut world) = World::simulated_with("fail at random", gitlab, cluster).await else {
        return;
    };
    world.concurrent = AT_ONCE;
    let drops = RandomDrops { seed, times: 60, mean_bytes: 3000 };
    world.cluster().drop_streams_randomly(drops);

    let mut jobs: Vec<(JobRef, &str, Option<i64>)> = Vec::new();
    for number in 0..JOBS {
        let (spec, state, code) = job(number, &mut random);
        jobs.push((world.gitlab.enqueue(spec), state, code));
    }
    let manager = world.manager("s_first0000000").await;
    let all = async {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (job, ..) in &jobs {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let end = job.wait_finished(left).await;
            end.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    };
    let disturbances = async {
        // One for each job that is over, and none at the end: they must not pile up in front of the
        // last ones.
        let last = usize::try_from(JOBS).unwrap() - 2 * AT_ONCE;
        let mut made = 0;
        loop {
            let over = jobs.iter().filter(|(job, ..)| job.state().is_final()).count();
            while made < over.min(last) + 10 {
                disturb(&world, &mut random);
                made += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = all => {}
        () = disturbances => {}
    }
    world.gitlab.clear_scripts();
    manager.drain().await;
    let mut violations = world.gitlab.violations();
    // A record that could not be written for a minute: GitLab had given the job out again, and says
    // so when the first manager accepts it.
    violations.retain(|violation| violation.rule != Rule::AcknowledgedTooLate);
    assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    for (job, state, code) in &jobs {
        let end = job.wait_finished(PATIENCE).await.unwrap();
        assert_eq!(end.state.as_str(), *state, "seed {seed}, {}: {}", job.name(), text(&end));
        assert_eq!(end.checksum_ok, Some(true), "seed {seed}, {}: {}", job.name(), text(&end));
        if code.is_some() {
            assert_eq!(end.exit_code, *code, "seed {seed}, {}: {}", job.name(), text(&end));
        }
    }
    world.place.nothing_is_left(&world.source_id()).await;
}
