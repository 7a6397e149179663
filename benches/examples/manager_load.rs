//! A thousand jobs at once of twenty runners, while the configuration changes every second: no job is
//! lost, and what it costs.
//!
//! The manager is `podwright run` in a process of its own. Each runner has a GitLab of its own; the
//! Kubernetes API and the pods are stand-ins: no process runs in a pod, but an agent speaks the real
//! protocol. Every job logs 64 KiB and goes on running; then they all end at once.
//!
//!     cargo build --release --features jemalloc && cargo run --release -p benches --example manager_load [JOBS RUNNERS SECONDS]
#![expect(clippy::print_stdout, reason = "the numbers are the point")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Isolation, scripted_agent};
use runner_testkit::gitlab::{GitLab, JobRef, JobSpec, JobState};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const LOG: usize = 64 << 10;

/// The manager, killed at the end.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Manager {
    fn start(config: &Path, log: &Path) -> Self {
        let here = std::env::current_exe().expect("this program");
        let program = here.ancestors().nth(2).map(|target| target.join("podwright"));
        let program: PathBuf = program.filter(|program| program.exists()).expect(
            "the manager's program should be beside this one: run `cargo build --release` first",
        );
        let log = fs::File::create(log).expect("a file");
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn();
        Self(child.expect("the manager starts"))
    }

    /// A number of KiB from `/proc/PID/status`.
    fn status(&self, key: &str) -> usize {
        let path = format!("/proc/{}/status", self.0.id());
        let status = fs::read_to_string(path).expect("the manager should be running");
        let line = status.lines().find(|line| line.starts_with(key)).expect("Linux");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Time on processors so far.
    fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.0.id());
        let stat = fs::read_to_string(path).expect("the manager should be running");
        let fields = stat.rsplit_once(") ").expect("Linux").1;
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
        // 100 ticks a second, on every Linux that this runs on.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}

fn write(config: &Path, gitlabs: &[GitLab], kubeconfig: &Path, jobs: usize, version: usize) {
    // Limits and intervals change for a half of the runners; one runner comes and goes.
    let mut text =
        format!("concurrent = {}\ncheck_interval = {}\n", jobs + version % 7, 1 + version % 3);
    for (index, gitlab) in gitlabs.iter().enumerate() {
        let limit = if index % 2 == 0 { jobs + version % 5 } else { 0 };
        let _ = write!(
            text,
            "[[runners]]\nname = \"load-{index}\"\nurl = \"{}\"\ntoken = \"{}\"\nlimit = {limit}\n\
             executor = \"kubernetes\"\n[runners.kubernetes]\nkubeconfig = {kubeconfig:?}\n\
             namespace = \"ci\"\nimage = \"job\"\nhelper_image = \"job\"\nagent_image = \"agent\"\n\
             poll_timeout = 600\n",
            gitlab.url(),
            gitlab.runner_token(),
        );
        if index + 2 == gitlabs.len() && version % 4 == 3 {
            break;
        }
    }
    let new = config.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, config).expect("a file");
}

async fn run(count: usize, runners: usize, seconds: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut gitlabs = Vec::new();
    for index in 0..runners {
        let token = format!("glrt-load{index:05}-0123456789");
        gitlabs.push(GitLab::builder().runner_token(token).start().await.expect("a GitLab"));
    }
    let cluster = Cluster::start(ClusterSettings {
        isolation: Isolation::Plain,
        node_cpus: 100_000,
        ..ClusterSettings::default()
    });
    let cluster = cluster.expect("a cluster");
    let (finish, finished) = watch::channel(false);
    let line = b"a line of a log that is about as long as such lines mostly are, 80 characters.\n";
    let trace: Bytes = line.iter().copied().cycle().take(LOG).collect();
    cluster.register_image("job", ImageSpec::scripted(scripted_agent(trace, finished)));
    let agent = directory.path().join("agent");
    fs::create_dir(&agent).expect("a directory");
    cluster.register_image("agent", ImageSpec::volume(agent));
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, cluster.kubeconfig()).expect("a file");
    let (config, log) = (directory.path().join("config.toml"), directory.path().join("log"));
    write(&config, &gitlabs, &kubeconfig, count, 0);

    let jobs: Vec<JobRef> = (0..count)
        .map(|number| {
            let spec = JobSpec::new(format!("job-{number}")).script(["sleep 3600"]);
            gitlabs[number % runners].enqueue(spec)
        })
        .collect();
    let manager = Manager::start(&config, &log);
    let began = Instant::now();
    let mut version = 0;
    let mut change = async || {
        version += 1;
        write(&config, &gitlabs, &kubeconfig, count, version);
        sleep(Duration::from_secs(1)).await;
    };
    while jobs.iter().any(|job| job.trace().len() < LOG) {
        assert!(began.elapsed() < Duration::from_secs(600), "jobs do not get on: {log:?}");
        change().await;
    }
    let started = began.elapsed();
    println!("{count} jobs of {runners} runners run after {:.1} s", started.as_secs_f64());
    println!("processor time until then: {:.1} s", manager.cpu().as_secs_f64());

    let (before, steady) = (manager.cpu(), Instant::now());
    while steady.elapsed() < Duration::from_secs(seconds) {
        change().await;
    }
    let (used, time) = (manager.cpu() - before, steady.elapsed());
    let each = used.as_secs_f64() * 1000.0 / (time.as_secs_f64() * count as f64);
    println!("running, with a new configuration every second: {each:.3} ms for a job and second");
    println!("memory: {} KiB, at most {} KiB", manager.status("VmRSS"), manager.status("VmHWM"));

    let before = Instant::now();
    finish.send_replace(true);
    let mut lost = 0;
    for job in &jobs {
        match job.wait_finished(Duration::from_secs(300)).await {
            Ok(end) if end.state == JobState::Success && end.checksum_ok == Some(true) => {}
            _ => lost += 1,
        }
    }
    println!("all over after {:.1} s, {lost} lost", before.elapsed().as_secs_f64());
    let broken: usize = gitlabs.iter().map(|gitlab| gitlab.violations().len()).sum();
    println!("{broken} rules of GitLab's broken");
    let text = fs::read_to_string(&log).unwrap_or_default();
    println!("configurations that were loaded: {}", text.matches("Configuration loaded").count());
    assert_eq!((lost, broken), (0, 0), "see above");
}

fn main() {
    // It fails only when there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let [jobs, runners, seconds] = numbers[..] else {
        return start(1000, 20, 60);
    };
    start(jobs, runners, seconds as u64);
}

fn start(jobs: usize, runners: usize, seconds: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(jobs, runners, seconds));
}
