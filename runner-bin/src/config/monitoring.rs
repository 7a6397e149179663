//! `[runners.monitoring]`: for how long jobs may wait in GitLab's queue, by time of day.

use std::time::Duration;

use jiff::Timestamp;
use regex::Regex;
use runner_k8s::schedule::Schedule;

use super::duration::GoDuration;
use super::findings::Severity;
use super::shape::settings;

settings! {
    /// `[runners.monitoring]`
    struct RawMonitoring {
        /// How long jobs may wait in the queue, by time of day. The last entry whose periods hold the moment counts; jobs
        /// that waited longer are counted in `gitlab_runner_acceptable_job_queuing_duration_exceeded_total`.
        "job_queuing_durations" job_queuing_durations: Vec<RawQueuingDuration>;
    }

    /// `[[runners.monitoring.job_queuing_durations]]`
    struct RawQueuingDuration {
        /// When: cron expressions of five fields, or of seven, with seconds before them (they are not looked at) and years
        /// behind them. Without any the entry never applies.
        "periods" periods: Vec<String>;
        /// Their time zone. Default: the manager's.
        "timezone" timezone: Option<String>;
        /// A job that has waited for longer is counted. Default: 0, so all are.
        "threshold" threshold: Option<GoDuration>;
        /// Regular expression (found anywhere in the value) of how many jobs of the same project ran on instance runners, in
        /// GitLab's words: a number, or `+Inf`. Default: any.
        "jobs_running_for_project" jobs_running_for_project: Option<String>;
    }
}

/// What `periods` may look like, for messages.
const ALLOWED: &str = "five fields of cron, e.g. \"* 8-18 * * mon-fri\", or seven, e.g. \
                       \"* * 8-18 * * mon-fri *\"; timezone: one such as Europe/Berlin";

/// For how long jobs may wait. Entries later in the file come first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct QueueTimes(Vec<QueueTime>);

#[derive(Clone, Debug)]
struct QueueTime {
    schedule: Schedule,
    threshold: Duration,
    /// `None`: any.
    running: Option<Regex>,
}

impl PartialEq for QueueTime {
    fn eq(&self, other: &Self) -> bool {
        let running = |time: &Self| time.running.as_ref().map(|regex| regex.as_str().to_owned());
        self.schedule == other.schedule
            && self.threshold == other.threshold
            && running(self) == running(other)
    }
}

impl QueueTimes {
    /// The same at any time, for tests.
    #[cfg(test)]
    pub(crate) fn always(threshold: Duration) -> Self {
        let schedule = Schedule::parse(&[], "UTC").unwrap();
        Self(vec![QueueTime { schedule, threshold, running: None }])
    }

    /// Whether a job has waited for too long that comes now, after this time in the queue, with so many others
    /// of its project running.
    pub(crate) fn are_exceeded(&self, now: Timestamp, waited: Duration, running: &str) -> bool {
        let Some(time) = self.0.iter().find(|time| time.schedule.applies(now)) else {
            return false;
        };
        time.running.as_ref().is_none_or(|regex| regex.is_match(running)) && waited > time.threshold
    }
}

/// Reads it; `say` takes a key and what is wrong with it.
pub(super) fn read(raw: RawMonitoring, mut say: impl FnMut(Severity, &str, String)) -> QueueTimes {
    let mut times = Vec::new();
    for (index, raw) in raw.job_queuing_durations.into_iter().enumerate() {
        let key = |name: &str| format!("monitoring.job_queuing_durations[{index}].{name}");
        if raw.periods.is_empty() {
            let message = "is empty, so this entry never applies; \"* * * * *\" is always";
            say(Severity::Warning, &key("periods"), message.to_owned());
            continue;
        }
        let periods: Result<Vec<_>, _> = raw.periods.iter().map(|text| five(text)).collect();
        let zone = raw.timezone.as_deref().unwrap_or_default();
        let schedule = match periods.and_then(|periods| Schedule::parse(&periods, zone)) {
            Ok(schedule) => schedule,
            Err(wrong) => {
                let message = format!("\"{wrong}\" is not allowed; {ALLOWED}");
                say(Severity::Fault, &key("periods"), message);
                continue;
            }
        };
        let pattern = raw.jobs_running_for_project.filter(|pattern| !pattern.is_empty());
        let running = pattern.and_then(|pattern| {
            let regex = Regex::new(&pattern);
            if regex.is_err() {
                // As GitLab Runner does, which says nothing of it.
                let message = format!("\"{pattern}\" is no regular expression: any number counts");
                say(Severity::Warning, &key("jobs_running_for_project"), message);
            }
            regex.ok()
        });
        let threshold = raw.threshold.and_then(GoDuration::positive).unwrap_or_default();
        times.push(QueueTime { schedule, threshold, running });
    }
    times.reverse();
    QueueTimes(times)
}

