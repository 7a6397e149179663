//! The handle that the manager holds.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::Api;
use runner_core::executor::{
    ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, Remarks, Stop,
};
use runner_core::ids::{JobId, Offset};
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::source::Ticket;
use runner_core::wire::AnswerFrame;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::actor::{Actor, Command, Told};
use super::launch::{KnownAbilities, Launched, Launcher};
use super::link::Connect;
use super::machine::{Machine, Terms};
use crate::classify::executor_error;
use crate::client::Clients;
use crate::names::{RunnerIdentity, SOURCE_LABEL, source_hash};
use crate::pod::{Abilities, adapt, budget};
use crate::presence::{Presence, Signs};
use crate::record::{Claimed, RecordPhase, RecordStore, StoredRemarks};
use crate::settings::KubernetesSettings;
use crate::watch::{PodHub, PodSight, PodView};

/// Commands that may wait for the actor, which handles each at once: more than a manager sends
/// between two of its turns.
const COMMANDS: usize = 16;

/// What all jobs of an executor share.
pub(crate) struct Shared {
    pub(crate) settings: KubernetesSettings,
    pub(crate) runner: RunnerIdentity,
    pub(crate) clients: Clients,
    pub(crate) store: RecordStore,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) hub: std::sync::OnceLock<PodHub>,
    pub(crate) presence: std::sync::OnceLock<Presence>,
    /// The jobs that this process has in its hands.
    pub(crate) held: HeldJobs,
    pub(crate) launcher: OnceCell<Launcher>,
}

impl Shared {
    /// The shared watch; it starts with the first job.
    pub(crate) fn hub(&self) -> &PodHub {
        self.hub.get_or_init(|| {
            let selector = format!("{SOURCE_LABEL}={}", source_hash(&self.runner.source));
            PodHub::start(self.clients.api.clone(), &self.settings.namespace, &selector)
        })
    }

    /// What is known of other managers; it starts with the first job, or when jobs are recovered.
    pub(crate) fn presence(&self) -> &Presence {
        self.presence.get_or_init(|| {
            let (manager, lasts) = (&self.runner.manager, self.settings.lease);
            let client = self.clients.api.clone();
            let source = self.runner.source.clone();
            let signs = Signs::new(client, &self.settings.namespace, source, manager, lasts);
            let held = self.held.clone();
            Presence::start(signs, manager, lasts, move || held.jobs())
        })
    }

    pub(crate) fn pods(&self) -> Api<PodView> {
        Api::namespaced(self.clients.api.clone(), &self.settings.namespace)
    }

    /// The launcher; it asks for the server's version once.
    pub(crate) async fn launcher(&self) -> Result<&Launcher, ExecutorError> {
        self.launcher
            .get_or_try_init(async || {
                let version = self
                    .clients
                    .api
                    .apiserver_version()
                    .await
                    .map_err(|error| executor_error(error, "ask for the server's version"))?;
                let abilities = KnownAbilities::of_version(&version.major, &version.minor);
                // A second: long enough for TERM, short because the job is over. GitLab Runner's
                // pods hold their resources for 30 s more.
                let grace = self.settings.cleanup_grace.and_then(|grace| grace.try_into().ok());
                let grace = grace.unwrap_or(1);
                let api = self.clients.api.clone();
                Ok(Launcher::new(api, &self.settings.namespace, abilities, grace))
            })
            .await
    }

    /// Creates a pod, with as much as the cluster can do.
    pub(crate) async fn create_pod(&self, pod: Value) -> Result<Launched, ExecutorError> {
        let launcher = self.launcher().await?;
        let init = Value::Object(self.settings.init_security.clone());
        let mut tried: Option<Abilities> = None;
        loop {
            let abilities = launcher.abilities().current();
            let mut pod = pod.clone();
            adapt(&mut pod, abilities, &init);
            match launcher.create(&pod).await {
                // What was learned makes a difference only once.
                Ok(Launched::BuildAgain) if tried != Some(abilities) => tried = Some(abilities),
                Ok(Launched::Created(created)) => {
                    if self.settings.pod_disruption_budget {
                        launcher.protect(&budget(&pod, created.uid())).await;
                    }
                    return Ok(Launched::Created(created));
                }
                Ok(launched) => return Ok(launched),
                Err(error) => return Err(executor_error(error, "create the job's pod")),
            }
        }
    }

    pub(crate) async fn delete_pod(&self, name: &str, uid: Option<&str>) -> kube::Result<()> {
        match self.launcher.get() {
            Some(launcher) => launcher.delete(name, uid).await,
            None => {
                let known = KnownAbilities::of_version("1", "0");
                let api = self.clients.api.clone();
                Launcher::new(api, &self.settings.namespace, known, 1).delete(name, uid).await
            }
        }
    }
}

