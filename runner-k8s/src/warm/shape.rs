//! What two pods must have in common for one to do the other's work. Pure.

use std::collections::BTreeSet;

use runner_core::layout;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::pod::{BUILD, HELPER, PLAN_VOLUME};

/// A job's pod without what is the job's own: what a warm pod is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// The same for pods that can stand in for each other.
    pub(crate) hash: String,
    /// The image of the build container.
    pub(crate) image: String,
    spec: Value,
}

impl Shape {
    /// The shape of a job's pod. `variables`: the names of the job's own variables in the build
    /// container; the agent hands them to the script in any case. `pull_secret`: the job's own
    /// Secret for registries.
    ///
    /// `None`: no other pod can do its work, because it has services or an entry point of its own.
    pub(crate) fn of(
        pod: &Value,
        variables: &BTreeSet<String>,
        pull_secret: Option<&str>,
    ) -> Option<Self> {
        let mut spec = pod["spec"].as_object()?.clone();
        // Set when the pod gets its job.
        spec.remove("activeDeadlineSeconds");
        retain(&mut spec, "volumes", |volume| volume["name"] != PLAN_VOLUME);
        retain(&mut spec, "imagePullSecrets", |secret| secret["name"].as_str() != pull_secret);
        let containers = spec.get_mut("containers")?.as_array_mut()?;
        let [helper, build] = &mut containers[..] else { return None };
        let is = |container: &Value, name: &str, role: &str| {
            container["name"] == name && container["command"] == json!([layout::AGENT, role])
        };
        if !is(helper, HELPER, "supervise") || !is(build, BUILD, "serve") {
            return None;
        }
        let image = build["image"].as_str()?.to_owned();
        retain(helper.as_object_mut()?, "volumeMounts", |mount| mount["name"] != PLAN_VOLUME);
        // What settings have put there stays.
        retain(build.as_object_mut()?, "env", |variable| {
            !variable["name"].as_str().is_some_and(|name| variables.contains(name))
        });
        let spec = Value::Object(spec);
        let hash = Sha256::digest(spec.to_string().as_bytes());
        let hash = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { hash, image, spec })
    }

    /// The pod's spec, with an agent that waits for so many seconds.
    pub(crate) fn spec(&self, seconds: u64) -> Value {
        let mut spec = self.spec.clone();
        let wait = [layout::AGENT, "supervise", "--wait", &seconds.to_string()];
        spec["containers"][0]["command"] = json!(wait);
        spec
    }
}

/// Keeps the wanted items of a list; an empty list goes.
fn retain(object: &mut Map<String, Value>, key: &str, wanted: impl Fn(&Value) -> bool) {
    let Some(list) = object.get_mut(key).and_then(Value::as_array_mut) else { return };
    list.retain(wanted);
    if list.is_empty() {
        object.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use runner_core::layout::AGENT;
    use serde_json::{Value, json};

    use super::Shape;

    fn pod() -> Value {
        json!({ "spec": {
            "activeDeadlineSeconds": 3600,
            "volumes": [
                { "name": "repo", "emptyDir": {} },
                { "name": "podwright-plan", "secret": { "secretName": "r" } },
            ],
            "imagePullSecrets": [{ "name": "of-settings" }, { "name": "r-pull" }],
            "containers": [
                { "name": "helper", "image": "h", "command": [AGENT, "supervise"],
                  "volumeMounts": [{ "name": "podwright-plan" }, { "name": "repo" }] },
                { "name": "build", "image": "b", "command": [AGENT, "serve"],
                  "env": [{ "name": "CI_JOB_ID", "value": "1" }, { "name": "OF_PATCH", "value": "x" }] },
            ],
        }})
    }

    fn shape(pod: &Value) -> Option<Shape> {
        let variables = BTreeSet::from(["CI_JOB_ID".to_owned()]);
        Shape::of(pod, &variables, Some("r-pull"))
    }

    #[test]
    fn what_is_the_jobs_own_does_not_count_and_is_not_in_the_warm_pod() {
        let one = shape(&pod()).unwrap();
        let mut other = pod();
        other["spec"]["activeDeadlineSeconds"] = 7.into();
        other["spec"]["containers"][1]["env"][0]["value"] = "2".into();
        assert_eq!(shape(&other), Some(one.clone()));
        let text = one.spec(90).to_string();
        for own in ["activeDeadline", "podwright-plan", "r-pull", "CI_JOB_ID"] {
            assert!(!text.contains(own), "{own} in {text}");
        }
        for kept in ["OF_PATCH", "of-settings", "\"--wait\",\"90\""] {
            assert!(text.contains(kept), "{kept} not in {text}");
        }
    }

    #[test]
    fn anything_else_makes_another_shape() {
        let one = shape(&pod()).unwrap();
        for (pointer, value) in [
            ("/spec/containers/1/image", json!("c")),
            ("/spec/containers/1/env/1/value", json!("y")),
            ("/spec/containers/1/resources", json!({ "limits": { "cpu": "1" } })),
            ("/spec/serviceAccountName", json!("other")),
            ("/spec/volumes/0/emptyDir", json!({ "medium": "Memory" })),
        ] {
            let mut other = pod();
            match other.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => {
                    let (parent, key) = pointer.rsplit_once('/').unwrap();
                    other.pointer_mut(parent).unwrap()[key] = value;
                }
            }
            assert_ne!(shape(&other).unwrap().hash, one.hash, "{pointer}");
        }
    }

    #[test]
    fn a_job_with_services_or_an_entry_point_needs_a_pod_of_its_own() {
        let mut services = pod();
        services["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "db" }));
        assert_eq!(shape(&services), None);
        let mut entrypoint = pod();
        entrypoint["spec"]["containers"][1]["command"] = json!(["sh"]);
        assert_eq!(shape(&entrypoint), None);
    }
}
