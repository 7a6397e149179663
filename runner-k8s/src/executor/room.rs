//! Pods that are there before their jobs: the tasks that look after them, and those that dead managers
//! left.

use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{FIRST_LIST, HEIRS, KubernetesExecutor};
use crate::presence::View;

impl KubernetesExecutor {
    /// Pause pods: those of the dead go, the own ones are looked after from now on.
    pub(super) async fn keep_room(&self, view: &View) {
        let Some(pause) = &self.shared.pause else { return };
        if let View::Seen(living) = view {
            pause.pods.sweep(living).await;
        }
        let mut keeper = pause.keeper.lock();
        if keeper.is_none() {
            let keep = pause.pods.clone().keep(self.shared.held.watch());
            *keeper = Some(AbortOnDropHandle::new(tokio::spawn(keep)));
        }
    }

    /// Warm pods: those of the dead go, the own ones are looked after from now on.
    pub(super) async fn keep_warm(&self, view: &View) {
        let Some(warm) = &self.shared.warm else { return };
        let hub = self.shared.hub();
        if let View::Seen(living) = view
            && tokio::time::timeout(FIRST_LIST, hub.synced()).await.is_ok()
        {
            // A dead manager may have promised a pod to a job whose heir has not looked yet, so they
            // are left alone for some time.
            let orphans = hub.warm_pods(&living.hashes());
            let (now, left_alone) = (Instant::now(), self.shared.settings.lease + HEIRS);
            let (due, wait) = warm.orphans.lock().sort(orphans, left_alone, now);
            for pod in &due {
                crate::warm::delete(&self.shared, pod).await;
            }
            if let Some(at) = wait {
                self.estate.lock().look_again_at(at);
            }
        }
        let mut keeper = warm.keeper.lock();
        if keeper.is_none() {
            let keep = Arc::clone(&warm.pool).keep(Arc::downgrade(&self.shared));
            *keeper = Some(AbortOnDropHandle::new(tokio::spawn(keep)));
        }
    }
}
