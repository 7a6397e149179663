//! What an answer to an update or to a piece of trace means (`gitlab-api.md` 3.8, 3.9). Pure
//! functions, in the order in which GitLab's answers are to be read.

use std::fmt;
use std::time::Duration;

use runner_core::ids::Offset;
use runner_core::source::{Appended, Directive, Finished, Reply, SourceError, SourceErrorKind};

use crate::answer::Answer;

/// The longest interval that is taken over.
const LONGEST_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What the headers say, whatever the status.
pub(crate) fn headers(answer: &Answer) -> Reply {
    let directive = match answer.header("Job-Status") {
        Some("canceled" | "failed") => Directive::Abort,
        Some("canceling") => Directive::Cancel,
        _ => Directive::Continue,
    };
    Reply { directive, interval: interval(answer) }
}

/// Whole seconds; not positive or not a number: as before.
fn interval(answer: &Answer) -> Option<Duration> {
    let text = answer.header("X-GitLab-Trace-Update-Interval")?;
    let Ok(seconds) = text.parse::<i64>() else {
        tracing::warn!(value = text, "GitLab names an interval that is not a number; ignored");
        return None;
    };
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).min(LONGEST_INTERVAL))
}

/// The answer to `PUT state=running`, the first one and later ones.
///
/// A 404 here means that the job is gone; in answer to a trace it does not.
pub(crate) fn updated(answer: &Answer, asked: impl fmt::Display) -> Result<Reply, SourceError> {
    let reply = headers(answer);
    if reply.directive == Directive::Abort || matches!(answer.status, 403 | 404) {
        return Ok(Reply { directive: Directive::Abort, ..reply });
    }
    // A wish to cancel counts whatever the status is.
    if matches!(answer.status, 200 | 202) || reply.directive == Directive::Cancel {
        return Ok(reply);
    }
    Err(answer.error(SourceErrorKind::Unavailable, asked))
}

/// The answer to a piece of trace that begins at `from`.
///
/// After an abort nothing is known about the piece, so it counts as not stored. A 404 is the kind
/// [`SourceErrorKind::Protocol`]: while the job runs it is no reason to stop, at its end another try
/// is pointless.
pub(crate) fn appended(
    answer: &Answer,
    from: Offset,
    asked: impl fmt::Display,
) -> Result<Appended, SourceError> {
    let reply = headers(answer);
    let aborted = Reply { directive: Directive::Abort, ..reply };
    match answer.status {
        202 => Ok(Appended::Stored(reply)),
        403 => Ok(Appended::Elsewhere { has: from, reply: aborted }),
        _ if reply.directive == Directive::Abort => {
            Ok(Appended::Elsewhere { has: from, reply: aborted })
        }
        416 => Ok(Appended::Elsewhere { has: stored(answer), reply }),
        404 => Err(answer.error(SourceErrorKind::Protocol, asked)),
        _ => Err(answer.error(SourceErrorKind::Unavailable, asked)),
    }
}

/// How much of the trace GitLab has: `n` of `Range: 0-n`. It is the size, not the last position, in
/// spite of the header's name. Anything that is not of this form means "from the beginning".
///
/// Whether the number can be true (it may lie beyond the end of the trace) only the manager knows,
/// which has the whole trace.
fn stored(answer: &Answer) -> Offset {
    let size = answer.header("Range").and_then(|range| {
        let (_, size) = range.split_once('-')?;
        size.parse().ok()
    });
    Offset(size.unwrap_or(0))
}

