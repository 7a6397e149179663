//! What the job asks of whoever manages it, and the answers.
//!
//! A question waits for a manager, this one or the next: every session begins with all that are open.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use runner_core::cache::CacheRequest;
use runner_core::plan::HttpTransfer;
use runner_core::wire::{AnswerFrame, AskFrame};
use tokio::sync::{oneshot, watch};

use crate::clock::now_ms;

/// The open questions. Whoever asks bounds their number.
#[derive(Debug)]
pub struct Asks {
    open: RefCell<BTreeMap<u64, (AskFrame, oneshot::Sender<AnswerFrame>)>>,
    next: Cell<u64>,
    /// The number of the last question, for sessions.
    last: watch::Sender<u64>,
}

impl Default for Asks {
    fn default() -> Self {
        // Numbers of an earlier supervisor of this job must not come again: an answer to it may still
        // be under way.
        let first = now_ms().saturating_mul(1000);
        Self { open: RefCell::default(), next: Cell::new(first), last: watch::Sender::new(first) }
    }
}

/// Takes a question back that nobody waits for any more.
struct Open<'a>(&'a Asks, u64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.borrow_mut().remove(&self.1);
    }
}

impl Asks {
    /// Asks for an address of an object in the cache store and waits for the answer, for as long as it
    /// is polled.
    ///
    /// # Errors
    /// Why there is none, for the job's author.
    pub async fn cache(&self, request: CacheRequest) -> Result<HttpTransfer, String> {
        let id = self.next.get() + 1;
        self.next.set(id);
        let (tell, told) = oneshot::channel();
        let frame = AskFrame { id, cache: Some(request) };
        self.open.borrow_mut().insert(id, (frame, tell));
        let _open = Open(self, id);
        self.last.send_replace(id);
        match told.await {
            Ok(AnswerFrame { transfer: Some(transfer), .. }) => Ok(transfer),
            Ok(AnswerFrame { refused, .. }) => Err(refused),
            Err(_) => Err("the question was taken back".to_owned()),
        }
    }

    /// Takes an answer in; one that nobody waits for is nothing.
    pub fn answer(&self, answer: AnswerFrame) {
        let open = self.open.borrow_mut().remove(&answer.id);
        if let Some((_, tell)) = open {
            // Whoever asked may just have given up.
            let _ = tell.send(answer);
        }
    }

    /// The open questions after this number, in order.
    pub fn since(&self, id: u64) -> Vec<AskFrame> {
        let open = self.open.borrow();
        open.range(id.saturating_add(1)..).map(|(_, (frame, _))| frame.clone()).collect()
    }

    /// For sessions: changes with every question.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runner_core::cache::{CacheAction, CacheRequest, CacheScope, Uploads};
    use runner_core::wire::AnswerFrame;

    use super::Asks;

    fn request() -> CacheRequest {
        CacheRequest {
            scope: CacheScope { prefix: "p".into(), grant: "g".into(), uploads: Uploads::Whole },
            object: "o".into(),
            action: CacheAction::Get,
            lasts: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn a_question_is_repeated_until_it_is_answered() {
        let asks = Asks::default();
        let waiting = asks.cache(request());
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let open = asks.since(0);
        assert_eq!((open.len(), asks.since(0)), (1, open.clone()));
        assert!(asks.since(open[0].id).is_empty());
        let answer = |id| AnswerFrame { id, transfer: None, refused: "no".into() };
        asks.answer(answer(open[0].id + 1));
        asks.answer(answer(open[0].id));
        assert_eq!(waiting.await.unwrap_err(), "no");
        assert!(asks.since(0).is_empty());
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_taken_back() {
        let asks = Asks::default();
        let late = tokio::time::timeout(Duration::ZERO, asks.cache(request())).await;
        assert!(late.is_err() && asks.since(0).is_empty());
    }
}
