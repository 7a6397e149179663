//! `warm_pods`: pods that are ready before their job is there.

use std::time::Duration;

use super::autoscaler::{count, duration, periods};
use super::mistakes::Mistakes;
use super::raw::RawWarmPods;
use crate::schedule::Schedule;

/// How old a warm pod gets: its image, and what it was built from, grow old with it.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Ready pods of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmPods {
    /// The build container's image, as jobs write it.
    pub image: String,
    /// How many are kept ready.
    pub count: u32,
    /// When.
    pub schedule: Schedule,
    /// After this time a pod that nobody took is replaced.
    pub max_age: Duration,
}

pub(super) fn warm_pods(raw: &[RawWarmPods], mistakes: &mut Mistakes) -> Vec<WarmPods> {
    raw.iter()
        .enumerate()
        .map(|(index, raw)| {
            let key = |name: &str| format!("warm_pods[{index}].{name}");
            mistakes.required(&key("image"), &raw.image);
            let max_age = duration(&key("max_age"), &raw.max_age.0, MAX_AGE, mistakes);
            if max_age < Duration::from_secs(60) {
                mistakes.value(&key("max_age"), &raw.max_age.0, "a duration of a minute or more");
            }
            WarmPods {
                image: raw.image.clone(),
                count: count(&key("count"), raw.count, mistakes),
                schedule: periods(&key("periods"), &raw.periods, &raw.timezone, mistakes),
                max_age,
            }
        })
        .collect()
}
