//! How a manager stops.

use tokio::sync::watch;

/// How far a manager has been told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// Not at all.
    #[default]
    Run,
    /// Take no new jobs; finish the running ones.
    Drain,
    /// Take no new jobs; stop the running ones and report them as interrupted.
    Stop,
    /// Take no new jobs; leave the running ones to the next manager.
    Leave,
}

/// Tells a [`Manager`](super::Manager) to stop. Dropping it tells nothing.
#[derive(Clone, Debug)]
pub struct StopHandle(watch::Sender<StopLevel>);

impl StopHandle {
    /// Stops as far as this; a level that was reached already stays.
    pub fn stop(&self, level: StopLevel) {
        self.0.send_if_modified(|current| {
            let further = level > *current;
            if further {
                *current = level;
            }
            further
        });
    }
}

/// The tasks' end of a [`StopHandle`].
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<StopLevel>);

pub(crate) fn channel() -> (StopHandle, Shutdown) {
    let (sender, receiver) = watch::channel(StopLevel::Run);
    (StopHandle(sender), Shutdown(receiver))
}

impl Shutdown {
    /// How far it has been told.
    pub(crate) fn level(&self) -> StopLevel {
        *self.0.borrow()
    }

    async fn reached(&mut self, level: StopLevel) {
        if self.0.wait_for(|current| *current >= level).await.is_err() {
            // Nobody is left who could say so.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until no new job is to be taken. Cancel safe.
    pub(crate) async fn drain(&mut self) {
        self.reached(StopLevel::Drain).await;
    }

    /// Waits until running jobs are to be stopped, or left. Cancel safe.
    pub(crate) async fn stop(&mut self) {
        self.reached(StopLevel::Stop).await;
    }

    /// Waits until running jobs are to be left. Cancel safe.
    pub(crate) async fn leave(&mut self) {
        self.reached(StopLevel::Leave).await;
    }
}
