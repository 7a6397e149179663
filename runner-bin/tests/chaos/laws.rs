//! What must hold at the end of every run.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_core::outcome::{Outcome, TimeLimit};
use runner_testkit::chaos::{JobPlan, MemoryJob, text};

use crate::node::Truth;
use crate::run::{Harm, Outcome as End};

/// A manager's own words are not longer than this.
const WORDS: usize = 2000;
/// So close to its time limit a job may end either way: its build container takes its time too.
const CLOSE: Duration = Duration::from_secs(5);
/// Shorter output may be found by chance.
const TELLING: usize = 300;
/// An agent that has a verdict has told it to the kubelet before this time has passed.
const MOMENT: Duration = Duration::from_secs(1);

/// Everything that does not hold, in words.
pub(crate) fn broken(end: &End) -> Vec<String> {
    let mut broken = end.wrongs.clone();
    for job in &end.jobs {
        let truth = end.truths.get(&job.plan.id).cloned().unwrap_or_default();
        let harms = end.harms.get(&job.plan.id).map_or(&[][..], Vec::as_slice);
        let mut say = |what: String| broken.push(format!("job {}: {what}", job.plan.id));
        truth.failures.iter().for_each(|failure| say(failure.clone()));
        if truth.pods.len() > 1 {
            say(format!("it ran {} times", truth.pods.len()));
        }
        if job.aborted.is_none() {
            verdict(job, &truth, harms, end, &mut say);
        }
        trace(job, &truth, harms, &mut say);
    }
    let left = &end.left;
    if !left.pods.is_empty() || !left.secrets.is_empty() {
        broken.push(format!("left behind: {left:?}"));
    }
    let last = &end.left_at_last;
    if !last.config_maps.is_empty() || !last.pods.is_empty() || !last.secrets.is_empty() {
        broken.push(format!("left behind when the last manager had gone: {last:?}"));
    }
    broken
}

fn verdict(
    job: &MemoryJob,
    truth: &Truth,
    harms: &[Harm],
    end: &End,
    say: &mut impl FnMut(String),
) {
    let offered: BTreeSet<String> =
        job.verdicts.iter().map(|(outcome, _)| format!("{outcome:?}")).collect();
    // Who adopts a job whose node was lost after its verdict was offered cannot know of that.
    if offered.len() > 1 && harms.is_empty() {
        say(format!("{} verdicts: {offered:?}", offered.len()));
    }
    let Some((outcome, at)) = &job.verdict else {
        say(format!(
            "no verdict (given {} times, accepted: {}, trace {} bytes, truth {:?})",
            job.given,
            job.accepted,
            job.trace.len(),
            truth.verdict.as_ref().map(|verdict| &verdict.outcome)
        ));
        return;
    };
    let infra = matches!(outcome, Outcome::Infra(_) | Outcome::Unknown);
    match (&truth.verdict, truth.concluded) {
        (Some(verdict), Some(concluded)) => {
            own(&job.plan, truth, &verdict.outcome, job, harms, say);
            // A pod that was destroyed about when its agent was done may have told nobody.
            let fatal = |harm: &&Harm| !harm.survivable && harm.at >= concluded - MOMENT;
            let destroyed = harms.iter().find(fatal).is_some_and(|harm| harm.at <= *at);
            let held = concluded + Duration::from_secs(3600) > *at;
            // Its source cancelled it, and what its agent had come to went with the pod.
            let cancelled = *outcome == Outcome::Cancelled && job.cancelled.is_some() && destroyed;
            let excused = cancelled || infra && (destroyed || !held || !harms.is_empty());
            if verdict.outcome != *outcome && !excused {
                say(format!(
                    "the agent came to {:?} at {:?}, the source was told {outcome:?} at {:?}; {harms:?}",
                    verdict.outcome,
                    concluded - end.begin,
                    *at - end.begin
                ));
            }
        }
        _ if outcome.is_success() => say("a success that no agent came to".into()),
        _ => {
            if !infra && *outcome != Outcome::Cancelled {
                say(format!("no agent came to {outcome:?}"));
            }
        }
    }
}

