//! The spans of one job. Pure.
//!
//! ```text
//!   job ├─ queue │ reserve │ schedule │ pull │ start        (this manager's clock)
//!       ├─ get_sources │ step_script │ …                    (the pod's clock)
//!       └─ clean-up
//! ```

use jiff::{SignedDuration, Timestamp};
use runner_core::executor::Milestone;
use runner_core::manager::{JobLabel, JobUpdate};
use runner_core::outcome::{Outcome, StageReport};
use runner_gitlab::failure_reason;
use sha2::{Digest, Sha256};

/// A job's trace, over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JobTrace {
    pub(super) id: u128,
    /// The first is the job's own.
    pub(super) spans: Vec<Span>,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) name: String,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) status: SpanStatus,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum SpanStatus {
    Unset,
    Ok,
    Error(String),
}

/// The spans of a running job.
#[derive(Debug)]
pub(super) struct JobSpans {
    trace: u128,
    root: Span,
    children: Vec<Span>,
    /// Makes ids of spans: the same job in another manager's hands has others.
    seed: [u8; 32],
    /// Where the next phase of the start begins.
    phase: Timestamp,
    accepted: Option<Timestamp>,
    concluded: Option<Timestamp>,
}

impl JobSpans {
    /// Begins with a job that was just received, or taken over.
    pub(super) fn new(label: &JobLabel, now: Timestamp) -> Self {
        let mut hash = Sha256::new();
        hash.update(label.source.0.as_bytes());
        hash.update(label.id.0.to_be_bytes());
        let job: [u8; 32] = hash.clone().finalize().into();
        hash.update(now.as_nanosecond().to_be_bytes());
        let seed: [u8; 32] = hash.finalize().into();
        let facts = label.facts.as_deref();
        let given = facts.and_then(|facts| facts.queue.trace);
        // The same in every manager that has the job, where GitLab gives none.
        let trace = given.map_or(number(&job), |given| given.trace);
        let waited = facts.and_then(|facts| facts.queue.waited).unwrap_or_default();
        let waited = SignedDuration::try_from(waited).unwrap_or_default();
        let began = now.checked_sub(waited).unwrap_or(now);
        let mut attributes = vec![
            ("cicd.pipeline.task.run.id", label.id.to_string()),
            ("podwright.runner", label.runner.clone()),
        ];
        if let Some(name) = &label.name {
            attributes.push(("cicd.pipeline.task.name", name.clone()));
        }
        if let Some(facts) = facts {
            attributes.push(("vcs.repository.name", facts.project.clone()));
            let url = facts.url.clone().map(|url| ("cicd.pipeline.task.run.url.full", url));
            attributes.extend(url);
        }
        let name = label.name.clone().unwrap_or_else(|| format!("job {}", label.id));
        let root = Span {
            id: span_id(&seed, 0),
            parent: given.map(|given| given.parent),
            name,
            began,
            ended: now,
            attributes,
            status: SpanStatus::Unset,
        };
        let mut spans = Self {
            trace,
            root,
            children: Vec::new(),
            seed,
            phase: now,
            accepted: None,
            concluded: None,
        };
        if !waited.is_zero() {
            spans.add("queue", began, now);
        }
        spans
    }

    fn add(&mut self, name: &str, began: Timestamp, ended: Timestamp) -> &mut Span {
        self.children.push(Span {
            id: span_id(&self.seed, self.children.len() as u64 + 1),
            parent: Some(self.root.id),
            name: name.to_owned(),
            began,
            ended,
            attributes: Vec::new(),
            status: SpanStatus::Unset,
        });
        let last = self.children.len() - 1;
        &mut self.children[last]
    }

    fn phase(&mut self, name: &str, now: Timestamp) {
        let began = std::mem::replace(&mut self.phase, now);
        self.add(name, began, now);
    }

    /// Something happened.
    pub(super) fn update(&mut self, update: &JobUpdate, now: Timestamp) {
        match update {
            JobUpdate::Adopted { place } => {
                self.root.attributes.push(("podwright.adopted", "true".to_owned()));
                self.root.attributes.push(("k8s.pod.name", pod(place)));
            }
            JobUpdate::Starting { place } => {
                self.phase("reserve", now);
                self.accepted = Some(now);
                self.root.attributes.retain(|(key, _)| *key != "k8s.pod.name");
                self.root.attributes.push(("k8s.pod.name", pod(place)));
            }
            JobUpdate::Reached(Milestone::Placed) => self.phase("schedule", now),
            JobUpdate::Reached(Milestone::Pulled) => self.phase("pull", now),
            JobUpdate::Running => {
                if let Some(accepted) = self.accepted.take() {
                    self.add("start", accepted, now);
                }
            }
            JobUpdate::StageFinished(report) => self.stage(report),
            JobUpdate::Concluded { outcome, .. } => {
                self.concluded = Some(now);
                self.root.status = status(outcome);
                if let Some(reason) = failure_reason(outcome) {
                    self.root.attributes.push(("error.type", reason.to_owned()));
                }
            }
            JobUpdate::Disposed { .. } => {
                if let Some(concluded) = self.concluded {
                    self.add("clean-up", concluded, now);
                }
            }
            JobUpdate::LeftBehind => {
                self.root.attributes.push(("podwright.left_behind", "true".to_owned()));
            }
            _ => {}
        }
    }

