//! What stands in the environment of containers: found and written once for all of them, because it
//! is most of a pod.
//!
//! Flags at their defaults are left out. GitLab Runner writes all 52 into each container; nobody but
//! scripts reads them, and scripts get them from the agent (better).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use memchr::memmem::Finder;
use runner_core::layout::ROOT_VARIABLE;
use runner_core::plan::Plan;
use runner_core::planner::PlanLookup;
use runner_core::planner::flags::FLAGS;

use super::PodInput;
use super::text::Text;

/// A variable.
pub(super) struct Entry<'p> {
    pub(super) key: &'p str,
    pub(super) value: Cow<'p, str>,
    /// Whether it is nobody's business who may read pods.
    pub(super) is_secret: bool,
    /// Where its text ends.
    end: usize,
}

/// What all containers of a job may see, in order.
#[derive(Default)]
pub(super) struct Environment<'p> {
    pub(super) entries: Vec<Entry<'p>>,
    /// The items of `env`, one after the other.
    text: Text,
}

/// What each flag is where nobody sets it.
static DEFAULTS: LazyLock<HashMap<&str, &str, RandomState>> = LazyLock::new(|| {
    FLAGS.iter().map(|flag| (flag.name, if flag.default { "true" } else { "false" })).collect()
});

impl<'p> Environment<'p> {
    pub(super) fn new(input: &PodInput<'p>, lookup: &PlanLookup<'p>, masks: &Masks<'p>) -> Self {
        let at_default = |key: &str, value: &str| {
            key.starts_with("FF_") && DEFAULTS.get(key).is_some_and(|default| *default == value)
        };
        let all = lookup.container_environment(&input.job.variables);
        // The agent in `build` would look for its socket where the job says; scripts have it all the
        // same.
        let all = all.into_iter().filter(|(key, _)| *key != ROOT_VARIABLE);
        let all = all.filter(|(key, value)| !at_default(key, value));
        let mut entries: Vec<_> = all
            .map(|(key, value)| Entry { key, value, is_secret: is_login(key), end: 0 })
            .collect();
        masks.mark(&mut entries);
        let length = entries.iter().map(|entry| entry.key.len() + entry.value.len() + 24).sum();
        let mut text = Text::with_capacity(length);
        for entry in &mut entries {
            plain(&mut text, entry.key, &entry.value);
            entry.end = text.len();
        }
        Self { entries, text }
    }

    /// Where the text of an entry is, without commas.
    fn place(&self, at: usize) -> Range<usize> {
        // Behind the comma after the one before.
        let start = at.checked_sub(1).map_or(0, |before| self.entries[before].end + 1);
        start..self.entries[at].end
    }
}

/// `{"name":…,"value":…}`
fn plain(out: &mut Text, name: &str, value: &str) {
    out.open('{');
    out.text("name", name);
    out.key("value");
    out.dollars(value);
    out.close('}');
}

/// The environment of one container. What it shares with others is copied as text.
pub(super) struct Env<'e> {
    of_all: &'e Environment<'e>,
    text: Text,
    /// What is shared and not copied yet.
    run: Range<usize>,
}

impl<'e> Env<'e> {
    pub(super) fn new(of_all: &'e Environment<'e>) -> Self {
        let text = Text::with_capacity(of_all.text.len() + 256);
        Self { of_all, text, run: 0..0 }
    }

    /// An entry of all containers.
    pub(super) fn shared(&mut self, at: usize) {
        let place = self.of_all.place(at);
        if self.run.is_empty() || self.run.end + 1 != place.start {
            self.copy();
            self.run.start = place.start;
        }
        self.run.end = place.end;
    }

    fn copy(&mut self) {
        let run = std::mem::take(&mut self.run);
        if !run.is_empty() {
            self.text.raw(&self.of_all.text.as_str()[run]);
        }
    }

    /// Everyone who may read pods sees it.
    pub(super) fn plain(&mut self, name: &str, value: &str) {
        self.copy();
        plain(&mut self.text, name, value);
    }

    /// It stands in a Secret. The kubelet puts these in without looking for `$(NAME)`, so nothing is
    /// doubled.
    pub(super) fn referred(&mut self, name: &str, secret: &str, key: &str) {
        self.copy();
        let out = &mut self.text;
        out.open('{');
        out.text("name", name);
        out.key("valueFrom");
        out.open('{');
        out.key("secretKeyRef");
        out.open('{');
        out.text("name", secret);
        out.text("key", key);
        out.close('}');
        out.close('}');
        out.close('}');
    }

    /// The items; empty when there are none.
    pub(super) fn into_text(mut self) -> String {
        self.copy();
        self.text.into_string()
    }
}

/// Logins for registries are secret however they are marked; GitLab Runner shows those of its own
/// `environment` in every pod (better).
pub(super) fn is_login(key: &str) -> bool {
    key == crate::credentials::VARIABLE
}

/// Finds masked values in others: a public variable may refer to a secret one.
pub(super) struct Masks<'p>(Vec<Finder<'p>>);

impl<'p> Masks<'p> {
    pub(super) fn of(plan: &'p Plan) -> Self {
        let masks = plan.log.masks.iter().map(|mask| mask.expose().trim());
        Self(masks.filter(|mask| !mask.is_empty()).map(Finder::new).collect())
    }

    /// Whether there is one in this value.
    pub(super) fn are_in(&self, value: &str) -> bool {
        self.0.iter().any(|mask| mask.find(value.as_bytes()).is_some())
    }

    /// Marks those that have one. All values are searched as one text: a search costs little for
    /// each byte, and much for each start.
    fn mark(&self, entries: &mut [Entry<'_>]) {
        if self.0.is_empty() {
            return;
        }
        let length: usize = entries.iter().map(|entry| entry.value.len() + 1).sum();
        let mut text = String::with_capacity(length);
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            text.push_str(&entry.value);
            // Not part of any variable: the kernel ends them with it.
            text.push('\0');
            ends.push(text.len());
        }
        for at in self.0.iter().flat_map(|mask| mask.find_iter(text.as_bytes())) {
            let holder = ends.partition_point(|end| *end <= at);
            if let Some(entry) = entries.get_mut(holder) {
                entry.is_secret = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use memchr::memmem::Finder;

    use super::{Entry, Masks};

    #[test]
    fn values_with_a_masked_one_in_them_are_found_each_for_itself() {
        let values = ["a", "", "xhunter2x", "hunter2", "hunt", "er2", "s3cret", "hunter2 s3cret"];
        let mut entries: Vec<_> = values
            .iter()
            .map(|value| Entry { key: "K", value: Cow::Borrowed(*value), is_secret: false, end: 0 })
            .collect();
        let masks = Masks(vec![Finder::new("hunter2"), Finder::new("s3cret")]);
        masks.mark(&mut entries);
        let marked: Vec<_> = entries.iter().map(|entry| entry.is_secret).collect();
        assert_eq!(marked, [false, false, true, true, false, false, true, true]);
        let alone: Vec<_> = values.iter().map(|value| masks.are_in(value)).collect();
        assert_eq!(alone, marked);
    }
}
