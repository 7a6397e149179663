//! The state machine as a function: what happened in, what to do out.

use std::time::Duration;

use bytes::Bytes;
use runner_core::executor::{JobEnd, JobEvent, Stop};
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::outcome::{Infra, InfraKind, Outcome, StageReport, TraceSummary, Verdict};
use runner_core::plan::POD_EVENTS;
use runner_core::wire::{
    AgentFrame, AnswerFrame, AskFrame, Beat, ContainerFrame, ContainerState, Hello, MOST_ASKS,
    ManagerFrame, RefusalReason, Refused, StageFrame, StartFrame, StopFrame, StopMode,
    WIRE_VERSION, Want, Welcome,
};
use serde_json::json;
use tokio::time::Instant;

use super::machine::{Action, Input, Machine, Terms};
use crate::classify::{End, FailedPull, PullPhase, Sighting};
use crate::pod::Fallbacks;

const ALL: Offset = Offset(1 << 30);

struct Bench {
    now: Instant,
    machine: Machine,
}

fn terms(now: Instant) -> Terms {
    Terms {
        job: JobId(7),
        epoch: Epoch(3),
        start_by: now + Duration::from_secs(180),
        end_by: now + Duration::from_secs(10_000),
        fallbacks: Fallbacks::default(),
        is_warm: false,
    }
}

fn running() -> Sighting {
    Sighting { reachable: true, has_run: true, all_started: true, ..Sighting::default() }
}

fn pulling() -> Sighting {
    Sighting { all_started: false, ..running() }
}

fn end(message: &str) -> End {
    End {
        infra: Infra::new(InfraKind::System, message),
        detail: "detail".into(),
        pull_failure: None,
        disruption: false,
    }
}

fn verdict(outcome: Outcome, trace: &[u8]) -> Verdict {
    Verdict { outcome, trace: TraceSummary::of(trace), stages: Vec::new() }
}

fn trace(offset: u64, bytes: &'static [u8]) -> Input {
    let bytes = Bytes::from_static(bytes);
    Input::Frame(AgentFrame::Trace { offset: Offset(offset), bytes })
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, machine: Machine::new(now, terms(now)) }
    }

    fn with_fallbacks() -> Self {
        let now = Instant::now();
        let fallbacks = serde_json::from_value(json!({ "build": ["IfNotPresent"] })).unwrap();
        Self { now, machine: Machine::new(now, Terms { fallbacks, ..terms(now) }) }
    }

    /// In a pod that was ready before the job.
    fn warm() -> Self {
        let now = Instant::now();
        let mut bench =
            Self { now, machine: Machine::new(now, Terms { is_warm: true, ..terms(now) }) };
        bench.is(Input::Pod(running()));
        bench.is(Input::Linked);
        bench
    }

    /// Connected, and not welcomed yet.
    fn linked() -> Self {
        let mut bench = Self::new();
        bench.is(Input::Pod(running()));
        bench.is(Input::Linked);
        bench
    }

    /// Connected, welcomed, and asked for everything.
    fn following() -> Self {
        let mut bench = Self::linked();
        bench.welcome();
        bench.is(Input::Follow { from: None, until: ALL });
        bench
    }

    fn is(&mut self, input: Input) -> Vec<Action> {
        self.machine.handle(self.now, input)
    }

    fn welcome(&mut self) -> Vec<Action> {
        let release = String::new();
        self.is(Input::Frame(AgentFrame::Welcome(Welcome {
            version: WIRE_VERSION,
            release,
            length: Offset::ZERO,
        })))
    }

    /// Lets time pass until the machine wants to be woken, at most this long.
    fn pass(&mut self, seconds: u64) -> Vec<Action> {
        let until = self.now + Duration::from_secs(seconds);
        let mut out = Vec::new();
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            out.extend(self.machine.handle(self.now, Input::Tick));
        }
        self.now = until;
        out
    }
}

fn ended(actions: &[Action]) -> Option<&JobEnd> {
    actions.iter().find_map(|action| match action {
        Action::Emit(JobEvent::Ended(end)) => Some(end),
        _ => None,
    })
}

fn has_stop(actions: &[Action], mode: StopMode) -> bool {
    actions.contains(&Action::Send(ManagerFrame::Stop(StopFrame { mode })))
}

#[test]
fn k8s_48_what_a_pod_waits_for_is_not_said_when_the_settings_do_not_want_it() {
    let mut bench = Bench::new();
    bench.machine.says_waits = false;
    let waiting = Sighting { waits_for: Some("a node".into()), ..Sighting::default() };
    assert_eq!(bench.is(Input::Pod(waiting)), []);
}

