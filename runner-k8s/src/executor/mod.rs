//! The executor itself.

mod adopt;
mod room;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use runner_core::executor::{Executor, ExecutorError, ExecutorErrorKind, JobHandle, JobRequest};
use runner_core::ids::Epoch;
use runner_core::outcome::{Infra, Outcome};
use runner_core::session::Door;
use runner_core::source::Ticket;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tracing::warn;

use crate::announce::Announcer;
use crate::availability;
use crate::capacity::{Capacity, RoomCounts};
use crate::classify::executor_error;
use crate::client::{ClientError, Clients, RequestCounts, StreamCounts};
use crate::job::{
    Connect, ExecConnector, HeldJobs, KubernetesJob, Pause, PodDoor, Shared, Warm, Whereabouts,
};
use crate::names::RunnerIdentity;
use crate::pause::{PauseNumbers, PausePods};
use crate::prepare::{Prepared, prepare};
use crate::presence::{Estate, Presence, View};
use crate::record::{Claim, ClaimError, RecordBody, RecordPhase, RecordStore, StoredRemarks};
use crate::settings::{KubernetesSettings, WarmPods};
use crate::sweep::Sweep;
use crate::warm::{Pool, WarmPool, first_shape};
use crate::watch::Hubs;

/// How much longer than all deadlines of its plan a job may take before it is given up. Its own
/// deadlines are in the pod; this is for a cluster that does not answer any more.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
/// How long a warm pod that is being made may hold up the end.
const LAST_DEED: Duration = Duration::from_secs(10);
/// How long the first list of pods may take when jobs are adopted.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// How long all heirs of a record together may take to claim it: three of them.
const HEIRS: Duration = Duration::from_secs(10);

/// Runs jobs in pods of one namespace.
#[derive(Clone)]
pub struct KubernetesExecutor {
    shared: Arc<Shared>,
    estate: Arc<Mutex<Estate>>,
    sweep: Arc<Sweep>,
}

impl fmt::Debug for KubernetesExecutor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KubernetesExecutor")
            .field("runner", &self.shared.runner)
            .field("namespace", &self.shared.settings.namespace)
            .finish_non_exhaustive()
    }
}

impl KubernetesExecutor {
    /// Connects by the settings. Nothing is sent before the first job. A rustls provider must be
    /// installed.
    ///
    /// # Errors
    /// When the settings do not lead to an API server.
    pub async fn connect(
        settings: KubernetesSettings,
        runner: RunnerIdentity,
    ) -> Result<Self, ClientError> {
        let clients = Clients::connect(&settings.connection).await?;
        Ok(Self::with_clients(clients, settings, runner))
    }

    /// Uses these clients.
    #[must_use]
    pub fn with_clients(
        clients: Clients,
        settings: KubernetesSettings,
        runner: RunnerIdentity,
    ) -> Self {
        let connector = ExecConnector::new(clients.stream.clone());
        Self::with_connector(clients, settings, runner, Arc::new(connector))
    }

    /// Uses these clients, and this way to talk to agents: for tests that play the agent.
    #[doc(hidden)]
    pub fn with_connector(
        clients: Clients,
        settings: KubernetesSettings,
        runner: RunnerIdentity,
        connector: Arc<dyn Connect>,
    ) -> Self {
        for warning in &settings.warnings {
            warn!(runner = runner.name, "[runners.kubernetes] {warning}");
        }
        let api = clients.api.clone();
        let store = RecordStore::new(api.clone(), &settings.namespace, runner.source.clone());
        let pause = settings.autoscaler.clone().map(|autoscaler| Pause {
            pods: PausePods {
                client: api,
                settings: Arc::new(settings.clone()),
                autoscaler,
                runner: runner.clone(),
                numbers: PauseNumbers::default(),
            },
            keeper: Mutex::default(),
        });
        let warm = warm(&settings, &runner);
        let announcer =
            Announcer::new(clients.api.clone(), &runner.manager, settings.publish_all_pod_events);
        let capacity = Capacity::new(settings.max_waiting_pods, clients.health.clone());
        let shared = Shared {
            settings,
            runner,
            clients,
            store,
            connector,
            hub: OnceLock::new(),
            hubs: Hubs::default(),
            presence: OnceLock::new(),
            held: HeldJobs::default(),
            launcher: OnceCell::new(),
            pause,
            warm,
            streams: StreamCounts::default(),
            capacity,
            announcer,
        };
        Self { shared: Arc::new(shared), estate: Arc::default(), sweep: Arc::default() }
    }

