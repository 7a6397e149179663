//! A finished pod as text.
//!
//! Owns how it is put together, and how patches get to see it: what they change is a tree, but for the
//! environment, unless one of them has to do with it.

use serde_json::Value;

use super::PodError;
use super::patch;
use super::text::Text;
use crate::settings::PodPatch;

/// What a pod has around its parts, and some room.
const AROUND: usize = 256;

/// What stands in a tree for a container's environment, before its number. No environment is a text.
const PLACE: &str = "\u{1}environment ";

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
pub(super) struct Container {
    /// An object that is not closed: all but its environment.
    pub(super) fields: Text,
    /// The items of `env`.
    pub(super) environment: String,
}

/// What a pod is to do.
pub(super) struct Spec {
    /// An object that is not closed: all but its containers.
    pub(super) fields: Text,
    pub(super) containers: Vec<Container>,
}

impl Spec {
    /// How long it is as text, at most.
    fn length(&self) -> usize {
        let length = |one: &Container| one.fields.len() + one.environment.len() + AROUND;
        self.fields.len() + self.containers.iter().map(length).sum::<usize>() + AROUND
    }

    fn write(&self, out: &mut Text, environment: impl Fn(&mut Text, usize)) {
        out.raw(self.fields.as_str());
        out.key("containers");
        out.open('[');
        for (at, container) in self.containers.iter().enumerate() {
            out.raw(container.fields.as_str());
            if !container.environment.is_empty() {
                out.key("env");
                environment(out, at);
            }
            out.close('}');
        }
        out.close(']');
        out.close('}');
    }

    fn environment(&self, out: &mut Text, at: usize) {
        out.open('[');
        out.raw(&self.containers[at].environment);
        out.close(']');
    }

    /// Writes a tree in which places stand for environments.
    fn fill(&self, out: &mut Text, value: &Value) {
        match value {
            Value::Object(map) => {
                out.open('{');
                for (key, value) in map {
                    out.key(key);
                    self.fill(out, value);
                }
                out.close('}');
            }
            Value::Array(list) => {
                out.open('[');
                list.iter().for_each(|value| self.fill(out, value));
                out.close(']');
            }
            Value::String(text) => match text.strip_prefix(PLACE).and_then(|at| at.parse().ok()) {
                Some(at) if at < self.containers.len() => self.environment(out, at),
                _ => out.string(text),
            },
            other => out.value(other),
        }
    }
}

/// The pod, changed by these patches.
pub(super) fn pod(metadata: &Text, spec: &Spec, patches: &[PodPatch]) -> Result<PodJson, PodError> {
    let mut out = Text::with_capacity(metadata.len() + spec.length() + AROUND);
    out.raw(r#"{"apiVersion":"v1","kind":"Pod","metadata":"#);
    out.raw(metadata.as_str());
    out.key("spec");
    if patches.is_empty() {
        spec.write(&mut out, |out, at| spec.environment(out, at));
    } else {
        let mut text = Text::with_capacity(spec.length());
        // The environment is most of it, and few patches change it.
        match patches.iter().any(PodPatch::has_to_do_with_environment) {
            true => spec.write(&mut text, |out, at| spec.environment(out, at)),
            false => spec.write(&mut text, |out, at| out.string(&format!("{PLACE}{at}"))),
        }
        let mut tree = serde_json::from_str(text.as_str()).expect("it was written as JSON");
        patch::apply(&mut tree, patches)?;
        spec.fill(&mut out, &tree);
    }
    out.close('}');
    Ok(PodJson(out.into_string()))
}
