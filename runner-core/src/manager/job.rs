//! One job from the source's hands back into them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::backoff::Backoff;
use super::follow::{Followed, Follower, interrupted};
use super::never_started::NeverStarted;
use super::numbers::{Number, Numbers};
use super::observer::{JobFacts, JobLabel, JobUpdate, Observer, Release};
use super::runner::Runner;
use super::secrets::{self, NoStore, Unresolved};
use super::shares::{Shares, StartTurn};
use super::shutdown::{Shutdown, StopLevel};
use super::visit::Visit;
use crate::causes::causes;
use crate::executor::{ExecutorError, ExecutorErrorKind, JobHandle, JobPhase, JobRequest};
use crate::job::{Image, Job};
use crate::outcome::{Infra, InfraKind, Outcome};
use crate::plan::{HeaderLine, Plan};
use crate::planner::{self, PlanError, PlanLookup, PlanSettings, Transfers};
use crate::session::{SessionKey, Visitors};
use crate::source::{Directive, Offer, QueueFacts, Reply, SourceError, Ticket};

/// How long an executor that does not answer is asked to take a job before the job is failed.
const START_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a job's secrets may take before the source is told that the job runs: it gives a job that
/// nobody acknowledged for a minute to somebody else. Before that, a manager that dies loses nothing.
const ACCEPT_WITHIN: Duration = Duration::from_secs(40);
/// How long it is tried to remove what is left of a job. After that the next manager does it.
const DISPOSE_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What a job's task needs besides the job.
pub(super) struct JobTask {
    pub(super) runner: Arc<Runner>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) shutdown: Shutdown,
    pub(super) shares: Shares,
    /// Taken when the job is planned, spent when it is written down.
    pub(super) turn: Option<StartTurn>,
    /// Numbers of the runner's jobs (group 0) and of its projects' (group: project + 1).
    pub(super) numbers: Numbers,
    /// When the job's time is over; `None`: not known, it was adopted.
    pub(super) deadline: Option<Instant>,
}

impl JobTask {
    /// Takes a job that was just handed out to its end.
    ///
    /// Its parts are boxed: the state of one that is over would be a part of the task for as long as the job runs.
    pub(super) async fn run_offer(mut self, offer: Offer, queue: QueueFacts) {
        let (began, received) = (Instant::now(), jiff::Timestamp::now());
        let Offer { mut job, ticket } = offer;
        let facts = JobFacts { url: job.url.clone(), project: job.project.path.clone(), queue };
        let label = JobLabel {
            runner: self.runner.name.clone(),
            source: self.runner.source.id(),
            id: job.id,
            name: Some(job.name.clone()),
            facts: Some(Arc::new(facts)),
        };
        info!(name = job.name, project = job.project.path, url = job.url, "job received");
        let _release = Release { observer: Arc::clone(&self.observer), label: &label };
        self.observer.update(&label, &JobUpdate::Received);
        self.deadline = began.checked_add(job.timeout);

        // Held until the job is over: a directory or name made of them is this job's alone.
        let slot = self.numbers.take(0);
        let project_slot = self.numbers.take(job.project.id.saturating_add(1));
        let planned = Box::pin(self.plan(&mut job, &ticket, &slot, &project_slot, received)).await;
        let reserved = match planned {
            Ok(plan) => {
                let key = self.session(&ticket);
                let session = key.as_ref().map(|key| key.id.as_str());
                let request = JobRequest { job: &job, plan: &plan, ticket: &ticket, session };
                Box::pin(self.reserve(request)).await
            }
            Err(why) => Err(why),
        };
        // What could not be planned has not spent it.
        self.turn = None;
        let mut handle = match reserved {
            Ok(handle) => handle,
            Err(NotStarted::Refused(outcome)) => {
                // A source listens to nobody about a job that nobody has accepted.
                match self.accept(&ticket).await {
                    Ok(None) => return,
                    Ok(Some(reply)) if reply.directive == Directive::Abort => {
                        info!("the source took the job back");
                        return;
                    }
                    Ok(Some(_)) => {}
                    Err(error) => warn!(%error, "could not accept a job that has to be failed"),
                }
                let never = NeverStarted::new(job.id, ticket, outcome);
                Box::pin(self.refuse(&label, never)).await;
                return;
            }
            Err(NotStarted::Superseded | NotStarted::Leaving) => {
                info!("another manager has the job, or this one stops");
                return;
            }
        };
        match self.accept(&ticket).await {
            Ok(None) => return,
            Ok(Some(reply)) => match reply.directive {
                Directive::Continue => {}
                Directive::Abort => {
                    info!("the source took the job back");
                    Box::pin(self.dispose(&label, &mut *handle, began)).await;
                    return;
                }
                Directive::Cancel => {
                    let refused =
                        self.refuse_reserved(&label, &mut *handle, Outcome::Cancelled, began);
                    Box::pin(refused).await;
                    return;
                }
            },
            // GitLab Runner runs the job all the same. But a source that has not heard of it gives it
            // to somebody else after a minute, and then it runs twice: without a yes nothing starts.
            Err(error) => {
                let url = label.facts.as_ref().and_then(|facts| facts.url.clone());
                error!(%error, url, "the source did not say for long that the job may run; it is left to it");
                Box::pin(self.dispose(&label, &mut *handle, began)).await;
                return;
            }
        }
        drop(job);
        Box::pin(self.start_and_follow(&label, &mut *handle, began)).await;
    }

