//! The watch and its fan-out.
//!
//! One task owns the watch of a namespace and passes on what changes, pod by pod. A watch per pod
//! would be a connection per pod.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use parking_lot::Mutex;
use runner_core::causes::causes;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::view::PodView;
use crate::names::{MANAGER_LABEL, WARM_LABEL};
use crate::warm::Idle;

/// How long one watch request lasts. kube takes a connection for dead 5 s after that, so a silently
/// dropped one costs a minute; the default would cost five.
const WATCH_SECONDS: u32 = 60;

/// An API server that was away has to be noticed soon after it is back: 5 s at most, not kube's 30.
fn backoff() -> watcher::ExponentialBackoff {
    let builder = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_factor(2.0)
        .without_max_times()
        .with_jitter();
    builder.into()
}

/// What is known about a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PodSight {
    /// The watch has not said anything about it yet.
    #[default]
    Unseen,
    /// It is there.
    Seen(Arc<PodView>),
    /// It is gone; what was seen last, for the cause.
    Gone(Option<Arc<PodView>>),
}

impl PodSight {
    /// Whether it is certain that there is, or was, a pod.
    pub(crate) fn was(&self) -> bool {
        matches!(self, Self::Seen(_) | Self::Gone(Some(_)))
    }
}

/// Follows one pod.
pub type PodWatch = watch::Receiver<PodSight>;

/// The shared watch of a namespace. Cheap to clone; the watch ends with the last clone.
#[derive(Clone)]
pub struct PodHub {
    pods: Arc<Mutex<Pods>>,
    synced: watch::Receiver<bool>,
    /// How many pods wait for a node.
    waiting: watch::Receiver<usize>,
    /// How many are gone since the beginning.
    gone: watch::Receiver<u64>,
    _task: Arc<AbortOnDropHandle<()>>,
}

/// Watches that are there as long as somebody uses them, by namespace.
#[derive(Default)]
pub(crate) struct Hubs(Mutex<HashMap<String, WeakHub>>);

/// A hub that does not keep its watch open.
struct WeakHub {
    pods: Weak<Mutex<Pods>>,
    synced: watch::Receiver<bool>,
    waiting: watch::Receiver<usize>,
    gone: watch::Receiver<u64>,
    task: Weak<AbortOnDropHandle<()>>,
}

impl WeakHub {
    fn upgrade(&self) -> Option<PodHub> {
        let (pods, task) = (self.pods.upgrade()?, self.task.upgrade()?);
        let (synced, waiting) = (self.synced.clone(), self.waiting.clone());
        Some(PodHub { pods, synced, waiting, gone: self.gone.clone(), _task: task })
    }
}

impl Hubs {
    /// The watch of this namespace, which is started if nobody uses it now.
    pub(crate) fn get(&self, namespace: &str, start: impl FnOnce() -> PodHub) -> PodHub {
        let mut hubs = self.0.lock();
        if let Some(hub) = hubs.get(namespace).and_then(WeakHub::upgrade) {
            return hub;
        }
        let hub = start();
        hubs.retain(|_, hub| hub.task.strong_count() > 0);
        let (pods, task) = (Arc::downgrade(&hub.pods), Arc::downgrade(&hub._task));
        let (synced, waiting) = (hub.synced.clone(), hub.waiting.clone());
        let weak = WeakHub { pods, synced, waiting, gone: hub.gone.clone(), task };
        hubs.insert(namespace.to_owned(), weak);
        hub
    }
}

/// Bounded by the pods of one source: an entry goes when its pod is gone and nobody follows it.
#[derive(Default)]
struct Pods {
    by_uid: HashMap<String, Entry>,
    /// Those that no node takes.
    waiting: HashSet<String>,
    /// How many are gone.
    gone: u64,
    /// Counts lists, so that a pod that is younger than a list is not taken for deleted.
    list: u64,
}

struct Entry {
    sender: watch::Sender<PodSight>,
    /// The list that has it, or the last one that began before it was known of.
    list: u64,
}

