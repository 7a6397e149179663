//! The `Status` object that a kubelet sends when a command is over.

use kube::core::Status;

/// How the command ended.
#[derive(Debug, PartialEq)]
pub(super) enum Exit {
    /// It exited.
    Code(i32),
    /// It did not run, or not to its end.
    Refused(Box<Status>),
}

/// Reads it. `None` while (or because) it is not a whole `Status`.
pub(super) fn parse(json: &[u8]) -> Option<Exit> {
    let status: Status = serde_json::from_slice(json).ok()?;
    if status.is_success() {
        return Some(Exit::Code(0));
    }
    if !status.is_failure() {
        // `{}` or some other object: it says nothing.
        return None;
    }
    let code = || {
        if status.reason != "NonZeroExitCode" {
            return None;
        }
        let causes = &status.details.as_ref()?.causes;
        causes.iter().find(|cause| cause.reason == "ExitCode")?.message.parse().ok()
    };
    Some(match code() {
        // "Failure with exit code 0" is no success.
        Some(0) | None => Exit::Refused(Box::new(status)),
        Some(code) => Exit::Code(code),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Exit, parse};

    #[rstest]
    #[case::success(r#"{"metadata":{},"status":"Success"}"#, Some(0))]
    #[case::exit_code(
        r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code",
            "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"37"}]}}"#,
        Some(37)
    )]
    fn an_exit_status_is_read(#[case] json: &str, #[case] code: Option<i32>) {
        assert_eq!(parse(json.as_bytes()), code.map(Exit::Code));
    }

    #[rstest]
    #[case::no_such_command(
        r#"{"status":"Failure","message":"no such file","reason":"InternalError","code":500}"#
    )]
    #[case::exit_code_zero(
        r#"{"status":"Failure","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"0"}]}}"#
    )]
    #[case::no_number(
        r#"{"status":"Failure","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"x"}]}}"#
    )]
    #[case::no_cause(r#"{"status":"Failure","reason":"NonZeroExitCode"}"#)]
    fn a_failure_without_an_exit_code_is_never_a_success(#[case] json: &str) {
        assert!(matches!(parse(json.as_bytes()), Some(Exit::Refused(_))));
    }

    #[rstest]
    #[case("")]
    #[case("{}")]
    #[case(r#"{"status":"Succ"#)]
    #[case(r#"{"status":"Maybe"}"#)]
    #[case("null")]
    fn what_is_no_status_says_nothing(#[case] json: &str) {
        assert_eq!(parse(json.as_bytes()), None);
    }
}
