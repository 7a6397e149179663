//! How a job's pod came to run, for the summary at the end of the job's log: when it had a node, and
//! how long its images took. Says nothing of pods that were ready before their job.
//!
//! A pod's status tells when it had a node, and not whether a container waits for its image or for
//! something else: only events do. They are asked for once, where the start was slow.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams};
use runner_core::wire::{ImagePull, StartFrame};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::watch::PodView;

/// From the node to all containers. What is faster than this is not worth a request.
const SLOW: Duration = Duration::from_secs(5);
/// How long the answer may take: the summary of a job that is over by then does without.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most pulls that are asked for: a pod has few images, and each is pulled once.
const MOST: u32 = 50;

/// What is known of the start of one pod.
#[derive(Default)]
pub(super) struct PodStart {
    is_warm: bool,
    looked: bool,
    /// The pod had its node, by our clock.
    placed: Option<Instant>,
    known: StartFrame,
    asked: bool,
    asking: Option<BoxFuture<'static, Vec<ImagePull>>>,
}

impl PodStart {
    /// Of a pod that was ready before its job: its start is not the job's.
    pub(super) fn warm() -> Self {
        Self { is_warm: true, ..Self::default() }
    }

    /// Takes in how the pod looks. `Some`: more is known than before.
    pub(super) fn look(
        &mut self,
        pod: &PodView,
        now: Instant,
        time: Timestamp,
    ) -> Option<StartFrame> {
        let first = !std::mem::replace(&mut self.looked, true);
        if self.is_warm || self.placed.is_some() || !pod.is_placed() {
            return None;
        }
        self.placed = Some(now);
        // Who comes later sees that it was placed, and not when; the condition says it to a second.
        let placed = match first {
            true => pod.placed_at(),
            false => Some(time),
        };
        self.known.placed_ms = placed.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        self.known.placed_ms.is_some().then(|| self.known.clone())
    }

    /// Whether it is time to ask how long the images took: once, as soon as all containers of a slow
    /// pod have started.
    pub(super) fn wants_pulls(&mut self, all_started: bool, now: Instant) -> bool {
        let Some(placed) = self.placed.filter(|_| all_started && !self.asked) else { return false };
        self.asked = true;
        now.duration_since(placed) >= SLOW
    }

