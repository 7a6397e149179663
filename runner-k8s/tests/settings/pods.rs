//! Pods of any sensible settings are pods to whoever looks at them.

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use runner_k8s::settings::{KubernetesSettings, RawSettings};
use runner_testkit::cluster::{Cluster, ClusterSettings};
use serde_json::Value;

use crate::generator::sensible;
use crate::taste::VALID;
use crate::world::{Seen, job, see, with_init_container};

/// A pod of sensible settings; `None`: they contradict each other, and are refused with words.
fn of(seed: u64, change: impl Fn(&mut RawSettings)) -> Option<(RawSettings, Seen)> {
    let mut raw: RawSettings = sensible(seed, VALID);
    change(&mut raw);
    let settings = KubernetesSettings::resolve(&raw).ok()?;
    let seen = see(&job(), &settings).ok()?;
    Some((raw, seen))
}

/// As the API types have it: a field that they do not know, or that has another type, is lost.
fn typed(pod: &Value) -> Result<Value, String> {
    let pod: Pod = serde_json::from_value(pod.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(pod).map_err(|error| error.to_string())
}

/// Without what is newer than the oldest API types: restart rules.
fn without_rules(mut pod: Value) -> Value {
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container.as_object_mut().unwrap().remove("restartPolicyRules");
    }
    pod
}

/// What means the same whether it is there or not.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, without_nothing(value)));
            let matters = |value: &Value| match value {
                Value::Object(fields) => !fields.is_empty(),
                Value::Array(list) => !list.is_empty(),
                Value::String(text) => !text.is_empty(),
                _ => true,
            };
            Value::Object(fields.filter(|(_, value)| matters(value)).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_nothing).collect()),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_pod_of_any_sensible_settings_is_one_to_the_api_types(seed: u64) {
        if let Some((raw, seen)) = of(seed, |_| ()) {
            for pod in [seen.built.pod.to_value(), with_init_container(&seen)] {
                let pod = without_rules(pod);
                let typed = typed(&pod);
                prop_assert!(typed.is_ok(), "{typed:?}\n{}", toml::to_string(&raw).unwrap());
                let (typed, pod) = (without_nothing(typed.unwrap()), without_nothing(pod));
                prop_assert!(typed == pod, "{}", first_difference(&typed, &pod, ""));
            }
        }
    }
}

/// Where two values differ, and how.
fn first_difference(one: &Value, other: &Value, path: &str) -> String {
    let inner = |key: &str, a: &Value, b: &Value| {
        (a != b).then(|| first_difference(a, b, &format!("{path}/{key}")))
    };
    let found = match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys()).find_map(|key| inner(key, &one[key], &other[key]))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| inner(&at.to_string(), a, b))
        }
        _ => None,
    };
    found.unwrap_or_else(|| format!("{path}: {one} and {other}"))
}

/// A generator whose settings are mostly refused would show nothing.
#[test]
fn most_sensible_settings_make_a_pod() {
    let made = (0..1000).filter(|seed| of(seed * 7919, |_| ()).is_some()).count();
    assert!(made > 600, "{made} of 1000");
}

#[tokio::test]
async fn a_pod_of_any_sensible_settings_passes_the_simulated_clusters_checks() {
    let cluster = Cluster::start(ClusterSettings::default()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = kube::config::Kubeconfig::from_yaml(&cluster.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let namespace = cluster.namespace().to_owned();
    for seed in 0..150 {
        let change = |raw: &mut RawSettings| {
            raw.namespace.clone_from(&namespace);
            raw.namespace_per_job = false;
        };
        let Some((raw, seen)) = of(seed * 104_729, change) else { continue };
        for pod in [seen.built.pod.to_value(), with_init_container(&seen)] {
            let answer = dry_run(&client, &namespace, &pod).await;
            assert!(answer.is_ok(), "{answer:?}\n{}", toml::to_string(&raw).unwrap());
        }
    }
}

/// What the real one says knows every rule. `PODWRIGHT_E2E_PODS` is how many pods are tried, 300 if it
/// is not set.
#[tokio::test]
async fn a_pod_of_any_sensible_settings_is_accepted_by_a_real_api_server() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(kubeconfig) = variable("PODWRIGHT_E2E_KUBECONFIG") else {
        eprintln!("left out: PODWRIGHT_E2E_KUBECONFIG names no cluster");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let namespace = variable("PODWRIGHT_E2E_NAMESPACE").unwrap_or_else(|| "default".to_owned());
    let count = variable("PODWRIGHT_E2E_PODS").map_or(300, |count| count.parse().unwrap());
    let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let mut refused = std::collections::BTreeMap::new();
    for seed in 0..count {
        let change = |raw: &mut RawSettings| {
            raw.namespace.clone_from(&namespace);
            raw.namespace_per_job = false;
        };
        let Some((raw, seen)) = of(seed * 15_485_863, change) else { continue };
        for pod in [seen.built.pod.to_value(), with_init_container(&seen)] {
            if let Err(error) = dry_run(&client, &namespace, &pod).await {
                refused.entry(error.to_string()).or_insert(toml::to_string(&raw).unwrap());
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

async fn dry_run(client: &kube::Client, namespace: &str, pod: &Value) -> kube::Result<Value> {
    let url = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict");
    let request = http::Request::post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(pod.to_string().into_bytes())
        .unwrap();
    client.request(request).await
}
