//! The rules of [`super::dispatch`], as a function of time and events.

use std::time::Duration;

use tokio::time::Instant;

use super::dispatch::{Answer, Dispatch, LineId, PollId, Step, Terms};
use super::observer::RunnerUpdate;
use super::runner::{AfterJob, RequestPace};
use crate::ids::SourceId;
use crate::source::NextPoll;

const SECOND: Duration = Duration::from_secs(1);
const JOB: Answer = Answer::Job { throttled: false };
const NOTHING: Answer = Answer::Nothing { next: NextPoll::Later, throttled: false };
const CHANGED: Answer = Answer::Nothing { next: NextPoll::Now, throttled: false };

fn terms(token: &str) -> Terms {
    Terms {
        source: SourceId(token.to_owned()),
        limit: 0,
        request_concurrency: 1,
        pace: RequestPace::Adaptive,
        after_job: AfterJob::AskAgain,
        interval: 3 * SECOND,
    }
}

fn dispatch(concurrent: usize, lines: Vec<Terms>, now: Instant) -> Dispatch {
    let mut dispatch = Dispatch::new(concurrent);
    let lines: Vec<_> = (0..).map(LineId).zip(lines).collect();
    let ids: Vec<_> = lines.iter().map(|(id, _)| *id).collect();
    dispatch.set(concurrent, lines, now);
    ids.into_iter().for_each(|id| dispatch.settle(id));
    dispatch
}

/// All requests that are to be made now.
fn asks(dispatch: &mut Dispatch, now: Instant) -> Vec<(PollId, u64)> {
    let mut asks = Vec::new();
    while let Step::Poll(poll, line) = dispatch.next(now) {
        asks.push((poll, line.0));
        assert!(asks.len() < 100, "no end of requests");
    }
    asks
}

fn lines(asks: &[(PollId, u64)]) -> Vec<u64> {
    asks.iter().map(|(_, line)| *line).collect()
}

#[test]
fn manager_13_runners_ask_once_an_interval_in_file_order_and_spread_over_it() {
    let start = Instant::now();
    let interval = 10 * SECOND;
    let runner = |token| Terms { interval, ..terms(token) };
    let mut dispatch = dispatch(10, vec![runner("a"), runner("b")], start);
    let mut seen = Vec::new();
    for second in 0..30 {
        let now = start + second * SECOND;
        for (poll, line) in asks(&mut dispatch, now) {
            seen.push((second, line));
            dispatch.answered(poll, NOTHING, now);
        }
    }
    assert_eq!(seen, [(0, 0), (5, 1), (10, 0), (15, 1), (20, 0), (25, 1)]);
}

#[test]
fn it_says_when_to_look_again() {
    let start = Instant::now();
    let mut dispatch = dispatch(10, vec![terms("a"), terms("b")], start);
    let (poll, _) = asks(&mut dispatch, start)[0];
    assert_eq!(dispatch.next(start), Step::Wait(Some(start + Duration::from_millis(1500))));
    dispatch.answered(poll, NOTHING, start);
    let second = start + Duration::from_millis(1500);
    asks(&mut dispatch, second);
    assert_eq!(dispatch.next(second), Step::Wait(Some(start + 3 * SECOND)));
}

#[test]
fn manager_14_nobody_asks_when_no_place_is_free() {
    let start = Instant::now();
    let mut dispatch = dispatch(1, vec![terms("a"), terms("b")], start);
    let (poll, _) = asks(&mut dispatch, start)[0];
    assert!(dispatch.answered(poll, JOB, start));
    assert!(asks(&mut dispatch, start + 100 * SECOND).is_empty());
    dispatch.free(&terms("a").source);
    // `a` is due again as well, but `b` has waited for longer.
    let later = start + 101 * SECOND;
    assert_eq!(lines(&asks(&mut dispatch, later)), [1]);
}

