//! A job that ended before anything of it existed, so that its verdict goes the same way as every
//! other job's.

use async_trait::async_trait;

use crate::executor::{ExecutorError, JobEnd, JobEvent, JobHandle, JobPhase, Remarks, Stop};
use crate::ids::{JobId, Offset};
use crate::outcome::{Outcome, TraceSummary};
use crate::source::Ticket;

/// Ends at once with the outcome it was made with, and with an empty trace.
pub(super) struct NeverStarted {
    pub(super) id: JobId,
    pub(super) ticket: Ticket,
    pub(super) outcome: Outcome,
    remarks: Remarks,
}

impl NeverStarted {
    pub(super) fn new(id: JobId, ticket: Ticket, outcome: Outcome) -> Self {
        Self { id, ticket, outcome, remarks: Remarks::default() }
    }
}

#[async_trait]
impl JobHandle for NeverStarted {
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
        self.remarks.clone()
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

    async fn remark(&mut self, _remarks: Remarks) -> Result<(), ExecutorError> {
        // Nothing survives this manager, so nothing has to be the same in the next one.
        Ok(())
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        Ok(())
    }
}
