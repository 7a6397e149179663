//! Which build this is: one place for `--version`, the log's first line, the head of job logs, what GitLab is told, and
//! the metric.
//!
//! A build is told its commit by variables (`deploy/image/build` sets them). There is no build script that asks git: it
//! would have to run again after each commit, and everything above it would be built again.

/// The version, without a commit.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit: `PODWRIGHT_REVISION` of the build.
pub(crate) const REVISION: &str = told(option_env!("PODWRIGHT_REVISION"));
/// Its branch or tag: `PODWRIGHT_BRANCH` of the build.
pub(crate) const BRANCH: &str = told(option_env!("PODWRIGHT_BRANCH"));
/// When: `PODWRIGHT_BUILT_AT` of the build, as RFC 3339.
pub(crate) const BUILT_AT: &str = told(option_env!("PODWRIGHT_BUILT_AT"));
/// GitLab Runner's word for what is not known, in the same places.
const UNKNOWN: &str = "unknown";

const fn told(value: Option<&'static str>) -> &'static str {
    match value {
        // Set and empty is what a build system writes that does not know it either.
        Some(value) if !value.is_empty() => value,
        _ => UNKNOWN,
    }
}

/// For GitLab, whose pages show an empty field for what is not known.
pub(crate) fn known(value: &str) -> String {
    if value == UNKNOWN { String::new() } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{UNKNOWN, known, told};

    #[test]
    fn a_build_that_was_told_nothing_says_so_and_gitlab_is_told_nothing() {
        assert_eq!((told(None), told(Some(""))), (UNKNOWN, UNKNOWN));
        assert_eq!(told(Some("4f2a11c9")), "4f2a11c9");
        assert_eq!((known(UNKNOWN), known("main")), (String::new(), "main".to_owned()));
    }
}