/// The jobs that have a handle in this process. A record of this manager whose job has none was
/// dropped by accident and may be adopted again.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldJobs(Arc<parking_lot::Mutex<BTreeMap<JobId, usize>>>);

/// Keeps a job in [`HeldJobs`].
#[derive(Debug)]
pub(crate) struct Held {
    jobs: HeldJobs,
    job: JobId,
}

impl HeldJobs {
    /// Holds a job, from before its record is written or claimed.
    pub(crate) fn hold(&self, job: JobId) -> Held {
        // Counted: a job that the source took back and gave out again has two handles for a moment.
        *self.0.lock().entry(job).or_default() += 1;
        Held { jobs: self.clone(), job }
    }

    /// How many jobs there are.
    pub(crate) fn jobs(&self) -> usize {
        self.0.lock().len()
    }

    /// How many handles a job has.
    pub(crate) fn count(&self, job: JobId) -> usize {
        self.0.lock().get(&job).copied().unwrap_or_default()
    }

    pub(crate) fn contains(&self, job: JobId) -> bool {
        self.0.lock().contains_key(&job)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut jobs = self.jobs.0.lock();
        if let Some(count) = jobs.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                jobs.remove(&self.job);
            }
        }
    }
}

/// A job in a Kubernetes cluster.
pub struct KubernetesJob {
    shared: Arc<Shared>,
    _held: Held,
    claimed: Arc<Mutex<Claimed>>,
    id: JobId,
    ticket: Ticket,
    pod: String,
    remarks: Remarks,
    phase: JobPhase,
    /// What was found of the pod when the job was adopted.
    found: Option<PodSight>,
    running: Option<Running>,
    /// The pod's deletion and the record's: what is done already when `dispose` is called again.
    pod_gone: bool,
}

struct Running {
    commands: mpsc::Sender<Command>,
    events: mpsc::UnboundedReceiver<Told>,
    actor: AbortOnDropHandle<()>,
    /// Next byte that the manager has not been given: not the actor's, which is ahead of it.
    given: Offset,
    generation: u64,
    ended: bool,
    /// The pod's, which changes when it is replaced. Empty: there was none.
    uid: Arc<parking_lot::Mutex<String>>,
}

impl KubernetesJob {
    /// A job that has just been written down, or been adopted with `found` of its pod.
    pub(crate) fn new(
        shared: Arc<Shared>,
        held: Held,
        claimed: Claimed,
        found: Option<PodSight>,
    ) -> Self {
        let body = claimed.body();
        let started = found.is_some() || body.phase == RecordPhase::Started;
        Self {
            id: body.job,
            ticket: body.ticket.clone(),
            pod: body.pod.clone(),
            remarks: body.remarks.to_remarks(),
            phase: if started { JobPhase::Started } else { JobPhase::Reserved },
            found,
            _held: held,
            claimed: Arc::new(Mutex::new(claimed)),
            shared,
            running: None,
            pod_gone: false,
        }
    }

    async fn follow_pod(&mut self, pod: PodSight) {
        let claimed = self.claimed.lock().await;
        let body = claimed.body();
        let now = Instant::now();
        let terms = Terms {
            job: self.id,
            epoch: body.claim.epoch,
            start_by: now + self.shared.settings.poll_timeout,
            end_by: now + Duration::from_secs(body.patience),
            fallbacks: body.fallbacks.clone(),
        };
        drop(claimed);
        let (uid, watch) = match &pod {
            PodSight::Seen(pod) => (pod.uid().to_owned(), self.shared.hub().follow(pod.uid())),
            // A channel without a sender keeps its last value: gone is gone.
            _ => (String::new(), watch::channel(PodSight::Gone(None)).1),
        };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (events, told) = mpsc::unbounded_channel();
        let known = Arc::new(parking_lot::Mutex::new(uid.clone()));
        let actor = Actor {
            known: Arc::clone(&known),
            shared: Arc::clone(&self.shared),
            claimed: Arc::clone(&self.claimed),
            machine: Machine::new(now, terms),
            pod: self.pod.clone(),
            uid,
            watch,
            commands: receiver,
            events,
            link: None,
            connecting: None,
            generation: 0,
            unseen: None,
            gone: false,
            inputs: VecDeque::new(),
        };
        self.running = Some(Running {
            commands,
            events: told,
            actor: AbortOnDropHandle::new(tokio::spawn(actor.run())),
            given: Offset::ZERO,
            generation: 0,
            ended: false,
            uid: known,
        });
    }

    async fn command(&self, command: Command) {
        if let Some(running) = &self.running {
            // An actor that is gone has said why.
            let _ = running.commands.send(command).await;
        }
    }
}

