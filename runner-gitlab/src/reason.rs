//! From an outcome to the words GitLab knows for it.
//!
//! A wrong reason changes what `retry:when` does for the user, so the tables are kept exact
//! (`gitlab-api.md` 6.3 and 6.4).

use runner_core::outcome::{InfraKind, Outcome};

/// Why a job failed, in GitLab's words or in the runner's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ScriptFailure,
    SystemFailure,
    Timeout,
    Unknown,
    ImagePull,
    Configuration,
    ExternalDependency,
    Interrupted,
    Canceled,
}

impl Reason {
    /// All of them, e.g. to see which of them a GitLab names.
    const ALL: [Self; 9] = [
        Self::ScriptFailure,
        Self::SystemFailure,
        Self::Timeout,
        Self::Unknown,
        Self::ImagePull,
        Self::Configuration,
        Self::ExternalDependency,
        Self::Interrupted,
        Self::Canceled,
    ];

    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ScriptFailure => "script_failure",
            Self::SystemFailure => "runner_system_failure",
            Self::Timeout => "job_execution_timeout",
            Self::Unknown => "unknown_failure",
            Self::ImagePull => "image_pull_failure",
            Self::Configuration => "runner_configuration_error",
            Self::ExternalDependency => "runner_external_dependency_failure",
            Self::Interrupted => "runner_interrupted",
            Self::Canceled => "job_canceled",
        }
    }

    /// What every GitLab knows, whether it says so or not.
    fn is_basic(self) -> bool {
        matches!(self, Self::ScriptFailure | Self::SystemFailure | Self::Timeout)
    }

    /// What stands in for it at a GitLab that does not know it. All of these are known or end at
    /// `unknown_failure`, so following them comes to an end.
    fn fallback(self) -> Self {
        match self {
            Self::Configuration => Self::ScriptFailure,
            Self::ImagePull | Self::ExternalDependency => Self::SystemFailure,
            other if other.is_basic() => other,
            _ => Self::Unknown,
        }
    }

    /// The word for a GitLab that knows these reasons beside the basic three.
    pub(crate) fn for_gitlab(self, known: &[String]) -> &'static str {
        let is_known =
            |reason: Self| reason.is_basic() || known.iter().any(|word| word == reason.as_str());
        if is_known(self) {
            return self.as_str();
        }
        let fallback = self.fallback();
        if is_known(fallback) { fallback.as_str() } else { Self::Unknown.as_str() }
    }
}

/// Why a job failed that ended like this, in GitLab's words, before they are mapped to those that an
/// older GitLab knows; `None`: it did not fail. For metrics and logs.
pub fn failure_reason(outcome: &Outcome) -> Option<&'static str> {
    Ending::of(outcome).reason.map(Reason::as_str)
}

/// The words of this list that mean something here. The ticket keeps only these, so it stays small
/// whatever GitLab sends.
pub(crate) fn relevant(words: &[String]) -> Vec<String> {
    Reason::ALL
        .iter()
        .filter(|reason| !reason.is_basic())
        .map(|reason| reason.as_str())
        .filter(|word| words.iter().any(|known| known == word))
        .map(str::to_owned)
        .collect()
}

/// How a job ended, as the final update says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// `None`: success.
    pub(crate) reason: Option<Reason>,
    /// 0 is never sent.
    pub(crate) exit_code: i32,
}

