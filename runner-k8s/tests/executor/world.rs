//! A job, a plan, an executor, and an agent that says what the test wants.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::executor::{Executor as _, JobEvent, JobHandle, JobRequest};
use runner_core::ids::{Epoch, JobId, Offset, SourceId};
use runner_core::job::{Image, Job, Project, SourceFeatures, Step};
use runner_core::outcome::{Outcome, TraceSummary, Verdict};
use runner_core::plan::Plan;
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::secret::Secret;
use runner_core::source::Ticket;
use runner_core::wire::{AgentFrame, ManagerFrame, RefusalReason, Refused, Welcome};
use runner_k8s::client::Clients;
use runner_k8s::job::{AgentLink, Connect, LinkError};
use runner_k8s::settings::RawSettings;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RunnerIdentity};
use serde_json::json;
use tokio::sync::mpsc;

use crate::cluster::Cluster;

/// An agent with a trace that is already complete, and the highest epoch it has seen.
#[derive(Clone)]
pub(crate) struct Agent(Arc<Mutex<AgentState>>);

struct AgentState {
    trace: Vec<u8>,
    outcome: Outcome,
    epoch: Epoch,
    heard: Vec<ManagerFrame>,
    connections: usize,
    /// Breaks the stream after so many bytes, once.
    breaks_at: Option<u64>,
}

impl Agent {
    pub(crate) fn new(trace: &[u8], outcome: Outcome) -> Self {
        Self(Arc::new(Mutex::new(AgentState {
            trace: trace.to_vec(),
            outcome,
            epoch: Epoch(0),
            heard: Vec::new(),
            connections: 0,
            breaks_at: None,
        })))
    }

    pub(crate) fn break_at(&self, bytes: u64) {
        self.0.lock().breaks_at = Some(bytes);
    }

    pub(crate) fn heard(&self) -> Vec<ManagerFrame> {
        self.0.lock().heard.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.0.lock().connections
    }
}

struct Conversation {
    agent: Agent,
    frames: mpsc::UnboundedReceiver<AgentFrame>,
    say: mpsc::UnboundedSender<AgentFrame>,
    epoch: Epoch,
    position: u64,
}

impl Conversation {
    fn speak(&mut self, until: Offset) {
        let mut state = self.agent.0.lock();
        let length = state.trace.len() as u64;
        let mut until = until.0.min(length);
        if state.breaks_at.is_some_and(|at| at < until) {
            until = state.breaks_at.take().unwrap();
        }
        if self.position < until {
            let bytes =
                Bytes::copy_from_slice(&state.trace[self.position as usize..until as usize]);
            let _ = self.say.send(AgentFrame::Trace { offset: Offset(self.position), bytes });
            self.position = until;
        }
        let verdict = Verdict {
            outcome: state.outcome.clone(),
            trace: TraceSummary::of(&state.trace),
            stages: Vec::new(),
        };
        let _ = self.say.send(AgentFrame::Verdict(verdict));
    }
}

#[async_trait]
impl AgentLink for Conversation {
    async fn next(&mut self) -> Result<AgentFrame, String> {
        if self.epoch < self.agent.0.lock().epoch {
            let refused = Refused { reason: RefusalReason::Superseded, message: String::new() };
            return Ok(AgentFrame::Refused(refused));
        }
        let frame = self.frames.recv().await.ok_or("closed")?;
        if matches!(frame, AgentFrame::Verdict(_))
            && self.position < self.agent.0.lock().trace.len() as u64
        {
            let broken = self.agent.0.lock().breaks_at.is_none() && self.position == BREAK;
            if broken {
                return Err("connection reset by peer".into());
            }
        }
        Ok(frame)
    }

    async fn send(&mut self, frame: ManagerFrame) -> Result<(), String> {
        self.agent.0.lock().heard.push(frame.clone());
        match frame {
            ManagerFrame::Hello(hello) => {
                self.epoch = hello.epoch;
                let length = {
                    let mut state = self.agent.0.lock();
                    state.epoch = state.epoch.max(hello.epoch);
                    Offset(state.trace.len() as u64)
                };
                let (version, release) = (hello.version, String::new());
                let _ = self.say.send(AgentFrame::Welcome(Welcome { version, release, length }));
                self.position = hello.from.0;
                self.speak(hello.until);
            }
            ManagerFrame::Want(want) => {
                self.position = want.from.map_or(self.position, |from| from.0);
                self.speak(want.until);
            }
            _ => {}
        }
        Ok(())
    }