/// The answer to the final update.
pub(crate) fn finished(answer: &Answer, asked: impl fmt::Display) -> Result<Finished, SourceError> {
    let reply = headers(answer);
    match answer.status {
        200 => Ok(Finished::Done),
        // GitLab has ended the job by itself or knows it no more: nobody wants the verdict.
        403 | 404 => Ok(Finished::Done),
        _ if reply.directive == Directive::Abort => Ok(Finished::Done),
        202 => Ok(Finished::Pending { interval: reply.interval }),
        412 => Ok(Finished::TraceRejected),
        _ => Err(answer.error(SourceErrorKind::Unavailable, asked)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use runner_core::ids::Offset;
    use runner_core::source::{Appended, Directive, Finished, Reply, SourceErrorKind};

    use super::{appended, finished, headers, updated};
    use crate::answer::tests::answer;

    const STATUS: &str = "Job-Status";

    fn reply(directive: Directive) -> Reply {
        Reply { directive, interval: None }
    }

    #[rstest]
    #[case(200, "", Some(Directive::Continue))]
    #[case(200, "running", Some(Directive::Continue))]
    #[case(202, "", Some(Directive::Continue))]
    #[case(200, "canceling", Some(Directive::Cancel))]
    #[case(500, "canceling", Some(Directive::Cancel))]
    #[case(200, "canceled", Some(Directive::Abort))]
    #[case(200, "failed", Some(Directive::Abort))]
    #[case(403, "", Some(Directive::Abort))]
    #[case(403, "canceling", Some(Directive::Abort))]
    #[case(404, "", Some(Directive::Abort))]
    #[case(400, "", None)]
    #[case(409, "", None)]
    #[case(412, "", None)]
    #[case(422, "", None)]
    #[case(429, "", None)]
    #[case(500, "", None)]
    fn api_23_42_an_update_is_answered(
        #[case] status: u16,
        #[case] job_status: &str,
        #[case] expected: Option<Directive>,
    ) {
        let outcome = updated(&answer(status, &[(STATUS, job_status)]), "the update");
        match expected {
            Some(directive) => assert_eq!(outcome.unwrap(), reply(directive)),
            None => assert_eq!(outcome.unwrap_err().kind, SourceErrorKind::Unavailable),
        }
    }

    fn elsewhere(has: u64, directive: Directive) -> Appended {
        Appended::Elsewhere { has: Offset(has), reply: reply(directive) }
    }

    #[rstest]
    #[case(202, "", Appended::Stored(reply(Directive::Continue)))]
    #[case(202, "canceling", Appended::Stored(reply(Directive::Cancel)))]
    #[case(202, "canceled", Appended::Stored(reply(Directive::Abort)))]
    #[case(202, "failed", Appended::Stored(reply(Directive::Abort)))]
    #[case(403, "", elsewhere(100, Directive::Abort))]
    #[case(500, "canceled", elsewhere(100, Directive::Abort))]
    fn api_37_38_a_piece_of_trace_is_answered(
        #[case] status: u16,
        #[case] job_status: &str,
        #[case] expected: Appended,
    ) {
        let answer = answer(status, &[(STATUS, job_status)]);
        assert_eq!(appended(&answer, Offset(100), "the trace").unwrap(), expected);
    }

    #[rstest]
    #[case(404, SourceErrorKind::Protocol)]
    #[case(400, SourceErrorKind::Unavailable)]
    #[case(401, SourceErrorKind::Unavailable)]
    #[case(409, SourceErrorKind::Unavailable)]
    #[case(413, SourceErrorKind::Unavailable)]
    #[case(429, SourceErrorKind::Unavailable)]
    #[case(500, SourceErrorKind::Unavailable)]
    fn api_37_a_piece_of_trace_that_was_not_stored_is_an_error(
        #[case] status: u16,
        #[case] kind: SourceErrorKind,
    ) {
        let error = appended(&answer(status, &[]), Offset(100), "the trace").unwrap_err();
        assert_eq!(error.kind, kind);
    }

    #[rstest]
    #[case(&[("Range", "0-42")], 42)]
    #[case(&[("Range", "0-0")], 0)]
    #[case(&[("Range", "0-4294967296")], 4_294_967_296)]
    #[case(&[("Range", "42")], 0)]
    #[case(&[("Range", "0-42-43")], 0)]
    #[case(&[("Range", "0--1")], 0)]
    #[case(&[("Range", "0-99999999999999999999999")], 0)]
    #[case(&[("Range", "a-b")], 0)]
    #[case(&[], 0)]
    fn api_36_a_range_mismatch_names_where_to_go_on(
        #[case] pairs: &[(&str, &str)],
        #[case] has: u64,
    ) {
        assert_eq!(
            appended(&answer(416, pairs), Offset(7), "the trace").unwrap(),
            elsewhere(has, Directive::Continue)
        );
    }

    #[rstest]
    #[case("3", Some(3))]
    #[case("60", Some(60))]
    #[case("900", Some(900))]
    #[case("901", Some(900))]
    #[case("0", None)]
    #[case("-5", None)]
    #[case("soon", None)]
    #[case("1.5", None)]
    #[case("", None)]
    fn api_34_the_interval_header(#[case] text: &str, #[case] seconds: Option<u64>) {
        let answer = answer(202, &[("X-GitLab-Trace-Update-Interval", text)]);
        assert_eq!(headers(&answer).interval, seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(200, "", Some(Finished::Done))]
    #[case(200, "canceling", Some(Finished::Done))]
    #[case(202, "", Some(Finished::Pending { interval: None }))]
    #[case(202, "canceling", Some(Finished::Pending { interval: None }))]
    #[case(202, "failed", Some(Finished::Done))]
    #[case(412, "", Some(Finished::TraceRejected))]
    #[case(412, "canceled", Some(Finished::Done))]
    #[case(403, "", Some(Finished::Done))]
    #[case(404, "", Some(Finished::Done))]
    #[case(500, "canceled", Some(Finished::Done))]
    #[case(400, "", None)]
    #[case(409, "", None)]
    #[case(500, "", None)]
    #[case(500, "canceling", None)]
    fn api_46_47_the_final_update_is_answered(
        #[case] status: u16,
        #[case] job_status: &str,
        #[case] expected: Option<Finished>,
    ) {
        let outcome = finished(&answer(status, &[(STATUS, job_status)]), "the verdict");
        assert_eq!(outcome.ok(), expected);
    }
}
