//! Frames and plans as each release wrote them are still understood, so that managers and agents of
//! different releases work together while an installation is upgraded.
//!
//! `releases/VERSION/` holds what that release wrote and is never changed once it is out. That of the
//! release in the making is written by `RECORD_RELEASE=1 cargo test -p runner-core --test releases`.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::job::{Image, Job, Project, Sources, Step, Variable};
use runner_core::outcome::{Infra, InfraKind, Outcome, StageReport, TraceSummary, Verdict};
use runner_core::plan::{Operation, Plan};
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::secret::Secret;
use runner_core::wire::{
    AgentCodec, AgentFrame, Beat, Hello, ManagerCodec, ManagerFrame, RefusalReason, Refused,
    StageFrame, StopFrame, StopMode, Want, Welcome,
};
use tokio_util::codec::{Decoder, Encoder};

const THIS: &str = env!("CARGO_PKG_VERSION");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/releases")
}

fn releases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root()).unwrap();
    let mut all: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn manager_frames() -> Vec<ManagerFrame> {
    let hello =
        Hello { version: 1, job: JobId(7), epoch: Epoch(3), from: Offset(10), until: Offset(99) };
    vec![
        ManagerFrame::Hello(hello),
        ManagerFrame::Want(Want { from: Some(Offset(5)), until: Offset(50) }),
        ManagerFrame::Want(Want { from: None, until: Offset(60) }),
        ManagerFrame::Beat(Beat::default()),
        ManagerFrame::Stop(StopFrame { mode: StopMode::Cancel }),
        ManagerFrame::Stop(StopFrame { mode: StopMode::Abort }),
        ManagerFrame::Release,
    ]
}

fn agent_frames() -> Vec<AgentFrame> {
    let report = |outcome| StageReport {
        name: "step_script".into(),
        started_ms: 1_767_225_600_000,
        took_ms: 1500,
        outcome,
    };
    let verdict = |outcome: Outcome| {
        let trace = TraceSummary::of(b"hello");
        AgentFrame::Verdict(Verdict {
            outcome: outcome.clone(),
            trace,
            stages: vec![report(outcome)],
        })
    };
    let refused = Refused { reason: RefusalReason::Superseded, message: "another".into() };
    vec![
        AgentFrame::Welcome(Welcome { version: 1, release: "0.1.0".into(), length: Offset(5) }),
        AgentFrame::Refused(refused),
        AgentFrame::Trace { offset: Offset(0), bytes: Bytes::from_static(b"hello") },
        AgentFrame::Stage(StageFrame::Started { name: "step_script".into() }),
        AgentFrame::Stage(StageFrame::Finished(report(Outcome::Exited(1)))),
        AgentFrame::Beat(Beat { length: Some(Offset(5)) }),
        verdict(Outcome::Exited(0)),
        verdict(Outcome::Signalled(9)),
        verdict(Outcome::Cancelled),
        verdict(Outcome::Infra(Infra::new(InfraKind::Interrupted, "the node is drained"))),
        verdict(Outcome::Unknown),
    ]
}

fn job() -> Job {
    Job {
        name: "test".into(),
        project: Project { id: 7, path: "group/widgets".into(), ..Project::default() },
        sources: Some(Sources {
            url: Secret::new("https://source.example/group/widgets.git"),
            reference: "main".into(),
            sha: "0123456789012345678901234567890123456789".into(),
            refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
            depth: 20,
            object_format: runner_core::job::ObjectFormat::Sha1,
            allow_fetch: false,
            correlation_id: None,
        }),
        variables: vec![Variable {
            key: "TOKEN".into(),
            value: Secret::new("hide-me-please"),
            masked: true,
            ..Variable::default()
        }],
        steps: vec![
            Step { name: "script".into(), script: vec!["make".into()] },
            Step { name: "after_script".into(), script: vec!["make clean".into()] },
        ],
        image: Some(Image { name: "debian:12".into(), ..Image::default() }),
        timeout: Duration::from_secs(600),
        ..Job::empty(JobId(7))
    }
}

