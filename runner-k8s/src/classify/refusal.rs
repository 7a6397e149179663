//! What an error of the API server means.

use std::time::Duration;

use kube::core::Status;
use runner_core::executor::{ExecutorError, ExecutorErrorKind};
use runner_core::outcome::{Infra, InfraKind, Outcome};

/// What to do about an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// 404.
    NotFound,
    /// 409 on a create: an object of this name is there.
    AlreadyExists,
    /// 409 on an update or a conditional delete: somebody was faster.
    Conflict,
    /// 422 and 400: the object itself is refused; asking again will not help.
    Invalid,
    /// A policy, quota, webhook or role refuses; asking again will not help soon.
    Forbidden,
    /// No answer, or "not now".
    Unavailable,
}

/// What this error means, and how long to wait, where the server said so.
pub fn api_error(error: &kube::Error) -> (ApiErrorKind, Option<Duration>) {
    let kube::Error::Api(status) = error else {
        return (ApiErrorKind::Unavailable, None);
    };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let wait = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
    (kind(status), wait)
}

fn kind(status: &Status) -> ApiErrorKind {
    match (status.code, status.reason.as_str()) {
        (404, _) => ApiErrorKind::NotFound,
        (409, "AlreadyExists") => ApiErrorKind::AlreadyExists,
        (409, _) => ApiErrorKind::Conflict,
        // Not a refusal: the credentials are being renewed, or the clock is off.
        (401, _) => ApiErrorKind::Unavailable,
        (403, _) => ApiErrorKind::Forbidden,
        // 410 is about a version that is too old, never about the object.
        (429 | 408 | 410, _) => ApiErrorKind::Unavailable,
        (code, _) if (400..500).contains(&code) => ApiErrorKind::Invalid,
        _ => ApiErrorKind::Unavailable,
    }
}

/// The same as an [`ExecutorError`]. `doing` completes "could not …".
pub fn executor_error(error: kube::Error, doing: &str) -> ExecutorError {
    let (kind, retry_after) = api_error(&error);
    let message = match &error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    let kind = match kind {
        ApiErrorKind::Unavailable => ExecutorErrorKind::Unavailable,
        ApiErrorKind::Conflict | ApiErrorKind::AlreadyExists => ExecutorErrorKind::Unavailable,
        ApiErrorKind::NotFound | ApiErrorKind::Forbidden | ApiErrorKind::Invalid => {
            let refusal = Infra::new(InfraKind::System, refusal(&message));
            ExecutorErrorKind::Refused(Outcome::Infra(refusal))
        }
    };
    let mut out = ExecutorError::new(kind, format!("could not {doing}: {message}"));
    out.retry_after = retry_after;
    out.caused_by(error)
}

/// A refusal in the words of the job's author. Kubernetes' own words follow, because they name the
/// quota, the policy or the field.
fn refusal(message: &str) -> String {
    let cause = if message.contains("exceeded quota") || message.contains("failed quota") {
        "the namespace's quota leaves no room for the job"
    } else if message.contains("violates PodSecurity") {
        "the namespace's pod security standard does not allow the job's pod"
    } else if message.contains("admission webhook") || message.contains("ValidatingAdmissionPolicy")
    {
        "a policy of the cluster does not allow the job's pod"
    } else if message.contains("service account") {
        "the job's service account does not exist"
    } else if message.starts_with("namespaces ") {
        "the runner's namespace does not exist"
    } else if message.contains("cannot create resource") || message.contains("cannot ") {
        "the runner's role in the cluster does not allow what it needs"
    } else {
        "the cluster refuses the job's pod"
    };
    format!("{cause}: {message}")
}