    async fn close(self: Box<Self>) {}
}

/// Where [`Agent::break_at`] breaks streams.
pub(crate) const BREAK: u64 = 5;

#[async_trait]
impl Connect for Agent {
    async fn connect(&self, _namespace: &str, _pod: &str) -> Result<Box<dyn AgentLink>, LinkError> {
        self.0.lock().connections += 1;
        let (say, frames) = mpsc::unbounded_channel();
        let agent = self.clone();
        Ok(Box::new(Conversation { agent, frames, say, epoch: Epoch(u64::MAX), position: 0 }))
    }
}

pub(crate) fn settings() -> RawSettings {
    RawSettings {
        manager_lease_duration: 1,
        namespace: "ci".into(),
        helper_image: "helper:1".into(),
        agent_image: "agent:1".into(),
        ..RawSettings::default()
    }
}

pub(crate) fn executor(cluster: &Cluster, agent: &Agent, manager: &str) -> KubernetesExecutor {
    executor_with(cluster, agent, manager, &settings())
}

pub(crate) fn executor_with(
    cluster: &Cluster,
    agent: &Agent,
    manager: &str,
    settings: &RawSettings,
) -> KubernetesExecutor {
    let runner = RunnerIdentity {
        source: SourceId("https://gitlab.example#hash".into()),
        name: "blue".into(),
        short_token: "t0k3n".into(),
        manager: manager.into(),
    };
    let settings = KubernetesSettings::resolve(settings).unwrap();
    let clients = Clients::from_client(cluster.client());
    KubernetesExecutor::with_connector(clients, settings, runner, Arc::new(agent.clone()))
}

pub(crate) fn job() -> Job {
    Job {
        id: JobId(42),
        name: "test".into(),
        project: Project {
            id: 7,
            name: "widgets".into(),
            path: "group/widgets".into(),
            ..Project::default()
        },
        sources: None,
        variables: Vec::new(),
        steps: vec![Step { name: "script".into(), script: vec!["make".into()] }],
        image: Some(Image { name: "debian:12".into(), ..Image::default() }),
        services: Vec::new(),
        artifacts: Vec::new(),
        dependencies: Vec::new(),
        caches: Vec::new(),
        registries: Vec::new(),
        timeout: Duration::from_secs(3600),
        features: SourceFeatures::default(),
        url: Some("https://gitlab.example/group/widgets/-/jobs/42".into()),
        ..Job::empty(JobId(0))
    }
}

pub(crate) fn planned(job: &Job) -> Plan {
    plan(job, &PlanSettings::default(), Transfers::default()).unwrap()
}

pub(crate) fn ticket() -> Ticket {
    Ticket(Secret::new("job-token-secret"))
}

pub(crate) async fn reserve(executor: &KubernetesExecutor) -> Box<dyn JobHandle> {
    let (job, ticket) = (job(), ticket());
    let plan = planned(&job);
    executor
        .reserve(JobRequest { job: &job, plan: &plan, ticket: &ticket, session: None })
        .await
        .unwrap()
}

/// The jobs that another manager left behind, as soon as it is taken for dead.
pub(crate) async fn take_over(executor: &KubernetesExecutor) -> Vec<Box<dyn JobHandle>> {
    let look = async {
        loop {
            let handles = executor.recover().await.unwrap();
            if !handles.is_empty() {
                return handles;
            }
            executor.abandoned().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), look).await.expect("there is a job to take over")
}

/// The kubelet has started everything.
pub(crate) fn runs(cluster: &Cluster) -> String {
    let name = cluster.names("pods").pop().unwrap();
    cluster.set_status(&name, running());
    name
}

pub(crate) fn running() -> serde_json::Value {
    json!({ "phase": "Running", "containerStatuses": [
        { "name": "build", "image": "debian:12", "state": { "running": {} } },
        { "name": "helper", "image": "helper:1", "state": { "running": {} } },
    ]})
}

/// Events up to the end, and the trace.
pub(crate) async fn to_the_end(handle: &mut dyn JobHandle) -> (Vec<u8>, JobEvent) {
    let mut trace = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), handle.event());
        match event.await.expect("the job ends") {
            JobEvent::Trace { offset, bytes } => {
                assert_eq!(offset.0, trace.len() as u64);
                trace.extend_from_slice(&bytes);
            }
            end @ (JobEvent::Ended(_) | JobEvent::Superseded) => return (trace, end),
            _ => {}
        }
    }
}