/// What this release writes, by file name.
fn written() -> Vec<(&'static str, Vec<u8>)> {
    let mut agent = BytesMut::new();
    agent_frames().into_iter().for_each(|frame| AgentCodec.encode(frame, &mut agent).unwrap());
    let mut manager = BytesMut::new();
    manager_frames()
        .into_iter()
        .for_each(|frame| ManagerCodec.encode(frame, &mut manager).unwrap());
    let settings = PlanSettings { platform: "linux/amd64".into(), ..PlanSettings::default() };
    let plan = plan(&job(), &settings, Transfers::default()).unwrap();
    vec![
        ("agent-frames.hex", hex(&agent).into_bytes()),
        ("manager-frames.hex", hex(&manager).into_bytes()),
        ("plan.json", plan.to_json()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(48) {
        line.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap());
        out.push('\n');
    }
    out
}

fn unhex(text: &str) -> BytesMut {
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn what_this_release_writes_is_what_is_recorded_of_it() {
    let directory = root().join(THIS);
    if std::env::var_os("RECORD_RELEASE").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        written().into_iter().for_each(|(name, bytes)| {
            std::fs::write(directory.join(name), bytes).unwrap();
        });
    }
    // A plan grows with every feature, by fields with defaults: that it is understood is enough.
    for (name, bytes) in written().into_iter().filter(|(name, _)| name.ends_with(".hex")) {
        let recorded = std::fs::read(directory.join(name)).unwrap_or_default();
        assert!(
            recorded == bytes,
            "{THIS}/{name} is not what this build writes: a format has changed. If {THIS} is out, \
             begin the next version; else record it again with RECORD_RELEASE=1"
        );
    }
}

#[test]
fn a_manager_understands_the_agents_of_all_releases() {
    for release in releases() {
        let mut bytes = unhex(&std::fs::read_to_string(release.join("agent-frames.hex")).unwrap());
        let mut heard = Vec::new();
        while let Some(frame) = ManagerCodec.decode(&mut bytes).unwrap() {
            heard.push(frame);
        }
        assert_eq!(heard, agent_frames(), "{}", release.display());
        assert!(bytes.is_empty());
    }
}

#[test]
fn an_agent_understands_the_managers_of_all_releases() {
    for release in releases() {
        let mut bytes =
            unhex(&std::fs::read_to_string(release.join("manager-frames.hex")).unwrap());
        let mut heard = Vec::new();
        while let Some(frame) = AgentCodec.decode(&mut bytes).unwrap() {
            heard.push(frame);
        }
        assert_eq!(heard, manager_frames(), "{}", release.display());
        assert!(bytes.is_empty());
    }
}

#[test]
fn an_agent_understands_the_plans_of_all_releases() {
    for release in releases() {
        let plan = Plan::from_json(&std::fs::read(release.join("plan.json")).unwrap()).unwrap();
        assert_eq!(plan.job, JobId(7));
        assert_eq!(plan.timeout, Duration::from_secs(600));
        let script = plan.stages.iter().find(|stage| stage.name == "step_script").unwrap();
        let Operation::Script(script) = &script.operation else { panic!("{script:?}") };
        assert_eq!(script.commands, ["make"]);
        assert!(plan.log.masks.iter().any(|mask| mask.expose() == "hide-me-please"));
    }
}

#[test]
fn what_a_later_release_adds_to_a_frame_does_no_harm() {
    let mut bytes = BytesMut::new();
    ManagerCodec.encode(ManagerFrame::Beat(Beat::default()), &mut bytes).unwrap();
    // The body of the same frame with a field more.
    let (length, kind) = (4, bytes[4]);
    let body = br#"{"invented_later":{"a":[1]}}"#;
    let mut later = BytesMut::new();
    later.extend_from_slice(&u32::try_from(body.len() + 1).unwrap().to_be_bytes());
    assert_eq!(later.len(), length);
    later.extend_from_slice(&[kind]);
    later.extend_from_slice(body);
    assert_eq!(AgentCodec.decode(&mut later).unwrap(), Some(ManagerFrame::Beat(Beat::default())));
}
