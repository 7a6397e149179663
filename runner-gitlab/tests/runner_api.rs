//! Registering, verifying, unregistering and renewing, against the stand-in.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::time::Duration;

use runner_core::source::{JobSource, NextPoll, SourceErrorKind};
use runner_gitlab::{GitLabSettings, GitLabSource, Registration, ResetBy, RunnerApi};
use runner_testkit::gitlab::{Endpoint, GitLab, JobSpec};

fn settings(gitlab: &GitLab, token: &str) -> GitLabSettings {
    let _ = rustls::crypto::ring::default_provider().install_default();
    GitLabSettings::new(gitlab.url(), token, "s_0123456789ab")
}

fn api(gitlab: &GitLab, token: &str) -> RunnerApi {
    RunnerApi::new(settings(gitlab, token)).unwrap()
}

#[tokio::test]
async fn api_12_a_known_runner_is_verified_and_an_unknown_one_refused() {
    let gitlab = GitLab::start().await.unwrap();
    let identity = api(&gitlab, gitlab.runner_token()).verify().await.unwrap();
    assert_ne!(identity.id, 0);
    let error = api(&gitlab, "glrt-unknown").verify().await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Forbidden);
    gitlab.go_away().await;
    let error = api(&gitlab, gitlab.runner_token()).verify().await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
}

#[tokio::test]
async fn an_answer_of_old_in_plain_text_counts_as_verified() {
    let gitlab = GitLab::start().await.unwrap();
    let script = gitlab.script(Endpoint::VerifyRunner).reply(200);
    script.header("Content-Type", "text/plain").body("200").once();
    let identity = api(&gitlab, gitlab.runner_token()).verify().await.unwrap();
    assert_eq!(identity.id, 0);
}

#[tokio::test]
async fn api_10_api_13_a_runner_is_registered_and_taken_off_the_list() {
    let gitlab = GitLab::builder().registration_token("reg").start().await.unwrap();
    let made = api(&gitlab, "reg").register(&Registration::default()).await.unwrap();
    assert!(made.id > 0 && made.expires.is_none());
    let runner = api(&gitlab, made.token.expose());
    runner.verify().await.unwrap();
    runner.unregister().await.unwrap();
    assert_eq!(runner.verify().await.unwrap_err().kind, SourceErrorKind::Forbidden);
    let error = api(&gitlab, "wrong").register(&Registration::default()).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Forbidden);
}

#[tokio::test]
async fn api_13_of_a_runner_made_in_gitlab_only_the_manager_is_taken_off() {
    let gitlab = GitLab::start().await.unwrap();
    let runner = api(&gitlab, gitlab.runner_token());
    runner.unregister().await.unwrap();
    runner.verify().await.unwrap();
    let paths: Vec<String> = gitlab.requests().into_iter().map(|request| request.path).collect();
    assert!(paths[0].ends_with("/runners/managers"), "{paths:?}");
    assert!(gitlab.violations().is_empty(), "{:?}", gitlab.violations());
}

#[tokio::test]
async fn api_14_a_renewed_token_takes_the_place_of_the_old_one() {
    let gitlab = GitLab::start().await.unwrap();
    let runner = api(&gitlab, gitlab.runner_token());
    let new = runner.reset_token(ResetBy::Runner).await.unwrap();
    assert_eq!(runner.verify().await.unwrap_err().kind, SourceErrorKind::Forbidden);
    api(&gitlab, new.token.expose()).verify().await.unwrap();
    // The one call without a RUNNER-TOKEN.
    let requests = gitlab.requests();
    assert!(!requests[0].headers.contains_key("runner-token"));
    let error = runner.reset_token(ResetBy::Runner).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Forbidden);
}

#[tokio::test]
async fn manager_19_a_request_that_was_held_back_is_repeated_at_once_and_gets_the_job() {
    let gitlab = GitLab::start().await.unwrap();
    let source = GitLabSource::new(settings(&gitlab, gitlab.runner_token())).unwrap();
    let first = source.poll().await.unwrap();
    assert!(first.offer.is_none() && first.next == NextPoll::Later);
    let (held_back, ()) = tokio::join!(source.poll(), async {
        assert!(gitlab.wait_parked_polls(1, Duration::from_secs(10)).await);
        gitlab.enqueue(JobSpec::new("test").script(["true"]));
    });
    let held_back = held_back.unwrap();
    assert!(held_back.offer.is_none() && held_back.next == NextPoll::Now);
    let third = source.poll().await.unwrap();
    assert!(third.offer.is_some() && third.queue.waited.is_some());
}

#[tokio::test]
async fn manager_21_after_three_refusals_gitlab_is_left_alone_until_it_is_told_to_forget_them() {
    let gitlab = GitLab::start().await.unwrap();
    let source = GitLabSource::new(settings(&gitlab, "glrt-unknown")).unwrap();
    for refusal in 1..=3 {
        let error = source.poll().await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Forbidden);
        assert_eq!(error.retry_after.is_some(), refusal == 3);
    }
    let asked = gitlab.requests().len();
    assert!(source.poll().await.unwrap_err().retry_after.is_some());
    assert_eq!(gitlab.requests().len(), asked, "not asked again");
    source.forget_refusals();
    source.poll().await.unwrap_err();
    assert_eq!(gitlab.requests().len(), asked + 1);
}

#[tokio::test]
async fn manager_18_a_busy_gitlab_is_noticed_although_the_last_try_succeeded() {
    let gitlab = GitLab::start().await.unwrap();
    let source = GitLabSource::new(settings(&gitlab, gitlab.runner_token())).unwrap();
    assert!(!source.poll().await.unwrap().throttled);
    gitlab.script(Endpoint::RequestJob).reply(429).once();
    gitlab.enqueue(JobSpec::new("test").script(["true"]));
    let polled = source.poll().await.unwrap();
    assert!(polled.throttled && polled.offer.is_some());
}
