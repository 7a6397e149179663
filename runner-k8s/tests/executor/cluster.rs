//! Just enough of the Kubernetes API: objects with uids, resource versions and conflicts, and the
//! watch of pods with its history. What a kubelet does is up to the test.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tower::BoxError;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changes: broadcast::Sender<(u64, Value)>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    history: Vec<(u64, Value)>,
    /// What happened up to this version is forgotten.
    compacted: u64,
    requests: Vec<String>,
    /// Answers to give instead, once each: method and path's end.
    faults: Vec<(Method, String, Fault)>,
    minor: u64,
    drops_image_volumes: bool,
}

/// What goes wrong with one request.
#[derive(Clone)]
pub(crate) enum Fault {
    /// It is refused with this code, reason and message.
    Refuse(u16, &'static str, &'static str),
    /// It is carried out, but the answer is lost.
    LoseAnswer,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let state = State { minor: 36, version: 100, ..State::default() };
        let (changes, _) = broadcast::channel(1000);
        Self(Arc::new(Inner { state: Mutex::new(state), changes }))
    }

    pub(crate) fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { cluster.answer(request).await }
        });
        Client::new(service, "ci")
    }

    /// What was asked, without the watch and the managers' signs of life, as `METHOD kind[/name]`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let all = self.0.state.lock().requests.clone();
        all.into_iter().filter(|request| !request.contains("configmaps")).collect()
    }

    pub(crate) fn fault(&self, method: Method, path: &str, fault: Fault) {
        self.0.state.lock().faults.push((method, path.to_owned(), fault));
    }

    /// A server that does not know what newer pods have.
    pub(crate) fn is_old(&self) {
        self.0.state.lock().minor = 30;
    }

    /// A server that says it is new, but has image volumes switched off.
    pub(crate) fn drops_image_volumes(&self) {
        self.0.state.lock().drops_image_volumes = true;
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let state = self.0.state.lock();
        let prefix = format!("{kind}/");
        state
            .objects
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        self.0.state.lock().objects.get(&format!("{kind}/{name}")).cloned()
    }

    /// The only object of a kind.
    pub(crate) fn only(&self, kind: &str) -> Value {
        let names = self.names(kind);
        assert_eq!(names.len(), 1, "{names:?}");
        self.object(kind, &names[0]).unwrap()
    }

    /// Something that is there already.
    pub(crate) fn has(&self, kind: &str, namespace: &str, name: &str, labels: Value) {
        let metadata = json!({
            "name": name, "namespace": namespace, "uid": format!("uid-{name}"), "labels": labels,
        });
        let object = json!({ "metadata": metadata });
        self.store(&mut self.0.state.lock(), kind, name, object, "ADDED");
    }

    /// What the kubelet would say.
    pub(crate) fn set_status(&self, pod: &str, status: Value) {
        let mut state = self.0.state.lock();
        let mut object = state.objects[&format!("pods/{pod}")].clone();
        object["status"] = status;
        self.store(&mut state, "pods", pod, object, "MODIFIED");
    }

    pub(crate) fn delete_pod(&self, pod: &str) {
        let mut state = self.0.state.lock();
        self.remove(&mut state, "pods", pod);
    }

    /// Forgets what happened to pods, as compaction does.
    pub(crate) fn compact(&self) {
        let mut state = self.0.state.lock();
        state.history.clear();
        state.compacted = state.version;
    }

    fn store(&self, state: &mut State, kind: &str, name: &str, mut object: Value, change: &str) {
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(format!("{kind}/{name}"), object.clone());
        self.announce(state, kind, change, object);
    }

    fn remove(&self, state: &mut State, kind: &str, name: &str) {
        let Some(mut object) = state.objects.remove(&format!("{kind}/{name}")) else { return };
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        self.announce(state, kind, "DELETED", object);
    }

    fn announce(&self, state: &mut State, kind: &str, change: &str, object: Value) {
        if kind == "pods" {
            let event = json!({ "type": change, "object": object });
            state.history.push((state.version, event.clone()));
            let _ = self.0.changes.send((state.version, event));
        }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Answer>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        if path == "/version" {
            let minor = self.0.state.lock().minor.to_string();
            return Ok(reply(200, &version(&minor)));
        }
        if path.starts_with("/apis/coordination.k8s.io/") {
            // The official chart's role grants the core group only.
            return Ok(refuse(403, "Forbidden", "leases are forbidden"));
        }
        let rest = path.strip_prefix("/api/v1/").ok_or("another path")?;
        // What is in a namespace, namespaces themselves, or a list of the whole cluster.
        let rest = match rest.splitn(3, '/').collect::<Vec<_>>()[..] {
            ["namespaces", _, inside] => inside,
            _ => rest,
        };
        let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
        let query: BTreeMap<_, _> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                (key, value.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/"))
            })
            .collect();
        if query.contains_key("watch") {
            return Ok(self.watch(&query));
        }
        let fault = {
            let mut state = self.0.state.lock();
            state.requests.push(format!("{} {rest}", parts.method));
            let at = state.faults.iter().position(|(method, end, _)| {
                *method == parts.method && rest.ends_with(end.as_str())
            });
            at.map(|at| state.faults.remove(at).2)
        };
        if let Some(Fault::Refuse(code, reason, message)) = fault {
            return Ok(refuse(code, reason, message));
        }
        let reply = self.carry_out(&parts.method, kind, name, body, &query);
        match fault {
            Some(Fault::LoseAnswer) => Err("connection reset by peer".into()),
            _ => Ok(reply),
        }
    }

    fn carry_out(
        &self,
        method: &Method,
        kind: &str,
        name: &str,
        mut body: Value,
        query: &BTreeMap<&str, String>,
    ) -> Response<Answer> {
        let mut state = self.0.state.lock();
        let key = format!("{kind}/{name}");
        let there = state.objects.get(&key).cloned();
        let current = |object: &Value| object["metadata"]["resourceVersion"].clone();
        match (method.as_str(), there) {
            ("GET", _) if name.is_empty() => {
                let selector = query.get("labelSelector").map_or("", String::as_str);
                let prefix = format!("{kind}/");
                let items: Vec<_> = state
                    .objects
                    .iter()
                    .filter(|(key, object)| key.starts_with(&prefix) && selects(selector, object))
                    .map(|(_, object)| object.clone())
                    .collect();
                let version = state.version.to_string();
                reply(
                    200,
                    &json!({
                        "apiVersion": "v1", "kind": "List", "items": items,
                        "metadata": { "resourceVersion": version },
                    }),
                )
            }
            ("GET", Some(object)) => reply(200, &object),
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                if state.objects.contains_key(&format!("{kind}/{name}")) {
                    return refuse(409, "AlreadyExists", "it already exists");
                }
                state.version += 1;
                body["metadata"]["uid"] = json!(format!("uid-{}", state.version));
                if state.drops_image_volumes {
                    for volume in body["spec"]["volumes"].as_array_mut().into_iter().flatten() {
                        if volume.as_object_mut().unwrap().remove("image").is_some() {
                            volume["emptyDir"] = json!({});
                        }
                    }
                }
                self.store(&mut state, kind, &name, body, "ADDED");
                reply(201, &state.objects[&format!("{kind}/{name}")])
            }
            ("PUT", Some(object)) => {
                if !body["metadata"]["resourceVersion"].is_null()
                    && current(&body) != current(&object)
                {
                    return refuse(409, "Conflict", "the object has been modified");
                }
                body["metadata"]["uid"] = object["metadata"]["uid"].clone();
                self.store(&mut state, kind, name, body, "MODIFIED");
                reply(200, &state.objects[&key])
            }
            ("DELETE", Some(object)) => {
                let wanted = &body["preconditions"];
                for field in ["uid", "resourceVersion"] {
                    if !wanted[field].is_null() && wanted[field] != object["metadata"][field] {
                        return refuse(409, "Conflict", "the precondition does not hold");
                    }
                }
                self.remove(&mut state, kind, name);
                reply(200, &json!({ "kind": "Status", "status": "Success", "metadata": {} }))
            }
            _ => refuse(404, "NotFound", "not found"),
        }
    }

    fn watch(&self, query: &BTreeMap<&str, String>) -> Response<Answer> {
        let selector = query.get("labelSelector").cloned().unwrap_or_default();
        let from: u64 = query["resourceVersion"].parse().unwrap();
        let state = self.0.state.lock();
        let line =
            |event: &Value| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n"))));
        if from < state.compacted {
            let expired = json!({ "type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                "reason": "Expired", "message": "too old resource version", "metadata": {},
            }});
            let body = StreamBody::new(stream::iter([line(&expired)]));
            return Response::new(body.boxed_unsync());
        }
        let changes = self.0.changes.subscribe();
        let past: Vec<_> = state
            .history
            .iter()
            .filter(|(version, event)| *version > from && selects(&selector, &event["object"]))
            .map(|(_, event)| line(event))
            .collect();
        let last = state.version;
        drop(state);
        let live = stream::unfold(changes, |mut changes| async {
            changes.recv().await.ok().map(|change| (change, changes))
        })
        .filter_map(move |(version, event)| {
            let wanted = version > last && selects(&selector, &event["object"]);
            async move { wanted.then(|| line(&event)) }
        });
        let all = stream::iter(past).chain(live);
        // A watch of one second is over when what is known has been said.
        let all = match query.get("timeoutSeconds").map(String::as_str) {
            Some("1") => {
                all.take_until(tokio::time::sleep(std::time::Duration::from_millis(50))).boxed()
            }
            _ => all.boxed(),
        };
        Response::new(StreamBody::new(all).boxed_unsync())
    }
}

fn selects(selector: &str, object: &Value) -> bool {
    selector.split(',').filter_map(|pair| pair.split_once('=')).all(|(key, value)| {
        object["metadata"]["labels"][key.trim_end_matches('=')]
            == json!(value.trim_start_matches('='))
    })
}

fn version(minor: &str) -> Value {
    let text = "";
    json!({
        "major": "1", "minor": minor, "gitVersion": text, "gitCommit": text, "gitTreeState": text,
        "buildDate": text, "goVersion": text, "compiler": text, "platform": text,
    })
}

fn reply(code: u16, body: &Value) -> Response<Answer> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn refuse(code: u16, reason: &str, message: &str) -> Response<Answer> {
    reply(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        }),
    )
}
