//! The checks of a source. Each plays a manager with jobs of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runner_core::ids::{JobId, Offset};
use runner_core::outcome::{Infra, InfraKind, Outcome, TraceSummary};
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, NextPoll, Offer, Reply, SourceError,
    Ticket,
};
use tokio::time::{sleep, timeout};

use super::{Counter, Shown};
use crate::conformance::report::{Finding, broken, ensure};

type Source = Arc<dyn JobSource>;

/// How long to wait between two polls of a source that has no job. A manager waits 3 s.
const TURN: Duration = Duration::from_millis(100);

fn failed(what: &str, error: &SourceError) -> Finding {
    broken(format!("`{what}` failed: {error}"))
}

/// Polls until there is a job. The check's own deadline bounds it.
async fn polled(source: &Source) -> Result<Offer, Finding> {
    loop {
        let answer = source.poll().await.map_err(|error| failed("poll", &error))?;
        match answer.offer {
            Some(offer) => return Ok(offer),
            None if answer.next == NextPoll::Now => {}
            None => sleep(TURN).await,
        }
    }
}

/// A job that was queued, taken and accepted.
async fn job(counter: &dyn Counter, source: &Source) -> Result<(JobId, Ticket), Finding> {
    let id = counter.enqueue().await;
    let offer = polled(source).await?;
    ensure!(offer.job.id == id, "job {id} was queued, and {} was handed out", offer.job.id);
    source.accept(&offer.ticket).await.map_err(|error| failed("accept", &error))?;
    Ok((id, offer.ticket))
}

async fn append(
    source: &Source,
    ticket: &Ticket,
    from: usize,
    bytes: &'static [u8],
) -> Result<Appended, Finding> {
    let from = Offset(from as u64);
    let appended = source.append(ticket, from, vec![Bytes::from_static(bytes)]).await;
    appended.map_err(|error| failed("append", &error))
}

async fn stored(
    source: &Source,
    ticket: &Ticket,
    from: usize,
    bytes: &'static [u8],
) -> Result<Reply, Finding> {
    match append(source, ticket, from, bytes).await? {
        Appended::Stored(reply) => Ok(reply),
        Appended::Elsewhere { has, .. } => {
            Err(broken(format!("the next piece, at {from}, was refused: the source has {has}")))
        }
    }
}

async fn trace_is(counter: &dyn Counter, job: JobId, wanted: &[u8]) -> Result<(), Finding> {
    let found = counter.trace(job).await;
    ensure!(
        found == wanted,
        "the trace is {:?}, not {:?}",
        String::from_utf8_lossy(&found),
        String::from_utf8_lossy(wanted)
    );
    Ok(())
}

/// Says the verdict as a manager does, until it is taken.
async fn finished(
    source: &Source,
    ticket: &Ticket,
    outcome: Outcome,
    trace: &[u8],
) -> Result<(), Finding> {
    let conclusion = Conclusion { outcome, trace: Some(TraceSummary::of(trace)) };
    loop {
        let answer = source.finish(ticket, &conclusion).await;
        match answer.map_err(|error| failed("finish", &error))? {
            Finished::Done => return Ok(()),
            Finished::Pending { interval } => sleep(interval.unwrap_or(TURN)).await,
            Finished::TraceRejected => {
                return Err(broken("the trace was rejected, and it was the right one"));
            }
        }
    }
}

pub(super) async fn id_is_stable(counter: &dyn Counter) -> Result<(), Finding> {
    let (one, two) = (counter.source().await.id(), counter.source().await.id());
    ensure!(one == two, "first {one}, then {two}");
    ensure!(!one.0.is_empty(), "it is empty");
    Ok(())
}

pub(super) async fn job_is_given_once(counter: &dyn Counter) -> Result<(), Finding> {
    let (one, two) = (counter.source().await, counter.source().await);
    let wanted = [counter.enqueue().await, counter.enqueue().await];
    let (first, second) = tokio::join!(polled(&one), polled(&two));
    let (first, second) = (first?, second?);
    for (source, offer) in [(&one, &first), (&two, &second)] {
        source.accept(&offer.ticket).await.map_err(|error| failed("accept", &error))?;
    }
    let mut found = [first.job.id, second.job.id];
    found.sort();
    ensure!(found == wanted, "jobs {wanted:?} were queued, and {found:?} were handed out");
    // There is no third one.
    let third = timeout(Duration::from_secs(1), one.poll()).await;
    let third = third.ok().and_then(Result::ok).and_then(|polled| polled.offer);
    ensure!(third.is_none(), "a job was handed out again after it had been accepted");
    finished(&one, &first.ticket, Outcome::Exited(0), b"").await?;
    finished(&two, &second.ticket, Outcome::Exited(0), b"").await
}