#[test]
fn jobs_of_other_managers_count_against_a_tokens_limit() {
    let start = Instant::now();
    let limited = Terms { limit: 2, ..terms("a") };
    let source = limited.source.clone();
    let mut dispatch = dispatch(10, vec![limited], start);
    dispatch.elsewhere(&source, 2);
    assert_eq!(asks(&mut dispatch, start), []);
    let Step::Wait(Some(wake)) = dispatch.next(start) else { panic!("it looks again by itself") };
    assert!(wake <= start + 3 * SECOND);
    dispatch.elsewhere(&source, 1);
    let (poll, _) = asks(&mut dispatch, wake)[0];
    assert!(dispatch.answered(poll, JOB, wake));
    assert_eq!(asks(&mut dispatch, wake + 10 * SECOND), [], "one there and one here");
}

#[test]
fn with_one_place_runners_take_turns_whoever_has_the_longer_queue() {
    let start = Instant::now();
    let mut dispatch = dispatch(1, vec![terms("a"), terms("b"), terms("c")], start);
    let mut seen = Vec::new();
    // Every request brings a job at once, and every job takes ten seconds.
    for round in 0..9 {
        let now = start + 10 * SECOND * round;
        let asked = asks(&mut dispatch, now);
        seen.extend(lines(&asked));
        assert!(dispatch.answered(asked[0].0, JOB, now));
        let source = ["a", "b", "c"][asked[0].1 as usize];
        dispatch.free(&terms(source).source);
    }
    for turn in seen.chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, [0, 1, 2], "{seen:?}");
    }
}

#[test]
fn a_request_that_is_held_back_keeps_no_place() {
    let start = Instant::now();
    let mut dispatch = dispatch(1, vec![terms("a"), terms("b"), terms("c")], start);
    assert_eq!(lines(&asks(&mut dispatch, start)), [0]);
    assert!(asks(&mut dispatch, start + SECOND).is_empty(), "it may still bring a job");
    assert_eq!(dispatch.next(start + SECOND), Step::Wait(Some(start + 2 * SECOND)));
    assert_eq!(lines(&asks(&mut dispatch, start + 2 * SECOND)), [1]);
    assert_eq!(lines(&asks(&mut dispatch, start + 4 * SECOND)), [2]);
    // All three are held back now, and a job finds its place free.
    let later = start + 6 * SECOND;
    assert!(asks(&mut dispatch, later).is_empty());
    assert!(dispatch.claim(&terms("c")));
}

#[test]
fn a_job_of_a_request_that_was_held_back_waits_for_a_place() {
    let start = Instant::now();
    let mut dispatch = dispatch(1, vec![terms("a"), terms("b")], start);
    let (first, _) = asks(&mut dispatch, start)[0];
    let (second, _) = asks(&mut dispatch, start + 2 * SECOND)[0];
    assert!(dispatch.answered(second, JOB, start + 3 * SECOND));
    assert!(
        !dispatch.answered(first, JOB, start + 4 * SECOND),
        "there is one place, and it is taken"
    );
    assert!(!dispatch.claim(&terms("a")));
    dispatch.free(&terms("b").source);
    assert!(dispatch.claim(&terms("a")));
}

#[test]
fn after_a_change_in_the_queue_a_runner_asks_at_once() {
    let start = Instant::now();
    let mut dispatch = dispatch(4, vec![terms("a")], start);
    let (poll, _) = asks(&mut dispatch, start)[0];
    let soon = start + Duration::from_millis(500);
    dispatch.answered(poll, CHANGED, soon);
    assert_eq!(lines(&asks(&mut dispatch, soon)), [0]);
}

#[test]
fn manager_15_after_a_job_a_runner_asks_again_at_once_unless_it_is_strict() {
    let start = Instant::now();
    for (after_job, again) in [(AfterJob::AskAgain, 1), (AfterJob::WaitForTurn, 0)] {
        let mut dispatch = dispatch(4, vec![Terms { after_job, ..terms("a") }], start);
        let (poll, _) = asks(&mut dispatch, start)[0];
        assert!(dispatch.answered(poll, JOB, start));
        assert_eq!(asks(&mut dispatch, start + SECOND).len(), again);
        if again == 0 {
            assert_eq!(asks(&mut dispatch, start + 3 * SECOND).len(), 1);
        }
    }
}

