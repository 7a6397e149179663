//! A list of variables that can be asked.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

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

fn file_path(temp: &str, key: &str) -> String {
    format!("{temp}/{key}")
}

/// Looks names up among a plan's variables, for text that is expanded after planning (image and
/// service names, overwrites of the pod). Made once, asked often.
#[derive(Clone, Debug)]
pub struct PlanLookup<'p> {
    plan: &'p Plan,
    /// Where the one of a name is that counts. Keyed with a hash that is quick: who finds names that
    /// collide although it is seeded has a slow job, nothing more.
    last: HashMap<&'p str, usize, RandomState>,
}

impl<'p> PlanLookup<'p> {
    /// Of this plan's variables.
    #[must_use]
    pub fn new(plan: &'p Plan) -> Self {
        let keys = plan.variables.iter().map(|variable| variable.key.as_str());
        Self { plan, last: keys.zip(0..).collect() }
    }

    /// Whose variables they are.
    #[must_use]
    pub fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// What a reference to this name is replaced by: for a file variable the path.
    #[must_use]
    pub fn reference(&self, name: &str) -> Option<Cow<'p, str>> {
        self.last.get(name).map(|at| self.exported(&self.plan.variables[*at]))
    }

    /// What a setting of this name says: for a file variable the content.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&'p str> {
        self.last.get(name).map(|at| self.plan.variables[*at].value.expose())
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
        let variables = &self.plan.variables;
        let mut shown = vec![true; variables.len()];
        // Most lists have each name once.
        if self.last.len() != variables.len() {
            shown.fill(false);
            self.last.values().for_each(|at| shown[*at] = true);
        }
        let mut some_are_hidden = false;
        for variable in job {
            // Most of a job's variables are public, and need no look at what came before.
            if variable.public && !some_are_hidden {
                continue;
            }
            some_are_hidden = true;
            if let Some(at) = self.last.get(variable.key.as_str()) {
                // A later one of the same name decides.
                shown[*at] = variable.public;
            }
        }
        let tls_key = self.last.get(super::TLS_KEY);
        tls_key.into_iter().for_each(|at| shown[*at] = false);
        let shown = variables.iter().zip(shown).filter(|(_, shown)| *shown);
        shown.map(|(variable, _)| (variable.key.as_str(), self.exported(variable))).collect()
    }

    fn exported(&self, variable: &'p PlanVariable) -> Cow<'p, str> {
        if variable.file {
            file_path(&self.plan.directories.temp, &variable.key).into()
        } else {
            variable.value.expose().into()
        }
    }
}