    /// How many pause pods there are to be, where the settings want any.
    #[must_use]
    pub fn pause_numbers(&self) -> Option<&PauseNumbers> {
        self.shared.pause.as_ref().map(|pause| &pause.pods.numbers)
    }

    /// How many requests were made.
    #[must_use]
    pub fn requests(&self) -> &RequestCounts {
        &self.shared.clients.requests
    }

    /// For how long no jobs were taken.
    #[must_use]
    pub fn room_counts(&self) -> &RoomCounts {
        &self.shared.capacity.counts
    }

    /// What became of the streams into pods.
    #[must_use]
    pub fn streams(&self) -> &StreamCounts {
        &self.shared.streams
    }
}

fn warm(settings: &KubernetesSettings, runner: &RunnerIdentity) -> Option<Warm> {
    let max_age = settings.warm_pods.iter().map(|pods| pods.max_age).max()?;
    let with_shape = |pods: &WarmPods| (pods.clone(), first_shape(settings, runner, &pods.image));
    let pool = Pool::new(settings.warm_pods.iter().map(with_shape), settings.poll_timeout);
    Some(Warm {
        pool: Arc::new(WarmPool::new(pool, max_age)),
        keeper: Mutex::default(),
        orphans: Mutex::default(),
    })
}

fn refused(infra: Infra) -> ExecutorError {
    let message = infra.message.clone();
    ExecutorError::new(ExecutorErrorKind::Refused(Outcome::Infra(infra)), message)
}

#[async_trait]
impl Executor for KubernetesExecutor {
    async fn reserve<'a>(
        &self,
        request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError> {
        let JobRequest { job, plan, ticket, session } = request;
        let Shared { settings, runner, .. } = &*self.shared;
        // Known before the job is accepted: a cluster that does not answer is no place for it.
        self.shared.launcher().await?;
        // Before the record: a record of nobody is taken.
        let view = self.view().await?;
        let prepared = prepare(settings, runner, job, plan).await.map_err(refused)?;
        let Prepared { names, content, built, listens, shape, place, token, remarks: _ } = prepared;
        let access = self.shared.access(token.as_ref()).await?;
        let content = content.with_token(token);
        if let (Some(shape), Some(warm)) = (&shape, &self.shared.warm) {
            warm.pool.wanted(shape);
        }
        availability::wait(&access.clients.api, settings).await.map_err(refused)?;
        let patience = plan.timeout + plan.hold + settings.poll_timeout + GIVE_UP_AFTER;
        let body = RecordBody {
            version: RecordBody::VERSION,
            source: runner.source.clone(),
            job: job.id,
            ticket: ticket.clone(),
            claim: Claim { manager: runner.manager.clone(), epoch: Epoch(1) },
            phase: RecordPhase::Reserved,
            pod: names.pod.clone(),
            place,
            url: job.url.clone(),
            session: session.map(str::to_owned),
            others: Vec::new(),
            fallbacks: built.fallbacks,
            listens,
            warm: shape.map(|shape| shape.hash),
            since: None,
            promised: None,
            patience: patience.as_secs(),
            remarks: StoredRemarks::default(),
        };
        let held = self.shared.held.hold(job.id);
        let environment = &built.secret_environment;
        let mut gone = None;
        let claimed = loop {
            let is_held = |manager: &str| match &view {
                // One is this handle.
                _ if manager == runner.manager => self.shared.held.count(job.id) > 1,
                View::Seen(living) => living.contains(manager) || gone.as_deref() != Some(manager),
                View::Blind | View::Unknown => false,
            };
            let (record, pod) = (&names.record, &built.pod);
            let made = access.store.create(record, &body, &content, pod, environment, is_held);
            match made.await {
                // Who is not known to live has died, or has started since the last look.
                Err(ClaimError::Contested(who))
                    if gone.is_none()
                        && matches!(&view, View::Seen(living) if !living.contains(&who))
                        && !self.shared.presence().is_shown(&who).await =>
                {
                    gone = Some(who);
                }
                made => break made,
            }
        };
        let claimed = claimed.map_err(|error| {
            let error = error.into_executor_error("write the job down");
            self.shared.capacity.refused(&error.message);
            access.explain(error)
        })?;
        Ok(Box::new(KubernetesJob::new(Arc::clone(&self.shared), access, held, claimed, None)))
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        let shared = &self.shared;
        let mark = shared.presence().mark();
        let view = self.view().await?;
        // Before the records: a record is written before its pod.
        let owned = self.sweep.look(shared).await;
        let (names, recorded) = self
            .left_behind(&view)
            .await
            .map_err(|error| executor_error(error, "list the job records"))?;
        self.keep_room(&view).await;
        if let Some(owned) = owned {
            let living = match &view {
                View::Seen(living) => Some(living.hashes()),
                View::Blind | View::Unknown => None,
            };
            self.sweep.remove(shared, owned, &recorded, living.as_ref()).await;
        }
        let mine = self.estate.lock().divide(names, &view, &shared.runner.manager, Instant::now());
        let handles = self.claim_all(mine).await?;
        self.keep_warm(&view).await;
        self.estate.lock().mark = mark;
        Ok(handles)
    }