#[test]
fn manager_16_the_limit_holds_across_entries_with_the_same_token() {
    let start = Instant::now();
    let one = Terms { limit: 2, request_concurrency: 5, pace: RequestPace::Fixed, ..terms("same") };
    let mut dispatch = dispatch(10, vec![one.clone(), one.clone(), terms("other")], start);
    let mut jobs = 0;
    for second in 0..20 {
        let now = start + second * SECOND;
        for (poll, line) in asks(&mut dispatch, now) {
            if line == 2 {
                dispatch.answered(poll, NOTHING, now);
            } else {
                jobs += usize::from(dispatch.answered(poll, JOB, now));
            }
        }
    }
    assert_eq!(jobs, 2);
    dispatch.free(&one.source);
    assert_eq!(asks(&mut dispatch, start + 100 * SECOND).iter().filter(|(_, l)| *l < 2).count(), 1);
}

#[test]
fn manager_17_never_more_requests_than_allowed_are_under_way() {
    for (pace, most) in [(RequestPace::Adaptive, 1), (RequestPace::Fixed, 3)] {
        let start = Instant::now();
        let line = Terms { request_concurrency: 3, pace, ..terms("a") };
        let mut dispatch = dispatch(10, vec![line], start);
        let mut under_way = 0;
        for second in 0..40 {
            under_way += asks(&mut dispatch, start + second * SECOND).len();
        }
        assert_eq!(under_way, most);
        let news = dispatch.news();
        let refused = news.iter().filter(|(_, n)| matches!(n, RunnerUpdate::TooManyRequests));
        assert!(refused.count() >= 8, "once a turn: {news:?}");
    }
}

#[test]
fn manager_21_a_refused_runner_rests_and_others_go_on_and_a_reload_wakes_it() {
    let start = Instant::now();
    let mut dispatch = dispatch(4, vec![terms("a"), terms("b")], start);
    let (poll, _) = asks(&mut dispatch, start)[0];
    let hour = 3600 * SECOND;
    dispatch.answered(poll, Answer::Refused { retry_after: Some(hour) }, start);
    let now = start + 60 * SECOND;
    let asked = asks(&mut dispatch, now);
    assert_eq!(lines(&asked), [1]);
    dispatch.answered(asked[0].0, NOTHING, now);
    let lines_now = vec![(LineId(0), terms("a")), (LineId(1), terms("b"))];
    dispatch.set(4, lines_now, now);
    assert_eq!(lines(&asks(&mut dispatch, now)), [0]);
}

#[test]
fn manager_22_after_failures_a_runner_asks_less_often_and_never_less_than_once_a_minute() {
    let start = Instant::now();
    let mut dispatch = dispatch(4, vec![terms("a")], start);
    let mut times = Vec::new();
    for second in 0..300 {
        let now = start + second * SECOND;
        for (poll, _) in asks(&mut dispatch, now) {
            times.push(second);
            dispatch.answered(poll, Answer::Failed { retry_after: None }, now);
        }
    }
    assert_eq!(times, [0, 3, 9, 21, 45, 93, 153, 213, 273]);
}

#[test]
fn manager_25_a_reload_every_second_puts_nobodys_turn_off() {
    let start = Instant::now();
    let slow = |line: u64, second: u32| Terms {
        interval: (second % 3 + 2) * SECOND,
        ..terms(&line.to_string())
    };
    let list = |second| (0..4).map(|line| (LineId(line), slow(line, second))).collect::<Vec<_>>();
    let mut dispatch = dispatch(9, (0..4).map(|line| slow(line, 0)).collect(), start);
    let mut asked = [0; 4];
    for second in 0..60 {
        let now = start + second * SECOND;
        dispatch.set(9, list(second), now);
        for (poll, line) in asks(&mut dispatch, now) {
            asked[usize::try_from(line).unwrap()] += 1;
            // One of them fails all the time, which a reload forgives.
            let failed = Answer::Failed { retry_after: None };
            dispatch.answered(poll, if line == 3 { failed } else { NOTHING }, now);
        }
    }
    // Intervals of 2 to 4 s in 60 s; a request more where a longer one became a shorter one.
    assert!(asked.iter().all(|count| (14..=31).contains(count)), "{asked:?}");
}

