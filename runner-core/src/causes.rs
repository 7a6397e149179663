//! Errors in one line, with what is behind them.

use std::error::Error;

/// An error and its causes, `what happened: why: why that`, for a line of the operator's log: the outermost
/// one alone often says no more than that a request failed, and the innermost that a name is not known or
/// that nobody listens there.
///
/// A cause that is already part of the words before it, as some libraries repeat theirs, is left out. Chains
/// longer than sixteen are cut.
///
/// ```
/// use runner_core::causes::causes;
/// use runner_core::source::{SourceError, SourceErrorKind};
///
/// let nobody = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// let error = SourceError::new(SourceErrorKind::Unavailable, "GitLab cannot be reached").caused_by(nobody);
/// assert_eq!(causes(&error), "GitLab cannot be reached: connection refused");
/// ```
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let chain = std::iter::successors(error.source(), |error| (*error).source());
    for cause in chain.take(MOST) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

/// Deeper than any library nests its errors; one that is its own cause must not go on for ever.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(&'static str, #[source] Option<Box<Told>>);

    fn told(words: &[&'static str]) -> Told {
        let rest = words.split_first().unwrap();
        Told(rest.0, (!rest.1.is_empty()).then(|| Box::new(told(rest.1))))
    }

    #[test]
    fn every_cause_is_said_once_from_the_outside_in() {
        assert_eq!(causes(&told(&["alone"])), "alone");

        assert_eq!(causes(&told(&["one", "two", "three"])), "one: two: three");
        assert_eq!(causes(&told(&["one: two", "two", "three"])), "one: two: three");
    }

    #[test]
    fn a_chain_without_end_is_cut() {
        #[derive(Debug)]
        struct Own;
        impl std::fmt::Display for Own {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("again")
            }
        }
        impl Error for Own {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&Own)
            }
        }
        assert_eq!(causes(&Own), "again");
    }
}