    fn stage(&mut self, report: &StageReport) {
        let began = Timestamp::from_millisecond(i64::try_from(report.started_ms).unwrap_or(0));
        let Ok(began) = began else { return };
        let took = i64::try_from(report.took_ms).unwrap_or(i64::MAX);
        let ended = began.checked_add(SignedDuration::from_millis(took)).unwrap_or(began);
        let status = status(&report.outcome);
        self.add(&report.name, began, ended).status = status;
    }

    /// This manager has nothing to do with the job any more.
    pub(super) fn finish(mut self, now: Timestamp) -> JobTrace {
        self.root.ended = now;
        let mut spans = vec![self.root];
        spans.append(&mut self.children);
        JobTrace { id: self.trace, spans }
    }
}

/// Only the name of `namespace/pod`.
fn pod(place: &str) -> String {
    place.rsplit('/').next().unwrap_or_default().to_owned()
}

fn status(outcome: &Outcome) -> SpanStatus {
    match outcome {
        Outcome::Exited(0) => SpanStatus::Ok,
        Outcome::Exited(code) => SpanStatus::Error(format!("exit code {code}")),
        // An executor's words for operators may say more than a trace's readers should see.
        other => SpanStatus::Error(failure_reason(other).unwrap_or("unknown_failure").to_owned()),
    }
}

fn number(bytes: &[u8; 32]) -> u128 {
    let (first, _) = bytes.split_first_chunk().unwrap_or((&[1; 16], &[]));
    u128::from_be_bytes(*first)
}

/// Never 0, which means "none".
fn span_id(seed: &[u8; 32], index: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(index.to_be_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    let (first, _) = bytes.split_first_chunk().unwrap_or((&[1; 8], &[]));
    u64::from_be_bytes(*first).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use runner_core::ids::{JobId, SourceId};
    use runner_core::manager::{JobFacts, JobLabel, JobUpdate};
    use runner_core::outcome::Outcome;
    use runner_core::source::TraceContext;

    use super::{JobSpans, SpanStatus};

    fn label(trace: Option<TraceContext>) -> JobLabel {
        let mut facts = JobFacts::default();
        facts.queue.trace = trace;
        JobLabel {
            runner: "one".into(),
            source: SourceId("s".into()),
            id: JobId(7),
            name: Some("test".into()),
            facts: Some(Arc::new(facts)),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_job_is_a_part_of_the_trace_that_its_source_names() {
        let given = TraceContext { trace: 0xabc, parent: 0xdef };
        let trace = JobSpans::new(&label(Some(given)), at(0)).finish(at(1));
        assert_eq!((trace.id, trace.spans[0].parent), (0xabc, Some(0xdef)));
    }

    #[test]
    fn all_managers_that_had_a_job_tell_of_one_trace_with_spans_of_their_own() {
        let mut first = JobSpans::new(&label(None), at(0));
        first.update(&JobUpdate::LeftBehind, at(5));
        let first = first.finish(at(5));
        let adopted = JobLabel { name: None, facts: None, ..label(None) };
        let mut second = JobSpans::new(&adopted, at(6));
        second.update(&JobUpdate::Adopted { place: "ci/pod".into() }, at(6));
        second
            .update(&JobUpdate::Concluded { outcome: Outcome::Exited(0), delivered: true }, at(9));
        let second = second.finish(at(9));
        assert_eq!(first.id, second.id);
        let (left, taken) = (&first.spans[0], &second.spans[0]);
        assert_ne!(left.id, taken.id);
        assert_eq!(left.status, SpanStatus::Unset, "nobody knows yet");
        assert!(left.attributes.contains(&("podwright.left_behind", "true".into())));
        assert_eq!(taken.status, SpanStatus::Ok);
        assert!(taken.attributes.contains(&("k8s.pod.name", "pod".into())));
    }
}
