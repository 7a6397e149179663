//! GitLab Runner 19.4's feature flags: their defaults, and what a job and a runner make of them.
//!
//! All are resolved and exported to the job, since scripts and tools read them; few have a meaning
//! here.

use super::values::{cut, parse_bool};

mod table;

pub use table::{FLAGS, FeatureFlag};

/// What a flag does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says, in these words.
    Obeyed(&'static str),
    /// Nothing, because there is nothing for it to do: why.
    Needless(&'static str),
    /// Nothing, although a job might count on it: why, and what to do. Whoever sets it is warned.
    Refused(&'static str),
}

/// Each flag with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    values: Vec<bool>,
}

impl Default for Flags {
    /// All at their defaults.
    fn default() -> Self {
        Self { values: FLAGS.iter().map(|flag| flag.default).collect() }
    }
}

impl Flags {
    /// Whether the flag is on. A name that is no flag is off.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.iter().any(|(flag, value)| flag == name && value)
    }

    /// All flags in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        FLAGS.iter().zip(&self.values).map(|(flag, value)| (flag.name, *value))
    }

    /// Those that differ from their default, in order.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        FLAGS
            .iter()
            .zip(&self.values)
            .filter(|(flag, value)| flag.default != **value)
            .map(|(flag, value)| (flag.name, *value))
    }

    /// What to tell the author of a job that counts on flags which are refused here.
    pub fn refusals(&self) -> impl Iterator<Item = String> + '_ {
        FLAGS.iter().zip(&self.values).filter_map(|(flag, value)| match flag.effect {
            Effect::Refused(why) if flag.default != *value => {
                let state = if *value { "on" } else { "off" };
                Some(format!("{} is {state}, without effect on this runner: {why}", flag.name))
            }
            _ => None,
        })
    }

    /// Resolves them: the runner's configuration, then the job's variables (the last of a name),
    /// then the runner's `environment` (ditto), then the default. A value that is no boolean leaves
    /// the default and a warning.
    pub(super) fn resolve(
        configured: &[(String, bool)],
        job: &[(&str, &str)],
        environment: &[(&str, &str)],
        warnings: &mut Vec<String>,
    ) -> Self {
        let last = |list: &[(&str, &str)], name: &str| {
            list.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let mut resolve = |name: &str, default: bool| {
            if let Some((_, value)) = configured.iter().rev().find(|(key, _)| key == name) {
                return *value;
            }
            let Some(raw) = last(job, name).or_else(|| last(environment, name)) else {
                return default;
            };
            parse_bool(&raw).unwrap_or_else(|| {
                warnings.push(format!(
                    "{name}: could not parse feature flag, expected bool, got {}",
                    cut(&raw)
                ));
                default
            })
        };
        Self { values: FLAGS.iter().map(|flag| resolve(flag.name, flag.default)).collect() }
    }
}

/// Whether this is the name of a flag.
pub(super) fn is_flag(name: &str) -> bool {
    FLAGS.iter().any(|flag| flag.name == name)
}

#[cfg(test)]
mod document;

#[cfg(test)]
mod tests {
    use super::{FLAGS, Flags};

    #[test]
    fn the_table_has_19_4s_flags() {
        assert_eq!(FLAGS.len(), 52);
        let ours: Vec<_> =
            FLAGS.iter().map(|flag| format!("{} {}", flag.name, flag.default)).collect();
        let theirs: Vec<_> = include_str!("flags/gitlab-runner-19.4.txt").lines().collect();
        assert_eq!(ours, theirs);
        assert!(Flags::default().is_on("FF_TIMESTAMPS"));
        assert!(!Flags::default().is_on("FF_SCRIPT_SECTIONS"));
        assert!(!Flags::default().is_on("FF_NO_SUCH_FLAG"));
    }

    #[test]
    fn stages_37_configuration_beats_job_beats_environment_beats_default() {
        let resolve = |configured: &[(String, bool)], job: &[_], environment: &[_]| {
            let mut warnings = Vec::new();
            let flags = Flags::resolve(configured, job, environment, &mut warnings);
            (flags.is_on("FF_TIMESTAMPS"), warnings)
        };
        let off = [("FF_TIMESTAMPS", "0")];
        let on = [("FF_TIMESTAMPS", "true")];
        let configured = [("FF_TIMESTAMPS".to_owned(), true)];
        assert_eq!(resolve(&[], &[], &[]), (true, vec![]));
        assert_eq!(resolve(&[], &[], &off), (false, vec![]));
        assert_eq!(resolve(&[], &on, &off), (true, vec![]));
        assert_eq!(resolve(&[], &[on[0], off[0]], &[]), (false, vec![]));
        assert_eq!(resolve(&configured, &off, &off), (true, vec![]));
        let warning = "FF_TIMESTAMPS: could not parse feature flag, expected bool, got maybe";
        assert_eq!(
            resolve(&[], &[("FF_TIMESTAMPS", "maybe")], &off),
            (true, vec![warning.to_owned()])
        );
    }
}
