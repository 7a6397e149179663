//! What jobs ask of their manager, and the answers under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::backoff::Backoff;
use crate::cache::{CacheErrorKind, CacheRequest, CacheStore};
use crate::plan::HttpTransfer;
use crate::wire::{AnswerFrame, AskFrame, MOST_ASKS};

/// How long a store that does not answer is asked; the job goes on without its cache then.
const PATIENCE: Duration = Duration::from_secs(60);

/// The questions of one job.
pub(super) struct Asks {
    store: Option<Arc<dyn CacheStore>>,
    open: BTreeSet<u64>,
    /// At most [`MOST_ASKS`].
    under_way: FuturesUnordered<BoxFuture<'static, AnswerFrame>>,
}

impl Asks {
    pub(super) fn new(store: Option<Arc<dyn CacheStore>>) -> Self {
        Self { store, open: BTreeSet::new(), under_way: FuturesUnordered::new() }
    }

    /// Takes a question in. One that is being answered already was only repeated; one too many is
    /// left alone, since an honest agent does not ask it.
    pub(super) fn take(&mut self, ask: AskFrame) {
        if self.open.len() >= MOST_ASKS || !self.open.insert(ask.id) {
            debug!(id = ask.id, "a question that is open already, or one too many");
            return;
        }
        let store = self.store.clone();
        self.under_way.push(Box::pin(async move {
            let (transfer, refused) = match (store, ask.cache) {
                (Some(store), Some(request)) => match sign(&*store, &request).await {
                    Ok(transfer) => (Some(transfer), String::new()),
                    Err(refused) => (None, refused),
                },
                (None, Some(_)) => (None, "this runner has no cache server".to_owned()),
                (_, None) => {
                    let text = "this runner does not know what the job's agent asks for";
                    (None, text.to_owned())
                }
            };
            AnswerFrame { id: ask.id, transfer, refused }
        }));
    }

    /// Waits for the next answer; for ever when nothing was asked. Cancel safe.
    pub(super) async fn answer(&mut self) -> AnswerFrame {
        match self.under_way.next().await {
            Some(answer) => {
                self.open.remove(&answer.id);
                answer
            }
            None => std::future::pending().await,
        }
    }
}

/// Asks the store, again when that may help. The error is for the job's author.
async fn sign(store: &dyn CacheStore, request: &CacheRequest) -> Result<HttpTransfer, String> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    let give_up = Instant::now() + PATIENCE;
    loop {
        let error = match store.sign(request).await {
            Ok(transfer) => return Ok(transfer),
            Err(error) => error,
        };
        let wait = backoff.wait(None);
        if error.kind == CacheErrorKind::Refused {
            warn!(%error, object = request.object, "a request for a cache was refused");
            return Err("the runner refuses to give access to this cache".to_owned());
        }
        if Instant::now() + wait > give_up {
            warn!(%error, object = request.object, "no access to the cache store");
            return Err("the runner has no access to its cache server now".to_owned());
        }
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::Asks;
    use crate::cache::{
        CacheAction, CacheError, CacheErrorKind, CacheRequest, CacheScope, MockCacheStore, Uploads,
    };
    use crate::plan::{HttpBody, HttpTransfer};
    use crate::wire::{AskFrame, MOST_ASKS};

    fn ask(id: u64) -> AskFrame {
        let scope =
            CacheScope { prefix: "project/1".into(), grant: "g".into(), uploads: Uploads::Whole };
        let lasts = Duration::from_secs(60);
        let action = CacheAction::Get;
        let cache = CacheRequest { scope, object: "key".into(), action, lasts };
        AskFrame { id, cache: Some(cache) }
    }

    fn transfer() -> HttpTransfer {
        HttpTransfer {
            method: "GET".into(),
            url: "https://store/key".into(),
            headers: Vec::new(),
            body: HttpBody::Raw,
            tls_ca: None,
            timeout: Duration::from_secs(60),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_has_no_credentials_yet_is_asked_again() {
        let mut store = MockCacheStore::new();
        let mut times = 0;
        store.expect_sign().returning(move |_| {
            times += 1;
            match times {
                3 => Ok(transfer()),
                _ => Err(CacheError::new(CacheErrorKind::Unavailable, "no credentials")),
            }
        });
        let mut asks = Asks::new(Some(Arc::new(store)));
        asks.take(ask(7));
        let answer = asks.answer().await;
        assert_eq!((answer.id, answer.transfer), (7, Some(transfer())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_question_is_answered_once_and_a_lost_answer_again() {
        let mut store = MockCacheStore::new();
        store.expect_sign().times(2).returning(|_| Ok(transfer()));
        let mut asks = Asks::new(Some(Arc::new(store)));
        asks.take(ask(7));
        asks.take(ask(7));
        assert_eq!(asks.answer().await.id, 7);
        asks.take(ask(7));
        assert_eq!(asks.answer().await.id, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_is_bounded() {
        let mut asks = Asks::new(None);
        (0..1000).for_each(|id| asks.take(ask(id)));
        assert_eq!(asks.under_way.len(), MOST_ASKS);
        for _ in 0..MOST_ASKS {
            assert_eq!(asks.answer().await.refused, "this runner has no cache server");
        }
        asks.take(AskFrame { id: 1, cache: None });
        assert!(asks.answer().await.refused.contains("does not know"));
    }
}
