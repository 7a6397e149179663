//! How far the start of a job's pod has come, for metrics and traces. Pure.

use runner_core::executor::Milestone;

use crate::pod::BUILD;
use crate::watch::PodView;

/// What has been said already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Milestones {
    placed: bool,
    pulled: bool,
}

impl Milestones {
    /// What is new since the last look.
    pub(super) fn look(&mut self, pod: &PodView) -> impl Iterator<Item = Milestone> + use<> {
        let placed = pod.is_placed();
        // The job's own image is the last that is pulled: the helper starts before.
        let pulled = pod.container(BUILD).is_some_and(|status| {
            status.state.running.is_some() || status.state.terminated.is_some()
        });
        let (first, second) = (placed && !self.placed, pulled && !self.pulled);
        self.placed |= placed;
        self.pulled |= pulled;
        let news = [(first, Milestone::Placed), (second, Milestone::Pulled)];
        news.into_iter().filter(|(new, _)| *new).map(|(_, milestone)| milestone)
    }
}

#[cfg(test)]
mod tests {
    use runner_core::executor::Milestone;
    use serde_json::json;

    use super::Milestones;

    #[test]
    fn each_milestone_is_said_once() {
        let mut milestones = Milestones::default();
        let mut look = |spec: serde_json::Value, statuses: serde_json::Value| {
            let pod = json!({ "spec": spec, "status": { "containerStatuses": statuses } });
            milestones.look(&serde_json::from_value(pod).unwrap()).collect::<Vec<_>>()
        };
        let build = |state: &str| json!([{ "name": "build", "state": { state: {} } }]);
        assert_eq!(look(json!({}), json!([])), []);
        assert_eq!(look(json!({ "nodeName": "n" }), build("waiting")), [Milestone::Placed]);
        assert_eq!(look(json!({ "nodeName": "n" }), build("waiting")), []);
        assert_eq!(look(json!({ "nodeName": "n" }), build("running")), [Milestone::Pulled]);
        assert_eq!(look(json!({ "nodeName": "n" }), build("terminated")), []);
    }
}