#[async_trait]
impl JobHandle for KubernetesJob {
    fn id(&self) -> JobId {
        self.id
    }

    fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    fn place(&self) -> String {
        format!("{}/{}", self.shared.settings.namespace, self.pod)
    }

    fn phase(&self) -> JobPhase {
        self.phase
    }

    fn remarks(&self) -> Remarks {
        self.remarks.clone()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        if self.running.is_some() {
            return Ok(());
        }
        if let Some(found) = self.found.clone() {
            self.follow_pod(found).await;
            return Ok(());
        }
        // Before the pod, so that the list does not have to be waited for later.
        self.shared.hub();
        let pod = self.claimed.lock().await.pod().ok_or_else(|| {
            let message = "the job's pod is not written down any more";
            let infra = Infra::new(InfraKind::System, message);
            ExecutorError::new(ExecutorErrorKind::Refused(Outcome::Infra(infra)), message)
        })?;
        match self.shared.create_pod(pod).await? {
            Launched::Created(pod) => {
                self.phase = JobPhase::Started;
                self.follow_pod(PodSight::Seen(Arc::new(*pod))).await;
                Ok(())
            }
            Launched::BuildAgain => Err(ExecutorError::new(
                ExecutorErrorKind::Unavailable,
                "the cluster does not take the pod in any form that is known",
            )),
        }
    }

    async fn event(&mut self) -> JobEvent {
        let Some(running) = &mut self.running else { return pending().await };
        loop {
            match running.events.recv().await {
                Some(Told { generation, event: JobEvent::Trace { offset, bytes } }) => {
                    // A piece that was on its way when the manager asked for another place.
                    if generation == running.generation {
                        running.given = offset.advance(bytes.len());
                        return JobEvent::Trace { offset, bytes };
                    }
                }
                Some(Told { event, .. }) => {
                    running.ended |= matches!(event, JobEvent::Ended(_) | JobEvent::Superseded);
                    return event;
                }
                None if running.ended => return pending().await,
                None => {
                    running.ended = true;
                    let message = "the runner lost track of the job because of an internal error";
                    return JobEvent::Ended(JobEnd {
                        outcome: Outcome::Infra(Infra::new(InfraKind::System, message)),
                        trace: None,
                        stages: Vec::new(),
                        explained: false,
                        detail: Some(format!(
                            "the job's task ended (panicked: {})",
                            running.actor.is_finished()
                        )),
                    });
                }
            }
        }
    }

    async fn follow(&mut self, from: Offset, until: Offset) {
        let Some(running) = &mut self.running else { return };
        let from = (from != running.given).then_some(from);
        if let Some(from) = from {
            running.generation += 1;
            running.given = from;
        }
        let generation = running.generation;
        self.command(Command::Follow { from, until, generation }).await;
    }

    async fn answer(&mut self, answer: AnswerFrame) {
        self.command(Command::Answer(answer)).await;
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError> {
        self.command(Command::Stop(stop)).await;
        Ok(())
    }

    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
        let mut claimed = self.claimed.lock().await;
        let mut body = claimed.body().clone();
        body.remarks = StoredRemarks::from(&remarks);
        if self.phase == JobPhase::Started {
            body.phase = RecordPhase::Started;
        }
        self.shared
            .store
            .update(&mut claimed, body, None)
            .await
            .map_err(|error| error.into_executor_error("note what is said in the trace"))?;
        self.remarks = remarks;
        Ok(())
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        if let Some(running) = &self.running {
            let (done, released) = oneshot::channel();
            if running.commands.send(Command::Release(done)).await.is_ok() {
                // Good manners with a deadline; the pod is deleted in any case.
                let _ = timeout(Duration::from_secs(2), released).await;
            }
        }
        let claimed = self.claimed.lock().await;
        if !self.pod_gone {
            let pod = claimed.body().pod.clone();
            let uid = self.running.as_ref().map(|running| running.uid.lock().clone());
            let uid = uid.filter(|uid| !uid.is_empty());
            if uid.is_none() {
                // A pod of this name may be that of somebody who has the job now, e.g. because the
                // source took it back and gave it out again.
                self.shared
                    .store
                    .confirm(&claimed)
                    .await
                    .map_err(|error| error.into_executor_error("look at the job's record"))?;
            }
            self.shared
                .delete_pod(&pod, uid.as_deref())
                .await
                .map_err(|error| executor_error(error, "delete the job's pod"))?;
            self.pod_gone = true;
        }
        self.shared
            .store
            .delete(&claimed)
            .await
            .map_err(|error| error.into_executor_error("delete the job's record"))
    }
}
