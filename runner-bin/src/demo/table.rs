//! The table at the end: verdicts, times, bytes, requests.

use std::time::Duration;

use runner_core::ids::JobId;
use runner_k8s::client::{RequestCounts, RequestKind};
use runner_testkit::gitlab::{Finished, GitLab, JobRef};

use super::screen::{Screen, Times, line, seconds};

pub(super) fn print(
    screen: &Screen,
    jobs: &[JobRef],
    finished: &[Finished],
    gitlab: &GitLab,
    kubernetes: &RequestCounts,
) {
    line(format_args!(""));
    line(format_args!(
        "{:<8} {:<9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9}",
        "job", "verdict", "queue", "start", "sources", "script", "artifacts", "clean-up", "log"
    ));
    for (job, end) in jobs.iter().zip(finished) {
        let Some(times) = screen.times(JobId(job.id())) else { continue };
        line(format_args!(
            "{:<8} {:<9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>7} B",
            job.name(),
            end.state.as_str(),
            seconds(Some(times.received.duration_since(screen.began()))),
            seconds(times.running.map(|running| running.duration_since(times.received))),
            seconds(spent(&times, &["get_sources"])),
            seconds(spent(&times, &["step_script", "after_script"])),
            seconds(spent(
                &times,
                &[
                    "download_artifacts",
                    "upload_artifacts_on_success",
                    "upload_artifacts_on_failure"
                ]
            )),
            seconds(
                times.disposed.zip(times.concluded).map(|(end, begin)| end.duration_since(begin))
            ),
            times.bytes,
        ));
    }
    let requests: Vec<String> = gitlab
        .request_counts()
        .into_iter()
        .map(|(endpoint, count)| format!("{endpoint:?} {count}"))
        .collect();
    line(format_args!("requests to GitLab: {}", requests.join(", ")));
    let requests: Vec<String> = RequestKind::ALL
        .into_iter()
        .map(|kind| (kind, kubernetes.get(kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{} {count}", kind.as_str()))
        .collect();
    line(format_args!("requests to Kubernetes: {}", requests.join(", ")));
}

fn spent(times: &Times, stages: &[&str]) -> Option<Duration> {
    let took: Vec<u64> = times
        .stages
        .iter()
        .filter(|stage| stages.contains(&stage.name.as_str()))
        .map(|stage| stage.took_ms)
        .collect();
    (!took.is_empty()).then(|| Duration::from_millis(took.iter().sum()))
}
