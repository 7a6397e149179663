//! A build system of somebody else's that runs one command after the other: its queue is a list in
//! memory, its logs are strings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::Job;
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Offer, Polled, Reply, SourceError,
    Ticket,
};
use tokio::sync::Notify;

/// A build.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// What runs.
    pub command: String,
    /// What it said.
    pub log: Vec<u8>,
    /// Whether it worked; `None`: it has not ended.
    pub worked: Option<bool>,
    /// Somebody no longer wants it.
    pub unwanted: bool,
}

/// The list of builds.
#[derive(Clone, Debug, Default)]
pub struct Builds(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    list: Mutex<List>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct List {
    waiting: VecDeque<u64>,
    all: BTreeMap<u64, Build>,
}

impl Builds {
    fn with<T>(&self, look: impl FnOnce(&mut List) -> T) -> T {
        look(&mut self.0.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a build at the end; its number.
    pub fn add(&self, command: &str) -> u64 {
        self.with(|list| {
            let id = list.all.len() as u64 + 1;
            list.all.insert(id, Build { command: command.to_owned(), ..Build::default() });
            list.waiting.push_back(id);
            id
        })
    }

    /// A build as it is now.
    pub fn get(&self, id: u64) -> Option<Build> {
        self.with(|list| list.all.get(&id).cloned())
    }

    /// Waits until there is a verdict for every build.
    pub async fn all_done(&self) {
        loop {
            // Asked for before the look, so that no end in between is missed.
            let ended = self.0.ended.notified();
            if self.with(|list| list.all.values().all(|build| build.worked.is_some())) {
                return;
            }
            ended.await;
        }
    }

    /// No longer wanted.
    pub fn forget(&self, id: u64) {
        self.with(|list| {
            list.all.entry(id).and_modify(|build| build.unwanted = true);
        });
    }

    /// Looks at the build of a ticket, with what its manager is to know.
    fn of<T>(&self, ticket: &Ticket, look: impl FnOnce(&mut Build) -> T) -> (T, Reply) {
        let id = ticket.0.expose().parse().unwrap_or_default();
        self.with(|list| {
            let build = list.all.entry(id).or_default();
            let result = look(build);
            let directive =
                if build.unwanted { Directive::Cancel } else { Directive::Continue };
            (result, Reply { directive, interval: None })
        })
    }
}

#[async_trait]
impl JobSource for Builds {
    fn id(&self) -> SourceId {
        SourceId("builds".to_owned())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        let next = self.with(|list| {
            let id = list.waiting.pop_front()?;
            Some((id, list.all.get(&id)?.command.clone()))
        });
        Ok(next.map_or_else(Polled::nothing, |(id, command)| {
            let job = Job::new(JobId(id), "build", [command]);
            Polled::job(Offer { job, ticket: Ticket(id.to_string().into()) })
        }))
    }

    async fn append(
        &self,
        ticket: &Ticket,
        Offset(from): Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        let (stored, reply) = self.of(ticket, |build| {
            if from != build.log.len() as u64 {
                return Err(Offset(build.log.len() as u64));
            }
            chunks.iter().for_each(|chunk| build.log.extend_from_slice(chunk));
            Ok(())
        });
        Ok(match stored {
            Ok(()) => Appended::Stored(reply),
            Err(has) => Appended::Elsewhere { has, reply },
        })
    }

    async fn touch(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        Ok(self.of(ticket, |_| ()).1)
    }

    async fn finish(
        &self,
        ticket: &Ticket,
        conclusion: &Conclusion,
    ) -> Result<Finished, SourceError> {
        self.of(ticket, |build| build.worked = Some(conclusion.outcome.is_success()));
        self.0.ended.notify_waiters();
        Ok(Finished::Done)
    }
}
