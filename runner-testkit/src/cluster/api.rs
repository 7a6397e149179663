//! The API: authentication, faults, authorisation, and what each verb does.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::controllers;
use super::faults::Fault;
use super::kinds::{
    self, DEPLOYMENTS, Kind, LEASES, NAMESPACES, PODS, RESOURCE_QUOTAS, SERVICE_ACCOUNTS,
};
use super::kubelet::pod::{self, PodOrder};
use super::line::Line;
use super::logs;
use super::rbac::User;
use super::refusal::{self, Refusal};
use super::route::Route;
use super::selector::Selector;
use super::server::{Body, full};
use super::shared::Shared;
use super::store::{self, Preconditions};
use super::stream;
use super::validate;
use super::watch::Watch;

const MAX_BODY: usize = 3 << 20;

/// Answers one request.
pub(super) async fn serve(
    shared: Arc<Shared>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Response<Body> {
    match answer(&shared, &line, request).await {
        Ok(response) => response,
        Err(refusal) => refused(&refusal),
    }
}

/// The answer to a request that is refused.
pub(super) fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = match &refusal.body {
        refusal::Body::Status(status) => json_answer(refusal.code, status),
        refusal::Body::Text(text) => {
            let mut response = Response::new(full(text.clone()));
            let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, plain);
            response
        }
    };
    *response.status_mut() = http::StatusCode::from_u16(refusal.code).unwrap_or_default();
    if let Some(after) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, after.as_secs().into());
    }
    response
}

fn json_answer(code: u16, object: &Value) -> Response<Body> {
    let mut response = Response::new(full(object.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

async fn answer(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let authorization =
        request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let user = shared.tokens.lock().user(authorization.as_deref()).cloned();
    let Some(route) = Route::parse(request.uri()) else {
        shared.count("get", request.uri().path());
        return discovery(request.uri().path());
    };
    let verb = route.verb(request.method());
    let resource = route.full_resource();
    shared.count(verb, &resource);
    let fault = shared.faults.take(verb, &resource);
    match fault {
        Some(Fault::Conflict) => {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Refusal::conflict(&route.resource, &route.group, &route.name, why));
        }
        Some(Fault::Gone) => return Err(Refusal::expired(1, shared.store.version())),
        Some(Fault::TooManyRequests { retry_after }) => {
            return Err(Refusal::too_many(retry_after));
        }
        Some(Fault::Internal) => return Err(Refusal::internal("fault injection")),
        Some(Fault::Unavailable) => return Err(Refusal::unavailable()),
        Some(Fault::Drop) => {
            line.cut();
            return Err(Refusal::unavailable());
        }
        Some(Fault::Delay(time)) => sleep(time).await,
        Some(Fault::LoseAnswer) | None => {}
    }
    let Some(user) = user else { return Err(Refusal::unauthorized()) };
    let response = authorised(shared, line, &user, &route, verb, request).await;
    if fault == Some(Fault::LoseAnswer) {
        line.cut();
    }
    response
}

fn discovery(path: &str) -> Result<Response<Body>, Refusal> {
    let object = match path.trim_end_matches('/') {
        "/version" => json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.2+simulated", "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
            "compiler": "", "platform": "linux/amd64",
        }),
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => {
            let group = |name: &str| {
                let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
                json!({"name": name, "versions": [version], "preferredVersion": version})
            };
            let groups = [group("coordination.k8s.io"), group("authorization.k8s.io")];
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        "/api/v1" => {
            let resources: Vec<Value> = kinds::ALL
                .iter()
                .filter(|k| k.group.is_empty())
                .map(|k| json!({"name": k.resource, "kind": k.kind, "namespaced": k.namespaced, "singularName": "", "verbs": []}))
                .collect();
            json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources})
        }
        "/healthz" | "/livez" | "/readyz" => return Ok(Response::new(full("ok"))),
        _ => return Err(Refusal::text(404, "404 page not found\n")),
    };
    Ok(json_answer(200, &object))
}

