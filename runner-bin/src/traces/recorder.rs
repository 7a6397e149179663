//! Makes spans of what the manager says about its jobs.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;
use runner_core::ids::{JobId, SourceId};
use runner_core::manager::{JobLabel, JobUpdate, Observer};

use super::exporter::{Exporter, Outbox};
use super::spans::JobSpans;

/// Observes jobs. Bounded by the running ones.
#[derive(Debug)]
pub(crate) struct Recorder {
    jobs: Mutex<HashMap<(SourceId, JobId), JobSpans>>,
    outbox: Outbox,
}

impl Recorder {
    pub(crate) fn new(exporter: &Exporter) -> Self {
        Self { jobs: Mutex::default(), outbox: exporter.outbox() }
    }
}

impl Observer for Recorder {
    fn update(&self, job: &JobLabel, update: &JobUpdate) {
        let now = Timestamp::now();
        let key = (job.source.clone(), job.id);
        let mut jobs = self.jobs.lock();
        if matches!(update, JobUpdate::Received | JobUpdate::Adopted { .. }) {
            jobs.insert(key.clone(), JobSpans::new(job, now));
        }
        let Some(spans) = jobs.get_mut(&key) else { return };
        spans.update(update, now);
        if *update == JobUpdate::Released
            && let Some(spans) = jobs.remove(&key)
        {
            drop(jobs);
            self.outbox.put(spans.finish(now));
        }
    }
}
