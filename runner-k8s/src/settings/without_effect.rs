//! Keys that are accepted because GitLab Runner has them, and that have nothing to do here.

use super::mistakes::Mistakes;
use super::raw::RawSettings;

/// The keys and why they do nothing.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("poll_interval", "nothing is polled: the executor watches its pods"),
    ("retry_limit", "requests to the API server are repeated until a deadline of the job"),
    ("retry_backoff_max", "requests to the API server are repeated until a deadline of the job"),
    ("retry_limits", "requests to the API server are repeated until a deadline of the job"),
    ("logs_base_dir", "the log is in a volume that no other container sees"),
    ("scripts_base_dir", "scripts are not written into volumes of the pod"),
    ("suspend_pvc_size", "environments cannot be suspended in this release"),
    ("suspend_pvc_storage_class", "environments cannot be suspended in this release"),
    ("services[].suspend_data_path", "environments cannot be suspended in this release"),
];

pub(super) fn warn(raw: &RawSettings, mistakes: &mut Mistakes) {
    let used = |key: &str| match key {
        "poll_interval" => raw.poll_interval != 0,
        "retry_limit" => raw.retry_limit != 0,
        "retry_backoff_max" => raw.retry_backoff_max != 0,
        "retry_limits" => !raw.retry_limits.is_empty(),
        "logs_base_dir" => !raw.logs_base_dir.is_empty(),
        "scripts_base_dir" => !raw.scripts_base_dir.is_empty(),
        "suspend_pvc_size" => !raw.suspend_pvc_size.is_empty(),
        "suspend_pvc_storage_class" => !raw.suspend_pvc_storage_class.is_empty(),
        "services[].suspend_data_path" => {
            raw.services.iter().any(|service| !service.suspend_data_path.is_empty())
        }
        _ => false,
    };
    for (key, why) in WITHOUT_EFFECT.iter().filter(|(key, _)| used(key)) {
        mistakes.warn(format!("{key} has no effect: {why}"));
    }
}