async fn authorised(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    user: &User,
    route: &Route,
    verb: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if route.resource == "selfsubjectaccessreviews" {
        let review: Value = parse(&read(request).await?, "SelfSubjectAccessReview")?;
        return Ok(json_answer(201, &access_review(user, review)));
    }
    if route.namespace.is_empty() && request.method() == Method::POST && route.resource == "pods" {
        return Err(Refusal::method());
    }
    authorise(user, route, verb)?;
    // A websocket is a GET, but runs a program as a POST does; real servers ask for both from 1.35 on.
    let stream = matches!(route.subresource.as_str(), "exec" | "attach");
    if stream && verb == "get" {
        authorise(user, route, "create")?;
    }
    let Some(kind) = Kind::find(&route.group, &route.version, &route.resource) else {
        return Err(Refusal::no_resource());
    };
    if kind == &PODS && !route.subresource.is_empty() {
        return match route.subresource.as_str() {
            "exec" | "attach" => stream::open(shared, line, route, request).await,
            "log" if verb == "get" => logs::serve(shared, route),
            "status" if verb == "get" => get(shared, kind, route),
            _ => Err(Refusal::no_resource()),
        };
    }
    if !route.subresource.is_empty() {
        return Err(Refusal::no_resource());
    }
    match verb {
        "get" => get(shared, kind, route),
        "list" => list(shared, kind, route),
        "watch" => watch(shared, kind, route),
        "create" if route.name.is_empty() => {
            let object = parse(&read(request).await?, kind.kind)?;
            create(shared, kind, route, object)
        }
        "update" if !route.name.is_empty() => {
            let object = parse(&read(request).await?, kind.kind)?;
            update(shared, kind, route, object)
        }
        "patch" if kind == &PODS && !route.name.is_empty() => {
            let merge = "application/merge-patch+json";
            if request.headers().get(CONTENT_TYPE).is_none_or(|found| found != merge) {
                return Err(Refusal::bad_request("only merge patches are simulated"));
            }
            let change = parse(&read(request).await?, kind.kind)?;
            controllers::patch_pod(shared, route, &change).map(|pod| json_answer(200, &pod))
        }
        "delete" => {
            let options = read(request).await?;
            let options =
                if options.is_empty() { json!({}) } else { parse(&options, "DeleteOptions")? };
            delete(shared, kind, route, &options)
        }
        _ => Err(Refusal::method()),
    }
}

fn authorise(user: &User, route: &Route, verb: &str) -> Result<(), Refusal> {
    let resource = route.full_resource();
    if user.may(verb, &route.group, &resource, &route.namespace) {
        return Ok(());
    }
    let place = if route.namespace.is_empty() {
        "at the cluster scope".into()
    } else {
        format!("in the namespace {:?}", route.namespace)
    };
    let why = format!(
        "User {:?} cannot {verb} resource {resource:?} in API group {:?} {place}",
        user.name, route.group
    );
    Err(Refusal::forbidden(&route.resource, &route.group, &route.name, &why))
}

fn access_review(user: &User, mut review: Value) -> Value {
    let asked = &review["spec"]["resourceAttributes"];
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        sub => format!("{}/{sub}", text("resource")),
    };
    let allowed = user.may(text("verb"), text("group"), &resource, text("namespace"));
    review["apiVersion"] = "authorization.k8s.io/v1".into();
    review["kind"] = "SelfSubjectAccessReview".into();
    review["metadata"] = json!({});
    review["status"] = json!({"allowed": allowed});
    review
}

async fn read(request: Request<Incoming>) -> Result<bytes::Bytes, Refusal> {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::too_large()),
        Err(error) => Err(Refusal::bad_request(format!("unable to read the body: {error}"))),
    }
}

fn parse(bytes: &[u8], kind: &str) -> Result<Value, Refusal> {
    let why = match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() => return Ok(value),
        Ok(_) => "json: cannot unmarshal into Go value of type struct".into(),
        Err(error) => error.to_string(),
    };
    Err(Refusal::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}"
    )))
}

fn selector(route: &Route) -> Result<Selector, Refusal> {
    Selector::parse(route.query.get("labelSelector"), route.query.get("fieldSelector"))
}

fn get(shared: &Shared, kind: &Kind, route: &Route) -> Result<Response<Body>, Refusal> {
    match shared.store.get(kind, &route.namespace, &route.name) {
        Some(object) => Ok(json_answer(200, &object)),
        None => Err(Refusal::not_found(kind.resource, kind.group, &route.name)),
    }
}

fn list(shared: &Shared, kind: &Kind, route: &Route) -> Result<Response<Body>, Refusal> {
    let (version, items) = shared.store.list(kind, &route.namespace, &selector(route)?);
    if let Some(asked) = route.query.number("resourceVersion").filter(|a| *a > version) {
        return Err(Refusal::too_large_version(asked, version));
    }
    let items: Vec<Value> = items
        .iter()
        .map(|item| {
            // Items of a list do not say what they are.
            let mut item = (**item).clone();
            if let Some(map) = item.as_object_mut() {
                map.remove("kind");
                map.remove("apiVersion");
            }
            item
        })
        .collect();
    let list = json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    });
    Ok(json_answer(200, &list))
}

