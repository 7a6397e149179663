use std::time::Duration;

use super::super::builder::GitLabBuilder;
use super::*;

fn settings() -> Settings {
    GitLabBuilder::new().settings
}

fn running() -> Job {
    let now = Instant::now();
    let mut job = Job::new(7, JobSpec::new("unit"), 1, now);
    job.state = JobState::Pending;
    job.hand_out(false, true, now, now);
    job
}

fn say(job: &mut Job, state: &str) -> Answer {
    let token = job.token.clone();
    let update = Update { state: Some(state.into()), ..Update::default() };
    job.update(Some(&token), update, &settings(), Instant::now())
}

#[test]
fn each_hand_out_has_its_own_token_and_only_the_last_one_counts() {
    let now = Instant::now();
    let mut job = Job::new(7, JobSpec::new("unit"), 1, now);
    job.state = JobState::Pending;
    job.hand_out(true, true, now + Duration::from_secs(1), now);
    let first = job.token.clone();
    assert!(!job.take_back(now), "its time is not over");
    assert!(job.take_back(now + Duration::from_secs(1)));
    let refusal = job.authorise(Some(&first), &Access::Executing).unwrap_err();
    assert_eq!((refusal.status, refusal.breaches[0].0), (403, Rule::AcknowledgedTooLate));
    job.hand_out(true, true, now, now);
    job.authorise(Some(&job.token), &Access::Executing).unwrap();
    job.authorise(Some(&first), &Access::Executing).unwrap_err();
}

#[test]
fn a_keep_alive_before_the_acknowledgement_moves_the_deadline() {
    let now = Instant::now();
    let mut job = Job::new(7, JobSpec::new("unit"), 1, now);
    job.state = JobState::Pending;
    job.hand_out(true, true, now, now);
    assert_eq!(say(&mut job, "pending").status, 200);
    assert!(!job.take_back(now + Duration::from_secs(60)));
    assert_eq!(say(&mut job, "running").status, 200);
    assert_eq!((job.state, say(&mut job, "pending").status), (JobState::Running, 409));
}

#[test]
fn any_verdict_of_a_job_that_is_being_cancelled_ends_as_cancelled() {
    for state in ["success", "failed"] {
        let mut job = running();
        job.cancel(Instant::now());
        assert_eq!(job.state, JobState::Canceling);
        assert_eq!((say(&mut job, state).status, job.state), (200, JobState::Canceled));
    }
}

#[test]
fn a_success_with_a_reason_is_noted() {
    let mut job = running();
    let token = job.token.clone();
    let update = Update {
        state: Some("success".into()),
        failure_reason: Some("script_failure".into()),
        ..Update::default()
    };
    let answer = job.update(Some(&token), update, &settings(), Instant::now());
    assert_eq!((answer.status, answer.breaches[0].0), (200, Rule::Body));
}

#[test]
fn an_offset_far_beyond_anything_is_a_gap_and_no_overflow() {
    let mut job = running();
    let token = job.token.clone();
    let range = format!("{0}-{0}", usize::MAX);
    let answer = job.append(Some(&token), Some(&range), b"x", &settings(), Instant::now());
    // Above the limit of a trace, so the job ends for that.
    assert_eq!((answer.status, job.state), (403, JobState::Failed));
}
