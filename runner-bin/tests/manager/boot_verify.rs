//! A job of the manager's own before all others.

use runner_testkit::gitlab::JobSpec;
use rustix::process::Signal;

use crate::house::{House, PATIENCE, until};

const ANY: &str = "listen_address = \"127.0.0.1:0\"\ncheck_interval = 1\n";

/// A runner with a canary.
fn tried(house: &House, timeout: &str) -> String {
    format!(
        "{ANY}{}[runners.experimental.boot_verify]\nenabled = true\ntimeout = \"{timeout}\"\n",
        house.one()
    )
}

#[tokio::test]
async fn manager_57_manager_55_a_canary_that_succeeds_comes_before_the_first_request_for_a_job() {
    let house = House::new().await;
    let slow = "pre_build_script = \"sleep 2\"\nexecutor =";
    house.write(&tried(&house, "60s").replace("executor =", slow));
    let mut manager = house.start();
    let pages = manager.pages().await;
    manager.says("Running boot verify").await;
    let ready = async || {
        let answer = reqwest::get(format!("{pages}/health/ready")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ready().await, (503, "boot-verify pending\n".to_owned()));
    assert!(house.gitlab.requests().is_empty(), "nothing is asked for yet");
    manager.says("Boot verify succeeded").await;
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["true"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    assert_eq!(ready().await, (200, "ready\n".to_owned()));
    let left = house.cluster.leftovers();
    assert!(left.secrets.is_empty(), "{left:?}");
    assert!(house.gitlab.violations().is_empty(), "{:?}", house.gitlab.violations());
    manager.signal(Signal::QUIT);
    assert_eq!(manager.end().await, Some(0));
}

#[tokio::test]
async fn manager_57_a_canary_that_fails_ends_the_manager_with_1_and_its_log_is_shown() {
    let house = House::new().await;
    let broken = "pre_build_script = \"echo from the canary; exit 7\"\nexecutor =";
    house.write(&tried(&house, "60s").replace("executor =", broken));
    let mut manager = house.start();
    assert_eq!(manager.end().await, Some(1));
    let log = manager.log();
    assert!(log.contains("Boot verify failed: Exited(7)"), "{log}");
    assert!(log.contains("from the canary"), "{log}");
    assert!(log.contains("no job was asked for"), "{log}");
    assert!(house.gitlab.requests().is_empty(), "{:?}", house.gitlab.requests());
    assert!(house.cluster.leftovers().secrets.is_empty(), "{:?}", house.cluster.leftovers());
    until("the pod to be gone", || house.cluster.leftovers().pods.is_empty()).await;
}

#[tokio::test]
async fn manager_57_a_canary_that_takes_too_long_ends_the_manager_and_a_signal_ends_both() {
    let house = House::new().await;
    let slow = |timeout: &str| {
        let slow = "pre_build_script = \"sleep 1000\"\nexecutor =";
        tried(&house, timeout).replace("executor =", slow)
    };
    house.write(&slow("4s"));
    let mut manager = house.start();
    assert_eq!(manager.end().await, Some(1));
    manager.says("Boot verify failed").await;

    house.write(&slow("10m"));
    let mut manager = house.start_from("config.toml");
    manager.says("Running boot verify").await;
    manager.signal(Signal::TERM);
    assert_eq!(manager.end().await, Some(0));
    assert!(house.gitlab.requests().is_empty(), "{:?}", house.gitlab.requests());
}