#[test]
fn the_agent_is_reached_as_soon_as_the_helper_runs() {
    let mut bench = Bench::new();
    let waiting = Sighting { waits_for: Some("a node".into()), ..Sighting::default() };
    assert_eq!(
        bench.is(Input::Pod(waiting)),
        [Action::Emit(JobEvent::Waiting { reason: "a node".into() })]
    );
    assert_eq!(bench.is(Input::Pod(pulling())), [Action::Link]);
    let hello = Hello {
        version: WIRE_VERSION,
        job: JobId(7),
        epoch: Epoch(3),
        from: Offset::ZERO,
        until: Offset::ZERO,
    };
    assert_eq!(bench.is(Input::Linked), [Action::Send(ManagerFrame::Hello(hello))]);
    let events = Action::Listen(POD_EVENTS.into());
    assert_eq!(bench.welcome(), [Action::Settled, Action::Emit(JobEvent::Running), events]);
}

fn has_replaced(actions: &[Action]) -> bool {
    actions.contains(&Action::Replace)
}

#[test]
fn a_warm_pod_that_goes_before_it_has_its_plan_is_replaced_once() {
    let doomed = || Sighting { end: Some(end("deleted")), ..running() };
    for input in [Input::Pod(doomed()), Input::Gone(None), Input::Gone(Some(doomed()))] {
        let mut bench = Bench::warm();
        let actions = bench.is(input);
        assert!(has_replaced(&actions) && ended(&actions).is_none(), "{actions:?}");
        // What is still heard of the old one changes nothing.
        assert_eq!(bench.is(Input::Gone(None)), []);
        assert_eq!(bench.is(Input::Relaunched), []);
        assert_eq!(bench.is(Input::Pod(running())), [Action::Link]);
        // The job's own pod is not replaced.
        let actions = bench.is(Input::Gone(None));
        assert!(!has_replaced(&actions) && ended(&actions).is_some(), "{actions:?}");
    }
}

#[test]
fn a_warm_pod_that_may_have_run_something_is_not_replaced() {
    let handed_over = |bench: &mut Bench| bench.machine.hands_over();
    let stopped = |bench: &mut Bench| drop(bench.is(Input::Stop(Stop::Cancel)));
    let heard = |bench: &mut Bench| drop(bench.welcome());
    for before in [&handed_over as &dyn Fn(&mut Bench), &stopped, &heard] {
        let mut bench = Bench::warm();
        before(&mut bench);
        let actions = bench.is(Input::Gone(None));
        assert!(!has_replaced(&actions) && ended(&actions).is_some(), "{actions:?}");
    }
}

#[test]
fn a_job_ends_with_its_verdict_once_all_of_its_trace_is_handed_out() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"hello "));
    let said = verdict(Outcome::Exited(37), b"hello world");
    let early = bench.is(Input::Frame(AgentFrame::Verdict(said.clone())));
    assert_eq!(early, [Action::Emit(JobEvent::Finishing)]);
    let actions = bench.is(trace(6, b"world"));
    let end = ended(&actions).unwrap();
    assert_eq!(end.outcome, Outcome::Exited(37));
    assert_eq!(end.trace, Some(said.trace));
    assert!(end.explained);
}

#[test]
fn k8s_65_after_a_lost_stream_the_trace_goes_on_without_gap_or_repetition() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"abcd"));
    assert!(bench.is(Input::Unlinked("reset".into())).is_empty());
    assert_eq!(bench.pass(1), [Action::Link]);
    let actions = bench.is(Input::Linked);
    assert!(matches!(
        &actions[..],
        [Action::Send(ManagerFrame::Hello(Hello { from: Offset(4), until: ALL, .. }))]
    ));
    bench.welcome();
    assert!(bench.is(trace(0, b"abcd")).is_empty(), "known bytes are not said again");
    let overlap = bench.is(trace(2, b"cdef"));
    let fresh = JobEvent::Trace { offset: Offset(4), bytes: Bytes::from_static(b"ef") };
    assert_eq!(overlap, [Action::Emit(fresh)]);
}

#[test]
fn a_gap_in_the_trace_is_never_handed_on() {
    let mut bench = Bench::following();
    assert_eq!(bench.is(trace(10, b"late")), [Action::Unlink]);
    assert_eq!(bench.pass(1), [Action::Link]);
}

#[test]
fn pauses_between_tries_grow_to_five_seconds_and_begin_anew_after_a_welcome() {
    let mut bench = Bench::new();
    bench.is(Input::Pod(running()));
    let fail = || Input::NotLinked { refused: false, message: "no".into(), retry_after: None };
    for _ in 0..10 {
        bench.is(fail());
        assert_eq!(bench.pass(6), [Action::Link]);
    }
    bench.is(Input::Linked);
    bench.welcome();
    bench.is(Input::Unlinked("reset".into()));
    assert_eq!(bench.pass(1), [Action::Link]);
}

#[test]
fn the_agent_hears_from_its_manager_every_fifteen_seconds() {
    let mut bench = Bench::following();
    let beats = bench.pass(60);
    assert_eq!(beats.len(), 4);
    let beat = Action::Send(ManagerFrame::Beat(Beat::default()));
    assert!(beats.iter().all(|said| *said == beat));
}

