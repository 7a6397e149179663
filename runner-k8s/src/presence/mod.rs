//! Which managers of the same source live: what this one shows, and what it sees of others.
//!
//! It decides only whose job records are left behind. That two managers never work on one job is
//! the business of the record's claim and of the agent, which serves the highest epoch: a manager
//! that was only cut off, and finds its jobs taken, loses nothing but its place.
//!
//! ```text
//!   every quarter of the lease:  show ──► list ──► Roster (pure) ──► somebody is gone? ──► abandoned
//! ```

mod estate;
mod roster;
mod sign;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use runner_core::causes::causes;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

pub(crate) use estate::{Estate, HEIR_PATIENCE};
pub(crate) use roster::Living;
use roster::Roster;
use sign::SignKind;
pub(crate) use sign::Signs;

/// How often everything is looked through although nobody seems to be missing: a record may have
/// been left by something that was not foreseen.
const SWEEP: Duration = Duration::from_secs(300);
/// Signs of the other kind are looked for once in so many turns: roles may differ while a
/// deployment is rolled out.
const OTHER_KIND: u32 = 6;

/// What is known of the managers of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Nothing yet.
    Unknown,
    /// The role allows neither to show nor to see: any other manager's record may be taken.
    Blind,
    /// These live.
    Seen(Living),
}

/// Shows that this manager lives and watches the others.
pub(crate) struct Presence {
    signs: Signs,
    view: watch::Receiver<View>,
    /// Grows when records may have been left behind.
    abandoned: watch::Receiver<u64>,
    /// Jobs of others.
    others: Arc<AtomicUsize>,
    state: Arc<Mutex<State>>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    shown: Option<SignKind>,
}

impl Presence {
    /// Starts to show and to look. `lasts`: how long others wait for the next sign of life.
    /// `held`: how many jobs this manager has.
    pub(crate) fn start(
        signs: Signs,
        me: &str,
        lasts: Duration,
        held: impl Fn() -> usize + Send + 'static,
    ) -> Self {
        // The name is a hash of an id made at the start: nothing else says whose sign is whose.
        debug!(sign = signs.name(me), "this manager's sign of life has a name");
        let others = Arc::new(AtomicUsize::new(0));
        let (view_sender, view) = watch::channel(View::Unknown);
        let (loss_sender, abandoned) = watch::channel(0);
        let state = Arc::new(Mutex::new(State::default()));
        let watcher = Watcher {
            signs: signs.clone(),
            roster: Roster::new(me),
            kind: SignKind::Lease,
            settled: false,
            other_allowed: true,
            other_seen: false,
            turn: 0,
            view: view_sender,
            abandoned: loss_sender,
            state: Arc::clone(&state),
            held: Box::new(held),
            others: Arc::clone(&others),
            unanswered: 0,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(watcher.run(lasts)));
        Self { signs, view, abandoned, others, state, task: Mutex::new(Some(task)) }
    }

    /// What is known, once something is.
    pub(crate) async fn view(&self) -> View {
        let mut view = self.view.clone();
        match view.wait_for(|view| *view != View::Unknown).await {
            Ok(view) => view.clone(),
            // The task has ended: this manager retires.
            Err(_) => View::Blind,
        }
    }

    /// Whether this manager shows a sign now: it may have started after the last look. Whoever cannot
    /// find out takes it for living.
    pub(crate) async fn is_shown(&self, manager: &str) -> bool {
        for kind in [SignKind::ConfigMap, SignKind::Lease] {
            let shown = match self.signs.list(kind).await {
                Ok(signs) => signs.iter().any(|sign| sign.manager == manager),
                Err(error) => !refused(&error),
            };
            if shown {
                return true;
            }
        }
        false
    }

    /// How many jobs the other managers have, as far as they have said.
    pub(crate) fn jobs_of_others(&self) -> usize {
        self.others.load(Ordering::Relaxed)
    }

    /// A mark for [`Presence::abandoned_since`].
    pub(crate) fn mark(&self) -> u64 {
        *self.abandoned.borrow()
    }

    /// Waits until records may have been left behind since the mark. Cancel safe.
    pub(crate) async fn abandoned_since(&self, mark: u64) {
        let mut abandoned = self.abandoned.clone();
        if abandoned.wait_for(|now| *now > mark).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes the own sign away, or what may become one: whatever this manager still holds is for others.
    pub(crate) async fn retire(&self, me: &str) {
        // Aborted and waited for, so that it does not show the sign again.
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // Cancelled, which is what was asked for.
            drop(task.await);
        }
        let shown = self.state.lock().shown.take();
        if let Some(kind) = shown
            && let Err(error) = self.signs.remove(kind, me).await
        {
            info!(
                error = causes(&error),
                "could not take back the sign of life; others wait until it is too old"
            );
        }
    }
}