    /// Asks. A role need not allow it.
    pub(super) fn ask(&mut self, client: Client, namespace: &str, uid: &str) {
        let api: Api<Event> = Api::namespaced(client, namespace);
        let fields = format!("involvedObject.uid={uid},reason=Pulled");
        let asked = async move {
            let parameters = ListParams::default().fields(&fields).limit(MOST);
            match timeout(PATIENCE, api.list(&parameters)).await {
                Ok(Ok(list)) => list.items.iter().filter_map(pull).collect(),
                Ok(Err(error)) => {
                    debug!(%error, "the events of a pod that started slowly could not be listed");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        };
        self.asking = Some(asked.boxed());
    }

    /// Waits for the answer. Cancel safe.
    pub(super) async fn answered(&mut self) -> StartFrame {
        let pulls = match &mut self.asking {
            Some(asking) => asking.await,
            None => std::future::pending().await,
        };
        self.asking = None;
        self.known.pulls = pulls;
        self.known.clone()
    }
}

/// What the kubelet says of an image that it has pulled: `Successfully pulled image "alpine" in 1.2s
/// (3.4s including waiting). Image size: 3623844 bytes.` `None`: it was there, or other words.
fn pull(event: &Event) -> Option<ImagePull> {
    let path = event.involved_object.field_path.as_deref()?;
    let container = path.split_once('{')?.1.strip_suffix('}')?;
    let words = event.message.as_deref()?.strip_prefix("Successfully pulled image ")?;
    let (_, rest) = words.rsplit_once("\" in ")?;
    let alone = rest.split_once(' ').map_or(rest, |(first, _)| first);
    let waited = rest.split_once('(').and_then(|(_, rest)| rest.split_once(" including waiting"));
    let took = go_duration(waited.map_or(alone, |(time, _)| time))?;
    let size = rest.split_once("Image size: ").and_then(|(_, size)| size.split_once(' '));
    Some(ImagePull {
        container: container.to_owned(),
        took_ms: u64::try_from(took.as_millis()).ok()?,
        bytes: size.and_then(|(bytes, _)| bytes.parse().ok()),
    })
}

/// A duration as Go prints it: `1m2.5s`, `350ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let text = text.trim_end_matches('.');
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let end = end.map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" | "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += unit * rest[..digits].parse::<f64>().ok()?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Event;
    use runner_core::wire::ImagePull;
    use serde_json::json;
    use tokio::time::Instant;

    use super::{PodStart, go_duration, pull};
    use crate::watch::PodView;

    fn pod(status: &str) -> PodView {
        let time = "2026-01-02T03:04:05Z";
        let condition =
            json!({ "type": "PodScheduled", "status": status, "lastTransitionTime": time });
        serde_json::from_value(json!({ "status": { "conditions": [condition] } })).unwrap()
    }

    #[test]
    fn a_pod_is_placed_when_that_is_seen_or_as_its_condition_says_to_who_comes_later() {
        let (now, time) = (Instant::now(), Timestamp::from_millisecond(5_000).unwrap());
        let mut start = PodStart::default();
        assert_eq!(start.look(&pod("False"), now, time), None);
        let seen = start.look(&pod("True"), now, time).unwrap();
        assert_eq!(seen.placed_ms, Some(5_000));
        assert_eq!(start.look(&pod("True"), now, time), None);
        let later = PodStart::default().look(&pod("True"), now, time).unwrap();
        assert_eq!(later.placed_ms, Some(1_767_323_045_000));
        assert_eq!(PodStart::warm().look(&pod("True"), now, time), None);
    }

    #[test]
    fn the_images_of_a_slow_pod_are_asked_for_once() {
        let now = Instant::now();
        let placed = || {
            let mut start = PodStart::default();
            start.look(&pod("True"), now, Timestamp::UNIX_EPOCH);
            start
        };
        let later = now + Duration::from_secs(5);
        let mut slow = placed();
        assert!(!slow.wants_pulls(false, later));
        assert!(slow.wants_pulls(true, later));
        assert!(!slow.wants_pulls(true, later));
        assert!(!placed().wants_pulls(true, now + Duration::from_secs(4)));
        assert!(!PodStart::warm().wants_pulls(true, later));
    }

    fn event(message: &str) -> Event {
        let mut event = Event { message: Some(message.into()), ..Event::default() };
        event.involved_object.field_path = Some("spec.containers{build}".into());
        event
    }

    #[test]
    fn what_the_kubelet_says_of_a_pull_is_understood() {
        let of = |took_ms, bytes| Some(ImagePull { container: "build".into(), took_ms, bytes });
        let all = "Successfully pulled image \"alpine\" in 1.203s (3.4s including waiting). \
                   Image size: 3623844 bytes.";
        assert_eq!(pull(&event(all)), of(3_400, Some(3_623_844)));
        // Without its size until Kubernetes 1.29.
        let waited = "Successfully pulled image \"a\" in 1m2.5s (1m2.5s including waiting)";
        assert_eq!(pull(&event(waited)), of(62_500, None));
        assert_eq!(pull(&event("Successfully pulled image \"a\" in 350.5ms")), of(350, None));
        for other in ["Container image \"a\" already present on machine", "", "Pulled"] {
            assert_eq!(pull(&event(other)), None);
        }
    }

    #[test]
    fn durations_are_those_that_go_prints() {
        let millis = |text| go_duration(text).map(|time| time.as_millis());
        assert_eq!(millis("1h2m3.004s"), Some(3_723_004));
        assert_eq!(millis("1.5ms"), Some(1));
        assert_eq!(millis("2µs"), Some(0));
        assert_eq!([millis(""), millis("5"), millis("5x"), millis("s")], [None; 4]);
    }
}