fn watch(
    shared: &Arc<Shared>,
    kind: &'static Kind,
    route: &Route,
) -> Result<Response<Body>, Refusal> {
    let from = route.query.number("resourceVersion").filter(|v| *v > 0);
    let watch = Watch {
        kind,
        namespace: route.namespace.clone(),
        selector: selector(route)?,
        from,
        bookmarks: route.query.is("allowWatchBookmarks"),
        initial_events: route.query.is("sendInitialEvents"),
        // A real server picks a random time from 30 to 60 minutes.
        timeout: Duration::from_secs(route.query.number("timeoutSeconds").unwrap_or(1800)),
    };
    let mut response = Response::new(watch.start(shared.clone()));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn create(
    shared: &Arc<Shared>,
    kind: &'static Kind,
    route: &Route,
    mut object: Value,
) -> Result<Response<Body>, Refusal> {
    let namespace = &route.namespace;
    let stated = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if !stated.is_empty() && stated != namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let mut name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
    if name.is_empty() && !prefix.is_empty() {
        name = format!("{prefix}{:05x}", store::unique() & 0xf_ffff);
    }
    if kind.namespaced && shared.store.get(&NAMESPACES, "", namespace).is_none() {
        return Err(Refusal::not_found("namespaces", "", namespace));
    }
    // Admission plugins see the object before it is validated, and before it is looked up.
    if kind == &PODS {
        admit_pod(shared, namespace, &name, &object)?;
    }
    validate::admit(kind, &name, &mut object)?;
    if kind == &PODS {
        quota(shared, namespace, &name)?;
    }
    if route.query.get("dryRun") == "All" {
        if shared.store.get(kind, namespace, &name).is_some() {
            return Err(Refusal::exists(kind, &name));
        }
        store::stamp_new(kind, namespace, &name, &mut object);
        return Ok(json_answer(201, &object));
    }
    let object = shared.store.create(kind, namespace, &name, object)?;
    if kind == &PODS {
        pod::spawn(shared, &object);
    }
    if kind == &DEPLOYMENTS {
        controllers::deployment(shared, &object);
    }
    if kind == &NAMESPACES {
        controllers::namespace(shared, &name);
    }
    Ok(json_answer(201, &object))
}

fn admit_pod(shared: &Shared, namespace: &str, name: &str, pod: &Value) -> Result<(), Refusal> {
    if let Some(why) = shared.admission.lock().as_deref() {
        return Err(Refusal::webhook("policy.example.com", why));
    }
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    if shared.store.get(&SERVICE_ACCOUNTS, namespace, account).is_none() {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        return Err(Refusal::forbidden("pods", "", name, &why));
    }
    Ok(())
}

fn quota(shared: &Shared, namespace: &str, name: &str) -> Result<(), Refusal> {
    if shared.store.get(&PODS, namespace, name).is_some() {
        return Err(Refusal::exists(&PODS, name));
    }
    let (_, quotas) = shared.store.list(&RESOURCE_QUOTAS, namespace, &Selector::default());
    let (_, pods) = shared.store.list(&PODS, namespace, &Selector::default());
    let ended = |p: &Value| matches!(p["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let used = pods.iter().filter(|p| !ended(p)).count() as u64;
    for quota in quotas {
        let hard = &quota["spec"]["hard"]["pods"];
        let hard = hard.as_u64().or(hard.as_str().and_then(|h| h.parse().ok()));
        if let Some(hard) = hard.filter(|h| used + 1 > *h) {
            let quota = quota["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!(
                "exceeded quota: {quota}, requested: pods=1, used: pods={used}, limited: pods={hard}"
            );
            return Err(Refusal::forbidden("pods", "", name, &why));
        }
    }
    Ok(())
}

fn update(
    shared: &Arc<Shared>,
    kind: &'static Kind,
    route: &Route,
    mut object: Value,
) -> Result<Response<Body>, Refusal> {
    let (namespace, name) = (&route.namespace, &route.name);
    let stated = object["metadata"]["name"].as_str().unwrap_or_default();
    if stated != name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({stated}) does not match the name on the URL ({name})"
        )));
    }
    let exists = shared.store.get(kind, namespace, name).is_some();
    // The one kind of ours that a PUT makes, whatever version it names (seen on 1.36).
    if !exists && kind == &LEASES {
        object["metadata"]["resourceVersion"] = Value::Null;
        return create(shared, kind, route, object);
    }
    if !exists {
        return Err(Refusal::not_found(kind.resource, kind.group, name));
    }
    if kind == &PODS {
        // Nearly all of a pod cannot be changed, and no pod-per-job client has to.
        return Err(Refusal::method());
    }
    validate::admit(kind, name, &mut object)?;
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    if version.is_empty() && kind == &LEASES {
        return Err(Refusal::unversioned(kind, name));
    }
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let dry = route.query.get("dryRun") == "All";
    let mut dried = None;
    let changed = shared.store.change(kind, namespace, name, |stored| {
        let meta = stored["metadata"].clone();
        if !version.is_empty() && meta["resourceVersion"] != version.as_str() {
            return Err(Refusal::modified(kind, name));
        }
        let own = meta["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && own != uid {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
            );
            return Err(Refusal::conflict(kind.resource, kind.group, name, &why));
        }
        if stored["immutable"] == true && stored["data"] != object["data"] {
            let why = "field is immutable when `immutable` is set";
            let cause = refusal::Cause {
                reason: "FieldValueForbidden",
                field: "data".into(),
                message: format!("Forbidden: {why}"),
            };
            return Err(Refusal::invalid(kind, name, &[cause]));
        }
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove("managedFields");
        }
        for key in ["uid", "creationTimestamp", "namespace", "resourceVersion"] {
            object["metadata"][key] = meta[key].clone();
        }
        object["apiVersion"] = stored["apiVersion"].clone();
        object["kind"] = stored["kind"].clone();
        if dry {
            dried = Some(object);
        } else {
            *stored = object;
        }
        Ok(())
    })?;
    if kind == &DEPLOYMENTS {
        controllers::deployment(shared, &changed);
    }
    Ok(json_answer(200, dried.as_ref().unwrap_or(&changed)))
}

