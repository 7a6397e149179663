//! Watches: an endless answer of events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::kinds::{Kind, PODS};
use super::selector::Selector;
use super::server::Body;
use super::shared::Shared;

/// What a watch was asked for.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) kind: &'static Kind,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// `None`: the present objects first.
    pub(super) from: Option<u64>,
    pub(super) bookmarks: bool,
    /// A streamed list: a marked bookmark after the present objects.
    pub(super) initial_events: bool,
    pub(super) timeout: Duration,
}

impl Watch {
    /// The body of the answer.
    pub(super) fn start(self, shared: Arc<Shared>) -> Body {
        // A client that does not read holds back the watch's task and nothing else.
        let (tx, rx) = mpsc::channel::<Bytes>(64);
        let tasks = shared.tasks.clone();
        tasks.spawn(async move { self.run(&shared, tx).await });
        let frames = stream::unfold(rx, |mut rx| async move {
            let bytes = rx.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), rx))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn run(self, shared: &Shared, tx: mpsc::Sender<Bytes>) {
        let end = Instant::now() + self.timeout;
        let every = shared.settings.bookmark_interval;
        let mut bookmark_at = Instant::now() + every;
        let mut latest = shared.store.latest();
        let mut at = match self.from {
            Some(version) if !self.initial_events => version,
            _ => {
                let (version, items) =
                    shared.store.list(self.kind, &self.namespace, &self.selector);
                for item in items {
                    if tx.send(line("ADDED", &item)).await.is_err() {
                        return;
                    }
                }
                if self.initial_events && tx.send(self.bookmark(version, true)).await.is_err() {
                    return;
                }
                version
            }
        };
        loop {
            latest.mark_unchanged();
            match shared.store.since(at, self.kind, &self.namespace, &self.selector) {
                Ok((version, events)) => {
                    at = version;
                    for event in events {
                        if tx.send(line(event.kind, &event.object)).await.is_err() {
                            return;
                        }
                    }
                }
                Err(refusal) => {
                    drop(tx.send(line("ERROR", &refusal.object())).await);
                    return;
                }
            }
            tokio::select! {
                changed = latest.changed() => if changed.is_err() { return },
                () = tx.closed() => return,
                () = sleep_until(bookmark_at), if self.bookmarks => {
                    bookmark_at = Instant::now() + every;
                    if tx.send(self.bookmark(at, false)).await.is_err() {
                        return;
                    }
                }
                () = sleep_until(end) => {
                    if self.bookmarks {
                        // Real servers send one shortly before they end a watch.
                        drop(tx.send(self.bookmark(at, false)).await);
                    }
                    return;
                }
            }
        }
    }

    fn bookmark(&self, version: u64, initial: bool) -> Bytes {
        let mut object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
        });
        if self.kind == &PODS {
            // Real bookmarks of pods look like this, which not every parser expects.
            object["spec"] = json!({"containers": null});
            object["status"] = json!({});
        }
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    text.into()
}
