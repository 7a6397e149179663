//! How a pod's part in a job ended.

use runner_core::outcome::{Infra, InfraKind, Outcome, Verdict};

/// Why a job cannot go on, as far as its pod shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// For the job's author.
    pub infra: Infra,
    /// For the operator, in Kubernetes' terms.
    pub detail: String,
    /// The container whose image could not be pulled: another pull policy may help.
    pub pull_failure: Option<String>,
    /// The pod is being taken away; its agent is told so by the kubelet and knows what to do within
    /// the pod's grace.
    pub disruption: bool,
}

impl End {
    /// An end without a pull failure.
    pub(crate) fn new(
        kind: InfraKind,
        message: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            infra: Infra::new(kind, message),
            detail: detail.into(),
            pull_failure: None,
            disruption: false,
        }
    }
}

impl End {
    /// The same for a pod that is taken away.
    pub(crate) fn by_disruption(self) -> Self {
        Self { disruption: true, ..self }
    }
}

/// Whether the whole trace of a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// All that the verdict speaks of.
    Yes,
    /// Something is missing, or nobody knows.
    No,
}

/// The worst of what the agent says and what the pod shows. When both say "infrastructure", the pod
/// knows the cause better: the agent only sees that its peer is gone.
///
/// A pod that is taken away says nothing about a job that has ended: then the agent's word counts,
/// once everything it said is here (`whole`).
pub fn worst(verdict: Option<&Verdict>, end: Option<&End>, whole: Whole) -> Outcome {
    if let (Some(verdict), Some(end), Whole::Yes) = (verdict, end, whole)
        && end.disruption
        && !matches!(verdict.outcome, Outcome::Infra(_) | Outcome::Unknown)
    {
        return verdict.outcome.clone();
    }
    let of_pod = end.map(|end| Outcome::Infra(end.infra.clone()));
    match (verdict.map(|verdict| &verdict.outcome), of_pod) {
        (Some(agent), Some(pod)) if agent.severity() > pod.severity() => agent.clone(),
        (_, Some(pod)) => pod,
        (Some(agent), None) => agent.clone(),
        (None, None) => Outcome::Unknown,
    }
}
