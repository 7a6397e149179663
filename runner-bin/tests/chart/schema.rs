//! Every object is made of nothing but what Kubernetes knows.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::render::rendered;

/// What the type does not know is gone after it has been read and written.
fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", object["metadata"]["name"]));
    serde_json::to_value(typed).unwrap()
}

/// Whether Kubernetes' own types know the kind.
fn known(object: &Value) -> Option<Value> {
    Some(match object["kind"].as_str().unwrap() {
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "Deployment" => through::<Deployment>(object),
        "HorizontalPodAutoscaler" => through::<HorizontalPodAutoscaler>(object),
        "Ingress" => through::<Ingress>(object),
        "NetworkPolicy" => through::<NetworkPolicy>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "Secret" => through::<Secret>(object),
        "Service" => through::<Service>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        _ => return None,
    })
}

/// Where the first has something that the second has not.
fn lost(left: &Value, right: &Value, path: &str, out: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), right) => {
            for (key, value) in left {
                lost(value, &right[key], &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (number, (left, right)) in left.iter().zip(right).enumerate() {
                lost(left, right, &format!("{path}[{number}]"), out);
            }
        }
        (Value::Null, _) => out.push(format!("{path} is empty")),
        (left, right) if left != right => out.push(format!("{path}: {left} became {right}")),
        _ => {}
    }
}

#[test]
fn no_field_is_unknown_to_kubernetes() {
    let mut foreign = Vec::new();
    for name in crate::FILES {
        for object in rendered(name) {
            let Some(read) = known(&object) else {
                foreign.push(object["apiVersion"].as_str().unwrap().to_owned());
                continue;
            };
            let mut out = Vec::new();
            lost(&object, &read, &format!("{name}: {}", object["kind"]), &mut out);
            assert!(out.is_empty(), "{out:#?}");
        }
    }
    // Other people's kinds, of which there are no types here.
    foreign.sort();
    foreign.dedup();
    assert_eq!(foreign, ["external-secrets.io/v1", "monitoring.coreos.com/v1"]);
}

#[test]
fn a_field_that_kubernetes_does_not_know_would_be_found() {
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a" },
        "spec": { "ports": [{ "port": 1, "targetport": 2 }] },
    });
    let mut out = Vec::new();
    lost(&object, &known(&object).unwrap(), "", &mut out);
    assert_eq!(out, [".spec.ports[0].targetport: 2 became null"]);
}
