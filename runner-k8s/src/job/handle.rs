//! The handle that the manager holds.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::executor::{
    ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, Remarks, Stop,
};
use runner_core::ids::{JobId, Offset};
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::session::Door;
use runner_core::source::Ticket;
use runner_core::wire::AnswerFrame;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::access::Access;
use super::actor::{Actor, Command, Told};
use super::door::{PodDoor, Whereabouts};
use super::launch::Launched;
use super::listen::Listeners;
use super::machine::{Machine, Terms};
use super::milestones::Milestones;
use super::shared::{Held, Shared};
use super::start::PodStart;
use crate::classify::executor_error;
use crate::record::{Claimed, Place, RecordPhase, StoredRemarks};
use crate::watch::PodSight;

/// Commands that may wait for the actor, which handles each at once: more than a manager sends
/// between two of its turns.
const COMMANDS: usize = 16;

/// A job in a Kubernetes cluster.
pub struct KubernetesJob {
    shared: Arc<Shared>,
    access: Access,
    _held: Held,
    claimed: Arc<Mutex<Claimed>>,
    /// Where its pod is, if not in the executor's own namespace.
    place_of_pod: Option<Place>,
    id: JobId,
    ticket: Ticket,
    url: Option<String>,
    pod: String,
    /// The pod of now, for those who look into the job.
    current: watch::Sender<Option<Whereabouts>>,
    remarks: Remarks,
    phase: JobPhase,
    /// When the record was certainly this manager's.
    owned: Instant,
    /// What was found of the pod when the job was adopted.
    found: Option<PodSight>,
    running: Option<Running>,
    /// The pod's deletion and the record's: what is done already when `dispose` is called again.
    pod_gone: bool,
}

/// Whether a pod was there before its job, and this process has given it none yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsWarm {
    Yes,
    No,
}

struct Running {
    commands: mpsc::Sender<Command>,
    events: mpsc::UnboundedReceiver<Told>,
    actor: AbortOnDropHandle<()>,
    /// Next byte that the manager has not been given: not the actor's, which is ahead of it.
    given: Offset,
    generation: u64,
    ended: bool,
}

impl KubernetesJob {
    /// A job that has just been written down, or been adopted with `found` of its pod.
    pub(crate) fn new(
        shared: Arc<Shared>,
        access: Access,
        held: Held,
        claimed: Claimed,
        found: Option<PodSight>,
    ) -> Self {
        let body = claimed.body();
        let started =
            found.as_ref().is_some_and(PodSight::was) || body.phase == RecordPhase::Started;
        Self {
            id: body.job,
            ticket: body.ticket.clone(),
            url: body.url.clone(),
            pod: body.pod.clone(),
            place_of_pod: body.place.clone(),
            current: watch::Sender::new(None),
            remarks: body.remarks.to_remarks(),
            phase: if started { JobPhase::Started } else { JobPhase::Reserved },
            owned: Instant::now(),
            found,
            _held: held,
            claimed: Arc::new(Mutex::new(claimed)),
            shared,
            access,
            running: None,
            pod_gone: false,
        }
    }

    async fn follow_pod(&mut self, pod: PodSight, is_warm: IsWarm) {
        let claimed = self.claimed.lock().await;
        let body = claimed.body();
        let now = Instant::now();
        let terms = Terms {
            job: self.id,
            epoch: body.claim.epoch,
            start_by: now + self.shared.settings.poll_timeout,
            end_by: now + Duration::from_secs(body.patience),
            fallbacks: body.fallbacks.clone(),
            is_warm: is_warm == IsWarm::Yes,
        };
        drop(claimed);
        let hub = self.shared.hub_at(self.place_of_pod.as_ref(), &self.access);
        let (uid, watch) = match &pod {
            PodSight::Seen(pod) => (pod.uid().to_owned(), hub.follow(pod.uid())),
            // A channel without a sender keeps its last value: gone is gone.
            _ => (String::new(), watch::channel(PodSight::Gone(None)).1),
        };
        if !uid.is_empty() {
            self.current.send_replace(Some(Whereabouts {
                namespace: self.shared.namespace(self.place_of_pod.as_ref()).to_owned(),
                pod: self.pod.clone(),
                uid: uid.clone(),
                hub: hub.clone(),
                stream: self.access.stream().clone(),
            }));
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        // Bounded by what the machine says once (stages, ends), by the questions that may be open, and
        // for the trace by what was asked for.
        let (events, told) = mpsc::unbounded_channel();
        let mut machine = Machine::new(now, terms);
        machine.says_waits = self.shared.settings.print_pod_warning_events;
        let actor = Actor {
            shared: Arc::clone(&self.shared),
            access: self.access.clone(),
            claimed: Arc::clone(&self.claimed),
            machine,
            namespace: self.shared.namespace(self.place_of_pod.as_ref()).to_owned(),
            hub,
            pod: self.pod.clone(),
            current: self.current.clone(),
            uid,
            watch,
            commands: receiver,
            events,
            link: None,
            listeners: Listeners::default(),
            connecting: None,
            generation: 0,
            unseen: None,
            milestones: Milestones::default(),
            start: match is_warm {
                IsWarm::Yes => PodStart::warm(),
                IsWarm::No => PodStart::default(),
            },
            lost: None,
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
        });
    }