impl Ending {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let failed = |reason, exit_code| Self { reason: Some(reason), exit_code };
        match outcome {
            Outcome::Exited(0) => Self { reason: None, exit_code: 0 },
            Outcome::Exited(code) => failed(Reason::ScriptFailure, *code),
            // What a shell would report for a command that a signal has ended, so that
            // `retry:exit_codes: [137]` means the same whoever noticed the signal.
            Outcome::Signalled(signal) => failed(Reason::ScriptFailure, signal.saturating_add(128)),
            Outcome::TimedOut(_) => failed(Reason::Timeout, 0),
            Outcome::Cancelled => failed(Reason::Canceled, 0),
            Outcome::Infra(infra) => failed(
                match infra.kind {
                    InfraKind::Configuration => Reason::Configuration,
                    InfraKind::ImagePull => Reason::ImagePull,
                    InfraKind::ExternalDependency => Reason::ExternalDependency,
                    InfraKind::Interrupted => Reason::Interrupted,
                    // `System`, and any kind that this crate does not know yet.
                    _ => Reason::SystemFailure,
                },
                infra.exit_code.unwrap_or(0),
            ),
            // Nobody knows, and any outcome that this crate does not know yet: never a success.
            _ => failed(Reason::SystemFailure, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use runner_core::outcome::{Infra, InfraKind, Outcome, TimeLimit};

    use super::{Ending, Reason, relevant};

    fn modern() -> Vec<String> {
        ["unknown_failure", "runner_configuration_error", "runner_external_dependency_failure"]
            .iter()
            .chain(&["runner_interrupted", "api_failure"])
            .map(ToString::to_string)
            .collect()
    }

    #[rstest]
    #[case(Reason::ScriptFailure, "script_failure", "script_failure")]
    #[case(Reason::SystemFailure, "runner_system_failure", "runner_system_failure")]
    #[case(Reason::Timeout, "job_execution_timeout", "job_execution_timeout")]
    #[case(Reason::Unknown, "unknown_failure", "unknown_failure")]
    #[case(Reason::ImagePull, "runner_system_failure", "runner_system_failure")]
    #[case(Reason::Configuration, "runner_configuration_error", "script_failure")]
    #[case(
        Reason::ExternalDependency,
        "runner_external_dependency_failure",
        "runner_system_failure"
    )]
    #[case(Reason::Interrupted, "runner_interrupted", "unknown_failure")]
    #[case(Reason::Canceled, "unknown_failure", "unknown_failure")]
    fn api_59_a_reason_that_gitlab_does_not_know_is_replaced(
        #[case] reason: Reason,
        #[case] at_a_modern_gitlab: &str,
        #[case] at_one_that_lists_none: &str,
    ) {
        assert_eq!(reason.for_gitlab(&modern()), at_a_modern_gitlab);
        assert_eq!(reason.for_gitlab(&[]), at_one_that_lists_none);
    }

    #[test]
    fn api_59_a_gitlab_that_lists_a_runner_reason_gets_it() {
        let words = vec!["image_pull_failure".to_owned(), "job_canceled".to_owned()];
        assert_eq!(Reason::ImagePull.for_gitlab(&words), "image_pull_failure");
        assert_eq!(Reason::Canceled.for_gitlab(&words), "job_canceled");
    }

    #[rstest]
    #[case(Outcome::Exited(0), None, 0)]
    #[case(Outcome::Exited(37), Some(Reason::ScriptFailure), 37)]
    #[case(Outcome::Exited(-1), Some(Reason::ScriptFailure), -1)]
    #[case(Outcome::Signalled(9), Some(Reason::ScriptFailure), 137)]
    #[case(Outcome::TimedOut(TimeLimit::Job(Duration::from_secs(1))), Some(Reason::Timeout), 0)]
    #[case(Outcome::TimedOut(TimeLimit::Stage(Duration::from_secs(1))), Some(Reason::Timeout), 0)]
    #[case(Outcome::Cancelled, Some(Reason::Canceled), 0)]
    #[case(infra(InfraKind::System), Some(Reason::SystemFailure), 0)]
    #[case(infra(InfraKind::Configuration), Some(Reason::Configuration), 0)]
    #[case(infra(InfraKind::ImagePull), Some(Reason::ImagePull), 0)]
    #[case(infra(InfraKind::ExternalDependency), Some(Reason::ExternalDependency), 0)]
    #[case(infra(InfraKind::Interrupted), Some(Reason::Interrupted), 0)]
    #[case(Outcome::Unknown, Some(Reason::SystemFailure), 0)]
    fn api_60_every_outcome_has_its_reason_and_exit_code(
        #[case] outcome: Outcome,
        #[case] reason: Option<Reason>,
        #[case] exit_code: i32,
    ) {
        assert_eq!(Ending::of(&outcome), Ending { reason, exit_code });
    }

    fn infra(kind: InfraKind) -> Outcome {
        Outcome::Infra(Infra::new(kind, "the cause"))
    }

    #[test]
    fn the_ticket_keeps_only_reasons_that_mean_something() {
        let mut words = modern();
        words.extend((0..10_000).map(|n| format!("reason_{n}")));
        let kept = relevant(&words);
        assert_eq!(kept.len(), 4, "{kept:?}");
        for reason in Reason::ALL {
            assert_eq!(reason.for_gitlab(&kept), reason.for_gitlab(&words));
        }
    }
}
