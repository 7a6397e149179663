//! What Kubernetes says about a job's pod, for the trace: `FF_PRINT_POD_EVENTS`.
//!
//! Handed to the agent like a container's output, so that it is masked, stamped and said once however
//! often a manager begins anew. GitLab Runner's watch ends with the server's patience and is not
//! renewed (better).

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use runner_core::plan::POD_EVENTS;
use runner_core::wire::OutputFrame;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::warnings::text;

/// Pause before the events are asked for again.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the server may let a watch stand, in seconds: what kube allows at most.
const WATCH: u32 = 290;

/// Whose events are followed.
pub(super) struct EventListener {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) uid: String,
}

impl EventListener {
    /// Until nobody listens any more.
    pub(super) async fn run(self, out: mpsc::Sender<OutputFrame>) {
        let mut last = 0;
        while !out.is_closed() {
            match self.follow(&mut last, &out).await {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    warn!(
                        "a pod's events cannot be shown: the role lacks list and watch on events"
                    );
                    let text = "the runner's role does not allow it to see the pod's events";
                    // Nobody listens any more: fine. Before every event, so that none is taken for
                    // known.
                    let _ = out.send(frame(1, text)).await;
                    return;
                }
                Err(error) => debug!(%error, "the pod's events cannot be followed"),
            }
            sleep(PAUSE).await;
        }
    }

    /// All there are, and then what comes, until the server ends it.
    async fn follow(
        &self,
        last: &mut i64,
        out: &mpsc::Sender<OutputFrame>,
    ) -> Result<(), kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let fields = format!("involvedObject.uid={}", self.uid);
        let list = api.list(&ListParams::default().fields(&fields)).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let mut known = list.items;
        known.sort_by_key(place);
        for event in &known {
            if !say(event, last, out).await {
                return Ok(());
            }
        }
        let parameters = WatchParams::default().fields(&fields).timeout(WATCH);
        let mut watch = std::pin::pin!(api.watch(&parameters, &version).await?);
        loop {
            let next = tokio::select! {
                next = watch.try_next() => next?,
                () = out.closed() => return Ok(()),
            };
            match next {
                Some(WatchEvent::Added(event) | WatchEvent::Modified(event)) => {
                    if !say(&event, last, out).await {
                        return Ok(());
                    }
                }
                Some(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => {}
                // Too old a version, most likely: begin anew.
                Some(WatchEvent::Error(_)) | None => return Ok(()),
            }
        }
    }
}

/// Where an event stands among the others. Versions of one kind of object are numbers that can be
/// compared (promised from Kubernetes 1.35 on, and never otherwise with etcd); a list is in the same
/// order then as a watch was, and nothing is said twice or left out.
fn place(event: &Event) -> i64 {
    let version = event.metadata.resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Whether somebody listens.
async fn say(event: &Event, last: &mut i64, out: &mpsc::Sender<OutputFrame>) -> bool {
    let place = place(event);
    if place <= *last {
        return true;
    }
    *last = place;
    out.send(frame(place, &line(event))).await.is_ok()
}

/// Kind, reason, message in columns; how often, where it was more than once.
fn line(event: &Event) -> String {
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let (kind, reason) = (word(&event.type_), word(&event.reason));
    let times = match event.count {
        Some(count) if count > 1 => format!(" (x{count})"),
        _ => String::new(),
    };
    format!("{kind:<8}{reason:<18}{}{times}", text(event))
}

/// A whole line; longer ones were cut.
fn frame(time: i64, line: &str) -> OutputFrame {
    let bytes = Bytes::from(format!("{line}\n"));
    OutputFrame { container: POD_EVENTS.to_owned(), time, begins: true, bytes }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;
    use tokio::sync::mpsc;

    use super::{place, say};

    fn event(version: &str, reason: &str, count: i32) -> Event {
        let mut event = Event {
            type_: Some("Normal".into()),
            reason: Some(reason.into()),
            message: Some("two\nlines".into()),
            count: Some(count),
            ..Event::default()
        };
        event.metadata.resource_version = Some(version.into());
        event
    }

    #[tokio::test]
    async fn k8s_81_events_are_said_once_in_their_order() {
        let (out, mut said) = mpsc::channel(8);
        let mut events = [event("100", "Pulled", 1), event("99", "Pulling", 1)];
        events.sort_by_key(place);
        let mut last = 0;
        // A list, and the same again with a repeated one after the watch has ended.
        for event in events.iter().chain(&events).chain(&[event("101", "Pulling", 3)]) {
            assert!(say(event, &mut last, &out).await);
        }
        drop(out);
        let mut lines = Vec::new();
        while let Some(frame) = said.recv().await {
            lines.push((frame.time, String::from_utf8(frame.bytes.to_vec()).unwrap()));
        }
        let expected = [
            (99, "Normal  Pulling           two lines\n".to_owned()),
            (100, "Normal  Pulled            two lines\n".to_owned()),
            (101, "Normal  Pulling           two lines (x3)\n".to_owned()),
        ];
        assert_eq!(lines, expected);
    }
}