impl PodHub {
    /// Starts watching the pods that `selector` selects, in all namespaces if none is named.
    pub fn start(client: Client, namespace: &str, selector: &str) -> Self {
        let config = watcher::Config::default().labels(selector).timeout(WATCH_SECONDS);
        let api: Api<PodView> = match namespace {
            "" => Api::all(client),
            namespace => Api::namespaced(client, namespace),
        };
        let events = watcher::watcher(api, config).backoff(backoff());
        Self::over(events)
    }

    /// The same over any stream of events.
    pub(crate) fn over(
        events: impl Stream<Item = watcher::Result<Event<PodView>>> + Send + 'static,
    ) -> Self {
        let pods = Arc::new(Mutex::new(Pods::default()));
        let (sender, synced) = watch::channel(false);
        let (count, waiting) = watch::channel(0);
        let (gone_count, gone) = watch::channel(0);
        let own = Arc::clone(&pods);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        let done = matches!(event, Event::InitDone);
                        let (now, gone) = {
                            let mut pods = own.lock();
                            pods.apply(event);
                            (pods.waiting.len(), pods.gone)
                        };
                        gone_count.send_if_modified(|count| std::mem::replace(count, gone) != gone);
                        count.send_if_modified(|count| std::mem::replace(count, now) != now);
                        if done {
                            sender.send_replace(true);
                        }
                    }
                    // The watcher recovers by itself; pods stay as they were seen last.
                    Err(error @ watcher::Error::InitialListFailed(_)) => {
                        warn!(error = causes(&error), "the pods cannot be listed; trying again");
                    }
                    Err(error) => debug!(%error, "the watch of the pods was interrupted"),
                }
            }
        });
        Self { pods, synced, waiting, gone, _task: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// Changes when a pod is gone for good, and with it what it took of quotas and nodes.
    pub fn gone(&self) -> watch::Receiver<u64> {
        self.gone.clone()
    }

    /// How many pods wait for a node.
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.clone()
    }

    /// Waits until the first list is complete. Cancel safe.
    pub async fn synced(&self) {
        // The sender lives as long as the task, which lives as long as `self`.
        let _ = self.synced.clone().wait_for(|synced| *synced).await;
    }

    /// Follows the pod of this uid, from what is known on.
    pub fn follow(&self, uid: &str) -> PodWatch {
        self.pods.lock().entry(uid).sender.subscribe()
    }

    /// The pod of this name, if the watch has it.
    pub fn find(&self, name: &str) -> Option<Arc<PodView>> {
        let pods = self.pods.lock();
        pods.by_uid.values().find_map(|entry| match &*entry.sender.borrow() {
            PodSight::Seen(pod) if pod.name() == name => Some(Arc::clone(pod)),
            _ => None,
        })
    }
}

impl PodHub {
    /// The pods without a job of managers other than these, which are given by their hashes.
    pub(crate) fn warm_pods(&self, living: &BTreeSet<String>) -> Vec<Idle> {
        let pods = self.pods.lock();
        let orphan = |entry: &Entry| match &*entry.sender.borrow() {
            PodSight::Seen(pod) => {
                let labels = pod.metadata.labels.as_ref()?;
                let manager = labels.get(MANAGER_LABEL)?;
                let orphan = labels.contains_key(WARM_LABEL) && !living.contains(manager);
                let idle = || Idle { name: pod.name().to_owned(), uid: pod.uid().to_owned() };
                orphan.then(idle)
            }
            _ => None,
        };
        pods.by_uid.values().filter_map(orphan).collect()
    }
}

impl Pods {
    fn entry(&mut self, uid: &str) -> &mut Entry {
        let list = self.list;
        self.by_uid
            .entry(uid.to_owned())
            .or_insert_with(|| Entry { sender: watch::Sender::new(PodSight::Unseen), list })
    }

    fn apply(&mut self, event: Event<PodView>) {
        match event {
            Event::Init => self.list += 1,
            Event::InitApply(pod) | Event::Apply(pod) => self.seen(pod),
            Event::Delete(mut pod) => {
                pod.strip();
                let uid = pod.uid().to_owned();
                self.gone(&uid, Some(Arc::new(pod)));
            }
            // A delete event may never come: what the list does not have is gone.
            Event::InitDone => {
                let list = self.list;
                let missing: Vec<_> = self
                    .by_uid
                    .iter()
                    .filter(|(_, entry)| entry.list < list)
                    .map(|(uid, _)| uid.clone())
                    .collect();
                for uid in missing {
                    self.gone(&uid, None);
                }
            }
        }
    }

