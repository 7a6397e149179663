//! What must not appear in the trace.

use std::collections::HashSet;

use super::VariableSet;
use crate::job::SourceFeatures;
use crate::planner::flags::Flags;
use crate::secret::Secret;

/// Prefixes of GitLab's tokens; what follows one of them is masked, whoever printed it.
const ALWAYS: &[&str] = &["glpat-"];
/// The others, with `FF_MASK_ALL_DEFAULT_TOKENS` (on by default).
const ALL: &[&str] = &[
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// Shortest credential that is masked although no variable says so. Shorter ones are words.
const MIN_CREDENTIAL: usize = 8;

/// Values of masked variables after expansion, without the white space around them, each once,
/// and the credentials that the runner itself uses.
pub(in crate::planner) fn masks<'a>(
    set: &'a VariableSet,
    credentials: impl IntoIterator<Item = &'a Secret>,
) -> Vec<Secret> {
    let credentials = credentials
        .into_iter()
        .map(Secret::expose)
        .filter(|credential| credential.trim().len() >= MIN_CREDENTIAL);
    let mut seen = HashSet::new();
    set.iter()
        .filter(|variable| variable.masked)
        .map(|variable| variable.value.expose())
        .chain(credentials)
        .map(str::trim)
        .filter(|value| !value.is_empty() && seen.insert(*value))
        .map(Secret::from)
        .collect()
}

/// All prefixes, each once. GitLab Runner uses the 15 shortest only; here none is dropped.
pub(in crate::planner) fn token_prefixes(flags: &Flags, features: &SourceFeatures) -> Vec<String> {
    let all = if flags.is_on("FF_MASK_ALL_DEFAULT_TOKENS") { ALL } else { &[] };
    let mut seen = HashSet::new();
    ALWAYS
        .iter()
        .chain(all)
        .copied()
        .chain(features.token_mask_prefixes.iter().map(String::as_str))
        .filter(|prefix| !prefix.is_empty() && seen.insert(*prefix))
        .map(str::to_owned)
        .collect()
}