/// Whether what the agent came to follows from what the job does.
fn own(
    plan: &JobPlan,
    truth: &Truth,
    outcome: &Outcome,
    job: &MemoryJob,
    harms: &[Harm],
    say: &mut impl FnMut(String),
) {
    if !harms.is_empty() || job.cancelled.is_some() || job.aborted.is_some() {
        return;
    }
    let takes = plan.script.takes();
    // The job's time is for `after_script` too, and a job that is out of time has timed out.
    let all = takes + plan.after_script.as_ref().map_or(Duration::ZERO, |script| script.takes());
    if takes.abs_diff(plan.timeout) < CLOSE || all.abs_diff(plan.timeout) < CLOSE {
        return;
    }
    let expected = if all > plan.timeout {
        Outcome::TimedOut(TimeLimit::Job(plan.timeout))
    } else {
        let after = plan.after_script.as_ref().map(|script| script.end.outcome());
        match plan.script.end.outcome() {
            // By default a failing after_script changes nothing.
            Outcome::Exited(0) => after.filter(|_| false).unwrap_or(Outcome::Exited(0)),
            failed => failed,
        }
    };
    if *outcome != expected {
        say(format!("the agent came to {outcome:?}, which should be {expected:?}"));
    }
    if takes <= plan.timeout {
        let script = &plan.script;
        let length = script.beats.iter().map(|beat| beat.bytes).sum();
        let output = text(script.seed, 0, length);
        let kept = without_stamps(&truth.spool);
        let found = count(&kept, &output);
        if found != 1 && length >= TELLING {
            say(format!("the script's {length} bytes are in its trace {found} times"));
        }
    }
}

/// A trace without the time and stream in front of each line, and with continuations joined.
fn without_stamps(trace: &[u8]) -> Vec<u8> {
    // `2026-01-01T00:00:00.000000Z 01O ` and, where a line goes on, `01O+`.
    const STAMP: usize = 32;
    let mut out = Vec::with_capacity(trace.len());
    for line in trace.split_inclusive(|byte| *byte == b'\n') {
        let stamped = line.len() >= STAMP && line.get(26) == Some(&b'Z');
        if stamped {
            if line[STAMP - 1] == b'+' && out.last() == Some(&b'\n') {
                out.pop();
            }
            out.extend_from_slice(&line[STAMP..]);
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

fn count(hay: &[u8], needle: &[u8]) -> usize {
    if needle.is_empty() {
        return 0;
    }
    let mut found = 0;
    let mut at = 0;
    while let Some(next) = find(&hay[at..], needle) {
        found += 1;
        at += next + needle.len();
    }
    found
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    (0..hay.len().checked_sub(needle.len() - 1)?)
        .filter(|at| hay[*at] == first)
        .find(|at| hay[*at..].starts_with(needle))
}

/// The source's trace is the pod's, with a manager's words before and after it.
fn trace(job: &MemoryJob, truth: &Truth, harms: &[Harm], say: &mut impl FnMut(String)) {
    let (has, own) = (&job.trace, &truth.spool);
    let start = own.iter().take(40).copied().collect::<Vec<_>>();
    let before = match start.is_empty() {
        true => 0,
        false => find(&has[..has.len().min(WORDS)], &start).unwrap_or(has.len()),
    };
    let common = has[before..].iter().zip(own).take_while(|(a, b)| a == b).count();
    let after = has.len() - before - common;
    if before > WORDS || after > WORDS {
        let excerpt =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        say(format!(
            "the source's trace ({} bytes) goes apart from the pod's ({} bytes) at {common}: {:?} {:?}",
            has.len(),
            own.len(),
            excerpt(has),
            excerpt(own),
        ));
        return;
    }
    let concluded = truth.verdict.is_some() && job.verdict.is_some();
    let excused = !harms.is_empty() || job.lost_trace;
    if concluded && !excused && (common < own.len() || after > 0) {
        say(format!("the source has {common} of the pod's {} bytes, and {after} more", own.len()));
    }
    if concluded && !excused && job.verdicts.last().is_none_or(|(_, summary)| summary.is_none()) {
        say("the verdict came without a checksum".into());
    }
}
