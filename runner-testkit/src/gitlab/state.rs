//! All jobs and the queue, behind one lock that is never held across an await.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use super::job::{Job, JobState};
use super::payload::{Dependency, Handout, payload};
use super::spec::JobSpec;

#[derive(Debug)]
pub(super) struct State {
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) runner_tokens: BTreeSet<String>,
    pub(super) registered: u64,
    queue: VecDeque<u64>,
    next_job: u64,
    projects: BTreeMap<String, u64>,
    pub(super) next_pipeline: u64,
}

/// What a runner said it can do that changes what GitLab does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    pub(super) two_phase: bool,
    pub(super) graceful: bool,
}

impl State {
    pub(super) fn new(runner_token: String) -> Self {
        Self {
            jobs: BTreeMap::new(),
            runner_tokens: BTreeSet::from([runner_token]),
            registered: 0,
            queue: VecDeque::new(),
            next_job: 1000,
            projects: BTreeMap::new(),
            next_pipeline: 500,
        }
    }

    /// Adds a job. Returns its id, and whether the queue has grown.
    pub(super) fn add(&mut self, spec: JobSpec, now: Instant) -> (u64, bool) {
        self.next_job += 1;
        let id = self.next_job;
        let path = spec.repo.as_ref().map_or(super::payload::DEFAULT_PROJECT, |repo| repo.path());
        let next = 1 + self.projects.len() as u64;
        let project = *self.projects.entry(path.to_owned()).or_insert(next);
        self.jobs.insert(id, Job::new(id, spec, project, now));
        (id, self.settle(now))
    }

    /// Moves jobs whose needs are decided. Returns whether the queue has grown.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        let mut grown = false;
        loop {
            let next =
                self.jobs.values().filter(|job| job.state == JobState::Created).find_map(|job| {
                    let needs =
                        job.spec.needs.iter().map(|id| self.jobs.get(id).map(|job| job.state));
                    let states: Vec<_> = needs.collect();
                    if states.iter().all(|state| *state == Some(JobState::Success)) {
                        Some((job.id, JobState::Pending))
                    } else if states
                        .iter()
                        .any(|state| state.is_none_or(JobState::is_final_failure))
                    {
                        Some((job.id, JobState::Skipped))
                    } else {
                        None
                    }
                });
            // Ends because each round takes one job out of `Created`.
            let Some((id, state)) = next else { return grown };
            if let Some(job) = self.jobs.get_mut(&id) {
                job.state = state;
                if state == JobState::Pending {
                    job.queued_at = now;
                    self.queue.push_back(id);
                    grown = true;
                } else {
                    job.finished_at = Some(now);
                }
                job.changed.send_replace(());
            }
        }
    }

    /// Hands out the next job: its id, hand-out number and payload.
    pub(super) fn hand_out(
        &mut self,
        can: Abilities,
        until: Instant,
        now: Instant,
        url: &str,
    ) -> Option<(u64, Vec<u8>)> {
        let id = loop {
            let id = self.queue.pop_front()?;
            // Cancelled ones stay in the queue until someone would take them.
            if self.jobs.get(&id).is_some_and(|job| job.state == JobState::Pending) {
                break id;
            }
        };
        self.jobs.get_mut(&id)?.hand_out(can.two_phase, can.graceful, until, now);
        let job = self.jobs.get(&id)?;
        job.changed.send_replace(());
        let dependencies = job.spec.needs.iter().filter_map(|need| self.jobs.get(need));
        let handout = Handout {
            id,
            token: &job.token,
            url,
            project_id: job.project,
            queued_seconds: now.duration_since(job.queued_at).as_secs_f64(),
            queue_size: self.queue.len(),
            dependencies: dependencies
                .map(|need| {
                    let archive = need.archive().map(|it| (it.filename.clone(), it.data.len()));
                    Dependency { id: need.id, name: need.spec.name.clone(), archive }
                })
                .collect(),
        };
        Some((id, payload(&job.spec, &handout)))
    }

    /// Puts a job whose acknowledgement did not come back at the head of the queue.
    pub(super) fn take_back(&mut self, id: u64, now: Instant) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        if !job.take_back(now) {
            return false;
        }
        self.queue.push_front(id);
        job.changed.send_replace(());
        true
    }

    /// The executing job that has this token.
    pub(super) fn by_token(&self, token: &str) -> Option<&Job> {
        self.jobs.values().find(|job| {
            job.token == token
                && (matches!(job.state, JobState::Running | JobState::Canceling)
                    || job.waiting.is_some())
        })
    }
}

impl JobState {
    fn is_final_failure(self) -> bool {
        self.is_final() && self != Self::Success
    }
}
