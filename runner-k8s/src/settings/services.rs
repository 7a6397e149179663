//! Services of every job.

use std::time::Duration;

use runner_core::job::{Image, Variable};
use runner_core::secret::Secret;

use super::raw::RawService;

/// How long a job waits for services whose port is to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServicesWait {
    /// As long as its deadlines allow: what GitLab Runner does on Kubernetes.
    UntilDeadline,
    /// This long; then it goes on with a warning.
    AtMost(Duration),
    /// Not at all.
    Never,
}

impl ServicesWait {
    pub(super) fn of_seconds(seconds: i64) -> Self {
        match u64::try_from(seconds) {
            Ok(0) => Self::UntilDeadline,
            Ok(seconds) => Self::AtMost(Duration::from_secs(seconds)),
            Err(_) => Self::Never,
        }
    }
}

/// The services of the settings in the words of a job's: they come before its own.
///
/// An environment entry without `=` has no effect, as in GitLab Runner.
pub(super) fn services(raw: &[RawService]) -> Vec<Image> {
    let words = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    raw.iter()
        .map(|raw| Image {
            name: raw.name.clone(),
            aliases: aliases(&raw.alias),
            entrypoint: words(&raw.entrypoint),
            command: words(&raw.command),
            variables: raw.environment.iter().filter_map(|entry| variable(entry)).collect(),
            ..Image::default()
        })
        .collect()
}

fn aliases(text: &str) -> Vec<String> {
    let separator = |c: char| c.is_whitespace() || c == ',';
    text.split(separator).filter(|alias| !alias.is_empty()).map(str::to_owned).collect()
}

fn variable(entry: &str) -> Option<Variable> {
    let (key, value) = entry.split_once('=')?;
    Some(Variable { key: key.to_owned(), value: Secret::new(value), ..Variable::default() })
}
