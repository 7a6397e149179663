//! What the log says about how stages and the job ended, in GitLab Runner's words. Text only.

use runner_core::log::Message;
use runner_core::outcome::{InfraKind, Outcome, TimeLimit};
use runner_core::plan::{OnFailure, Stage};

use crate::clock::in_words;
use crate::control::Wish;
use crate::disruption;
use crate::standing::is_user_step;

/// The last line of the log.
pub(crate) fn last_line(outcome: &Outcome) -> Message {
    match outcome {
        Outcome::Exited(0) => Message::info("Job succeeded"),
        Outcome::Infra(infra) if infra.kind == InfraKind::System => {
            Message::error(format_args!("Job failed (system failure): {infra}"))
        }
        other => Message::error(format_args!("Job failed: {}", describe(other))),
    }
}

/// What the author should know about the end of a stage beyond the stage's own output.
pub(crate) fn explanations(stage: &Stage, outcome: &Outcome, wished: Option<Wish>) -> Vec<Message> {
    let mut lines = Vec::new();
    if matches!(outcome, Outcome::TimedOut(_)) {
        lines.push(Message::warning(format_args!(
            "{} could not run to completion because the timeout was exceeded. For more control \
             over job and script timeouts see: https://docs.gitlab.com/ci/runners/\
             configure_runners/#set-script-and-after_script-timeouts",
            stage.name
        )));
    }
    if wished == Some(Wish::Cancel) && is_user_step(stage) {
        lines.push(Message::warning("script canceled externally (UI, API)"));
    }
    if stage.on_failure == OnFailure::Warns && !outcome.is_success() && wished.is_none() {
        lines.push(Message::warning(format_args!(
            "{} failed, but job will continue unaffected: {}",
            stage.name,
            describe(outcome)
        )));
    }
    lines
}

/// What a wish makes of a stage.
pub(crate) fn wished_outcome(wish: Wish) -> Outcome {
    match wish {
        Wish::Cancel | Wish::Abort => Outcome::Cancelled,
        Wish::Interrupt | Wish::GiveUp => disruption::stopped(),
    }
}

/// An outcome in one line.
pub(crate) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited(code) => format!("command terminated with exit code {code}"),
        Outcome::Signalled(signal) => format!("command terminated by signal {signal}"),
        Outcome::TimedOut(TimeLimit::Job(limit)) => {
            format!("execution took longer than {} seconds", in_words(*limit))
        }
        Outcome::TimedOut(TimeLimit::Stage(_)) => {
            "script timeout: context deadline exceeded".into()
        }
        Outcome::Cancelled => "canceled".into(),
        Outcome::Infra(infra) => infra.message.clone(),
        _ => "how it ended is not known".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runner_core::outcome::{Infra, InfraKind, Outcome, TimeLimit};

    use super::last_line;

    #[test]
    fn stages_05_the_last_line_says_how_the_job_ended_in_its_colour() {
        let infra = |kind| Outcome::Infra(Infra::new(kind, "why"));
        let hour = TimeLimit::Job(Duration::from_secs(3600));
        for (outcome, line) in [
            (Outcome::Exited(0), "\x1b[32;1mJob succeeded\x1b[0;m\n"),
            (
                Outcome::Exited(42),
                "\x1b[31;1mERROR: Job failed: command terminated with exit code 42\x1b[0;m\n",
            ),
            (
                Outcome::TimedOut(hour),
                "\x1b[31;1mERROR: Job failed: execution took longer than 1h0m0s seconds\x1b[0;m\n",
            ),
            (Outcome::Cancelled, "\x1b[31;1mERROR: Job failed: canceled\x1b[0;m\n"),
            (
                infra(InfraKind::System),
                "\x1b[31;1mERROR: Job failed (system failure): why\x1b[0;m\n",
            ),
            (infra(InfraKind::Configuration), "\x1b[31;1mERROR: Job failed: why\x1b[0;m\n"),
        ] {
            assert_eq!(last_line(&outcome).as_str(), line);
        }
    }
}
