//! `run-single`.

use std::process::{Command, Stdio};

use runner_testkit::gitlab::JobSpec;

use crate::house::{House, PATIENCE};

/// The arguments of a runner without a file.
fn arguments(house: &House) -> Vec<String> {
    let pairs = [
        ("url", house.gitlab.url()),
        ("token", house.gitlab.runner_token().to_owned()),
        ("executor", "kubernetes".to_owned()),
    ];
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

async fn run(house: &House, arguments: Vec<String>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwright"));
    command.arg("run-single").args(arguments).env("KUBECONFIG", house.path("kubeconfig"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn manager_50_a_single_runner_ends_after_so_many_jobs() {
    let house = House::new().await;
    house.write(&format!("concurrent = 5\n{}", house.one()));
    let jobs: Vec<_> =
        (0..3).map(|_| house.gitlab.enqueue(JobSpec::new("test").script(["true"]))).collect();
    let config = house.config().display().to_string();
    let from_file = ["--config", &config, "--runner", "one", "--max-builds", "2"];
    let (code, log) = run(&house, from_file.map(str::to_owned).to_vec()).await;
    assert_eq!(code, Some(0), "{log}");
    let mut done = 0;
    for job in &jobs {
        done += u32::from(job.wait_finished(std::time::Duration::from_millis(1)).await.is_ok());
    }
    assert_eq!(done, 2, "{log}");
}

#[tokio::test]
async fn manager_50_a_single_runner_ends_when_there_is_no_job_for_so_long() {
    let house = House::new().await;
    let mut all = arguments(&house);
    all.push("--wait-timeout=1".to_owned());
    let (code, log) = run(&house, all).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("no job for 1 seconds"), "{log}");
}

#[tokio::test]
async fn manager_50_url_token_and_executor_are_needed() {
    let house = House::new().await;
    for left_out in 0..3 {
        let mut some = arguments(&house);
        let name = some.remove(left_out).split('=').next().unwrap().to_owned();
        let (code, log) = run(&house, some).await;
        assert_eq!(code, Some(1));
        assert!(log.contains(&format!("{name} is needed")), "{log}");
    }
}