    fn seen(&mut self, mut pod: PodView) {
        pod.strip();
        let uid = pod.uid().to_owned();
        match pod.waits_for_node() {
            true => drop(self.waiting.insert(uid.clone())),
            false => drop(self.waiting.remove(&uid)),
        }
        let list = self.list;
        let entry = self.entry(&uid);
        entry.list = list;
        let sight = PodSight::Seen(Arc::new(pod));
        entry.sender.send_if_modified(|known| {
            let changed = *known != sight;
            if changed {
                *known = sight;
            }
            changed
        });
    }

    fn gone(&mut self, uid: &str, last: Option<Arc<PodView>>) {
        self.waiting.remove(uid);
        self.gone += 1;
        let Some(entry) = self.by_uid.remove(uid) else { return };
        entry.sender.send_modify(|known| {
            let seen = match known {
                PodSight::Seen(pod) => Some(Arc::clone(pod)),
                PodSight::Gone(pod) => pod.clone(),
                PodSight::Unseen => None,
            };
            *known = PodSight::Gone(last.or(seen));
        });
        // Who follows it keeps the last value; a pod's uid never comes back.
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use kube::runtime::watcher::Event;
    use tokio::sync::mpsc;

    use super::{PodHub, PodSight, PodView};

    fn pod(uid: &str) -> PodView {
        let mut pod = PodView::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.name = Some(format!("pod-{uid}"));
        pod
    }

    fn hub() -> (mpsc::UnboundedSender<Event<PodView>>, PodHub) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let events = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (Ok(event), receiver))
        });
        (sender, PodHub::over(events.boxed()))
    }

    #[tokio::test]
    async fn a_pod_that_a_new_list_does_not_have_is_gone() {
        let (events, hub) = hub();
        for event in [Event::Init, Event::InitApply(pod("a")), Event::InitDone] {
            events.send(event).unwrap();
        }
        hub.synced().await;
        let mut watch = hub.follow("a");
        assert!(matches!(&*watch.borrow_and_update(), PodSight::Seen(_)));
        for event in [Event::Init, Event::InitDone] {
            events.send(event).unwrap();
        }
        let _ = watch.changed().await;
        assert!(matches!(&*watch.borrow(), PodSight::Gone(Some(last)) if last.uid() == "a"));
    }

    #[tokio::test]
    async fn a_pod_that_was_created_while_a_list_was_under_way_is_not_gone() {
        let (events, hub) = hub();
        events.send(Event::Init).unwrap();
        events.send(Event::InitApply(pod("other"))).unwrap();
        while hub.find("pod-other").is_none() {
            tokio::task::yield_now().await;
        }
        // The list may be older than the pod.
        let mut watch = hub.follow("young");
        events.send(Event::InitDone).unwrap();
        hub.synced().await;
        assert_eq!(*watch.borrow_and_update(), PodSight::Unseen);
        events.send(Event::Apply(pod("young"))).unwrap();
        watch.changed().await.unwrap();
        assert!(matches!(&*watch.borrow(), PodSight::Seen(_)));
    }

    #[tokio::test]
    async fn who_follows_late_sees_what_was_said_before() {
        let (events, hub) = hub();
        for event in [Event::Init, Event::InitDone, Event::Apply(pod("a"))] {
            events.send(event).unwrap();
        }
        // Before that the first list would decide that the pod is gone: it is older than the pod.
        hub.synced().await;
        let mut watch = hub.follow("a");
        if *watch.borrow_and_update() == PodSight::Unseen {
            watch.changed().await.unwrap();
        }
        events.send(Event::Delete(pod("a"))).unwrap();
        // The hub lets go of it with its last word, which is an error of `changed`.
        let _ = watch.changed().await;
        assert!(matches!(&*watch.borrow(), PodSight::Gone(_)));
    }
}
