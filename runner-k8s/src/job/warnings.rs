//! What Kubernetes warned of about a pod whose job could not be run. Asked for once, when such a job
//! ends: nobody who looks at a job's log can look at events.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams};
use runner_core::executor::JobEnd;
use runner_core::outcome::Outcome;
use tokio::time::timeout;
use tracing::debug;

/// How long the answer may take: the job's end waits for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most events that are asked for. A pod has few kinds of them; repeated ones are counted, not
/// listed.
const MOST: u32 = 50;
/// Longest message that is shown, in characters.
const LONGEST: usize = 500;

/// Which events are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `print_pod_warning_events`.
    Warnings,
    /// `FF_PRINT_POD_EVENTS`.
    All,
}

/// Adds events to a job's end, where the pod is what failed and the runner may see events.
pub(super) async fn add(
    client: &Client,
    namespace: &str,
    pod: &str,
    uid: &str,
    wanted: Wanted,
    mut end: JobEnd,
) -> JobEnd {
    if uid.is_empty() {
        return end;
    }
    let Outcome::Infra(infra) = &mut end.outcome else { return end };
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut fields = format!("involvedObject.name={pod},involvedObject.uid={uid}");
    if wanted == Wanted::Warnings {
        fields.push_str(",type=Warning");
    }
    let parameters = ListParams::default().fields(&fields).limit(MOST);
    match timeout(PATIENCE, api.list(&parameters)).await {
        Ok(Ok(list)) => {
            for line in lines(&list.items) {
                infra.message.push_str(&format!("\n{line}"));
            }
        }
        // A role need not allow it.
        Ok(Err(error)) => debug!(pod, %error, "the pod's events could not be listed"),
        Err(_) => debug!(pod, "the pod's events were not listed in time"),
    }
    end
}

/// An event's message on one line.
pub(super) fn text(event: &Event) -> String {
    let message = event.message.as_deref().unwrap_or_default().replace('\n', " ");
    message.chars().take(LONGEST).collect()
}

/// Each kind of event once, in their order.
fn lines(events: &[Event]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for event in events {
        let reason = event.reason.as_deref().unwrap_or("Unknown");
        let verb = if event.type_.as_deref() == Some("Normal") { "said" } else { "warned" };
        let line = format!("Kubernetes {verb}: {reason}: {}", text(event));
        if !out.contains(&line) {
            out.push(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;

    use super::{LONGEST, lines};

    fn event(reason: &str, message: &str) -> Event {
        let (reason, message) = (Some(reason.to_owned()), Some(message.to_owned()));
        Event { reason, message, ..Event::default() }
    }

    #[test]
    fn k8s_81_each_warning_is_said_once_on_one_line() {
        let events = [
            event("FailedMount", "no\nsecret"),
            event("FailedMount", "no\nsecret"),
            event("BackOff", &"x".repeat(2 * LONGEST)),
        ];
        let lines = lines(&events);
        assert_eq!(lines[0], "Kubernetes warned: FailedMount: no secret");
        let second = "Kubernetes warned: BackOff: ".len() + LONGEST;
        assert_eq!((lines.len(), lines[1].len()), (2, second));
    }
}