    /// A warm pod that can do the job's work, written down as the job's. It gets labels and plan when
    /// its agent is reached, by whoever follows the job then.
    async fn take_warm(&mut self) -> Result<Option<PodSight>, ExecutorError> {
        let Some(warm) = &self.shared.warm else { return Ok(None) };
        let mut claimed = self.claimed.lock().await;
        let Some(hash) = claimed.body().warm.clone() else { return Ok(None) };
        let Some(idle) = warm.pool.take(&hash) else { return Ok(None) };
        let found = self.shared.hub().find(&idle.name);
        let mut body = claimed.body().clone();
        body.promise(&idle.name, claimed.resource_version());
        let updated = match found {
            Some(_) => self.shared.store.update(&mut claimed, body, None).await,
            // Gone since it was seen.
            None => return Ok(None),
        };
        match updated {
            Ok(()) => {
                self.pod = idle.name;
                Ok(found.map(PodSight::Seen))
            }
            Err(error) => {
                // The plan was not handed over, and will not be.
                crate::warm::delete(&self.shared, &idle).await;
                Err(error.into_executor_error("note the job's pod"))
            }
        }
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

    fn url(&self) -> Option<String> {
        self.url.clone()
    }

    fn place(&self) -> String {
        format!("{}/{}", self.shared.namespace(self.place_of_pod.as_ref()), self.pod)
    }

    fn phase(&self) -> JobPhase {
        self.phase
    }

    fn remarks(&self) -> Remarks {
        self.remarks.clone()
    }

    fn door(&self) -> Option<Arc<dyn Door>> {
        Some(Arc::new(PodDoor::new(self.current.subscribe())))
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        if self.running.is_some() {
            return Ok(());
        }
        if let Some(found) = self.found.clone() {
            self.follow_pod(found, IsWarm::No).await;
            return Ok(());
        }
        // The source may have taken its time, and this manager may have been taken for dead meanwhile:
        // then the heir has decided what becomes of the job. Before half a lease nobody takes it.
        if self.owned.elapsed() > self.shared.settings.lease / 2 {
            let asked = Instant::now();
            let claimed = self.claimed.lock().await;
            let owns = self.shared.store.owns(&claimed).await;
            owns.map_err(|error| error.into_executor_error("look at the job's record"))?;
            drop(claimed);
            self.owned = asked;
        }
        // Before the pod, so that the list does not have to be waited for later.
        let _hub = self.shared.hub_at(self.place_of_pod.as_ref(), &self.access);
        let pod = self.claimed.lock().await.pod().ok_or_else(|| {
            let message = "the job's pod is not written down any more";
            let infra = Infra::new(InfraKind::System, message);
            ExecutorError::new(ExecutorErrorKind::Refused(Outcome::Infra(infra)), message)
        })?;
        if let Some(found) = self.take_warm().await? {
            self.phase = JobPhase::Started;
            self.follow_pod(found, IsWarm::Yes).await;
            return Ok(());
        }
        let created = self.shared.create_pod(&self.access.clients, pod).await;
        match created.map_err(|error| self.access.explain(error))? {
            Launched::Created(pod) => {
                self.phase = JobPhase::Started;
                self.follow_pod(PodSight::Seen(Arc::new(*pod)), IsWarm::No).await;
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
                // The end of what was fetched for an earlier place, after which the manager asked for the
                // trace once more: the end of that is still to come.
                Some(Told { generation, event: JobEvent::Ended(_) })
                    if running.ended && generation != running.generation => {}
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
            // Of the pod that was followed. Without it, a pod of this name may be that of somebody who
            // has the job now, e.g. because the source took it back and gave it out again.
            let uid = self.current.borrow().as_ref().map(|place| place.uid.clone());
            if uid.is_none() {
                self.shared
                    .store
                    .confirm(&claimed)
                    .await
                    .map_err(|error| error.into_executor_error("look at the job's record"))?;
            }
            let namespace = self.shared.namespace(self.place_of_pod.as_ref());
            self.shared
                .delete_pod(&self.access.clients, namespace, &pod, uid.as_deref())
                .await
                .map_err(|error| executor_error(error, "delete the job's pod"))?;
            self.pod_gone = true;
        }
        if let Some(place) = self.place_of_pod.as_ref().filter(|place| place.own) {
            crate::record::delete_namespace(&self.shared.clients.api, &place.namespace)
                .await
                .map_err(|error| executor_error(error, "delete the job's namespace"))?;
        }
        self.access
            .store
            .delete(&claimed)
            .await
            .map_err(|error| error.into_executor_error("delete the job's record"))
    }
}
