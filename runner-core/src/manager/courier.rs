//! One thing at a time is said to the source about a job; this is the one under way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::source::{Appended, Conclusion, Finished, JobSource, Reply, SourceError, Ticket};

use super::trace_relay::Piece;

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    /// For a piece of trace.
    Piece { piece: Piece, result: Result<Appended, SourceError> },
    /// For a sign of life.
    Touch(Result<Reply, SourceError>),
    /// For the verdict.
    Finish(Result<Finished, SourceError>),
}

/// Speaks to the source for one job. The call under way lives here and not in the loop's `select!`,
/// so it goes on while other things happen.
pub(super) struct Courier {
    source: Arc<dyn JobSource>,
    ticket: Ticket,
    under_way: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
}

impl Courier {
    pub(super) fn new(source: Arc<dyn JobSource>, ticket: Ticket) -> Self {
        Self { source, ticket, under_way: None }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn send(&mut self, piece: Piece) {
        let (source, ticket) = (Arc::clone(&self.source), self.ticket.clone());
        self.under_way = Some(Box::pin(async move {
            // The chunks are handles to shared bytes: cloning them copies no trace.
            let result = source.append(&ticket, piece.from, piece.chunks.clone()).await;
            Answer::Piece { piece, result }
        }));
    }

    pub(super) fn touch(&mut self) {
        let (source, ticket) = (Arc::clone(&self.source), self.ticket.clone());
        self.under_way = Some(Box::pin(async move { Answer::Touch(source.touch(&ticket).await) }));
    }

    pub(super) fn finish(&mut self, conclusion: Conclusion) {
        let (source, ticket) = (Arc::clone(&self.source), self.ticket.clone());
        self.under_way =
            Some(Box::pin(
                async move { Answer::Finish(source.finish(&ticket, &conclusion).await) },
            ));
    }

    /// Waits for the answer to what is under way; for ever when nothing is. Cancel safe.
    pub(super) async fn answer(&mut self) -> Answer {
        match &mut self.under_way {
            Some(call) => {
                let answer = call.await;
                self.under_way = None;
                answer
            }
            None => std::future::pending().await,
        }
    }
}