#[test]
fn k8s_80_a_manager_that_lost_its_claim_says_nothing_more() {
    let mut bench = Bench::following();
    let refused = Refused { reason: RefusalReason::Superseded, message: "epoch 4".into() };
    let actions = bench.is(Input::Frame(AgentFrame::Refused(refused)));
    assert_eq!(actions, [Action::Unlink, Action::Superseded]);
    assert!(bench.is(Input::Gone(None)).is_empty());
    assert_eq!(bench.machine.deadline(), None);
}

#[test]
fn an_agent_of_a_release_that_nobody_here_understands_is_a_failure_that_says_so() {
    let mut bench = Bench::linked();
    let (version, release) = (0, "0.0.9".to_owned());
    let welcome = Welcome { version, release, length: Offset::ZERO };
    let actions = bench.is(Input::Frame(AgentFrame::Welcome(welcome)));
    assert_eq!(actions[0], Action::Unlink);
    let end = ended(&actions).unwrap();
    let Outcome::Infra(infra) = &end.outcome else { panic!("{end:?}") };
    assert_eq!(infra.kind, InfraKind::System);
    assert!(infra.message.contains("agent of another release"), "{}", infra.message);
    let detail = end.detail.as_deref().unwrap();
    assert!(detail.contains("\"0.0.9\" speaks version 0"), "{detail}");
    // Its trace is not known, and whatever it says now is not listened to.
    assert_eq!(end.trace, None);
    assert!(bench.is(trace(0, b"some")).is_empty());
}

#[test]
fn a_newer_agent_that_welcomes_this_manager_speaks_its_version() {
    let mut bench = Bench::linked();
    let (version, release) = (WIRE_VERSION + 2, "9.0.0".to_owned());
    let welcome = Welcome { version, release, length: Offset::ZERO };
    let actions = bench.is(Input::Frame(AgentFrame::Welcome(welcome)));
    assert!(actions.contains(&Action::Emit(JobEvent::Running)), "{actions:?}");
}

#[test]
fn a_newer_agent_that_refuses_this_managers_version_fails_the_job_with_its_words() {
    let mut bench = Bench::linked();
    let refused = Refused { reason: RefusalReason::Version, message: "from version 3 on".into() };
    let actions = bench.is(Input::Frame(AgentFrame::Refused(refused)));
    let end = ended(&actions).unwrap();
    assert!(matches!(&end.outcome, Outcome::Infra(infra) if infra.kind == InfraKind::System));
    assert!(end.detail.as_deref().unwrap().contains("from version 3 on"), "{end:?}");
}

#[test]
fn k8s_74_a_deleted_pod_is_a_system_failure_with_what_is_known_of_the_trace() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"some"));
    let seen = Sighting { end: Some(end("evicted")), ..running() };
    assert!(ended(&bench.is(Input::Pod(seen))).is_none(), "the agent may have last words");
    let actions = bench.is(Input::Gone(None));
    let end = ended(&actions).unwrap();
    assert_eq!(end.outcome, Outcome::Infra(Infra::new(InfraKind::System, "evicted")));
    assert_eq!(end.trace, None);
    assert!(!end.explained);
}

#[test]
fn a_pod_that_vanishes_without_a_word_is_never_a_success() {
    let mut bench = Bench::following();
    let actions = bench.is(Input::Gone(None));
    assert!(matches!(ended(&actions).unwrap().outcome, Outcome::Infra(_)));
}

#[test]
fn a_pod_that_goes_after_its_verdict_and_its_whole_trace_changes_nothing() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"all"));
    let actions = bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Exited(0), b"all"))));
    assert_eq!(ended(&actions).unwrap().outcome, Outcome::Exited(0));
    assert!(bench.is(Input::Gone(None)).is_empty());
}

#[test]
fn a_verdict_by_termination_message_counts_when_the_stream_is_refused() {
    let mut bench = Bench::new();
    bench.is(Input::Pod(running()));
    let refused = Input::NotLinked { refused: true, message: "403".into(), retry_after: None };
    bench.is(refused);
    let over = Sighting {
        reachable: false,
        helper_over: true,
        verdict: Some(verdict(Outcome::Exited(0), b"never seen")),
        ..running()
    };
    let actions = bench.is(Input::Pod(over));
    let end = ended(&actions).unwrap();
    assert_eq!((&end.outcome, end.trace), (&Outcome::Exited(0), None));
    assert!(!end.explained, "nobody could read the trace that explains it");
}

