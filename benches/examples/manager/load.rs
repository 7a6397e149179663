//! A thousand jobs at once of twenty runners, while the configuration changes every second: no job is
//! lost, and what it costs.
//!
//! Each runner has a GitLab of its own. Every job logs 64 KiB and goes on running; then they all end at once.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use runner_testkit::gitlab::{GitLab, JobRef, JobSpec, JobState};
use tokio::time::{Instant, sleep};

use crate::process::Manager;
use crate::stage;

const LOG: usize = 64 << 10;
/// Many times what it takes.
const PATIENCE: Duration = Duration::from_secs(180);

fn write(config: &Path, gitlabs: &[GitLab], kubeconfig: &Path, jobs: usize, version: usize) {
    // Limits and intervals change for a half of the runners; one runner comes and goes.
    let mut text =
        format!("concurrent = {}\ncheck_interval = {}\n", jobs + version % 7, 1 + version % 3);
    for (index, gitlab) in gitlabs.iter().enumerate() {
        let limit = if index % 2 == 0 { jobs + version % 5 } else { 0 };
        let _ = write!(
            text,
            "[[runners]]\nname = \"load-{index}\"\nurl = \"{}\"\ntoken = \"{}\"\nlimit = {limit}\n\
             executor = \"kubernetes\"\n[runners.kubernetes]\nkubeconfig = {kubeconfig:?}\n{}",
            gitlab.url(),
            gitlab.runner_token(),
            stage::KUBERNETES,
        );
        if index + 2 == gitlabs.len() && version % 4 == 3 {
            break;
        }
    }
    let new = config.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(new, config).expect("a file");
}

pub(crate) async fn run(count: usize, runners: usize, seconds: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut gitlabs = Vec::new();
    for index in 0..runners {
        let token = format!("glrt-load{index:05}-0123456789");
        gitlabs.push(GitLab::builder().runner_token(token).start().await.expect("a GitLab"));
    }
    let (cluster, finish) = stage::cluster(directory.path(), LOG);
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, cluster.kubeconfig()).expect("a file");
    let config = directory.path().join("config.toml");
    write(&config, &gitlabs, &kubeconfig, count, 0);

    let jobs: Vec<JobRef> = (0..count)
        .map(|number| {
            let spec = JobSpec::new(format!("job-{number}")).script(["sleep 3600"]);
            gitlabs[number % runners].enqueue(spec)
        })
        .collect();
    let manager = Manager::start(&config);
    let began = Instant::now();
    let mut version = 0;
    let mut change = async || {
        version += 1;
        write(&config, &gitlabs, &kubeconfig, count, version);
        sleep(Duration::from_secs(1)).await;
    };
    while jobs.iter().any(|job| job.trace().len() < LOG) {
        let left = jobs.iter().filter(|job| job.trace().len() < LOG).count();
        let words = || manager.last_words();
        assert!(began.elapsed() < PATIENCE, "{left} jobs do not get on: {:#?}", words());
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
        match job.wait_finished(PATIENCE).await {
            Ok(end) if end.state == JobState::Success && end.checksum_ok == Some(true) => {}
            _ => lost += 1,
        }
    }
    println!("all over after {:.1} s, {lost} lost", before.elapsed().as_secs_f64());
    let broken: usize = gitlabs.iter().map(|gitlab| gitlab.violations().len()).sum();
    println!("{broken} rules of GitLab's broken");
    println!(
        "configurations that were loaded: {}",
        manager.log().matches("Configuration loaded").count()
    );
    assert_eq!((lost, broken), (0, 0), "see above");
}
