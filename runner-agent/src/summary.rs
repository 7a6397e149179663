//! The last section of the log: where the time went, what the containers used, why it failed. Text
//! only.

use std::fmt::Write as _;
use std::time::Duration;

use runner_core::outcome::StageReport;
use runner_core::wire::ImagePull;

use crate::usage::Usage;

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// How long the job waited in the source's queue.
    pub queued: Option<Duration>,
    /// From the manager's hands until the pod had a node.
    pub node: Option<Duration>,
    /// From there (from the manager's hands, where nobody knows) to the supervisor's first moment: the
    /// helper's image, volumes, the start of its container.
    pub pod: Option<Duration>,
    /// How long the stages waited for the build container after that, mostly for its image.
    pub build: Option<Duration>,
    /// Images that were pulled for the pod, which lies within the two before.
    pub pulls: &'a [ImagePull],
    /// The stages that ran.
    pub stages: &'a [StageReport],
    /// Containers with what they used.
    pub usage: Vec<(&'static str, Usage)>,
    /// Which stage failed and how. `None`: the job succeeded.
    pub failure: Option<String>,
}

/// From when the manager had the job, when its pod had a node and when the supervisor began, all in
/// milliseconds since the Unix epoch: how long the node took, and how long the pod then took to start.
/// Other machines' clocks are in it: what would have been before the job was there is not said.
pub fn before_the_agent(
    received: Option<u64>,
    placed: Option<u64>,
    began: Option<u64>,
) -> (Option<Duration>, Option<Duration>) {
    let (Some(received), Some(began)) = (received, began) else { return (None, None) };
    let span = |from: u64, to: u64| to.checked_sub(from).map(Duration::from_millis);
    match placed.filter(|placed| (received..=began).contains(placed)) {
        Some(placed) => (span(received, placed), span(placed, began)),
        None => (None, span(received, began)),
    }
}

/// What the section is called. GitLab shows it closed.
pub const SECTION: &str = "job_summary[collapsed=true]";
/// The same at its end, where GitLab wants no options.
pub const SECTION_END: &str = "job_summary";

/// The heading: all of it and its longest part, visible while the section is closed.
pub fn heading(facts: &Facts<'_>) -> String {
    let parts = parts(facts);
    let total = parts.iter().map(|(_, took)| *took).sum();
    let longest = parts.iter().max_by_key(|(_, took)| *took);
    match longest {
        Some((name, took)) => {
            format!("Summary: {}, of these {} {name}", in_tenths(total), in_tenths(*took))
        }
        None => "Summary".to_owned(),
    }
}

/// The lines in the section.
pub fn lines(facts: &Facts<'_>) -> Vec<String> {
    let mut lines: Vec<_> =
        parts(facts).iter().map(|(name, took)| row(name, &in_tenths(*took))).collect();
    for pull in facts.pulls {
        let mut text = format!("pulled in {}", in_tenths(Duration::from_millis(pull.took_ms)));
        if let Some(bytes) = pull.bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {}", in_mebibytes(bytes));
        }
        lines.push(row(&format!("image of {}", pull.container), &text));
    }
    for (container, usage) in &facts.usage {
        let text = used(usage);
        if !text.is_empty() {
            lines.push(row(&format!("container {container}"), &text));
        }
    }
    if let Some(why) = &facts.failure {
        lines.push(row("failed", why));
    }
    lines
}

fn row(name: &str, text: &str) -> String {
    format!("  {name:<18} {text}")
}

/// Spans of time in the order in which they came. Attempts at one stage are one span; what took no
/// time worth a line is left out.
fn parts(facts: &Facts<'_>) -> Vec<(String, Duration)> {
    let fixed = [
        ("in the queue", facts.queued),
        ("finding a node", facts.node),
        ("starting the pod", facts.pod),
        ("build container", facts.build),
    ];
    let mut parts: Vec<(String, Duration)> =
        fixed.into_iter().filter_map(|(name, took)| Some((name.to_owned(), took?))).collect();
    // The wait for the build container lies within the first stage that needed it.
    let mut wait = facts.build.unwrap_or_default();
    for stage in facts.stages {
        let mut took = Duration::from_millis(stage.took_ms);
        let name = part_name(&stage.name);
        if stage.name.starts_with("step_") || stage.name == "after_script" {
            took = took.saturating_sub(std::mem::take(&mut wait));
        }
        match parts.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += took,
            None => parts.push((name.to_owned(), took)),
        }
    }
    parts.retain(|(_, took)| *took >= Duration::from_millis(50));
    parts
}