struct Watcher {
    signs: Signs,
    roster: Roster,
    kind: SignKind,
    /// Whether it is known which kind the role allows.
    settled: bool,
    other_allowed: bool,
    other_seen: bool,
    turn: u32,
    view: watch::Sender<View>,
    abandoned: watch::Sender<u64>,
    state: Arc<Mutex<State>>,
    held: Box<dyn Fn() -> usize + Send>,
    others: Arc<AtomicUsize>,
    /// Looks in a row that got no answer.
    unanswered: u32,
}

/// From the second look without an answer on it is said: one is lost with every restart of an API server.
const SAID_FROM: u32 = 2;

/// The role does not allow it.
fn refused(error: &kube::Error) -> bool {
    // 404: an API server that has no leases.
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404 | 405))
}

impl Watcher {
    async fn run(mut self, lasts: Duration) {
        // Three signs may be lost before others give this manager up.
        let mut turns = interval(lasts / 4);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            turns.tick().await;
            self.show().await;
            self.look().await;
            if swept.elapsed() > SWEEP {
                swept = Instant::now();
                self.abandoned.send_modify(|count| *count += 1);
            }
        }
    }

    async fn show(&mut self) {
        // Before the answer: a manager that retires meanwhile has to take back what it asked for.
        self.state.lock().shown = Some(self.kind);
        match self.signs.show(self.kind, (self.held)()).await {
            Ok(()) => self.settled = true,
            Err(error) if refused(&error) && !self.settled => {
                if self.kind == SignKind::Lease {
                    debug!(%error, "no leases for this role; a ConfigMap shows that the manager lives");
                    self.kind = SignKind::ConfigMap;
                    return Box::pin(self.show()).await;
                }
                self.settled = true;
                warn!(
                    %error,
                    "this manager cannot show that it lives, and others of the same runner would take \
                     its jobs: allow create, update, list and delete of leases (or configmaps) in the \
                     jobs' namespace, or run one manager only"
                );
            }
            Err(error) => debug!(%error, "could not show that this manager lives"),
        }
    }

    /// Whoever looks for the reason why nothing happens finds it here: jobs that run go on, all else waits.
    fn is_away(&mut self, error: &kube::Error) {
        self.unanswered = self.unanswered.saturating_add(1);
        match self.unanswered {
            SAID_FROM => warn!(
                error = causes(error),
                "the cluster's API server does not answer: no job is started and no log is passed on until \
                 it does; jobs that run go on in their pods"
            ),
            _ => debug!(error = causes(error), "could not see which managers live"),
        }
    }

    fn is_back(&mut self) {
        if std::mem::take(&mut self.unanswered) >= SAID_FROM {
            info!("the cluster's API server answers again");
        }
    }

    async fn look(&mut self) {
        let mut signs = match self.signs.list(self.kind).await {
            Ok(signs) => signs,
            Err(error) if refused(&error) => {
                self.view
                    .send_if_modified(|view| std::mem::replace(view, View::Blind) != View::Blind);
                return;
            }
            // What was seen stays true: a silent API server kills nobody.
            Err(error) => return self.is_away(&error),
        };
        self.is_back();
        let due = self.turn.is_multiple_of(OTHER_KIND);
        self.turn = self.turn.wrapping_add(1);
        if self.other_allowed && (self.other_seen || due) {
            match self.signs.list(self.kind.other()).await {
                Ok(more) => {
                    self.other_seen = !more.is_empty();
                    signs.extend(more);
                }
                Err(error) if refused(&error) => self.other_allowed = false,
                Err(error) => return debug!(%error, "could not see which managers live"),
            }
        }
        let now = Instant::now();
        self.roster.observe(signs, now);
        let living = self.roster.living(now);
        self.others.store(self.roster.jobs_of_others(now), Ordering::Relaxed);
        let before = self.view.send_replace(View::Seen(living.clone()));
        if matches!(&before, View::Seen(before) if living.lacks_any_of(before)) {
            self.abandoned.send_modify(|count| *count += 1);
        }
        for silent in self.roster.silent(now) {
            // So that nobody waits for it again. It comes back with its next sign if it lives.
            for kind in [self.kind, self.kind.other()] {
                drop(self.signs.remove(kind, &silent).await);
            }
        }
    }
}
