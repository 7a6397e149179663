//! One case for each key: what is written, and where it lands. A file for each theme.

mod around;
mod resources;
mod scheduling;
mod security;
mod top;
mod volumes;

use runner_core::job::Job;
use serde_json::Value;

use crate::world::{Seen, variable};

/// A key at work.
pub(crate) struct Case {
    /// Path of the key, as the settings type has it: `volumes.pvc[].name`.
    pub(crate) key: String,
    /// Settings in which the key is set.
    pub(crate) toml: String,
    /// What the job is like.
    pub(crate) job: Box<dyn Fn(&mut Job)>,
    pub(crate) lands: Lands,
}

/// Where a key lands.
pub(crate) enum Lands {
    /// In the pod: path as in [`crate::world::at`], and value.
    Pod(String, Value),
    /// Elsewhere: where, how it is found there, and value.
    Elsewhere(&'static str, fn(&Seen) -> Value, Value),
    /// The same, found by something that is made for the case.
    Found(&'static str, Box<dyn Fn(&Seen) -> Value>, Value),
    /// It makes that a job is refused, with these words.
    Refusal(&'static str),
    /// Nowhere; there is a warning with the reason.
    Nowhere,
}

/// In the pod.
pub(crate) fn pod(key: &str, toml: &str, path: &str, value: Value) -> Case {
    case(key, toml, Lands::Pod(path.to_owned(), value))
}

/// Not in the pod.
pub(crate) fn elsewhere(
    key: &str,
    toml: &str,
    place: &'static str,
    find: fn(&Seen) -> Value,
    value: Value,
) -> Case {
    case(key, toml, Lands::Elsewhere(place, find, value))
}

pub(crate) fn case(key: &str, toml: &str, lands: Lands) -> Case {
    Case { key: key.to_owned(), toml: toml.to_owned(), job: Box::new(|_| ()), lands }
}

impl Case {
    /// The same for a job that is like this.
    fn job(mut self, change: impl Fn(&mut Job) + 'static) -> Self {
        self.job = Box::new(change);
        self
    }

    /// The same for a job with this variable.
    fn variable(self, key: &str, value: &str) -> Self {
        let variable = variable(key, value);
        self.job(move |job| job.variables.push(variable.clone()))
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut out = top::cases();
    out.extend(resources::cases());
    out.extend(scheduling::cases());
    out.extend(security::cases());
    out.extend(volumes::cases());
    out.extend(around::cases());
    out
}