pub(super) async fn poll_is_cancel_safe(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    for (pause, waits) in
        [0, 1, 5, 20].into_iter().flat_map(|pause| [(pause, false), (pause, true)])
    {
        // One request is dropped around the moment at which a job comes, or soon after it began.
        let early = if waits { Some(counter.enqueue().await) } else { None };
        let job = async {
            match early {
                Some(job) => job,
                None => counter.enqueue().await,
            }
        };
        let dropped = timeout(Duration::from_millis(pause), source.poll());
        let (job, dropped) = tokio::join!(job, dropped);
        let offer = match dropped {
            Ok(Ok(polled)) if polled.offer.is_some() => polled.offer,
            _ => None,
        };
        let offer = match offer {
            Some(offer) => offer,
            None => polled(&source).await?,
        };
        ensure!(offer.job.id == job, "job {job} was queued, and {} came", offer.job.id);
        source.accept(&offer.ticket).await.map_err(|error| failed("accept", &error))?;
        finished(&source, &offer.ticket, Outcome::Exited(0), b"").await?;
    }
    Ok(())
}

pub(super) async fn ticket_travels(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (id, ticket) = job(counter, &source).await?;
    stored(&source, &ticket, 0, b"by the first\n").await?;
    let length = ticket.0.expose().len();
    ensure!(length < 64 << 10, "the ticket has {length} bytes; it must stay below 64 KiB");
    let kept = ticket.0.expose().to_owned();
    drop((source, ticket));
    let source = counter.source().await;
    let ticket = Ticket(kept.into());
    stored(&source, &ticket, 13, b"by the second\n").await?;
    let trace = b"by the first\nby the second\n";
    finished(&source, &ticket, Outcome::Exited(0), trace).await?;
    trace_is(counter, id, trace).await?;
    ensure!(counter.shown(id).await == Shown::Success, "the second manager's verdict is not there");
    Ok(())
}

pub(super) async fn trace_is_stored(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (id, ticket) = job(counter, &source).await?;
    let chunks = vec![
        Bytes::from_static(b"one\r\n"),
        Bytes::from_static(b"\x1b[0K\xff\xfe\0 two"),
        Bytes::from_static("dré\n".as_bytes()),
    ];
    let all = chunks.concat();
    let half = all.len();
    match source.append(&ticket, Offset::ZERO, chunks).await {
        Ok(Appended::Stored(_)) => {}
        Ok(answer) => return Err(broken(format!("the first piece was not stored: {answer:?}"))),
        Err(error) => return Err(failed("append", &error)),
    }
    stored(&source, &ticket, half, b"the rest, without a line end").await?;
    let all = [all.as_slice(), b"the rest, without a line end"].concat();
    finished(&source, &ticket, Outcome::Exited(0), &all).await?;
    trace_is(counter, id, &all).await
}

pub(super) async fn repetition_is_harmless(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (id, ticket) = job(counter, &source).await?;
    stored(&source, &ticket, 0, b"first\n").await?;
    stored(&source, &ticket, 6, b"second\n").await?;
    // As after an answer that was lost.
    for (from, bytes) in [(6, b"second\n".as_slice()), (0, b"first\n")] {
        match append(&source, &ticket, from, bytes).await? {
            Appended::Stored(_) => {}
            Appended::Elsewhere { has, .. } => {
                ensure!(has == Offset(13), "the source has 13 bytes and says that it has {has}");
            }
        }
        trace_is(counter, id, b"first\nsecond\n").await?;
    }
    stored(&source, &ticket, 13, b"third\n").await?;
    finished(&source, &ticket, Outcome::Exited(0), b"first\nsecond\nthird\n").await?;
    trace_is(counter, id, b"first\nsecond\nthird\n").await
}

