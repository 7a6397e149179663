//! A finished pod as text.
//!
//! Owns how it gets there. A tree of a pod with its environment would take some thousand allocations,
//! for something that is only sent; so containers keep their environment borrowed and typed, and it
//! is written once, straight into the text.

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Map, Value};

use super::environment::EnvVar;

/// Room for what is in a pod beside environments.
const REST: usize = 8 * 1024;

/// A pod as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodJson(String);

impl PodJson {
    /// What is sent to the API server, where it can do everything.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as a tree, to look at or to change.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).expect("it was written as JSON")
    }
}

/// A container.
pub(super) struct Container<'e> {
    /// All but its environment.
    pub(super) fields: Map<String, Value>,
    /// `env`, left out when it is empty.
    pub(super) environment: Vec<EnvVar<'e>>,
}

impl Serialize for Container<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in &self.fields {
            out.serialize_entry(key, value)?;
        }
        if !self.environment.is_empty() {
            out.serialize_entry("env", &self.environment)?;
        }
        out.end()
    }
}

/// What a pod is to do.
pub(super) struct Spec<'e> {
    /// All but its containers.
    pub(super) fields: Map<String, Value>,
    pub(super) containers: Vec<Container<'e>>,
}

impl Spec<'_> {
    /// About how long the pod is as text.
    pub(super) fn length(&self) -> usize {
        let all = self.containers.iter().flat_map(|container| &container.environment);
        REST + all.map(EnvVar::length).sum::<usize>()
    }
}

impl Serialize for Spec<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in &self.fields {
            out.serialize_entry(key, value)?;
        }
        out.serialize_entry("containers", &self.containers)?;
        out.end()
    }
}

/// The pod, of a [`Spec`] or of a tree that patches have changed. `length`: about how long it is.
pub(super) fn pod(metadata: &impl Serialize, spec: &impl Serialize, length: usize) -> PodJson {
    struct Pod<'a, M, S>(&'a M, &'a S);
    impl<M: Serialize, S: Serialize> Serialize for Pod<'_, M, S> {
        fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
            let mut out = serializer.serialize_struct("Pod", 4)?;
            out.serialize_field("apiVersion", "v1")?;
            out.serialize_field("kind", "Pod")?;
            out.serialize_field("metadata", self.0)?;
            out.serialize_field("spec", self.1)?;
            out.end()
        }
    }
    let mut text = Vec::with_capacity(length);
    serde_json::to_writer(&mut text, &Pod(metadata, spec))
        .expect("all keys are texts and nothing refuses to be written");
    PodJson(String::from_utf8(text).expect("JSON is written as UTF-8"))
}

/// The same spec as a tree.
pub(super) fn tree(spec: &Spec<'_>) -> Value {
    serde_json::to_value(spec).expect("all keys are texts and nothing refuses to be written")
}