#[test]
fn the_pod_wins_over_the_agent_when_both_know_of_a_failure() {
    let mut bench = Bench::following();
    let lost = Outcome::Infra(Infra::new(InfraKind::System, "the build container is gone"));
    let actions = bench.is(Input::Frame(AgentFrame::Verdict(verdict(lost, b""))));
    assert!(ended(&actions).is_none(), "the watch may still name the cause");
    let seen = Sighting { end: Some(end("out of memory")), ..running() };
    let actions = bench.is(Input::Pod(seen));
    let out_of_memory = Outcome::Infra(Infra::new(InfraKind::System, "out of memory"));
    assert_eq!(ended(&actions).unwrap().outcome, out_of_memory);
}

#[test]
fn an_unexplained_failure_waits_three_seconds_for_a_cause_and_not_longer() {
    let mut bench = Bench::following();
    bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Unknown, b""))));
    assert!(ended(&bench.pass(2)).is_none());
    assert_eq!(ended(&bench.pass(2)).unwrap().outcome, Outcome::Unknown);
}

/// A deadline in the past would be served again and again, and nothing else would.
#[test]
fn a_failure_that_nothing_explains_leaves_time_for_the_rest_of_the_trace() {
    let mut bench = Bench::following();
    bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Unknown, b"more"))));
    assert!(ended(&bench.pass(4)).is_none(), "the trace is not complete");
    assert!(bench.machine.deadline().unwrap() > bench.now);
    bench.is(Input::Follow { from: None, until: ALL });
    assert_eq!(ended(&bench.is(trace(0, b"more"))).unwrap().outcome, Outcome::Unknown);
}

fn others(name: &str, state: ContainerState) -> Vec<ContainerFrame> {
    vec![ContainerFrame { name: name.into(), state }]
}

#[test]
fn k8s_41_the_agent_hears_once_in_each_session_what_it_cannot_see() {
    let told = |actions: &[Action]| -> Vec<ContainerState> {
        let state = |action: &Action| match action {
            Action::Send(ManagerFrame::Container(frame)) => Some(frame.state),
            _ => None,
        };
        actions.iter().filter_map(state).collect()
    };
    let listens = |actions: &[Action]| actions.contains(&Action::Listen("db".into()));
    let mut bench = Bench::following();
    let runs = Sighting { others: others("db", ContainerState::Running), ..running() };
    let actions = bench.is(Input::Pod(runs.clone()));
    assert_eq!((told(&actions), listens(&actions)), (vec![ContainerState::Running], true));
    assert_eq!(told(&bench.is(Input::Pod(runs))), []);
    let over = Sighting { others: others("db", ContainerState::Ended(3)), ..running() };
    let actions = bench.is(Input::Pod(over));
    assert_eq!((told(&actions), listens(&actions)), (vec![ContainerState::Ended(3)], false));
    bench.is(Input::Unlinked("gone".into()));
    bench.pass(1);
    bench.is(Input::Linked);
    let actions = bench.welcome();
    assert_eq!((told(&actions), listens(&actions)), (vec![ContainerState::Ended(3)], true));
}

#[test]
fn a_service_killed_for_memory_spoils_a_success() {
    let mut bench = Bench::following();
    let seen = Sighting { end: Some(end("service killed")), ..running() };
    let actions = bench.is(Input::Pod(seen));
    assert!(has_stop(&actions, StopMode::Abort), "{actions:?}");
    let actions = bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Exited(0), b""))));
    assert!(matches!(ended(&actions).unwrap().outcome, Outcome::Infra(_)));
}

#[test]
fn a_build_image_that_cannot_be_pulled_ends_the_agent_and_keeps_its_trace() {
    let mut bench = Bench::new();
    bench.is(Input::Pod(pulling()));
    let seen = Sighting { end: Some(end("not found")), ..pulling() };
    assert!(ended(&bench.is(Input::Pod(seen))).is_none());
    bench.is(Input::Linked);
    bench.is(Input::Follow { from: None, until: ALL });
    assert!(has_stop(&bench.welcome(), StopMode::Abort));
    bench.is(trace(0, b"cloning"));
    let said = verdict(Outcome::Cancelled, b"cloning");
    let actions = bench.is(Input::Frame(AgentFrame::Verdict(said.clone())));
    let end = ended(&actions).unwrap();
    assert!(matches!(&end.outcome, Outcome::Infra(infra) if infra.message == "not found"));
    assert_eq!(end.trace, Some(said.trace));
    assert!(!end.explained);
}

#[test]
fn an_agent_without_last_words_does_not_hold_the_end_up() {
    let mut bench = Bench::following();
    let seen = Sighting { end: Some(end("deleted")), ..running() };
    bench.is(Input::Pod(seen));
    let actions = bench.pass(30);
    assert!(matches!(ended(&actions).unwrap().outcome, Outcome::Infra(_)));
}

