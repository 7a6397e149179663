//! The objects, their one resource version counter, and the history that watches read.
//!
//! Owns optimistic concurrency and the watch history. Who may change what, and whether an object is
//! valid, is decided before.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::kinds::Kind;
use super::refusal::Refusal;
use super::selector::Selector;

type Key = (&'static str, String, String);

/// All objects.
#[derive(Debug)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    /// Bounded by `history`.
    log: VecDeque<Change>,
    history: usize,
    /// A watch can start at this version or a later one.
    oldest: u64,
}

/// One change of one object.
#[derive(Clone, Debug)]
struct Change {
    version: u64,
    resource: &'static str,
    namespace: String,
    before: Option<Arc<Value>>,
    /// As it is now; after a deletion its last state with the deletion's version.
    after: Arc<Value>,
    deleted: bool,
}

/// What a watch is told.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) object: Arc<Value>,
}

/// What a deletion must find.
#[derive(Clone, Debug, Default)]
pub(super) struct Preconditions {
    pub(super) uid: Option<String>,
    pub(super) version: Option<String>,
}

impl Store {
    pub(super) fn new(history: usize) -> Self {
        Store {
            inner: Mutex::new(Inner {
                // A fresh real cluster is never at 1 either; 100 leaves room for "too old".
                version: 100,
                objects: BTreeMap::new(),
                log: VecDeque::new(),
                history: history.max(1),
                oldest: 100,
            }),
            latest: watch::Sender::new(100),
        }
    }

    /// Changes whenever an object does.
    pub(super) fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.inner.lock().objects.get(&(kind.resource, namespace.into(), name.into())).cloned()
    }

    pub(super) fn list(
        &self,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
    ) -> (u64, Vec<Arc<Value>>) {
        let inner = self.inner.lock();
        let items = inner
            .objects
            .iter()
            .filter(|((r, n, _), o)| {
                *r == kind.resource
                    && (namespace.is_empty() || n == namespace)
                    && selector.matches(o)
            })
            .map(|(_, o)| o.clone())
            .collect();
        (inner.version, items)
    }

    /// Adds an object, whose metadata gets what a server gives it.
    pub(super) fn create(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        mut object: Value,
    ) -> Result<Arc<Value>, Refusal> {
        let mut inner = self.inner.lock();
        let key = (kind.resource, namespace.to_owned(), name.to_owned());
        if inner.objects.contains_key(&key) {
            return Err(Refusal::exists(kind, name));
        }
        stamp_new(kind, namespace, name, &mut object);
        let object = inner.put(key, object, None);
        self.latest.send_replace(inner.version);
        Ok(object)
    }

    /// Changes an object in place. A change that changes nothing makes no event and no new version,
    /// as on a real server.
    pub(super) fn change(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        let mut inner = self.inner.lock();
        let key = (kind.resource, namespace.to_owned(), name.to_owned());
        let Some(before) = inner.objects.get(&key).cloned() else {
            return Err(Refusal::not_found(kind.resource, kind.group, name));
        };
        let mut object = (*before).clone();
        change(&mut object)?;
        if object == *before {
            return Ok(before);
        }
        let object = inner.put(key, object, Some(before));
        self.latest.send_replace(inner.version);
        Ok(object)
    }

    /// Takes an object away.
    pub(super) fn remove(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
    ) -> Result<Arc<Value>, Refusal> {
        let mut inner = self.inner.lock();
        let key = (kind.resource, namespace.to_owned(), name.to_owned());
        let Some(before) = inner.objects.get(&key).cloned() else {
            return Err(Refusal::not_found(kind.resource, kind.group, name));
        };
        preconditions.check(kind, name, &before)?;
        inner.objects.remove(&key);
        inner.version += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = inner.version.to_string().into();
        let last = Arc::new(last);
        let version = inner.version;
        inner.record(Change {
            version,
            resource: kind.resource,
            namespace: namespace.into(),
            before: Some(before.clone()),
            after: last,
            deleted: true,
        });
        self.latest.send_replace(inner.version);
        Ok(before)
    }

    /// What happened after a version, as a watch with this selector sees it, and the version up to
    /// which that is.
    pub(super) fn since(
        &self,
        version: u64,
        kind: &Kind,
        namespace: &str,
        selector: &Selector,
    ) -> Result<(u64, Vec<Event>), Refusal> {
        let inner = self.inner.lock();
        if version < inner.oldest {
            return Err(Refusal::expired(version, inner.oldest));
        }
        let from = inner.log.partition_point(|c| c.version <= version);
        let events = inner
            .log
            .range(from..)
            .filter(|c| {
                c.resource == kind.resource && (namespace.is_empty() || c.namespace == namespace)
            })
            .filter_map(|c| c.seen_through(selector))
            .collect();
        Ok((inner.version, events))
    }

    pub(super) fn version(&self) -> u64 {
        self.inner.lock().version
    }

    /// Forgets the history, so that every older resource version is too old.
    pub(super) fn compact(&self) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        inner.oldest = inner.version;
        inner.log.clear();
        self.latest.send_replace(inner.version);
    }
}

