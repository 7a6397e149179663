//! What a controller manager does, as far as clients can tell: Deployments have their pods, and what
//! belongs to an object that is gone goes too.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::delete_pod;
use super::kinds::{ALL, DEPLOYMENTS, PODS, SERVICE_ACCOUNTS};
use super::kubelet::pod::{self, PodOrder};
use super::refusal::{Cause, Refusal};
use super::route::Route;
use super::selector::Selector;
use super::shared::Shared;
use super::store::{Preconditions, unique};
use super::validate;

/// Makes or deletes pods until there are as many as the Deployment asks for. There are no
/// ReplicaSets in between, and a pod that fails is not replaced before the Deployment changes.
pub(super) fn deployment(shared: &Arc<Shared>, deployment: &Value) {
    let meta = &deployment["metadata"];
    let text = |key: &str| meta[key].as_str().unwrap_or_default();
    let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
    let mine = owned(shared, &PODS, uid);
    for pod in mine.iter().skip(wanted) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        drop(delete_pod(shared, namespace, name, None, &Preconditions::default()));
    }
    for _ in mine.len()..wanted {
        let template = &deployment["spec"]["template"];
        let pod_name = format!("{name}-{:05x}", unique() & 0xf_ffff);
        let mut object = json!({ "metadata": template["metadata"], "spec": template["spec"] });
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": DEPLOYMENTS.api_version(), "kind": DEPLOYMENTS.kind, "name": name,
            "uid": uid, "controller": true,
        }]);
        // A template that is no pod makes none, as in a real cluster.
        if validate::admit(&PODS, &pod_name, &mut object).is_ok()
            && let Ok(pod) = shared.store.create(&PODS, namespace, &pod_name, object)
        {
            pod::spawn(shared, &pod);
        }
    }
}

/// A new namespace gets its service account.
pub(super) fn namespace(shared: &Shared, name: &str) {
    drop(shared.store.create(&SERVICE_ACCOUNTS, name, "default", json!({})));
}

/// Changes what can be changed of a pod that runs: labels, annotations, and a deadline that was not
/// set or becomes shorter.
pub(super) fn patch_pod(
    shared: &Shared,
    route: &Route,
    change: &Value,
) -> Result<Arc<Value>, Refusal> {
    let allowed = |part: &str, keys: &[&str]| {
        let mut given = change[part].as_object().into_iter().flatten();
        given.all(|(key, _)| keys.contains(&key.as_str()))
    };
    let metadata = ["uid", "resourceVersion", "labels", "annotations"];
    let spec = ["activeDeadlineSeconds"];
    let forbidden = |field: &str, message: &str| {
        let (reason, field) = ("FieldValueForbidden", field.to_owned());
        let cause = Cause { reason, field, message: format!("Forbidden: {message}") };
        Refusal::invalid(&PODS, &route.name, &[cause])
    };
    if !allowed("metadata", &metadata) || !allowed("spec", &spec) {
        return Err(forbidden("spec", "pod updates may not change fields other than these"));
    }
    let deadline = change["spec"]["activeDeadlineSeconds"].as_u64();
    let text = |key: &str| change["metadata"][key].as_str().map(str::to_owned);
    let preconditions = Preconditions { uid: text("uid"), version: text("resourceVersion") };
    let pod = shared.store.change(&PODS, &route.namespace, &route.name, |pod| {
        preconditions.check(&PODS, &route.name, pod)?;
        for key in ["labels", "annotations"] {
            for (name, value) in change["metadata"][key].as_object().into_iter().flatten() {
                let map = &mut pod["metadata"][key];
                match (value.is_null(), map.as_object_mut()) {
                    (true, Some(map)) => drop(map.remove(name)),
                    (true, None) => {}
                    (false, _) => map[name] = value.clone(),
                }
            }
        }
        if let Some(deadline) = deadline {
            let place = &mut pod["spec"]["activeDeadlineSeconds"];
            if place.as_u64().is_some_and(|before| deadline > before) {
                let message = "must be less than or equal to previous value";
                return Err(forbidden("spec.activeDeadlineSeconds", message));
            }
            *place = deadline.into();
        }
        Ok(())
    })?;
    if let Some(seconds) = deadline {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        shared.order(uid, PodOrder::Deadline(Duration::from_secs(seconds)));
    }
    Ok(pod)
}

fn owned(shared: &Shared, kind: &super::kinds::Kind, uid: &str) -> Vec<Arc<Value>> {
    let (_, mut objects) = shared.store.list(kind, "", &Selector::default());
    objects.retain(|object| {
        let owners = object["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|all| !all.is_empty() && all.iter().all(|owner| owner["uid"] == uid))
    });
    objects
}

/// Deletes what belongs to an object that is gone.
pub(super) fn collect(shared: &Arc<Shared>, gone: &Value) {
    let uid = gone["metadata"]["uid"].as_str().unwrap_or_default();
    for kind in ALL {
        for object in owned(shared, kind, uid) {
            remove(shared, kind, &object);
        }
    }
}

/// Deletes everything in a namespace.
pub(super) fn empty(shared: &Arc<Shared>, namespace: &str) {
    for kind in ALL.into_iter().filter(|kind| kind.namespaced) {
        for object in shared.store.list(kind, namespace, &Selector::default()).1 {
            remove(shared, kind, &object);
        }
    }
}

fn remove(shared: &Arc<Shared>, kind: &'static super::kinds::Kind, object: &Value) {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    let (namespace, name, any) = (text("namespace"), text("name"), Preconditions::default());
    // Somebody else may have been faster.
    if kind == &PODS {
        drop(delete_pod(shared, namespace, name, None, &any));
    } else {
        drop(shared.store.remove(kind, namespace, name, &any));
    }
}