#[test]
fn k8s_49_a_job_that_does_not_start_in_time_ends_with_what_it_waited_for() {
    let mut bench = Bench::new();
    let waits_for = Some("no node has room".to_owned());
    bench.is(Input::Pod(Sighting { waits_for, ..Sighting::default() }));
    assert!(ended(&bench.pass(179)).is_none());
    let actions = bench.pass(2);
    let end = ended(&actions).unwrap();
    let Outcome::Infra(infra) = &end.outcome else { panic!("{end:?}") };
    assert!(infra.message.contains("no node has room"), "{infra}");
    assert_eq!(end.trace, Some(TraceSummary::default()), "nothing ran, so there is no trace");
}

#[test]
fn k8s_14_the_next_pull_policy_is_tried_before_anything_is_said() {
    let mut bench = Bench::with_fallbacks();
    assert!(bench.is(Input::Pod(pulling())).is_empty(), "this pod may not be the last one");
    let pull_failure = Some("build".to_owned());
    let failed = Sighting { end: Some(End { pull_failure, ..end("not found") }), ..pulling() };
    let actions = bench.is(Input::Pod(failed.clone()));
    let next = Some("IfNotPresent".to_owned());
    assert!(actions.contains(&Action::Relaunch { container: "build".into(), policy: next }));
    assert!(bench.is(Input::Gone(None)).is_empty(), "the old pod");
    assert!(bench.is(Input::Relaunched).is_empty());
    assert_eq!(bench.is(Input::Pod(pulling())), [Action::Link], "no policy is left");
    let actions = bench.is(Input::Pod(failed));
    assert!(!actions.iter().any(|action| matches!(action, Action::Relaunch { .. })));
}

fn unreachable(phase: PullPhase) -> Sighting {
    let pull = FailedPull { container: "build".into(), phase, end: end("the registry is away") };
    Sighting { failed_pulls: vec![pull], ..pulling() }
}

#[test]
fn an_image_whose_registry_is_away_for_a_moment_is_waited_for() {
    let mut bench = Bench::new();
    for phase in [PullPhase::Failed, PullPhase::Failed, PullPhase::Pause, PullPhase::Failed] {
        assert!(ended(&bench.is(Input::Pod(unreachable(phase)))).is_none());
        bench.pass(20);
    }
    bench.is(Input::Pod(running()));
    bench.is(Input::Linked);
    assert!(!has_stop(&bench.welcome(), StopMode::Abort));
}

#[test]
fn an_image_that_fails_for_the_third_time_is_not_waited_for_any_longer() {
    let mut bench = Bench::new();
    // A manager that comes later sees the pause first.
    for phase in [PullPhase::Pause, PullPhase::Failed, PullPhase::Pause] {
        bench.is(Input::Pod(unreachable(phase)));
    }
    let helper_is_not_there =
        Sighting { has_run: false, reachable: false, ..unreachable(PullPhase::Failed) };
    let actions = bench.is(Input::Pod(helper_is_not_there));
    let away = Outcome::Infra(Infra::new(InfraKind::System, "the registry is away"));
    assert_eq!(ended(&actions).unwrap().outcome, away);
}

#[test]
fn an_image_that_was_not_pulled_in_time_is_named_as_the_cause() {
    let mut bench = Bench::new();
    let seen = unreachable(PullPhase::Failed);
    bench.is(Input::Pod(Sighting { has_run: false, reachable: false, ..seen }));
    let actions = bench.pass(181);
    let away = Outcome::Infra(Infra::new(InfraKind::System, "the registry is away"));
    assert_eq!(ended(&actions).unwrap().outcome, away);
}

#[test]
fn k8s_15_an_image_that_must_not_be_pulled_and_is_not_there_is_no_reason_to_wait() {
    // ErrImageNeverPull is an end of its own, as classification has it.
    assert!(crate::classify::is_pull_failure("ErrImageNeverPull"));
    let mut bench = Bench::with_fallbacks();
    let pull_failure = Some("build".to_owned());
    let never = Sighting { end: Some(End { pull_failure, ..end("never") }), ..pulling() };
    let actions = bench.is(Input::Pod(never));
    let policy = Some("IfNotPresent".to_owned());
    assert!(actions.contains(&Action::Relaunch { container: "build".into(), policy }));
}

#[test]
fn the_next_pull_policy_is_tried_at_once_when_the_registry_is_away() {
    let mut bench = Bench::with_fallbacks();
    let actions = bench.is(Input::Pod(unreachable(PullPhase::Failed)));
    assert!(actions.iter().any(|action| matches!(action, Action::Relaunch { .. })), "{actions:?}");
}

#[test]
fn k8s_72_a_job_that_is_cancelled_before_it_runs_is_gone_at_once() {
    let mut bench = Bench::new();
    bench.is(Input::Pod(Sighting::default()));
    assert!(bench.is(Input::Stop(Stop::Cancel)).contains(&Action::DeletePod));
    let actions = bench.is(Input::Deleted(true));
    let end = ended(&actions).unwrap();
    assert_eq!((&end.outcome, end.trace), (&Outcome::Cancelled, Some(TraceSummary::default())));
}

