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
}

impl End {
    /// An end without a pull failure.
    pub(crate) fn new(
        kind: InfraKind,
        message: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { infra: Infra::new(kind, message), detail: detail.into(), pull_failure: None }
    }
}

/// The worst of what the agent says and what the pod shows. When both say "infrastructure", the pod
/// knows the cause better: the agent only sees that its peer is gone.
pub fn worst(verdict: Option<&Verdict>, end: Option<&End>) -> Outcome {
    let of_pod = end.map(|end| Outcome::Infra(end.infra.clone()));
    match (verdict.map(|verdict| &verdict.outcome), of_pod) {
        (Some(agent), Some(pod)) if agent.severity() > pod.severity() => agent.clone(),
        (_, Some(pod)) => pod,
        (Some(agent), None) => agent.clone(),
        (None, None) => Outcome::Unknown,
    }
}