/// A period in five fields: GitLab Runner's own has seconds before them and a year behind them.
fn five(text: &str) -> Result<String, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    match fields[..] {
        // A year that is none of `*` and `?` is left in place, which makes it six fields: refused.
        [_, ref rest @ .., "*" | "?"] if rest.len() == 5 => Ok(rest.join(" ")),
        [ref rest @ .., "*" | "?"] if rest.len() == 5 => Ok(rest.join(" ")),
        [..] if fields.len() == 5 => Ok(text.to_owned()),
        _ => Err(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn times(toml: &str) -> (QueueTimes, Vec<(Severity, String)>) {
        let mut said = Vec::new();
        let raw = toml::from_str(toml).unwrap();
        let times = read(raw, |severity, key, message| {
            said.push((severity, format!("{key}: {message}")));
        });
        (times, said)
    }

    /// At ten on a Wednesday.
    fn exceeded(times: &QueueTimes, seconds: u64, running: &str) -> bool {
        let now = "2026-03-04T10:00:00Z".parse().unwrap();
        times.are_exceeded(now, Duration::from_secs(seconds), running)
    }

    #[test]
    fn a_job_that_waited_longer_than_the_threshold_of_this_time_of_day_is_one_too_many() {
        let (times, said) = times(
            r#"
            [[job_queuing_durations]]
            periods = ["* * * * *"]
            timezone = "UTC"
            threshold = "10m"
            [[job_queuing_durations]]
            periods = ["* * 8-17 * * mon-fri *"]
            timezone = "UTC"
            threshold = "30s"
            jobs_running_for_project = "^[0-4]$"
            "#,
        );
        assert!(said.is_empty(), "{said:?}");
        assert!(!exceeded(&times, 30, "0") && exceeded(&times, 31, "0"));
        // The last one that applies counts, whether or not it is for this job.
        assert!(!exceeded(&times, 10_000, "5") && !exceeded(&times, 10_000, "+Inf"));
        let night = "2026-03-04T20:00:00Z".parse().unwrap();
        assert!(!times.are_exceeded(night, Duration::from_secs(600), "5"));
        assert!(times.are_exceeded(night, Duration::from_secs(601), "5"));
    }

    #[test]
    fn without_entries_no_job_waits_for_too_long() {
        assert!(!exceeded(&QueueTimes::default(), 1_000_000, ""));
    }

    #[rstest]
    #[case::cron(
        "periods = [\"* * *\"]",
        Severity::Fault,
        "durations[0].periods: \"* * *\" is not allowed; five"
    )]
    #[case::year(
        "periods = [\"* * * * * * 2026\"]",
        Severity::Fault,
        "\"* * * * * * 2026\" is not allowed"
    )]
    #[case::zone(
        "periods = [\"* * * * *\"]\ntimezone = \"Mars\"",
        Severity::Fault,
        "\"Mars\" is not allowed"
    )]
    #[case::never("threshold = \"1s\"", Severity::Warning, "never applies")]
    #[case::regex(
        "periods = [\"* * * * *\"]\njobs_running_for_project = \"(\"",
        Severity::Warning,
        "jobs_running_for_project: \"(\" is no regular expression: any number counts"
    )]
    fn what_makes_no_sense_is_named(
        #[case] entry: &str,
        #[case] severity: Severity,
        #[case] text: &str,
    ) {
        let (_, said) = times(&format!("[[job_queuing_durations]]\n{entry}"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, severity);
        assert!(said[0].1.contains(text), "{said:?}");
    }
}