#[test]
fn k8s_70_a_stop_is_said_again_after_a_lost_stream_and_the_stronger_one_stays() {
    let mut bench = Bench::following();
    assert!(has_stop(&bench.is(Input::Stop(Stop::Cancel)), StopMode::Cancel));
    bench.is(Input::Stop(Stop::Abort));
    bench.is(Input::Stop(Stop::Cancel));
    bench.is(Input::Unlinked("reset".into()));
    bench.pass(1);
    bench.is(Input::Linked);
    assert!(has_stop(&bench.welcome(), StopMode::Abort));
}

#[test]
fn a_job_that_is_cancelled_before_it_runs_is_not_over_while_its_pod_cannot_be_deleted() {
    let mut bench = Bench::new();
    bench.is(Input::Pod(Sighting::default()));
    bench.is(Input::Stop(Stop::Cancel));
    assert!(ended(&bench.is(Input::Deleted(false))).is_none(), "it may still run");
    let again = bench.pass(6);
    assert!(again.contains(&Action::DeletePodUnlessRun), "it is tried again, and looked at first");
    bench.is(Input::Deleted(false));
    // It does run, and is told as soon as it is heard.
    bench.is(Input::Pod(running()));
    bench.is(Input::Linked);
    assert!(has_stop(&bench.welcome(), StopMode::Cancel));
    assert!(!bench.pass(100).contains(&Action::DeletePod));
    bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Cancelled, b""))));
    assert!(bench.machine.is_ended());
}

#[test]
fn a_stopped_job_that_nobody_may_talk_to_is_deleted_after_a_minute() {
    let mut bench = Bench::following();
    bench.is(Input::Stop(Stop::Cancel));
    bench.is(Input::Unlinked("reset".into()));
    bench.pass(1);
    bench.is(Input::NotLinked { refused: true, message: "403".into(), retry_after: None });
    assert!(bench.pass(60).contains(&Action::DeletePod));
    assert_eq!(ended(&bench.is(Input::Deleted(true))).unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn the_log_of_a_stopped_job_that_does_not_answer_is_waited_for_before_its_pod_is_deleted() {
    let mut bench = Bench::following();
    bench.is(Input::Stop(Stop::Cancel));
    bench.is(Input::Unlinked("reset".into()));
    assert!(!bench.pass(299).contains(&Action::DeletePod));
    assert!(bench.pass(2).contains(&Action::DeletePod));
    assert_eq!(ended(&bench.is(Input::Deleted(true))).unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_stopped_job_whose_pod_cannot_be_deleted_is_not_over_and_says_what_it_comes_to() {
    // Its API server was away for longer than the job was waited for: seeds 298 and 625.
    let mut bench = Bench::following();
    bench.is(Input::Stop(Stop::Cancel));
    bench.is(Input::Unlinked("reset".into()));
    assert!(bench.pass(301).contains(&Action::DeletePod));
    assert!(ended(&bench.is(Input::Deleted(false))).is_none(), "it may still run");
    assert!(!bench.pass(10).contains(&Action::DeletePod), "the stream is tried first");
    bench.is(Input::Linked);
    bench.welcome();
    bench.is(trace(0, b"all"));
    let actions = bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Exited(0), b"all"))));
    let end = ended(&actions).unwrap();
    assert_eq!((&end.outcome, end.trace), (&Outcome::Exited(0), Some(TraceSummary::of(b"all"))));
}

#[test]
fn a_source_that_wants_the_trace_again_gets_it_again() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"all"));
    let said = verdict(Outcome::Exited(0), b"all");
    bench.is(Input::Frame(AgentFrame::Verdict(said.clone())));
    let actions = bench.is(Input::Follow { from: Some(Offset::ZERO), until: ALL });
    assert_eq!(actions, [Action::Unlink, Action::Link]);
    bench.is(Input::Linked);
    bench.welcome();
    let actions = bench.is(trace(0, b"all"));
    assert!(matches!(&actions[0], Action::Emit(JobEvent::Trace { offset: Offset(0), .. })));
    assert_eq!(ended(&actions).unwrap().trace, Some(said.trace));
}

#[test]
fn a_trace_that_is_wanted_again_after_an_unexplained_failure_is_waited_for_in_peace() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"ab"));
    bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Signalled(11), b"ab"))));
    assert!(ended(&bench.pass(3)).is_some());
    bench.is(Input::Follow { from: Some(Offset::ZERO), until: ALL });
    bench.is(Input::Linked);
    let next = bench.machine.deadline().unwrap();
    assert!(next > bench.now, "a deadline that is past starves everything else");
    bench.welcome();
    assert!(bench.is(trace(0, b"ab")).iter().any(|action| matches!(action, Action::Emit(_))));
}

