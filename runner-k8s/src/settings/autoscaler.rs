//! `autoscaler`: pause pods, which keep room for jobs.

use std::time::Duration;

use runner_core::planner::{GoDuration, parse_duration};

use super::mistakes::Mistakes;
use super::raw::{RawAutoscaler, RawAutoscalerPolicy};
use crate::schedule::{self, Schedule};

/// GitLab Runner's default class, the only one that is created where it is missing.
pub const DEFAULT_PAUSE_CLASS: &str = "gitlab-runner-idle-capacity";
const DEFAULT_PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10";

/// The checked table.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaler {
    /// Never more pause pods than that.
    pub most: Option<u32>,
    /// Their image.
    pub image: String,
    /// Their priority class.
    pub priority_class: String,
    /// Their pull secrets.
    pub pull_secrets: Vec<String>,
    /// The last one that applies counts.
    pub policies: Vec<Policy>,
}

/// How many pause pods, at its times.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When.
    pub schedule: Schedule,
    /// At least so many.
    pub idle_count: u32,
    /// How long one that is too many stays.
    pub idle_time: Duration,
    /// So many for each job; 0: none.
    pub scale_factor: f64,
    /// Most of those.
    pub scale_limit: Option<u32>,
}

/// `None`: no pause pods.
pub(super) fn autoscaler(
    raw: Option<&RawAutoscaler>,
    mistakes: &mut Mistakes,
) -> Option<Autoscaler> {
    let raw = raw?;
    let policies: Vec<_> =
        raw.policy.iter().enumerate().map(|(at, raw)| policy(at, raw, mistakes)).collect();
    if policies.is_empty() {
        mistakes.without_effect("autoscaler", "it has no policy");
        return None;
    }
    let or = |text: &str, default: &str| match text {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    let secrets = raw.pause_pod_image_pull_secrets.iter().filter(|name| !name.is_empty());
    Some(Autoscaler {
        most: limit("autoscaler.max_pause_pods", raw.max_pause_pods, mistakes),
        image: or(&raw.pause_pod_image, DEFAULT_PAUSE_IMAGE),
        priority_class: or(&raw.pause_pod_priority_class_name, DEFAULT_PAUSE_CLASS),
        pull_secrets: secrets.cloned().collect(),
        policies,
    })
}

fn policy(index: usize, raw: &RawAutoscalerPolicy, mistakes: &mut Mistakes) -> Policy {
    let key = |name: &str| format!("autoscaler.policy[{index}].{name}");
    let schedule = periods(&key("periods"), &raw.periods, &raw.timezone, mistakes);
    if !(raw.scale_factor >= 0.0 && raw.scale_factor.is_finite()) {
        mistakes.value(&key("scale_factor"), raw.scale_factor, "a number, 0 or more");
    }
    Policy {
        schedule,
        idle_count: count(&key("idle_count"), raw.idle_count, mistakes),
        idle_time: duration(&key("idle_time"), &raw.idle_time.0, Duration::ZERO, mistakes),
        scale_factor: raw.scale_factor,
        scale_limit: limit(&key("scale_factor_limit"), raw.scale_factor_limit, mistakes),
    }
}

/// A schedule; what is none is a mistake.
pub(super) fn periods(
    key: &str,
    periods: &[String],
    zone: &str,
    mistakes: &mut Mistakes,
) -> Schedule {
    Schedule::parse(periods, zone).unwrap_or_else(|wrong| {
        let allowed = format!("{}, and a time zone such as Europe/Berlin", schedule::ALLOWED);
        mistakes.value(key, wrong, &allowed);
        Schedule::parse(&[], "UTC").expect("no period is always right")
    })
}

/// A duration as Go writes it; empty: the default.
pub(super) fn duration(
    key: &str,
    text: &str,
    default: Duration,
    mistakes: &mut Mistakes,
) -> Duration {
    match parse_duration(text) {
        _ if text.is_empty() => default,
        Some(GoDuration::Forward(length)) => length,
        _ => {
            mistakes.value(key, text, "a duration such as 90s or 5m");
            default
        }
    }
}

/// A number of things.
pub(super) fn count(key: &str, value: i64, mistakes: &mut Mistakes) -> u32 {
    u32::try_from(value).unwrap_or_else(|_| {
        mistakes.value(key, value, "a number, 0 or more");
        0
    })
}

fn limit(key: &str, value: i64, mistakes: &mut Mistakes) -> Option<u32> {
    Some(count(key, value, mistakes)).filter(|limit| *limit > 0)
}
