//! Buckets of GitLab Runner's histograms, and of our own.

/// `gitlab_runner_job_duration_seconds`
pub(super) const DURATION: &[f64] =
    &[30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10800.0, 18000.0, 36000.0];
/// `gitlab_runner_job_queue_duration_seconds` and `gitlab_runner_job_stage_duration_seconds`
pub(super) const QUEUE: &[f64] = &[1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0];
/// `gitlab_runner_api_request_duration_seconds`
pub(super) const REQUEST: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// `podwright_job_start_seconds`
pub(super) const START: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 180.0];

/// `podwright_trace_lag_seconds`
pub(super) const LAG: &[f64] = &[0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 300.0];

/// What GitLab Runner calls the way a job's script runs; the other one is `steps` (`run:`).
pub(super) const MODE: &str = "traditional";
