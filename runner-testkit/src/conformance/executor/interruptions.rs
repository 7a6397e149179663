//! Promises that need more than one manager, or a lost node.

use std::sync::Arc;

use bytes::Bytes;
use runner_core::executor::{Executor, ExecutorErrorKind, JobPhase, Remarks};
use runner_core::ids::Offset;
use runner_core::outcome::{Outcome, TraceSummary};

use super::Site;
use super::checks::{Handle, dispose, reserved, start, started, whole};
use super::reader::{ALL, Reader};
use crate::conformance::job::{Work, lingers, talks};
use crate::conformance::report::{Finding, broken, ensure};

/// The manager ends as it does after SIGTERM, and the next one starts and finds what is there.
async fn next_manager(
    site: &dyn Site,
    last: Arc<dyn Executor>,
) -> Result<(Arc<dyn Executor>, Vec<Handle>), Finding> {
    last.retire().await;
    drop(last);
    let executor = site.executor().await;
    let found = executor.recover().await;
    let found = found.map_err(|error| broken(format!("`recover` failed: {error}")))?;
    Ok((executor, found))
}

/// The one job that the next manager finds.
async fn found_by_next(
    site: &dyn Site,
    last: Arc<dyn Executor>,
    work: &Work,
) -> Result<(Arc<dyn Executor>, Handle), Finding> {
    let (executor, found) = next_manager(site, last).await?;
    // What an earlier, broken check left behind is not this one's concern.
    let mut ours = found.into_iter().filter(|handle| handle.id() == work.job.id);
    let Some(handle) = ours.next() else {
        return Err(broken("`recover` did not find the job"));
    };
    ensure!(ours.next().is_none(), "`recover` found the job twice");
    ensure!(handle.ticket() == work.ticket, "the job that was found has another ticket");
    Ok((executor, handle))
}

pub(super) async fn lost_is_no_success(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let work = lingers(20);
    let mut handle = started(&executor, &work).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    reader.until_said(handle.as_mut(), "it runs").await?;
    if !site.destroy(work.job.id).await {
        dispose(&mut handle).await?;
        return Err(Finding::LeftOut("the site cannot destroy a job".to_owned()));
    }
    let end = reader.ending(handle.as_mut()).await?;
    ensure!(!end.outcome.is_success(), "it ended as a success");
    // A place that was given a moment may have told the rest. If it says so, it must be true.
    if end.trace.is_some() {
        reader.compare(&end)?;
    }
    dispose(&mut handle).await
}

pub(super) async fn runs_once(site: &dyn Site) -> Result<(), Finding> {
    let Some(directory) = site.shared_directory() else {
        return Err(Finding::LeftOut("the site has no shared directory".to_owned()));
    };
    let witness = directory.join("conformance-runs");
    let _ = std::fs::remove_file(&witness);
    let executor = site.executor().await;
    // It waits, so that a second run has the time to begin.
    let say = format!("echo run >> '{}'", witness.display());
    let work = Work::script(21, &[&say, "sleep 1", "echo done ''waiting"]);
    let mut handle = started(&executor, &work).await?;
    start(&mut handle).await?;
    drop(handle);
    let (_executor, mut handle) = found_by_next(site, executor, &work).await?;
    start(&mut handle).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    let end = reader.ending(handle.as_mut()).await?;
    ensure!(end.outcome == Outcome::Exited(0), "it ended with {:?}", end.outcome);
    let runs = std::fs::read_to_string(&witness).unwrap_or_default().lines().count();
    ensure!(runs == 1, "it ran {runs} times");
    dispose(&mut handle).await
}

pub(super) async fn reserved_is_found(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let work = talks(22, 0);
    let handle = reserved(&executor, &work).await?;
    ensure!(handle.phase() == JobPhase::Reserved, "a new job is {:?}", handle.phase());
    drop(handle);
    let (_executor, mut handle) = found_by_next(site, executor, &work).await?;
    ensure!(handle.phase() == JobPhase::Reserved, "it is said to be {:?}", handle.phase());
    start(&mut handle).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    let end = reader.ending(handle.as_mut()).await?;
    whole(&reader, &end)?;
    dispose(&mut handle).await
}

pub(super) async fn running_is_found(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let work = talks(23, 3);
    let mut handle = started(&executor, &work).await?;
    let mut first = Reader::new(handle.as_mut(), Offset::ZERO, Offset(20_000)).await;
    while first.position() < Offset(20_000) {
        if first.step(handle.as_mut()).await?.is_some() {
            return Err(broken("the job ended before its trace was read"));
        }
    }
    drop(handle);
    let (_executor, mut handle) = found_by_next(site, executor, &work).await?;
    ensure!(handle.phase() == JobPhase::Started, "it is said to be {:?}", handle.phase());
    start(&mut handle).await?;
    let mut second = Reader::new(handle.as_mut(), Offset(20_000), ALL).await;
    let end = second.ending(handle.as_mut()).await?;
    let all = [first.trace, second.trace].concat();
    ensure!(
        end.trace == Some(TraceSummary::of(&all)),
        "what both managers read together is not the trace: {:?} instead of {:?}",
        TraceSummary::of(&all),
        end.trace
    );
    ensure!(end.outcome == Outcome::Exited(3), "it ended with {:?}", end.outcome);
    dispose(&mut handle).await
}

pub(super) async fn loser_is_refused(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let work = talks(24, 0);
    let mut loser = started(&executor, &work).await?;
    let (_executor, mut handle) = found_by_next(site, executor, &work).await?;
    let remarks = Remarks { before: Bytes::from_static(b"of the loser"), ..Remarks::default() };
    match loser.remark(remarks).await {
        Err(error) if error.kind == ExecutorErrorKind::Superseded => {}
        Err(error) => return Err(broken(format!("it was told {:?}: {error}", error.kind))),
        Ok(()) => return Err(broken("its remark was taken")),
    }
    drop(loser);
    start(&mut handle).await?;
    let mut reader = Reader::new(handle.as_mut(), Offset::ZERO, ALL).await;
    let end = reader.ending(handle.as_mut()).await?;
    whole(&reader, &end)?;
    dispose(&mut handle).await
}

pub(super) async fn remarks_survive(site: &dyn Site) -> Result<(), Finding> {
    let executor = site.executor().await;
    let work = lingers(25);
    let mut handle = started(&executor, &work).await?;
    let remarks = Remarks {
        before: Bytes::from_static(b"said before\n\xff\0"),
        after: Some((Offset(12), Bytes::from_static(b"said after\n"))),
        outcome: Some(Outcome::Cancelled),
    };
    let stored = handle.remark(remarks.clone()).await;
    stored.map_err(|error| broken(format!("`remark` failed: {error}")))?;
    drop(handle);
    let (_executor, mut handle) = found_by_next(site, executor, &work).await?;
    let found = handle.remarks();
    ensure!(found == remarks, "{remarks:?} became {found:?}");
    start(&mut handle).await?;
    dispose(&mut handle).await
}
