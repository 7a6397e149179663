//! The jobs, as a manager sees them.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Image, Job};
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, NextPoll, Offer, Polled, Reply,
    SourceError, SourceErrorKind, Ticket,
};
use tokio::time::{Instant, timeout};

use crate::jobs::{Entry, Jobs, State};

/// How long a request for a job is held back.
const HOLD: Duration = Duration::from_secs(30);

fn id(ticket: &Ticket) -> Result<u64, SourceError> {
    ticket.0.expose().parse().map_err(|_| {
        SourceError::new(SourceErrorKind::Protocol, "the ticket of a job is not one of ours")
    })
}

fn failed(error: io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, "the service's files cannot be used")
        .caused_by(error)
}

/// What its manager is to do with a job. One that is not there any more is nobody's.
fn reply(entry: Option<&Entry>) -> Reply {
    let directive = match entry {
        None => Directive::Abort,
        Some(entry) if entry.cancelled => Directive::Cancel,
        Some(_) => Directive::Continue,
    };
    Reply { directive, interval: None }
}

impl Jobs {
    async fn next(&self) -> Offer {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            let later = match self.offer() {
                Ok((id, new)) => {
                    let mut job = Job::new(JobId(id), new.name, new.script);
                    job.image = Some(Image::named(new.image));
                    return Offer { job, ticket: Ticket(id.to_string().into()) };
                }
                Err(later) => later.map_or(HOLD, |at| at.saturating_duration_since(Instant::now())),
            };
            // Either way it is time to look again.
            let _ = timeout(later.max(Duration::from_millis(1)), changes.changed()).await;
        }
    }
}

#[async_trait]
impl JobSource for Jobs {
    fn id(&self) -> SourceId {
        // Of the service, not of the process: the next one finishes what this one has begun.
        SourceId("embedded-service".to_owned())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        Ok(match timeout(HOLD, self.next()).await {
            Ok(offer) => Polled::job(offer),
            Err(_) => {
                let mut polled = Polled::nothing();
                polled.next = NextPoll::Now;
                polled
            }
        })
    }

    async fn accept(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        let id = id(ticket)?;
        let accepted = self.blocking(move |jobs| {
            jobs.change(id, |entry| {
                if entry.state == State::Waiting {
                    entry.state = State::Running;
                }
                entry.clone()
            })
        });
        Ok(reply(accepted.await.map_err(failed)?.as_ref()))
    }

    async fn append(
        &self,
        ticket: &Ticket,
        Offset(from): Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        let id = id(ticket)?;
        let bytes = chunks.concat();
        let end = from + bytes.len() as u64;
        let has = self.blocking(move |jobs| jobs.append(id, from, &bytes)).await.map_err(failed)?;
        let reply = reply(self.get(id).as_ref());
        Ok(match has == end {
            true => Appended::Stored(reply),
            false => Appended::Elsewhere { has: Offset(has), reply },
        })
    }

    async fn touch(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        Ok(reply(self.get(id(ticket)?).as_ref()))
    }

    async fn finish(&self, ticket: &Ticket, end: &Conclusion) -> Result<Finished, SourceError> {
        let id = id(ticket)?;
        let (success, why) = (end.outcome.is_success(), format!("{:?}", end.outcome));
        let finished = self.blocking(move |jobs| {
            jobs.change(id, |entry| entry.state = State::Ended { success, why })
        });
        finished.await.map_err(failed)?;
        Ok(Finished::Done)
    }
}