#[test]
fn a_trace_that_is_wanted_again_is_not_looked_for_in_a_pod_that_is_gone() {
    let mut bench = Bench::following();
    bench.is(trace(0, b"ab"));
    bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Exited(0), b"ab"))));
    bench.is(Input::Gone(None));
    let actions = bench.is(Input::Follow { from: Some(Offset::ZERO), until: ALL });
    assert_eq!(ended(&actions).unwrap().trace, None);
}

#[test]
fn a_trace_of_a_cancelled_job_that_is_wanted_again_is_still_to_be_had() {
    let mut bench = Bench::following();
    bench.is(Input::Stop(Stop::Cancel));
    bench.is(trace(0, b"ab"));
    bench.is(Input::Frame(AgentFrame::Verdict(verdict(Outcome::Cancelled, b"ab"))));
    bench.pass(100);
    bench.is(Input::Unlinked("closed".into()));
    bench.is(Input::Follow { from: Some(Offset::ZERO), until: ALL });
    assert!(!bench.pass(1).contains(&Action::DeletePod));
}

#[test]
fn another_place_is_asked_for_without_a_new_stream_when_nothing_is_on_its_way() {
    let mut bench = Bench::new();
    bench.is(Input::Pod(running()));
    bench.is(Input::Linked);
    bench.welcome();
    let want = Want { from: Some(Offset(100)), until: Offset(200) };
    let actions = bench.is(Input::Follow { from: want.from, until: want.until });
    assert_eq!(actions, [Action::Send(ManagerFrame::Want(want))]);
    let actions = bench.is(Input::Follow { from: Some(Offset(50)), until: Offset(200) });
    assert_eq!(actions, [Action::Unlink], "bytes from 100 on may be on their way");
}

#[test]
fn a_killed_helper_that_comes_back_is_followed_again() {
    let mut bench = Bench::following();
    let away = Sighting { reachable: false, ..running() };
    bench.is(Input::Unlinked("exited 137".into()));
    assert!(bench.is(Input::Pod(away)).is_empty());
    assert!(bench.pass(10).is_empty(), "not reachable: nothing to try");
    assert_eq!(bench.is(Input::Pod(running())), [Action::Link]);
}

#[test]
fn a_killed_helper_that_does_not_come_back_is_an_end() {
    let mut bench = Bench::following();
    bench.is(Input::Unlinked("exited 137".into()));
    bench.is(Input::Pod(Sighting { reachable: false, ..running() }));
    let actions = bench.pass(100);
    assert!(matches!(ended(&actions).unwrap().outcome, Outcome::Infra(_)));
}

#[test]
fn how_the_pod_came_to_run_is_told_once_in_each_session() {
    let known = StartFrame { placed_ms: Some(5), ..StartFrame::default() };
    let frame = Action::Send(ManagerFrame::Start(known.clone()));
    let mut bench = Bench::new();
    bench.is(Input::Pod(running()));
    // Nobody is there to hear it.
    assert!(!bench.is(Input::Start(known.clone())).contains(&frame));
    bench.is(Input::Linked);
    assert!(bench.welcome().contains(&frame));
    assert!(!bench.is(Input::Pod(running())).contains(&frame));
    bench.is(Input::Unlinked("reset".into()));
    bench.pass(1);
    bench.is(Input::Linked);
    assert!(bench.welcome().contains(&frame));
}

#[test]
fn questions_reach_the_manager_once_and_answers_only_an_agent_that_listens() {
    let ask = |id| Input::Frame(AgentFrame::Ask(AskFrame { id, cache: None }));
    let answer = |id| AnswerFrame { id, transfer: None, refused: "no".into() };
    let mut bench = Bench::following();
    assert!(matches!(&bench.is(ask(1))[..], [Action::Emit(JobEvent::Asked(_))]));
    assert!(bench.is(ask(1)).is_empty(), "it is being answered");
    let actions = bench.is(Input::Answer(answer(1)));
    assert_eq!(actions, [Action::Send(ManagerFrame::Answer(answer(1)))]);
    // Unanswered when the stream broke: it comes again in the next session.
    bench.is(ask(2));
    bench.is(Input::Unlinked("reset".into()));
    assert!(bench.is(Input::Answer(answer(2))).is_empty());
    bench.pass(1);
    bench.is(Input::Linked);
    bench.welcome();
    assert!(matches!(&bench.is(ask(2))[..], [Action::Emit(JobEvent::Asked(_))]));
    // A flood is not listened to.
    let heard = (10..1000).filter(|id| !bench.is(ask(*id)).is_empty()).count();
    assert_eq!(heard, MOST_ASKS - 1);
}

/// A pod that is being taken away and has so many seconds for it.
fn taken_away(grace: u64) -> Sighting {
    let end = Some(end("evicted from its node n").by_disruption());
    Sighting { end, grace: Some(Duration::from_secs(grace)), ..running() }
}

fn heard_grace(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Send(ManagerFrame::Disruption(frame)) => Some(frame.grace_s),
        _ => None,
    })
}

