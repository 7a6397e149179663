//! A list of variables that can be asked.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::expand::{TooLong, expand};
use crate::job::Variable;
use crate::plan::{Plan, PlanVariable};

/// Variables in order; the last one of a name is the one that counts.
#[derive(Clone, Debug, Default)]
pub struct VariableSet {
    list: Vec<Variable>,
    last: HashMap<String, usize>,
    temp: String,
}

impl VariableSet {
    pub(super) fn new(list: Vec<Variable>, temp: &str) -> Self {
        let last = list.iter().enumerate().map(|(at, v)| (v.key.clone(), at)).collect();
        Self { list, last, temp: temp.to_owned() }
    }

    /// The variable of this name that counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.last.get(name).map(|at| &self.list[*at])
    }

    /// What a setting of this name says: for a file variable the content.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.get(name).map(|variable| variable.value.expose())
    }

    /// The same, expanded, for a list that is not yet.
    pub(in crate::planner) fn expanded_setting(
        &self,
        name: &str,
    ) -> Result<Option<String>, TooLong> {
        self.get(name)
            .map(|variable| match variable.raw {
                true => Ok(variable.value.expose().to_owned()),
                false => self.expand(variable.value.expose()),
            })
            .transpose()
    }

    /// What a reference to this name is replaced by: for a file variable the path.
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|variable| {
            if variable.file {
                file_path(&self.temp, &variable.key).into()
            } else {
                variable.value.expose().into()
            }
        })
    }

    /// Replaces references in `text`.
    ///
    /// # Errors
    /// See [`expand`].
    pub fn expand(&self, text: &str) -> Result<String, TooLong> {
        expand(text, |name| self.reference(name))
    }

    /// All of them, in order, with those that a later one replaces.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Variable> {
        self.list.iter()
    }

    pub(super) fn temp(&self) -> &str {
        &self.temp
    }
}

/// The names whose last variable is not public, sorted.
fn private(job: &[Variable]) -> Vec<&str> {
    let mut out = HashSet::new();
    for variable in job {
        if !variable.public {
            out.insert(variable.key.as_str());
        } else if !out.is_empty() {
            // A later one of the same name decides.
            out.remove(variable.key.as_str());
        }
    }
    // They are few: to look for a name among them costs less than its hash.
    let mut out: Vec<_> = out.into_iter().collect();
    out.sort_unstable();
    out
}

fn file_path(temp: &str, key: &str) -> String {
    format!("{temp}/{key}")
}

/// Looks names up among a plan's variables, for text that is expanded after planning (image and
/// service names, overwrites of the pod). Made once, asked often.
#[derive(Clone, Debug)]
pub struct PlanLookup<'p> {
    plan: &'p Plan,
    last: HashMap<&'p str, &'p PlanVariable>,
}

impl<'p> PlanLookup<'p> {
    /// Of this plan's variables.
    #[must_use]
    pub fn new(plan: &'p Plan) -> Self {
        Self { plan, last: plan.variables.iter().map(|v| (v.key.as_str(), v)).collect() }
    }

    /// Whose variables they are.
    #[must_use]
    pub fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// What a reference to this name is replaced by: for a file variable the path.
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<Cow<'p, str>> {
        self.last.get(name).map(|variable| self.exported(variable))
    }

    /// What a setting of this name says: for a file variable the content.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&'p str> {
        self.last.get(name).map(|variable| variable.value.expose())
    }

    /// Replaces references in `text`.
    ///
    /// # Errors
    /// See [`expand`].
    pub fn expand(&self, text: &str) -> Result<String, TooLong> {
        expand(text, |name| self.reference(name))
    }

    /// What may stand in a container's own environment, where everyone who may read the pod can
    /// see it: variables that the runner or its configuration sets, and the job's public ones.
    /// Each name once, in order. `job` is [`Job::variables`](crate::job::Job::variables).
    #[must_use]
    pub fn container_environment(&self, job: &[Variable]) -> Vec<(&'p str, Cow<'p, str>)> {
        // Most of a job's variables are public, and most lists have each name once: what is usual
        // needs no look-up.
        let private = private(job);
        let each_once = self.last.len() == self.plan.variables.len();
        self.plan
            .variables
            .iter()
            .filter(|variable| {
                let key = variable.key.as_str();
                let last = || self.last.get(key).is_some_and(|last| std::ptr::eq(*last, *variable));
                (each_once || last())
                    && key != super::TLS_KEY
                    && private.binary_search(&key).is_err()
            })
            .map(|variable| (variable.key.as_str(), self.exported(variable)))
            .collect()
    }

    fn exported(&self, variable: &'p PlanVariable) -> Cow<'p, str> {
        if variable.file {
            file_path(&self.plan.directories.temp, &variable.key).into()
        } else {
            variable.value.expose().into()
        }
    }
}