impl Preconditions {
    pub(super) fn check(&self, kind: &Kind, name: &str, object: &Value) -> Result<(), Refusal> {
        let meta = &object["metadata"];
        let (uid, version) =
            (meta["uid"].as_str().unwrap_or(""), meta["resourceVersion"].as_str().unwrap_or(""));
        if let Some(wanted) = self.uid.as_deref().filter(|w| *w != uid) {
            let why = format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            );
            return Err(Refusal::conflict(kind.kind, kind.group, name, &why));
        }
        if let Some(wanted) = self.version.as_deref().filter(|w| *w != version) {
            let why = format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
            );
            return Err(Refusal::conflict(kind.kind, kind.group, name, &why));
        }
        Ok(())
    }
}

impl Inner {
    fn put(&mut self, key: Key, mut object: Value, before: Option<Arc<Value>>) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let version = self.version;
        self.record(Change {
            version,
            resource: key.0,
            namespace: key.1.clone(),
            before,
            after: object.clone(),
            deleted: false,
        });
        self.objects.insert(key, object.clone());
        object
    }

    fn record(&mut self, change: Change) {
        self.log.push_back(change);
        while self.log.len() > self.history {
            if let Some(gone) = self.log.pop_front() {
                self.oldest = gone.version;
            }
        }
    }
}

impl Change {
    /// An object that comes into a selector's view is added, one that leaves it deleted.
    fn seen_through(&self, selector: &Selector) -> Option<Event> {
        let was = self.before.as_ref().is_some_and(|b| selector.matches(b));
        let is = !self.deleted && selector.matches(&self.after);
        let kind = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(Event { kind, object: self.after.clone() })
    }
}

/// Gives a new object the metadata a server gives.
pub(super) fn stamp_new(kind: &Kind, namespace: &str, name: &str, object: &mut Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let meta = &mut object["metadata"];
    meta["name"] = name.into();
    if !namespace.is_empty() {
        meta["namespace"] = namespace.into();
    }
    meta["uid"] = new_uid().into();
    meta["creationTimestamp"] = now().into();
    if let Some(map) = meta.as_object_mut() {
        map.remove("deletionTimestamp");
        map.remove("deletionGracePeriodSeconds");
        map.remove("resourceVersion");
        map.remove("managedFields");
    }
    if kind.resource == "pods" {
        meta["generation"] = 1.into();
    }
}

/// Now, as Kubernetes writes times.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A number that no other call in this process returns and that differs between processes.
pub(super) fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Of the thread, so that a cluster in memory does the same whatever else runs beside it; the
    // random state differs between threads.
    thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });
    RandomState::new().hash_one(COUNT.replace(COUNT.get().wrapping_add(1)))
}

/// A UID in the form of a version 4 UUID.
pub(super) fn new_uid() -> String {
    let (a, b) = (unique(), unique());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}