#[test]
fn an_agent_whose_pod_is_taken_away_hears_how_long_it_has_and_is_left_alone() {
    let mut bench = Bench::following();
    let actions = bench.is(Input::Pod(taken_away(600)));
    assert_eq!(heard_grace(&actions), Some(600), "{actions:?}");
    assert!(!has_stop(&actions, StopMode::Abort), "it knows by itself what to do: {actions:?}");
    assert_eq!(heard_grace(&bench.is(Input::Pod(taken_away(600)))), None, "once");
    assert_eq!(heard_grace(&bench.is(Input::Pod(taken_away(5)))), Some(5), "somebody is in haste");
    assert_eq!(ended(&bench.pass(604)), None);
}

#[test]
fn a_job_that_ends_by_itself_while_its_pod_is_taken_away_has_its_own_verdict() {
    for outcome in [Outcome::Exited(0), Outcome::Exited(3), Outcome::Cancelled] {
        let mut bench = Bench::following();
        bench.is(Input::Pod(taken_away(600)));
        bench.is(trace(0, b"done"));
        let last = AgentFrame::Verdict(verdict(outcome.clone(), b"done"));
        let actions = bench.is(Input::Frame(last));
        assert_eq!(ended(&actions).unwrap().outcome, outcome);
    }
}

#[test]
fn a_job_whose_trace_did_not_all_come_before_its_pod_was_taken_away_has_not_succeeded() {
    let mut bench = Bench::following();
    bench.is(Input::Pod(taken_away(600)));
    bench.is(trace(0, b"do"));
    let verdict = Some(verdict(Outcome::Exited(0), b"done"));
    let over = Sighting { helper_over: true, reachable: false, verdict, ..taken_away(600) };
    let actions = bench.is(Input::Pod(over));
    let end = ended(&actions).unwrap();
    assert!(matches!(&end.outcome, Outcome::Infra(i) if i.message.contains("evicted")), "{end:?}");
}

#[test]
fn a_job_that_was_stopped_because_its_pod_is_taken_away_can_be_tried_again_and_says_where_it_was() {
    let stopped = || Outcome::Infra(Infra::new(InfraKind::Interrupted, "the pod was told to end"));
    // A cause that the pod shows, and a node that shuts down and never says so.
    for (seen, words) in [
        (taken_away(30), "evicted from its node n"),
        (Sighting { node: Some("n".into()), ..running() }, "told to end on node n"),
    ] {
        let mut bench = Bench::following();
        bench.is(Input::Pod(seen));
        bench.is(trace(0, b"half"));
        let mut actions = bench.is(Input::Frame(AgentFrame::Verdict(verdict(stopped(), b"half"))));
        actions.extend(bench.pass(3));
        let end = ended(&actions).unwrap();
        let Outcome::Infra(infra) = &end.outcome else { panic!("{end:?}") };
        assert_eq!(infra.kind, InfraKind::System, "GitLab's `retry: when` knows this one");
        assert!(infra.message.contains(words), "{infra:?}");
        assert!(!end.explained, "the manager names the cause in the log");
    }
}

#[test]
fn a_pod_that_is_taken_away_with_its_node_is_given_up_after_a_minute_of_silence() {
    let mut bench = Bench::following();
    bench.is(Input::Pod(taken_away(3600)));
    assert_eq!(ended(&bench.pass(100)), None, "it can be heard");
    bench.is(Input::Unlinked("gone".into()));
    assert_eq!(ended(&bench.pass(59)), None);
    assert!(ended(&bench.pass(1)).is_some());
}

#[test]
fn stages_that_an_agent_makes_up_without_end_are_not_kept() {
    let mut bench = Bench::following();
    let long = "n".repeat(100_000);
    let report = |number: u64, name: &str, outcome| StageReport {
        name: format!("{name}{number}"),
        started_ms: number,
        took_ms: 1,
        outcome,
    };
    let (mut kept, mut begun) = (0, 0);
    for number in 0..1000 {
        let lie = Outcome::Infra(Infra::new(InfraKind::System, long.clone()));
        for report in [
            report(number, &long, Outcome::Exited(0)),
            report(number, "lie", lie),
            report(number, "short", Outcome::Exited(0)),
        ] {
            let frame = AgentFrame::Stage(StageFrame::Finished(report));
            for action in bench.is(Input::Frame(frame)) {
                let Action::Emit(JobEvent::StageFinished(report)) = action else { continue };
                assert!(report.name.starts_with("short"), "{}", report.name.len());
                kept += 1;
            }
        }
        for name in [&long, "begun"] {
            let started = StageFrame::Started { name: format!("{name}{number}") };
            for action in bench.is(Input::Frame(AgentFrame::Stage(started))) {
                let Action::Emit(JobEvent::StageStarted { name }) = action else { continue };
                assert!(name.starts_with("begun"), "{}", name.len());
                begun += 1;
            }
        }
    }
    assert_eq!((kept, begun), (256, 256));
}
