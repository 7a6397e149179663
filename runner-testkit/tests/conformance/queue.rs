//! A queue in memory that keeps its promises as a job source, and knows ways not to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::Job;
use runner_core::outcome::Outcome;
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Offer, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};

/// How this source breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    HasANewIdEachTime,
    GivesAJobTwice,
    LosesAJobWithItsPoll,
    KeepsTicketsInMemory,
    LosesAByte,
    DoublesARepetition,
    FillsGaps,
    MixesJobs,
    ShowsUnknownAsSuccess,
    ForgetsTheVerdict,
    HidesCancels,
    DropsTheTail,
    Hangs,
}

#[derive(Default)]
pub(crate) struct Queue {
    next: u64,
    waiting: VecDeque<JobId>,
    pub(crate) jobs: BTreeMap<JobId, Held>,
}

#[derive(Default)]
pub(crate) struct Held {
    pub(crate) trace: Vec<u8>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) cancelled: bool,
}

impl Queue {
    pub(crate) fn push(&mut self) -> JobId {
        self.next += 1;
        let id = JobId(self.next);
        self.waiting.push_back(id);
        self.jobs.insert(id, Held::default());
        id
    }
}

pub(crate) struct QueueSource {
    pub(crate) queue: Arc<Mutex<Queue>>,
    pub(crate) defect: Defect,
    pub(crate) number: usize,
    pub(crate) known: Mutex<Vec<JobId>>,
}

impl QueueSource {
    fn job(&self, ticket: &Ticket) -> Result<JobId, SourceError> {
        let id = JobId(ticket.0.expose().parse().unwrap());
        if self.defect == Defect::KeepsTicketsInMemory && !self.known.lock().contains(&id) {
            return Err(SourceError::new(SourceErrorKind::Forbidden, "what job is that?"));
        }
        Ok(id)
    }

    fn reply(&self, job: &Held) -> Reply {
        let cancel = job.cancelled && self.defect != Defect::HidesCancels;
        let directive = if cancel { Directive::Cancel } else { Directive::Continue };
        Reply { directive, interval: None }
    }
}

#[async_trait]
impl JobSource for QueueSource {
    fn id(&self) -> SourceId {
        let new = self.defect == Defect::HasANewIdEachTime;
        SourceId(if new { format!("queue {}", self.number) } else { "queue".to_owned() })
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        let taken = {
            let mut queue = self.queue.lock();
            match self.defect {
                Defect::GivesAJobTwice => queue.waiting.front().copied(),
                _ => queue.waiting.pop_front(),
            }
        };
        match self.defect {
            Defect::LosesAJobWithItsPoll => {
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            }
            Defect::Hangs => std::future::pending().await,
            _ => {}
        }
        let Some(id) = taken else { return Ok(Polled::nothing()) };
        self.known.lock().push(id);
        let job = Job::new(id, "test", ["true"]);
        Ok(Polled::job(Offer { job, ticket: Ticket(id.to_string().into()) }))
    }

    async fn append(
        &self,
        ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        let id = self.job(ticket)?;
        let mut queue = self.queue.lock();
        let id = if self.defect == Defect::MixesJobs {
            *queue.jobs.keys().next_back().unwrap()
        } else {
            id
        };
        let job = queue.jobs.get_mut(&id).unwrap();
        let has = Offset(job.trace.len() as u64);
        let reply = self.reply(job);
        if from < has && self.defect != Defect::DoublesARepetition
            || from > has && self.defect != Defect::FillsGaps
        {
            return Ok(Appended::Elsewhere { has, reply });
        }
        let mut bytes = chunks.concat();
        if self.defect == Defect::LosesAByte && bytes.len() > 12 {
            bytes.remove(5);
        }
        if from > has {
            job.trace.resize(from.0 as usize, b' ');
        }
        job.trace.extend_from_slice(&bytes);
        Ok(Appended::Stored(reply))
    }

    async fn touch(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        let id = self.job(ticket)?;
        Ok(self.reply(&self.queue.lock().jobs[&id]))
    }

    async fn finish(
        &self,
        ticket: &Ticket,
        conclusion: &Conclusion,
    ) -> Result<Finished, SourceError> {
        let id = self.job(ticket)?;
        let mut queue = self.queue.lock();
        let job = queue.jobs.get_mut(&id).unwrap();
        if self.defect == Defect::DropsTheTail {
            job.trace.truncate(job.trace.len() / 2);
        }
        let unknown = conclusion.outcome == Outcome::Unknown;
        job.outcome = match self.defect {
            Defect::ShowsUnknownAsSuccess if unknown => Some(Outcome::Exited(0)),
            Defect::ForgetsTheVerdict if job.outcome.is_some() => None,
            _ => Some(conclusion.outcome.clone()),
        };
        Ok(Finished::Done)
    }
}
