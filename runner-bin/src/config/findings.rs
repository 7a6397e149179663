//! What there is to say about a configuration.

use std::fmt;

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Accepted, and without effect here, on purpose.
    Note,
    /// Probably not what was meant.
    Warning,
    /// This runner cannot be used; others can.
    Fault,
    /// The file cannot be used.
    Error,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// Line in the file, from 1.
    pub(crate) line: Option<usize>,
    /// What, with the key in it.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "line {line}: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

/// Everything there is to say about a file, in the order of its lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn push(&mut self, severity: Severity, line: Option<usize>, message: String) {
        self.0.push(Finding { severity, line, message });
    }

    /// Whether there is something as bad as this, or worse.
    pub(crate) fn has(&self, severity: Severity) -> bool {
        self.0.iter().any(|finding| finding.severity >= severity)
    }

    /// Those that matter exactly so much.
    pub(crate) fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter(move |finding| finding.severity == severity)
    }

    pub(crate) fn sort(&mut self) {
        self.0.sort_by_key(|finding| (finding.line.unwrap_or(usize::MAX), finding.severity));
    }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), name))
        // A third of the letters may be wrong: `imgae`, `concurent`, `pull-policies`.
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min()
        .map(|(_, name)| name)
}

/// `a, b and c`, each in quotes.
pub(crate) fn listed(values: &[&str]) -> String {
    values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_name_that_was_meant_is_found_and_a_far_one_is_not_offered() {
        let known = ["concurrent", "check_interval", "log_level"];
        assert_eq!(nearest("concurent", known), Some("concurrent"));
        assert_eq!(nearest("Check-Interval", known), Some("check_interval"));
        assert_eq!(nearest("runner", known), None);
    }
}
