//! The configuration changes while the manager runs.

use std::time::Duration;

use runner_testkit::gitlab::{Endpoint, GitLab, JobSpec};
use rustix::process::Signal;

use crate::house::{House, PATIENCE};

#[tokio::test]
async fn manager_02_a_missing_file_is_waited_for_and_read_when_it_comes() {
    let house = House::new().await;
    let mut manager = house.start();
    manager.says("is not there yet").await;
    house.write(&house.one());
    house.polls(1).await;
    manager.signal(Signal::QUIT);
    assert_eq!(manager.end().await, Some(0));
    assert_eq!(manager.log().matches("is not there yet").count(), 1, "said once");
}

#[tokio::test]
async fn manager_05_a_file_that_is_broken_at_the_start_is_fatal() {
    let house = House::new().await;
    for (text, word) in [("concurrent = 0", "at least 1"), ("x = [", "line 1")] {
        house.write(text);
        let mut manager = house.start();
        assert_eq!(manager.end().await, Some(1));
        assert!(manager.log().contains(word));
    }
}

#[tokio::test]
async fn manager_05_manager_12_a_file_that_breaks_later_changes_nothing() {
    let house = House::new().await;
    house.write(&house.one());
    let mut manager = house.start();
    house.polls(1).await;
    for (text, word) in [("concurrent = 0", "at least 1"), ("[[runners", "the one before stays")] {
        house.write(text);
        manager.says(word).await;
    }
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["true"]));
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.state.as_str(), "success");
    assert_eq!(manager.log().matches("Failed to load config").count(), 2, "said once each");
    assert!(manager.runs());
}

#[tokio::test]
async fn manager_04_a_runner_that_cannot_be_used_does_not_keep_others_from_running() {
    let house = House::new().await;
    let docker =
        "[[runners]]\nname = \"d\"\nurl = \"https://g\"\ntoken = \"t\"\nexecutor = \"docker\"\n";
    house.write(&format!("{docker}{}", house.one()));
    let manager = house.start();
    manager.says("this runner is left out").await;
    house.polls(1).await;
}

#[tokio::test]
async fn manager_25_manager_27_runners_come_and_go_and_jobs_that_run_are_not_touched() {
    let gitlab = GitLab::builder().long_poll(Duration::from_millis(300));
    let house = House::with(gitlab).await;
    let head = "concurrent = 2\ncheck_interval = 1\n";
    house.write(&format!("{head}{}", house.one()));
    let manager = house.start();
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["echo started", "sleep 5"]));
    job.wait_trace("started", PATIENCE).await.unwrap();

    house.write(head);
    manager.says("runners.one is gone").await;
    let polls = || house.gitlab.request_counts()[&Endpoint::RequestJob];
    let before = polls();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.state.as_str(), "success");
    assert_eq!(end.checksum_ok, Some(true));
    // One may have been on its way. One that is not gone asks each second, for about five.
    assert!(polls() <= before + 1, "a runner that is gone asks for nothing");

    let before = polls();
    house.write(&format!("{head}{}", house.one()));
    manager.says("runners.one is new").await;
    house.polls(before + 1).await;
    let job = house.gitlab.enqueue(JobSpec::new("again").script(["true"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    assert!(house.gitlab.violations().is_empty(), "{:?}", house.gitlab.violations());
}

#[tokio::test]
async fn manager_25_a_signal_reads_the_file_and_the_log_says_what_needs_a_restart() {
    let house = House::new().await;
    house.write(&format!("log_level = \"warn\"\n{}", house.one()));
    let manager = house.start();
    house.polls(1).await;
    assert!(!manager.log().contains("Configuration loaded"));
    house.write(&format!("log_level = \"info\"\nlisten_address = \":0\"\n{}", house.one()));
    manager.says("log_level \"warn\" → \"info\"").await;
    manager.says("take effect with the next start only").await;
    manager.signal(Signal::HUP);
    manager.says("nothing has changed").await;
}

#[tokio::test]
async fn a_token_file_that_is_refreshed_is_read_without_a_restart() {
    let house = House::new().await;
    std::fs::write(house.path("token"), "glrt-not-valid-yet\n").unwrap();
    let token = format!("token_file = {:?}", house.path("token"));
    house.write(&house.runner("one", &token));
    let manager = house.start();
    manager.says("Checking for jobs... forbidden").await;
    std::fs::write(house.path("token.new"), house.gitlab.runner_token()).unwrap();
    std::fs::rename(house.path("token.new"), house.path("token")).unwrap();
    manager.says("the token of one has changed").await;
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["true"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
}

#[tokio::test]
async fn manager_36_a_token_is_renewed_in_time_and_saved_and_running_jobs_go_on() {
    let house = House::new().await;
    let now = jiff::Timestamp::now();
    let date = |hours: i64| {
        let time = now + jiff::SignedDuration::from_hours(hours);
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let old = house.gitlab.runner_token();
    let runner = |obtained: i64, expires: i64| {
        let lines = format!(
            "id = 1\ntoken = \"{old}\" # ours\ntoken_obtained_at = {}\ntoken_expires_at = {}",
            date(obtained),
            date(expires)
        );
        house.runner("one", &lines)
    };
    // Half of its life is over.
    house.write(&runner(-2, 2));
    let manager = house.start();
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["echo started", "sleep 4"]));
    job.wait_trace("started", PATIENCE).await.unwrap();
    // Three quarters.
    house.write(&runner(-4, 1));
    manager.says("Token of the runner was renewed").await;
    let text = std::fs::read_to_string(house.config()).unwrap();
    assert!(!text.contains(old) && text.contains("token = \"glrt-testkit-reset-"), "{text}");
    assert!(text.contains("# ours") && text.contains("0001-01-01T00:00:00Z"), "{text}");
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    let job = house.gitlab.enqueue(JobSpec::new("again").script(["true"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
}
