//! Promises that one manager sees.

use std::sync::Arc;
use std::time::Duration;

use runner_core::executor::{Executor, JobHandle, JobRequest, Stop};
use runner_core::ids::Offset;
use runner_core::outcome::{Outcome, TimeLimit, TraceSummary};
use tokio::time::{Instant, sleep, timeout};

use super::Site;
use super::reader::{ALL, Reader};
use crate::conformance::job::{Work, disorder, lingers, numbers, talks};
use crate::conformance::report::{Finding, broken, ensure};

pub(super) type Handle = Box<dyn JobHandle>;

/// Writes a job down.
pub(super) async fn reserved(executor: &Arc<dyn Executor>, work: &Work) -> Result<Handle, Finding> {
    let request =
        JobRequest { job: &work.job, plan: &work.plan, ticket: &work.ticket, session: None };
    let handle = executor.reserve(request).await;
    let handle = handle.map_err(|error| broken(format!("`reserve` failed: {error}")))?;
    ensure!(handle.id() == work.job.id, "the handle is of job {}", handle.id());
    ensure!(handle.ticket() == work.ticket, "the handle has another ticket");
    Ok(handle)
}

/// Writes a job down and starts it.
pub(super) async fn started(executor: &Arc<dyn Executor>, work: &Work) -> Result<Handle, Finding> {
    let mut handle = reserved(executor, work).await?;
    start(&mut handle).await?;
    Ok(handle)
}

pub(super) async fn start(handle: &mut Handle) -> Result<(), Finding> {
    handle.start().await.map_err(|error| broken(format!("`start` failed: {error}")))
}

pub(super) async fn dispose(handle: &mut Handle) -> Result<(), Finding> {
    handle.dispose().await.map_err(|error| broken(format!("`dispose` failed: {error}")))
}

async fn stop(handle: &mut Handle, how: Stop) -> Result<(), Finding> {
    handle.stop(how).await.map_err(|error| broken(format!("`stop` failed: {error}")))
}

/// The order of what was read to the end, its lines, and the summary.
pub(super) fn whole(reader: &Reader, end: &runner_core::executor::JobEnd) -> Result<(), Finding> {
    if let Some(seen) = disorder(&numbers(&reader.trace)) {
        return Err(broken(seen));
    }
    reader.compare(end)
}

pub(super) async fn trace_is_whole(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut handle = started(&executor, &talks(1, 0)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    let end = reader.ending(handle.as_mut()).await?;
    whole(&reader, &end)?;
    ensure!(end.outcome == Outcome::Exited(0), "the job ended with {:?}", end.outcome);
    dispose(&mut handle).await
}

pub(super) async fn events_are_cancel_safe(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut handle = started(&executor, &talks(2, 0)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    let mut patience = 0;
    let end = loop {
        // From "polled once" up to some milliseconds, over and over.
        patience = (patience + 1) % 8;
        let turn = timeout(Duration::from_millis(patience), handle.event());
        if let Ok(event) = turn.await
            && let Some(end) = reader.take(event)?
        {
            break end;
        }
    };
    whole(&reader, &end)?;
    dispose(&mut handle).await
}

pub(super) async fn trace_is_not_pushed(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut handle = started(&executor, &talks(3, 0)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, Offset(100)).await;
    // The reader fails at the first byte too many.
    for limit in [100, 101, 5000, 60_000] {
        reader.allow(handle.as_mut(), Offset(limit)).await;
        while reader.position() < Offset(limit) {
            if let Some(end) = reader.step(handle.as_mut()).await? {
                return Err(broken(format!("the job ended before its trace was read: {end:?}")));
            }
        }
    }
    reader.allow(handle.as_mut(), ALL).await;
    let end = reader.ending(handle.as_mut()).await?;
    whole(&reader, &end)?;
    dispose(&mut handle).await
}

pub(super) async fn trace_is_seekable(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut handle = started(&executor, &talks(4, 0)).await?;
    let mut first = Reader::new(handle.as_mut(), Offset::ZERO, Offset(70_000)).await;
    while first.position() < Offset(70_000) {
        if first.step(handle.as_mut()).await?.is_some() {
            return Err(broken("the job ended before its trace was read"));
        }
    }
    let mut again = Reader::new(handle.as_mut(), Offset(33_333), ALL).await;
    let end = again.ending(handle.as_mut()).await?;
    let same = &first.trace[33_333..];
    ensure!(again.trace.starts_with(same), "from offset 33333 on, other bytes came than before");
    let all = [&first.trace[..33_333], &again.trace].concat();
    ensure!(end.trace == Some(TraceSummary::of(&all)), "the summary is not of these bytes");
    dispose(&mut handle).await
}

pub(super) async fn exit_codes_are_exact(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    for (number, status) in [(5, 0), (6, 1), (7, 37), (8, 255)] {
        let work = Work::script(number, &["echo going", &format!("exit {status}")]);
        let mut handle = started(&executor, &work).await?;
        let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
        let end = reader.ending(handle.as_mut()).await?;
        let wanted = Outcome::Exited(status);
        ensure!(end.outcome == wanted, "`exit {status}` became {:?}", end.outcome);
        dispose(&mut handle).await?;
    }
    Ok(())
}

pub(super) async fn cancel_stops(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut handle = started(&executor, &lingers(9)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    reader.until_said(handle.as_mut(), "it runs").await?;
    stop(&mut handle, Stop::Cancel).await?;
    let end = reader.ending(handle.as_mut()).await?;
    ensure!(end.outcome == Outcome::Cancelled, "it ended with {:?}", end.outcome);
    ensure!(reader.has("after script"), "its after_script did not run");
    reader.compare(&end)?;
    dispose(&mut handle).await
}

pub(super) async fn abort_stops(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut handle = started(&executor, &lingers(10)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    reader.until_said(handle.as_mut(), "it runs").await?;
    stop(&mut handle, Stop::Abort).await?;
    let end = reader.ending(handle.as_mut()).await?;
    ensure!(!end.outcome.is_success(), "it ended as a success");
    ensure!(!reader.has("after script"), "its after_script ran");
    dispose(&mut handle).await
}

pub(super) async fn deadline_stops(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let mut work = lingers(11);
    let limit = Duration::from_secs(2);
    work.plan.timeout = limit;
    let mut handle = started(&executor, &work).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    let end = reader.ending(handle.as_mut()).await?;
    let wanted = Outcome::TimedOut(TimeLimit::Job(limit));
    ensure!(end.outcome == wanted, "it ended with {:?}", end.outcome);
    dispose(&mut handle).await
}

pub(super) async fn nothing_is_left(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let before = site.leftovers().await;
    let mut handle = started(&executor, &talks(12, 1)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    reader.ending(handle.as_mut()).await?;
    ensure!(site.leftovers().await != before, "`leftovers` does not see a job that is there");
    dispose(&mut handle).await?;
    dispose(&mut handle).await?;
    left_as(site, &before).await
}

pub(super) async fn running_is_removed(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let before = site.leftovers().await;
    let mut handle = started(&executor, &lingers(13)).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    reader.until_said(handle.as_mut(), "it runs").await?;
    dispose(&mut handle).await?;
    left_as(site, &before).await
}

/// What was told to go may take a moment, as the pods of a cluster do.
async fn left_as(site: &dyn Site, before: &[String]) -> Result<(), Finding> {
    let give_up = Instant::now() + site.patience() / 3;
    loop {
        let mut left = site.leftovers().await;
        left.retain(|thing| !before.contains(thing));
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < give_up, "left: {left:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
