//! What everybody in a supervisor shares: the recorder, the wish to stop, the release.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use runner_core::ids::{Epoch, JobId};
use runner_core::plan::{Disruption, Plan};
use runner_core::wire::{StartFrame, StopMode};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::asks::Asks;
use crate::companions::Companions;
use crate::recorder::Recorder;

/// Why the job is to stop early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Somebody cancelled it; `after_script` may still run.
    Cancel,
    /// The container was told to end, and its steps may not go on.
    Interrupt,
    /// The time for saving what the job wants kept is over, too.
    GiveUp,
    /// Somebody wants nothing more of it.
    Abort,
}

impl From<StopMode> for Wish {
    fn from(mode: StopMode) -> Self {
        match mode {
            StopMode::Cancel => Self::Cancel,
            StopMode::Abort => Self::Abort,
        }
    }
}

/// Whether, since when and on which terms the pod is told to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disrupted {
    /// When the order came.
    pub since: Option<Instant>,
    /// What to do then.
    pub terms: Disruption,
}

/// Shared by the tasks of one supervisor, all on one thread.
#[derive(Debug)]
pub struct Control {
    /// The job this pod runs.
    pub job: JobId,
    /// The one writer. Borrowed for a moment at a time, never across an await.
    pub recorder: RefCell<Recorder>,
    /// What the job asks of its manager.
    pub asks: Asks,
    /// What is known of the other containers.
    pub companions: Companions,
    /// How the pod came to run, as far as a manager has said so.
    start: RefCell<StartFrame>,
    wish: watch::Sender<Option<Wish>>,
    /// Since when the pod is told to end, and how long it has.
    disruption: watch::Sender<Disrupted>,
    epoch: watch::Sender<Epoch>,
    released: Notify,
    is_released: Cell<bool>,
}

impl Control {
    /// For this plan, with what an earlier supervisor left.
    pub fn new(plan: &Plan, recorder: Recorder) -> Rc<Self> {
        let epoch = recorder.state().epoch;
        Rc::new(Self {
            job: plan.job,
            companions: Companions::new(plan),
            recorder: RefCell::new(recorder),
            asks: Asks::default(),
            start: RefCell::default(),
            wish: watch::Sender::new(None),
            disruption: watch::Sender::new(Disrupted { since: None, terms: plan.disruption }),
            epoch: watch::Sender::new(epoch),
            released: Notify::new(),
            is_released: Cell::new(false),
        })
    }

    /// Says that the job is to stop; a stronger wish replaces a weaker one.
    pub fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|current| {
            let stronger = current.is_none_or(|current| wish > current);
            if stronger {
                *current = Some(wish);
            }
            stronger
        });
    }

    /// The container was told to end: from now on the grace counts.
    pub fn told_to_end(&self) {
        self.disruption.send_modify(|disrupted| {
            disrupted.since.get_or_insert_with(Instant::now);
        });
    }

    /// A manager knows how long the pod has. Only less than is known counts: somebody may have asked
    /// for less, and nobody can get more.
    pub fn has_grace(&self, grace: Duration) {
        self.disruption.send_if_modified(|disrupted| {
            let less = grace < disrupted.terms.grace;
            if less {
                disrupted.terms.grace = grace;
            }
            less
        });
    }

    /// A manager knows how the pod came to run. One that came later may know less, and its silence
    /// takes nothing back.
    pub fn knows_start(&self, frame: StartFrame) {
        let mut start = self.start.borrow_mut();
        start.placed_ms = start.placed_ms.or(frame.placed_ms);
        if !frame.pulls.is_empty() {
            start.pulls = frame.pulls;
        }
    }

    /// How the pod came to run.
    pub fn start(&self) -> StartFrame {
        self.start.borrow().clone()
    }

    /// When nothing can be saved any more, once the container was told to end.
    pub fn gives_up_at(&self) -> Option<Instant> {
        let Disrupted { since, terms } = *self.disruption.borrow();
        Some(since? + terms.gives_up_after())
    }

    /// What is known of the pod's end.
    pub fn disruption(&self) -> watch::Receiver<Disrupted> {
        self.disruption.subscribe()
    }

    /// For whoever has to obey.
    pub fn wishes(&self) -> watch::Receiver<Option<Wish>> {
        self.wish.subscribe()
    }

    /// Takes a manager's claim; `false` when there is a higher one.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn claim(&self, epoch: Epoch) -> std::io::Result<bool> {
        let taken = self.recorder.borrow_mut().claim(epoch)?;
        if taken {
            self.epoch.send_replace(epoch);
        }
        Ok(taken)
    }

    /// The highest claim.
    pub fn epochs(&self) -> watch::Receiver<Epoch> {
        self.epoch.subscribe()
    }

    /// The source has everything.
    pub fn release(&self) {
        self.is_released.set(true);
        self.released.notify_waiters();
    }

    /// Waits for [`release`](Self::release).
    pub async fn released(&self) {
        let released = self.released.notified();
        if !self.is_released.get() {
            released.await;
        }
    }
}