pub(super) async fn gap_is_refused(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (id, ticket) = job(counter, &source).await?;
    stored(&source, &ticket, 0, b"first\n").await?;
    match append(&source, &ticket, 100, b"far away\n").await? {
        Appended::Elsewhere { has: Offset(6), .. } => {}
        answer => {
            return Err(broken(format!(
                "the source has 6 bytes; a piece at 100 was answered with {answer:?}"
            )));
        }
    }
    trace_is(counter, id, b"first\n").await?;
    stored(&source, &ticket, 6, b"second\n").await?;
    finished(&source, &ticket, Outcome::Exited(0), b"first\nsecond\n").await?;
    trace_is(counter, id, b"first\nsecond\n").await
}

pub(super) async fn jobs_are_apart(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (one, first) = job(counter, &source).await?;
    let (two, second) = job(counter, &source).await?;
    stored(&source, &first, 0, b"one\n").await?;
    stored(&source, &second, 0, b"two\n").await?;
    let (a, b) = tokio::join!(
        stored(&source, &first, 4, b"one again\n"),
        stored(&source, &second, 4, b"two again\n")
    );
    a.and(b)?;
    finished(&source, &first, Outcome::Exited(0), b"one\none again\n").await?;
    finished(&source, &second, Outcome::Exited(1), b"two\ntwo again\n").await?;
    trace_is(counter, one, b"one\none again\n").await?;
    trace_is(counter, two, b"two\ntwo again\n").await?;
    let shown = (counter.shown(one).await, counter.shown(two).await);
    ensure!(shown == (Shown::Success, Shown::NoSuccess), "they are shown as {shown:?}");
    Ok(())
}

pub(super) async fn only_success(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let outcomes = [
        Outcome::Exited(0),
        Outcome::Exited(1),
        Outcome::Exited(255),
        Outcome::Signalled(9),
        Outcome::Cancelled,
        Outcome::Unknown,
        Outcome::Infra(Infra::new(InfraKind::System, "the node is gone")),
    ];
    for outcome in outcomes {
        let (id, ticket) = job(counter, &source).await?;
        let before = counter.shown(id).await;
        ensure!(before == Shown::Unfinished, "a job that runs is shown as {before:?}");
        stored(&source, &ticket, 0, b"said\n").await?;
        finished(&source, &ticket, outcome.clone(), b"said\n").await?;
        let wanted = if outcome.is_success() { Shown::Success } else { Shown::NoSuccess };
        let shown = counter.shown(id).await;
        ensure!(shown == wanted, "a job that ended with {outcome:?} is shown as {shown:?}");
    }
    Ok(())
}

pub(super) async fn verdict_is_final(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (id, ticket) = job(counter, &source).await?;
    stored(&source, &ticket, 0, b"said\n").await?;
    finished(&source, &ticket, Outcome::Exited(1), b"said\n").await?;
    // As after an answer that was lost. A source that no longer knows the job may say so.
    let conclusion =
        Conclusion { outcome: Outcome::Exited(1), trace: Some(TraceSummary::of(b"said\n")) };
    let again = source.finish(&ticket, &conclusion).await;
    ensure!(
        !matches!(again, Ok(Finished::TraceRejected)),
        "the repeated verdict was answered with a request for the trace"
    );
    let shown = counter.shown(id).await;
    ensure!(shown == Shown::NoSuccess, "it is shown as {shown:?}");
    trace_is(counter, id, b"said\n").await
}

pub(super) async fn cancel_arrives(counter: &dyn Counter) -> Result<(), Finding> {
    let source = counter.source().await;
    let (id, ticket) = job(counter, &source).await?;
    let reply = stored(&source, &ticket, 0, b"said\n").await?;
    ensure!(reply.directive == Directive::Continue, "before anything, {:?}", reply.directive);
    if !counter.cancel(id).await {
        finished(&source, &ticket, Outcome::Exited(0), b"said\n").await?;
        return Err(Finding::LeftOut("jobs of this system cannot be cancelled".to_owned()));
    }
    let reply = stored(&source, &ticket, 5, b"more\n").await?;
    ensure!(reply.directive != Directive::Continue, "`append` was answered with `Continue`");
    let reply = source.touch(&ticket).await.map_err(|error| failed("touch", &error))?;
    ensure!(reply.directive != Directive::Continue, "`touch` was answered with `Continue`");
    finished(&source, &ticket, Outcome::Cancelled, b"said\nmore\n").await?;
    let shown = counter.shown(id).await;
    ensure!(shown == Shown::NoSuccess, "it is shown as {shown:?}");
    Ok(())
}
