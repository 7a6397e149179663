//! `config.toml` as it is written: every key optional, nothing checked but its type. Keys, defaults
//! and meanings are GitLab Runner's, except where a key says that it is Podwright's own.

use std::collections::BTreeMap;

use runner_core::secret::Secret;
use runner_k8s::RawSettings;
use toml::value::Datetime;

use super::duration::GoDuration;
use super::monitoring::RawMonitoring;
use super::raw_cache::RawCache;
use super::raw_ignored::{RawReferees, RawUsageLogger};
use super::shape::{Shape, settings};

pub(crate) const LOG_LEVELS: &[&str] =
    &["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"];
pub(crate) const LOG_FORMATS: &[&str] = &["runner", "text", "json"];
pub(crate) const SHELLS: &[&str] = &["bash", "sh", "pwsh"];

/// Its keys are `runner-k8s`'s business.
fn of_kubernetes() -> Shape {
    Shape::Table(RawSettings::FIELDS)
}

settings! {
    /// The whole file.
    struct RawConfig {
        /// Most jobs at once over all runners. At least 1.
        "concurrent" concurrent: Option<i64> [default("1")];
        /// Seconds between two requests for a job of one runner. Not positive: 3.
        "check_interval" check_interval: Option<i64> [default("3")];
        /// Least severe lines of the manager's own log.
        "log_level" log_level: Option<String> [default("\"info\""), one_of(LOG_LEVELS)];
        /// How they look: `runner` for people, `text` for logfmt, `json`.
        "log_format" log_format: Option<String> [default("\"runner\""), one_of(LOG_FORMATS)];
        /// Connections to GitLab older than this take no new requests. 0: never.
        "connection_max_age" connection_max_age: Option<GoDuration> [default("\"15m\"")];
        /// Address of metrics, health and debug pages; the port's default is 9252. Empty: none.
        "listen_address" listen_address: Option<String> [default("\"\""), restart];
        /// Seconds that a manager waits for its jobs to end when it was told to stop them.
        "shutdown_timeout" shutdown_timeout: Option<i64> [default("30")];
        /// Podwright's own: what TERM and INT do to running jobs. `leave`: they go on in their pods
        /// and the next manager takes them over. `stop`: they are failed, as GitLab Runner does.
        "on_terminate" on_terminate: Option<String>
            [default("\"leave\""), one_of(&["leave", "stop"])];
        /// Podwright's own: take this manager off GitLab's list when it ends after QUIT.
        "unregister_on_stop" unregister_on_stop: Option<bool> [default("false")];
        /// Labels of all runners, shown by GitLab.
        "labels" labels: BTreeMap<String, String>;
        /// The runners.
        "runners" runners: Vec<RawRunner>;
        /// Web terminals.
        "session_server" session_server: RawSessionServer;
        /// User of the shell executor.
        "user" user: Option<String> [ignored("it is for the shell executor")];
        /// The project of Sentry's to which lines of level error are sent, too: https://KEY@HOST/PROJECT. Where the key is
        /// not written at all, the environment's SENTRY_DSN counts.
        "sentry_dsn" sentry_dsn: Option<Secret>;
        /// Docker Machine.
        "machine" machine: Option<toml::Table> [ignored("it is for Docker Machine")];
        /// Things that may change.
        "experimental" experimental: RawExperimental;
    }

    /// `[experimental]`
    struct RawExperimental {
        /// A record for each finished job.
        "usage_logger" usage_logger: Option<RawUsageLogger>
            [ignored("usage records are not written yet; jobs are counted in metrics")];
    }

    /// `[session_server]`
    struct RawSessionServer {
        /// `host:port` to listen on.
        "listen_address" listen_address: Option<String>
            [default("\"\""), restart];
        /// `host:port` that GitLab connects to; default: `listen_address`. Of several managers behind
        /// one address, any answers for the jobs of all.
        "advertise_address" advertise_address: Option<String> [restart];
        /// Seconds that a finished job waits for an open terminal. Not positive: 1800.
        "session_timeout" session_timeout: Option<i64> [default("1800")];
        /// Podwright's own: file with the certificate of the session server. Default: one that is
        /// made, and kept in the cluster for all managers of the address.
        "certificate_file" certificate_file: Option<String> [restart];
        /// Podwright's own: its key.
        "key_file" key_file: Option<String> [restart];
    }

    /// One `[[runners]]` entry.
    struct RawRunner {
        /// Name in logs, metrics and the job's header.
        "name" name: Option<String>;
        /// GitLab's address. `$VAR` is taken from the environment.
        "url" url: Option<String>;
        /// Number of the runner in GitLab. With it jobs can be taken over after the token has changed.
        "id" id: Option<i64> [default("0")];
        /// The runner's authentication token. `$VAR` is taken from the environment.
        "token" token: Option<Secret>;
        /// Podwright's own: file with the token, read again when it changes. Used when `token` is empty.
        "token_file" token_file: Option<String>;
        /// When the token was handed out.
        "token_obtained_at" token_obtained_at: Option<Datetime>;
        /// When it expires; it is renewed after three quarters of its time.
        "token_expires_at" token_expires_at: Option<Datetime>;
        /// File of authorities to trust for GitLab beside the system's.
        "tls-ca-file" tls_ca_file: Option<String>;
        /// Client certificate for GitLab.
        "tls-cert-file" tls_cert_file: Option<String>;
        /// Its key.
        "tls-key-file" tls_key_file: Option<String>;
        /// Most jobs of this runner at once. Not positive: no limit of its own.
        "limit" limit: Option<i64> [default("0")];
        /// Most requests for a job at once. Less than 1 counts as 1.
        "request_concurrency" request_concurrency: Option<i64> [default("1")];
        /// Do not ask again at once after a job was received.
        "strict_check_interval" strict_check_interval: Option<bool> [default("false")];
        /// Refusals in a row until GitLab is left alone. Less than 1 counts as 3.
        "unhealthy_requests_limit" unhealthy_requests_limit: Option<i64> [default("3")];
        /// For how long.
        "unhealthy_interval" unhealthy_interval: Option<GoDuration> [default("\"1h\"")];
        /// Tries to deliver a verdict.
        "job_status_final_update_retry_limit" final_update_retries: Option<i64>
            [default("10"), ignored("a verdict is offered for an hour, however many tries that takes")];
        /// What runs the jobs.
        "executor" executor: Option<String> [one_of(&["kubernetes"])];
        /// Labels of this runner; they win over the global ones.
        "labels" labels: BTreeMap<String, String>;
        /// Feature flags; they win over those of jobs.
        "feature_flags" feature_flags: BTreeMap<String, bool>;
        /// Longest job log, in KiB. Not positive: 4096.
        "output_limit" output_limit: Option<i64> [default("4096")];
        /// Variables of each job, `KEY=value`.
        "environment" environment: Vec<String>;
        /// Root of checkouts.
        "builds_dir" builds_dir: Option<String> [default("\"/builds\"")];
        /// Root of local caches.
        "cache_dir" cache_dir: Option<String> [default("\"/cache\"")];
        /// Whether jobs may choose their directory.
        "custom_build_dir" custom_build_dir: RawCustomBuildDir;
        /// Takes the place of scheme and host of git URLs.
        "clone_url" clone_url: Option<String>;
        /// `pwsh`: scripts are PowerShell's; else bash runs them where the image has it, or else sh.
        "shell" shell: Option<String> [default("\"bash\""), one_of(SHELLS)];
        /// Commands in the helper before git.
        "pre_get_sources_script" pre_get_sources_script: Option<String>;
        /// Commands in the helper after git.
        "post_get_sources_script" post_get_sources_script: Option<String>;
        /// Commands before those of each step, in the same shell.
        "pre_build_script" pre_build_script: Option<String>;
        /// Commands after those of each step, in the same shell.
        "post_build_script" post_build_script: Option<String>;
        /// Longest time of the preparation. Default: the job's timeout.
        "prepare_timeout" prepare_timeout: Option<GoDuration>;
        /// Longest time to get the sources. Default: the job's timeout.
        "get_sources_timeout" get_sources_timeout: Option<GoDuration>;
        /// A summary at the end of each log: where the time went, what the containers used.
        "job_summary" job_summary: Option<bool> [default("true")];
        /// Debug traces have no effect but a warning.
        "debug_trace_disabled" debug_trace_disabled: Option<bool> [default("false")];
        /// Add the checkout to git's `safe.directory`.
        "safe_directory_checkout" safe_directory_checkout: Option<bool>
            [ignored("git is told so whenever the checkout belongs to another user")];
        /// Remove git configuration and hooks of an earlier job.
        "clean_git_config" clean_git_config: Option<bool>
            [ignored("git never reads what a job has left, so there is nothing to remove")];
        /// Run scripts through the helper's `proxy-exec`.
        "proxy_exec" proxy_exec: Option<bool> [ignored("the agent in the pod runs all commands, and does not obey `::add-mask::` in what they print: such values are to be masked variables or `secrets:`")];
        /// Image of the step runner.
        "step_runner_image" step_runner_image: Option<String>
            [ignored("`run:` uses the step-runner in the job's image")];
        /// For Docker.
        "use_slot_cgroups" use_slot_cgroups: Option<bool> [ignored("it is for the Docker executor")];
        /// For Docker.
        "slot_cgroup_template" slot_cgroup_template: Option<String>
            [ignored("it is for the Docker executor")];
        /// How archives go to GitLab.
        "artifact" artifact: RawArtifact;
        /// Distributed caches.
        "cache" cache: Option<RawCache>;
        /// What is watched.
        "monitoring" monitoring: RawMonitoring;
        /// Things that may change.
        "experimental" experimental: RawRunnerExperimental;
        /// For Docker Machine.
        "referees" referees: Option<RawReferees> [ignored("it is for Docker Machine")];
        /// How jobs run in the cluster: see the settings of the Kubernetes executor.
        "kubernetes" kubernetes: Option<toml::Table> [shaped(of_kubernetes)];
        /// Another executor.
        "docker" docker: Option<toml::Table> [ignored("it is for the Docker executor")];
        /// Another executor.
        "machine" machine: Option<toml::Table> [ignored("it is for Docker Machine")];
        /// Another executor.
        "autoscaler" autoscaler: Option<toml::Table> [ignored("it is for the autoscaler executors")];
        /// Another executor.
        "instance" instance: Option<toml::Table> [ignored("it is for the instance executor")];
        /// Another executor.
        "ssh" ssh: Option<toml::Table> [ignored("it is for the ssh executor")];
        /// Another executor.
        "parallels" parallels: Option<toml::Table> [ignored("it is for the Parallels executor")];
        /// Another executor.
        "virtualbox" virtualbox: Option<toml::Table> [ignored("it is for the VirtualBox executor")];
        /// Another executor.
        "custom" custom: Option<toml::Table> [ignored("it is for the custom executor")];
    }

    /// `[runners.custom_build_dir]`
    struct RawCustomBuildDir {
        /// Jobs may set GIT_CLONE_PATH.
        "enabled" enabled: Option<bool> [default("true")];
    }

    /// `[runners.experimental]`
    struct RawRunnerExperimental {
        /// A job of the manager's own, before it asks for the first one.
        "boot_verify" boot_verify: RawBootVerify;
    }

    /// `[runners.experimental.boot_verify]`
    struct RawBootVerify {
        /// Run a job at the start, in the cluster and with the runner's image, and end with exit code 1 if it fails. Until
        /// it has succeeded, `/health/ready` answers 503.
        "enabled" enabled: Option<bool> [default("false"), restart];
        /// For all of it.
        "timeout" timeout: Option<GoDuration> [default("\"5m\""), restart];
        /// Back-off.
        "acquire_min_backoff" acquire_min_backoff: Option<GoDuration>
            [ignored("nothing has to be acquired before a pod is made")];
        /// Back-off.
        "acquire_max_backoff" acquire_max_backoff: Option<GoDuration>
            [ignored("nothing has to be acquired before a pod is made")];
    }

    /// `[runners.artifact]`
    struct RawArtifact {
        /// One try to hand over an archive.
        "upload_timeout" upload_timeout: Option<GoDuration> [default("\"1h\"")];
        /// Until GitLab answers.
        "response_header_timeout" response_header_timeout: Option<GoDuration>
            [ignored("`upload_timeout` covers the answer too")];
    }
}