    /// Tells the source that the job runs. An answer that does not come is asked for again: a source
    /// that never hears of it gives the job to somebody else, and it would run twice. `None`: this
    /// manager leaves, and the next one asks.
    ///
    /// # Errors
    /// When the source has not said yes or no for as long as a verdict would be offered to it. What
    /// looks like a refusal may be a proxy's; a source that does not want the job says so.
    async fn accept(&mut self, ticket: &Ticket) -> Result<Option<Reply>, SourceError> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let give_up = Instant::now() + self.runner.relay.give_up;
        loop {
            let error = match self.runner.source.accept(ticket).await {
                Ok(reply) => return Ok(Some(reply)),
                Err(error) => error,
            };
            let wait = backoff.wait(error.retry_after);
            if Instant::now() + wait > give_up {
                return Err(error);
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shutdown.leave() => return Ok(None),
            }
        }
    }

    /// Takes a job that another manager left behind to its end.
    pub(super) async fn run_adopted(mut self, mut handle: Box<dyn JobHandle>) {
        let began = Instant::now();
        let label = JobLabel {
            runner: self.runner.name.clone(),
            source: self.runner.source.id(),
            id: handle.id(),
            name: None,
            facts: None,
        };
        let place = handle.place();
        info!(place, phase = ?handle.phase(), url = handle.url(), "job adopted");
        let _release = Release { observer: Arc::clone(&self.observer), label: &label };
        self.observer.update(&label, &JobUpdate::Adopted { place });

        // Another manager has decided that it never runs, and may have said a part of that already.
        let decided = handle.remarks().outcome.filter(|_| handle.phase() == JobPhase::Reserved);
        if let Some(outcome) = decided {
            Box::pin(self.refuse_reserved(&label, &mut *handle, outcome, began)).await;
            return;
        }
        match self.still_wanted(handle.phase(), handle.ticket()).await {
            None => {
                self.observer.update(&label, &JobUpdate::LeftBehind);
                return;
            }
            Some(Directive::Continue) => {}
            // Its source listens now, and has to hear of its end.
            Some(Directive::Cancel) => {
                let refused = self.refuse_reserved(&label, &mut *handle, Outcome::Cancelled, began);
                Box::pin(refused).await;
                return;
            }
            Some(Directive::Abort) => {
                info!("the source no longer wants this job");
                Box::pin(self.dispose(&label, &mut *handle, began)).await;
                return;
            }
        }
        Box::pin(self.start_and_follow(&label, &mut *handle, began)).await;
    }

    /// Asks the source whether an adopted job is still this runner's. A source that does not answer
    /// is asked again by the relay; but a job that was never started needs a clear yes. `None`: this
    /// manager leaves, and the next one asks.
    async fn still_wanted(&mut self, phase: JobPhase, ticket: Ticket) -> Option<Directive> {
        if phase == JobPhase::Started {
            return Some(match self.runner.source.touch(&ticket).await {
                Ok(Reply { directive: Directive::Abort, .. }) => Directive::Abort,
                // A cancel is heard again, and obeyed, by whoever follows the job.
                Ok(_) => Directive::Continue,
                Err(error) => {
                    warn!(
                        error = causes(&error),
                        "could not ask the source about the job; following it"
                    );
                    Directive::Continue
                }
            });
        }
        let mut backoff = Backoff::new(Duration::from_secs(1), self.runner.relay.longest_pause);
        let give_up = Instant::now() + self.runner.relay.give_up;
        loop {
            let wait = match self.runner.source.accept(&ticket).await {
                Ok(reply) => return Some(reply.directive),
                Err(error) if Instant::now() > give_up => {
                    warn!(
                        error = causes(&error),
                        "the source did not say whether it still wants the job"
                    );
                    return Some(Directive::Abort);
                }
                Err(error) => backoff.wait(error.retry_after),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shutdown.leave() => return None,
            }
        }
    }

    fn session(&self, ticket: &Ticket) -> Option<SessionKey> {
        self.runner.sessions.as_ref()?;
        self.runner.source.session(ticket)
    }

    /// Lets people in, if somebody serves them, until the result is dropped.
    fn receive(&self, handle: &dyn JobHandle) -> Option<(Visit, Box<dyn Send + Sync>)> {
        let sessions = self.runner.sessions.as_ref()?;
        let key = self.runner.source.session(&handle.ticket())?;
        let visit = Visit {
            visitors: Visitors::new(),
            patience: sessions.patience(),
            deadline: self.deadline,
        };
        let open = sessions.open(handle.id(), key, handle.door()?, visit.visitors.clone());
        Some((visit, open))
    }

    async fn start_and_follow(
        &mut self,
        label: &JobLabel,
        handle: &mut dyn JobHandle,
        began: Instant,
    ) {
        self.observer.update(label, &JobUpdate::Starting { place: handle.place() });
        match self.start(handle).await {
            Ok(()) => {}
            Err(NotStarted::Refused(outcome)) => {
                Box::pin(self.refuse_reserved(label, handle, outcome, began)).await;
                return;
            }
            Err(NotStarted::Superseded) => {
                info!("another manager has the job");
                return;
            }
            Err(NotStarted::Leaving) => {
                self.observer.update(label, &JobUpdate::LeftBehind);
                return;
            }
        }
        let (visit, _open) = self.receive(handle).unzip();
        let mut follower = Follower::new(
            handle,
            Arc::clone(&self.runner.source),
            &*self.observer,
            label,
            &self.runner.relay,
        )
        .with_cache(self.runner.cache.clone())
        .sharing(self.shares.pieces());
        if let Some(visit) = visit {
            follower.visited(visit);
        }
        let followed = follower.run(&mut self.shutdown).await;
        match followed {
            Followed::Concluded { outcome, delivered: true } => {
                debug!(?outcome, seconds = began.elapsed().as_secs(), "job finished");
            }
            Followed::Concluded { outcome, delivered: false } => {
                // Whoever looks for it finds at least this.
                let url = label.facts.as_ref().and_then(|facts| facts.url.clone());
                let url = url.or_else(|| handle.url());
                error!(
                    ?outcome,
                    place = handle.place(),
                    url,
                    "the source did not take the verdict; giving up"
                );
            }
            Followed::Aborted => info!("job aborted by the source"),
            Followed::Superseded => {
                info!("another manager has the job");
                return;
            }
            Followed::LeftBehind => {
                info!(place = handle.place(), "job left to the next manager");
                self.observer.update(label, &JobUpdate::LeftBehind);
                return;
            }
        }
        Box::pin(self.dispose(label, handle, began)).await;
    }

    /// Fetches the values of the job's secrets and puts them among its variables. The result is
    /// what the log says about it.
    async fn fetch_secrets(
        &self,
        job: &mut Job,
        ticket: &Ticket,
    ) -> Result<Vec<HeaderLine>, NotStarted> {
        if job.secrets.is_empty() || job.refusal.is_some() {
            return Ok(Vec::new());
        }
        let (variables, settings) =
            planner::before_secrets(job, &self.runner.plan).map_err(unplannable)?;
        let store = self.runner.secrets.as_deref().unwrap_or(&NoStore);
        let mut shutdown = self.shutdown.clone();
        let mut accepted = false;
        let result = {
            let resolving = secrets::resolve(store, job, &variables, settings, &mut shutdown);
            tokio::pin!(resolving);
            loop {
                tokio::select! {
                    result = &mut resolving => break result,
                    () = sleep(ACCEPT_WITHIN), if !accepted => {
                        accepted = true;
                        // It is said again when the job is written down, and the answer counts then.
                        if let Err(error) = self.runner.source.accept(ticket).await {
                            warn!(%error, "could not accept a job whose secrets take their time");
                        }
                    }
                }
            }
        };
        match result {
            Ok(resolved) => {
                job.variables.extend(resolved.variables);
                Ok(resolved.lines)
            }
            Err(Unresolved::Failed(outcome)) => Err(NotStarted::Refused(outcome)),
            // Who was told that the job runs has to be told that it does not.
            Err(Unresolved::Stopped) if accepted => Err(NotStarted::Refused(interrupted())),
            Err(Unresolved::Stopped) => Err(NotStarted::Leaving),
        }
    }

    async fn plan(
        &mut self,
        job: &mut Job,
        ticket: &Ticket,
        slot: &Number,
        project_slot: &Number,
        received: jiff::Timestamp,
    ) -> Result<Plan, NotStarted> {
        planner::interpolate(job, &self.runner.plan).map_err(unplannable)?;
        let preface = Box::pin(self.fetch_secrets(job, ticket)).await?;
        let job = &*job;
        let unreachable = |error: SourceError| {
            warn!(error = causes(&error), "no place for the job's archives");
            NotStarted::Refused(Outcome::Infra(Infra::new(
                InfraKind::System,
                "the artifact store could not be asked where to put or find archives",
            )))
        };
        let mut transfers = Transfers {
            preface,
            cache: self.runner.cache.as_ref().map(|store| store.scope(job)),
            ..Transfers::default()
        };
        if let Some(store) = &self.runner.artifacts {
            for dependency in job.dependencies.iter().filter(|job| !job.filename.is_empty()) {
                let from = store.download(job, ticket, dependency).await.map_err(unreachable)?;
                transfers.downloads.push(from);
            }
            for artifact in &job.artifacts {
                let to = store.upload(job, ticket, artifact).await.map_err(unreachable)?;
                transfers.uploads.push(to);
            }
        }
        // From here on the job takes much more memory than its payload.
        self.turn = Some(self.start_turn().await?);
        let settings = PlanSettings {
            slot: slot.value(),
            project_slot: project_slot.value(),
            received_ms: u64::try_from(received.as_millisecond()).ok(),
            ..self.runner.plan.clone()
        };
        let plan = planner::plan(job, &settings, transfers).map_err(unplannable)?;
        log_images(job, &plan);
        Ok(plan)
    }

    /// Waits for this job's turn to start, unless this manager stops first.
    async fn start_turn(&mut self) -> Result<StartTurn, NotStarted> {
        tokio::select! {
            turn = self.shares.start_turn() => Ok(turn),
            () = self.shutdown.stop() => Err(NotStarted::Leaving),
        }
    }

    async fn reserve(&mut self, request: JobRequest<'_>) -> Result<Box<dyn JobHandle>, NotStarted> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            let JobRequest { job, plan, ticket, session } = request;
            let again = JobRequest { job, plan, ticket, session };
            let turn = match self.turn.take() {
                Some(turn) => turn,
                None => self.start_turn().await?,
            };
            let error = match turn.spend(self.runner.executor.reserve(again)).await {
                Ok(handle) => return Ok(handle),
                Err(error) => error,
            };
            match error.kind {
                ExecutorErrorKind::Refused(outcome) => {
                    warn!(message = error.message, "the executor refuses the job");
                    return Err(NotStarted::Refused(outcome));
                }
                ExecutorErrorKind::Superseded => return Err(NotStarted::Superseded),
                ExecutorErrorKind::Unavailable => {}
            }
            let wait = backoff.wait(error.retry_after);
            if Instant::now() + wait > give_up {
                warn!(error = causes(&error), "the executor could not take the job");
                return Err(NotStarted::Refused(unavailable(&error)));
            }
            tokio::select! {
                () = sleep(wait) => {}
                // Nothing is written down and nothing accepted: the source takes the job back.
                () = self.shutdown.stop() => return Err(NotStarted::Leaving),
            }
        }
    }

    async fn start(&mut self, handle: &mut dyn JobHandle) -> Result<(), NotStarted> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            // A stop is looked at below: this job is accepted, so somebody has to hear of its end.
            let turn = self.shares.start_turn().await;
            let error = match turn.spend(handle.start()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.kind {
                ExecutorErrorKind::Refused(outcome) => {
                    warn!(message = error.message, "the executor refuses to start the job");
                    return Err(NotStarted::Refused(outcome));
                }
                ExecutorErrorKind::Superseded => return Err(NotStarted::Superseded),
                ExecutorErrorKind::Unavailable => {}
            }
            let wait = backoff.wait(error.retry_after);
            if Instant::now() + wait > give_up {
                warn!(error = causes(&error), "the executor could not start the job");
                return Err(NotStarted::Refused(unavailable(&error)));
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shutdown.stop() => {
                    return Err(match self.shutdown.level() {
                        StopLevel::Leave => NotStarted::Leaving,
                        _ => NotStarted::Refused(interrupted()),
                    });
                }
            }
        }
    }

    /// Reports a job that is written down and never ran, and removes it. What the source has not heard
    /// when this manager leaves stays written down, with the decision: the next one says it.
    async fn refuse_reserved(
        &mut self,
        label: &JobLabel,
        handle: &mut dyn JobHandle,
        outcome: Outcome,
        began: Instant,
    ) {
        match self.refuse(label, NeverStarted::reserved(handle, outcome)).await {
            Followed::LeftBehind => self.observer.update(label, &JobUpdate::LeftBehind),
            _ => self.dispose(label, handle, began).await,
        }
    }

    /// Reports a job that never ran.
    async fn refuse(&mut self, label: &JobLabel, mut handle: NeverStarted<'_>) -> Followed {
        let source = Arc::clone(&self.runner.source);
        let followed =
            Follower::new(&mut handle, source, &*self.observer, label, &self.runner.relay)
                .run(&mut self.shutdown)
                .await;
        if followed == Followed::LeftBehind {
            warn!("stopped before the source could be told that the job cannot run");
        }
        followed
    }

    async fn dispose(&mut self, label: &JobLabel, handle: &mut dyn JobHandle, began: Instant) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let give_up = Instant::now() + DISPOSE_PATIENCE;
        while let Err(error) = handle.dispose().await {
            if error.kind == ExecutorErrorKind::Superseded {
                return;
            }
            let wait = backoff.wait(error.retry_after);
            if Instant::now() + wait > give_up {
                warn!(
                    error = causes(&error),
                    place = handle.place(),
                    "could not remove what is left of the job; the next manager will"
                );
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shutdown.leave() => return,
            }
        }
        self.observer.update(label, &JobUpdate::Disposed { after: began.elapsed() });
    }
}

/// Names of images in the operator's log, where the runner or the job wants that.
fn log_images(job: &Job, plan: &Plan) {
    let lookup = PlanLookup::new(plan);
    if lookup.setting("FF_LOG_IMAGES_CONFIGURED_FOR_JOB") != Some("true") {
        return;
    }
    let name = |image: &Image| lookup.expand(&image.name).unwrap_or_default();
    let image = job.image.as_ref().map(name).unwrap_or_default();
    let services: Vec<_> = job.services.iter().map(name).collect();
    info!(image, services = services.join(" "), "images configured for the job");
}

/// Why a job did not start.
enum NotStarted {
    Refused(Outcome),
    Superseded,
    Leaving,
}

fn unplannable(error: PlanError) -> NotStarted {
    NotStarted::Refused(Outcome::Infra(error.infra()))
}

fn unavailable(error: &ExecutorError) -> Outcome {
    Outcome::Infra(Infra::new(
        InfraKind::System,
        format!("the job could not be started within 5 minutes: {}", error.message),
    ))
}
