//! A job that ended before anything of it existed, so that its verdict goes the same way as every
//! other job's.

use async_trait::async_trait;

use crate::executor::{ExecutorError, JobEnd, JobEvent, JobHandle, JobPhase, Remarks, Stop};
use crate::ids::{JobId, Offset};
use crate::outcome::{Outcome, TraceSummary};
use crate::source::Ticket;

/// Ends at once with the outcome it was made with, and with an empty trace.
pub(super) struct NeverStarted<'a> {
    id: JobId,
    ticket: Ticket,
    outcome: Outcome,
    /// Where it is written down, if it is: what is decided and said about it must be the same when
    /// the next manager says it.
    record: Option<&'a mut dyn JobHandle>,
}

impl<'a> NeverStarted<'a> {
    /// A job that is written down nowhere.
    pub(super) fn new(id: JobId, ticket: Ticket, outcome: Outcome) -> Self {
        Self { id, ticket, outcome, record: None }
    }

    /// The job of this handle.
    pub(super) fn reserved(record: &'a mut dyn JobHandle, outcome: Outcome) -> Self {
        Self { id: record.id(), ticket: record.ticket(), outcome, record: Some(record) }
    }
}

#[async_trait]
impl JobHandle for NeverStarted<'_> {
    fn id(&self) -> JobId {
        self.id
    }

    fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn phase(&self) -> JobPhase {
        JobPhase::Reserved
    }

    fn remarks(&self) -> Remarks {
        self.record.as_ref().map(|record| record.remarks()).unwrap_or_default()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn event(&mut self) -> JobEvent {
        JobEvent::Ended(JobEnd::new(self.outcome.clone(), Some(TraceSummary::default())))
    }

    async fn follow(&mut self, _from: Offset, _until: Offset) {}

    async fn stop(&mut self, _stop: Stop) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
        match &mut self.record {
            Some(record) => record.remark(remarks).await,
            // Nothing survives this manager, so nothing has to be the same in the next one.
            None => Ok(()),
        }
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        Ok(())
    }
}