    async fn abandoned(&self) {
        let (mark, again) = {
            let estate = self.estate.lock();
            (estate.mark, estate.again.into_iter().chain(self.sweep.next()).min())
        };
        let postponed = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.presence().abandoned_since(mark) => {}
            () = postponed => {}
        }
    }

    async fn room(&self) {
        self.shared.capacity.room(self.shared.hub.get()).await;
    }

    async fn crowded(&self) {
        self.shared.capacity.crowded(self.shared.hub.get()).await;
    }

    async fn look_up(&self, session: &str) -> Option<(Ticket, Arc<dyn Door>)> {
        let found = match self.shared.store.of_session(session).await {
            Ok(found) => found?,
            Err(error) => {
                warn!(%error, "cannot look for the job of a session");
                return None;
            }
        };
        let place = found.body.place.as_ref();
        let access = self.shared.access(found.token().as_ref()).await.ok()?;
        let hub = self.shared.hub_at(place, &access);
        tokio::time::timeout(FIRST_LIST, hub.synced()).await.ok()?;
        let pod = hub.find(&found.body.pod)?;
        let place = Whereabouts {
            namespace: self.shared.namespace(place).to_owned(),
            pod: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            hub,
            stream: access.stream().clone(),
        };
        let door = PodDoor::into_pod(place);
        Some((found.body.ticket, Arc::new(door)))
    }

    fn elsewhere(&self) -> usize {
        self.shared.presence.get().map_or(0, Presence::jobs_of_others)
    }

    async fn retire(&self) {
        if let Some(pause) = &self.shared.pause {
            let keeper = pause.keeper.lock().take();
            if let Some(keeper) = keeper {
                keeper.abort();
                // Cancelled, as was asked for; a Deployment must not be written after it is deleted.
                drop(keeper.await);
                pause.pods.remove().await;
            }
        }
        if let Some(warm) = &self.shared.warm {
            let keeper = warm.keeper.lock().take();
            if let Some(mut keeper) = keeper {
                // Not in the middle of making a pod: nobody would know of it then.
                warm.pool.close();
                if tokio::time::timeout(LAST_DEED, &mut keeper).await.is_err() {
                    keeper.abort();
                    // Cancelled, as was asked for; no pod must be made after all are deleted.
                    drop(keeper.await);
                }
            }
            warm.pool.remove(&self.shared).await;
        }
        if let Some(presence) = self.shared.presence.get() {
            presence.retire(&self.shared.runner.manager).await;
        }
    }
}

impl KubernetesExecutor {
    async fn view(&self) -> Result<View, ExecutorError> {
        let view = tokio::time::timeout(FIRST_LIST, self.shared.presence().view()).await;
        view.map_err(|_| {
            ExecutorError::new(
                ExecutorErrorKind::Unavailable,
                "the API server did not say within 30 s which managers live; see that it can be reached from \
                 here (`host` or kubeconfig, network policies, token)",
            )
        })
    }
}