fn delete(
    shared: &Arc<Shared>,
    kind: &'static Kind,
    route: &Route,
    options: &Value,
) -> Result<Response<Body>, Refusal> {
    let wanted = &options["preconditions"];
    let text = |key: &str| wanted[key].as_str().map(str::to_owned);
    let preconditions = Preconditions { uid: text("uid"), version: text("resourceVersion") };
    if kind == &PODS {
        let grace = options["gracePeriodSeconds"]
            .as_u64()
            .or_else(|| route.query.number("gracePeriodSeconds"));
        let pod = delete_pod(shared, &route.namespace, &route.name, grace, &preconditions)?;
        return Ok(json_answer(200, &pod));
    }
    let last = shared.store.remove(kind, &route.namespace, &route.name, &preconditions)?;
    if kind == &NAMESPACES {
        controllers::empty(shared, &route.name);
    }
    controllers::collect(shared, &last);
    let mut details = json!({"name": route.name, "kind": kind.resource});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    details["uid"] = last["metadata"]["uid"].clone();
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    Ok(json_answer(200, &status))
}

/// Deletes a pod as the API server does: at once where nothing can run, else by asking the kubelet.
pub(super) fn delete_pod(
    shared: &Shared,
    namespace: &str,
    name: &str,
    grace: Option<u64>,
    preconditions: &Preconditions,
) -> Result<Arc<Value>, Refusal> {
    let mut at_once = false;
    let mut given = 0;
    let pod = shared.store.change(&PODS, namespace, name, |pod| {
        preconditions.check(&PODS, name, pod)?;
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let ended = matches!(phase, "Succeeded" | "Failed");
        let unscheduled = pod["spec"]["nodeName"].is_null();
        let own = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        let mut seconds = if ended || unscheduled { 0 } else { grace.unwrap_or(own) };
        let before = pod["metadata"]["deletionGracePeriodSeconds"].as_u64();
        // A second deletion can only shorten the first one's time.
        seconds = before.map_or(seconds, |b| b.min(seconds));
        at_once = seconds == 0;
        given = seconds;
        if before != Some(seconds) {
            let deadline = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_secs(
                i64::try_from(seconds).unwrap_or(0),
            ));
            if let Ok(deadline) = deadline {
                let text = deadline.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                pod["metadata"]["deletionTimestamp"] = text.into();
            }
            pod["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
            let generation = pod["metadata"]["generation"].as_u64().unwrap_or(1);
            if before.is_none() {
                pod["metadata"]["generation"] = (generation + 1).into();
            }
        }
        Ok(())
    })?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    if at_once {
        shared.store.remove(&PODS, namespace, name, &Preconditions::default())?;
        shared.order(uid, PodOrder::Forget);
    } else {
        shared.order(uid, PodOrder::Delete { grace: Duration::from_secs(given) });
    }
    Ok(pod)
}
