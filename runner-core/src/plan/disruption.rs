//! What becomes of a job whose pod is told to end: a node that is drained, a spot instance that is
//! taken back, a pod that is deleted. Decisions only; who tells the agent is the executor's business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What to do, and in which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    /// What becomes of the user's steps.
    #[serde(default)]
    pub policy: OnDisruption,
    /// From the order to end until everything is killed. Default: 30 s, as Kubernetes has it.
    pub grace: Duration,
    /// How many containers of the job's own are told to end at the same time and may obey at once:
    /// its services. A step that fails after that has not failed by itself.
    #[serde(default)]
    pub services: usize,
}

/// What becomes of the user's steps when the pod is told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisruption {
    /// They are stopped at once, so that there is time to save what the job wants kept of a failure.
    #[default]
    Stop,
    /// They may go on until only the time for saving is left.
    Finish,
}

/// The time for saving takes at most this, however long the grace is.
const LONGEST_SAVING: Duration = Duration::from_secs(120);
/// Last words and their way out take at most this.
const LONGEST_PARTING: Duration = Duration::from_secs(5);

impl Default for Disruption {
    fn default() -> Self {
        Self { policy: OnDisruption::Stop, grace: Duration::from_secs(30), services: 0 }
    }
}

impl Disruption {
    /// Whether it says nothing that an agent would not do by itself.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long after the order the user's steps are stopped: a quarter of the grace, at most two
    /// minutes, is kept for saving.
    #[must_use]
    pub fn stops_after(&self) -> Duration {
        match self.policy {
            OnDisruption::Stop => Duration::ZERO,
            OnDisruption::Finish => self.grace.saturating_sub((self.grace / 4).min(LONGEST_SAVING)),
        }
    }

    /// How long after the order the saving is given up, and the verdict written: a sixth of the grace,
    /// at most 5 s, is kept for that.
    #[must_use]
    pub fn gives_up_after(&self) -> Duration {
        self.grace.saturating_sub((self.grace / 6).min(LONGEST_PARTING))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Disruption, OnDisruption};

    #[test]
    fn steps_stop_before_saving_is_given_up_and_that_is_before_the_grace_is_over() {
        for (policy, grace, stops, gives_up) in [
            (OnDisruption::Stop, 30, 0, 25),
            (OnDisruption::Finish, 30, 22, 25),
            (OnDisruption::Finish, 600, 480, 595),
            (OnDisruption::Finish, 0, 0, 0),
        ] {
            let disruption = Disruption { policy, grace: Duration::from_secs(grace), services: 0 };
            assert_eq!(disruption.stops_after().as_secs(), stops, "{disruption:?}");
            assert_eq!(disruption.gives_up_after().as_secs(), gives_up, "{disruption:?}");
        }
    }
}