#[test]
fn manager_25_a_reload_every_second_does_not_make_a_runner_ask_more_often() {
    let start = Instant::now();
    let mut dispatch = dispatch(4, vec![terms("a")], start);
    let mut count = 0;
    for second in 0..30 {
        let now = start + second * SECOND;
        dispatch.set(4, vec![(LineId(0), terms("a"))], now);
        for (poll, _) in asks(&mut dispatch, now) {
            count += 1;
            dispatch.answered(poll, NOTHING, now);
        }
    }
    assert_eq!(count, 10);
}

#[test]
fn manager_26_shrinking_below_the_running_jobs_ends_nothing_and_takes_no_more() {
    let start = Instant::now();
    let mut dispatch = dispatch(3, vec![terms("a")], start);
    for _ in 0..3 {
        let (poll, _) = asks(&mut dispatch, start)[0];
        assert!(dispatch.answered(poll, JOB, start));
    }
    dispatch.set(1, vec![(LineId(0), terms("a"))], start);
    dispatch.free(&terms("a").source);
    dispatch.free(&terms("a").source);
    assert!(asks(&mut dispatch, start + 60 * SECOND).is_empty());
    dispatch.free(&terms("a").source);
    assert_eq!(asks(&mut dispatch, start + 61 * SECOND).len(), 1);
}

#[test]
fn adopted_jobs_take_places_even_when_there_are_none() {
    let start = Instant::now();
    let mut dispatch = dispatch(1, vec![terms("a")], start);
    let source = terms("a").source;
    dispatch.take(&source);
    dispatch.take(&source);
    dispatch.free(&source);
    assert!(asks(&mut dispatch, start).is_empty(), "one adopted job still runs");
    dispatch.free(&source);
    assert_eq!(asks(&mut dispatch, start).len(), 1);
}

#[test]
fn a_runner_asks_for_nothing_before_it_is_known_which_jobs_it_has() {
    let start = Instant::now();
    let mut dispatch = Dispatch::new(4);
    dispatch.set(4, vec![(LineId(0), terms("a"))], start);
    assert_eq!(dispatch.next(start + 60 * SECOND), Step::Wait(None));
    dispatch.settle(LineId(0));
    assert_eq!(asks(&mut dispatch, start + 60 * SECOND).len(), 1);
}

#[test]
fn places_and_requests_always_add_up() {
    // A long run of arbitrary events, always the same ones.
    let start = Instant::now();
    let tokens = ["a", "b", "a"];
    let line = |token| Terms { limit: 2, request_concurrency: 2, ..terms(token) };
    let mut dispatch = dispatch(3, tokens.map(line).to_vec(), start);
    let (mut open, mut jobs, mut state) = (Vec::new(), Vec::new(), 12345_u64);
    for step in 0..20_000_u32 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let now = start + SECOND * (step / 4);
        for (poll, line) in asks(&mut dispatch, now) {
            open.push((poll, tokens[line as usize]));
        }
        let count = |token: &str| jobs.iter().filter(|other| **other == token).count();
        assert!(jobs.len() <= 3 && count("a") <= 2 && count("b") <= 2, "{jobs:?}");
        match (state >> 33) % 4 {
            0 if !jobs.is_empty() => {
                let token: &str = jobs.remove((state >> 40) as usize % jobs.len());
                dispatch.free(&SourceId(token.to_owned()));
            }
            1 if !open.is_empty() => {
                let (poll, token) = open.remove((state >> 40) as usize % open.len());
                if dispatch.answered(poll, JOB, now) {
                    jobs.push(token);
                }
            }
            2 if !open.is_empty() => {
                let (poll, _) = open.remove(0);
                dispatch.answered(poll, NOTHING, now);
            }
            _ => {}
        }
    }
    for (poll, _) in open {
        dispatch.answered(poll, NOTHING, start);
    }
    jobs.drain(..).for_each(|token| dispatch.free(&SourceId(token.to_owned())));
    assert!(format!("{dispatch:?}").contains("busy: 0"), "{dispatch:?}");
}