fn part_name(stage: &str) -> &str {
    match stage {
        "prepare_script" => "preparing",
        "get_sources" | "clear_worktree" => "sources",
        "restore_cache" => "restoring cache",
        "download_artifacts" => "artifacts of needs",
        "step_script" => "script",
        "after_script" => "after_script",
        "archive_cache" | "archive_cache_on_failure" => "saving cache",
        "upload_artifacts_on_success" | "upload_artifacts_on_failure" => "artifacts",
        "cleanup_file_variables" => "cleaning up",
        other => other.strip_prefix("step_").unwrap_or(other),
    }
}

fn used(usage: &Usage) -> String {
    let mut parts = Vec::new();
    if let Some(peak) = usage.peak_memory {
        let mut text = format!("memory {} at most", in_mebibytes(peak));
        if let Some(limit) = usage.memory_limit {
            // Writing to a string cannot fail.
            let _ = write!(text, " of {}", in_mebibytes(limit));
        }
        parts.push(text);
    }
    if let Some(cpu) = usage.cpu {
        parts.push(format!("CPU {}", in_tenths(cpu)));
    }
    if let Some(kills @ 1..) = usage.oom_kills {
        parts.push(format!("{kills} killed for want of memory"));
    }
    parts.join(", ")
}

fn in_mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// `1h2m3s`, `2m5s`, `4.2s`.
fn in_tenths(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{:.1}s", time.as_secs_f64()),
        (0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (hours, minutes) => format!("{hours}h{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runner_core::outcome::{Outcome, StageReport};
    use runner_core::wire::ImagePull;

    use super::{Facts, before_the_agent, heading, lines};
    use crate::usage::Usage;

    fn stage(name: &str, took_ms: u64) -> StageReport {
        StageReport { name: name.into(), started_ms: 0, took_ms, outcome: Outcome::Exited(0) }
    }

    fn pull(container: &str, bytes: Option<u64>) -> ImagePull {
        ImagePull { container: container.into(), took_ms: 7_500, bytes }
    }

    #[test]
    fn what_was_before_the_job_is_not_its_time() {
        let spans = |received, placed, began| {
            let (node, pod) = before_the_agent(received, placed, began);
            (node.map(|time| time.as_millis()), pod.map(|time| time.as_millis()))
        };
        assert_eq!(spans(Some(10), Some(13), Some(20)), (Some(3), Some(7)));
        assert_eq!(spans(Some(10), None, Some(20)), (None, Some(10)));
        // A pod that was ready before its job, and clocks that differ.
        assert_eq!(spans(Some(10), Some(5), Some(20)), (None, Some(10)));
        assert_eq!(spans(Some(10), Some(25), Some(20)), (None, Some(10)));
        assert_eq!(spans(Some(10), None, Some(5)), (None, None));
        assert_eq!(spans(None, Some(13), Some(20)), (None, None));
    }

    #[test]
    fn the_time_is_split_into_what_an_author_can_do_something_about() {
        let stages = [
            stage("prepare_script", 10),
            stage("get_sources", 1200),
            stage("get_sources", 800),
            stage("step_script", 70_000),
            stage("after_script", 100),
        ];
        let usage = Usage {
            peak_memory: Some((5 << 20) + 1),
            memory_limit: Some(8 << 20),
            cpu: Some(Duration::from_millis(3210)),
            oom_kills: Some(0),
        };
        let facts = Facts {
            queued: Some(Duration::from_millis(2500)),
            node: Some(Duration::from_millis(1500)),
            pod: Some(Duration::from_secs(4)),
            build: Some(Duration::from_secs(8)),
            pulls: &[pull("helper", None), pull("build", Some(350 << 20))],
            stages: &stages,
            usage: vec![("build", usage), ("helper", Usage::default())],
            failure: Some("step_script: command terminated with exit code 1".into()),
        };
        assert_eq!(heading(&facts), "Summary: 1m20s, of these 1m2s script");
        assert_eq!(
            lines(&facts),
            [
                "  in the queue       2.5s",
                "  finding a node     1.5s",
                "  starting the pod   4.0s",
                "  build container    8.0s",
                "  sources            2.0s",
                "  script             1m2s",
                "  after_script       0.1s",
                "  image of helper    pulled in 7.5s",
                "  image of build     pulled in 7.5s, 350 MiB",
                "  container build    memory 6 MiB at most of 8 MiB, CPU 3.2s",
                "  failed             step_script: command terminated with exit code 1",
            ]
        );
    }

    #[test]
    fn a_job_of_which_nothing_is_known_has_a_summary_all_the_same() {
        assert_eq!(heading(&Facts::default()), "Summary");
        assert_eq!(lines(&Facts::default()), Vec::<String>::new());
    }
}
