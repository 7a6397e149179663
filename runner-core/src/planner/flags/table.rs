//! All feature flags of GitLab Runner 19.4, and what each one does here. `docs/feature-flags.md` is
//! made of this table (`cargo test -p runner-core feature_flags` says when it is not).

use super::Effect::{self, Needless, Obeyed, Refused};

/// A feature flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureFlag {
    /// `FF_…`.
    pub name: &'static str,
    /// Its value where nobody says otherwise, GitLab Runner's.
    pub default: bool,
    /// What it does here.
    pub effect: Effect,
}

const fn off(name: &'static str, effect: Effect) -> FeatureFlag {
    FeatureFlag { name, default: false, effect }
}

const fn on(name: &'static str, effect: Effect) -> FeatureFlag {
    FeatureFlag { name, default: true, effect }
}

const DOCKER: &str = "It is about the Docker executor.";
const WINDOWS: &str = "It is about Windows, and pods for Windows are refused.";
const AUTOSCALER: &str = "It is about instance autoscalers; the cluster has its own.";

/// In GitLab Runner's order, in which they are exported and shown.
pub const FLAGS: &[FeatureFlag] = &[
    off("FF_TEST_FEATURE", Needless("It does nothing in GitLab Runner either.")),
    off("FF_NETWORK_PER_BUILD", Needless("Every pod has a network of its own.")),
    off(
        "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY",
        Needless(
            "Commands are started by the agent in the pod: neither exec nor attach carries them.",
        ),
    ),
    on(
        "FF_USE_DIRECT_DOWNLOAD",
        Needless("Archives always come straight from object storage where GitLab offers it."),
    ),
    on("FF_USE_FASTZIP", Needless("There is one archiver, which compresses files side by side.")),
    off("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", Needless(DOCKER)),
    off(
        "FF_ENABLE_BASH_EXIT_CODE_CHECK",
        Obeyed("The exit status is looked at after each command of a script."),
    ),
    off("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", Needless(WINDOWS)),
    off(
        "FF_USE_LEGACY_BASH_EVAL",
        Needless("Scripts run in the job's own shell, neither in a pipe nor in a subshell."),
    ),
    off("FF_USE_POWERSHELL_PATH_RESOLVER", Needless(WINDOWS)),
    off(
        "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL",
        Obeyed(
            "Signs of life of a silent job follow the interval that GitLab asks for. Only in the configuration.",
        ),
    ),
    off(
        "FF_SCRIPT_SECTIONS",
        Obeyed("Commands of several lines are shown whole, in collapsed sections."),
    ),
    off("FF_ENABLE_JOB_CLEANUP", Obeyed("The project directory is cleaned at the end of the job.")),
    off(
        "FF_KUBERNETES_HONOR_ENTRYPOINT",
        Obeyed(
            "The image's entry point runs, or the one that the job writes, and the job's shell under it.",
        ),
    ),
    off(
        "FF_POSIXLY_CORRECT_ESCAPES",
        Needless("Quoting is always the one that every POSIX shell reads alike."),
    ),
    off(
        "FF_RESOLVE_FULL_TLS_CHAIN",
        Refused(
            "`CI_SERVER_TLS_CA_FILE` holds what `tls-ca-file` holds; put the whole chain there",
        ),
    ),
    off("FF_DISABLE_POWERSHELL_STDIN", Needless("It is about the shell and custom executors.")),
    on(
        "FF_USE_POD_ACTIVE_DEADLINE_SECONDS",
        Obeyed("The pod has a deadline behind all of the job's own; off: it has none."),
    ),
    off("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", Obeyed("The patches of `pod_spec` are applied.")),
    on(
        "FF_SECRET_RESOLVING_FAILS_IF_MISSING",
        Obeyed("A secret that is not there fails the job; off: its variable is empty."),
    ),
    off(
        "FF_PRINT_POD_EVENTS",
        Obeyed(
            "What Kubernetes says about the pod is shown, from when its agent runs; of a pod that \
             never runs, once it has failed.",
        ),
    ),
    on(
        "FF_USE_GIT_BUNDLE_URIS",
        Obeyed(
            "git takes the bundles that the server offers; only a clone asks for them, see \
             FF_USE_GIT_NATIVE_CLONE.",
        ),
    ),
    off(
        "FF_USE_GIT_NATIVE_CLONE",
        Obeyed(
            "`git clone` takes the place of `git fetch` with `GIT_STRATEGY: clone`, where git is \
             2.49 or newer.",
        ),
    ),
    off(
        "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR",
        Needless("The agent is process 1: it passes signals on and reaps what is left."),
    ),
    off("FF_USE_INIT_WITH_DOCKER_EXECUTOR", Needless(DOCKER)),
    off(
        "FF_LOG_IMAGES_CONFIGURED_FOR_JOB",
        Obeyed("Image names of each job are in the manager's log."),
    ),
    on("FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO", Needless(DOCKER)),
    off(
        "FF_CLEAN_UP_FAILED_CACHE_EXTRACT",
        Obeyed("What a cache's paths match is removed when its archive turns out broken."),
    ),
    off("FF_USE_WINDOWS_JOB_OBJECT", Needless(WINDOWS)),
    on("FF_TIMESTAMPS", Obeyed("Each line of the log has its time.")),
    off(
        "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION",
        Obeyed("The runner's token is not renewed. Only in the configuration."),
    ),
    off("FF_USE_LEGACY_GCS_CACHE_ADAPTER", Needless("There is one way to sign URLs.")),
    off(
        "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR",
        Needless("The umask is never changed: the checkout belongs to the build container's user."),
    ),
    off("FF_USE_LEGACY_S3_CACHE_ADAPTER", Needless("There is one way to sign URLs.")),
    off(
        "FF_GIT_URLS_WITHOUT_TOKENS",
        Obeyed(
            "git authenticates everywhere in scripts, not only in the checkout. No URL, file or \
             argument holds a token in either case.",
        ),
    ),
    off(
        "FF_WAIT_FOR_POD_TO_BE_REACHABLE",
        Needless(
            "The stream into the pod is opened again until it stands; nothing is lost meanwhile.",
        ),
    ),
    on("FF_MASK_ALL_DEFAULT_TOKENS", Obeyed("All of GitLab's token prefixes are masked.")),
    off(
        "FF_EXPORT_HIGH_CARDINALITY_METRICS",
        Obeyed("Metrics of each job's stages. Only in the configuration."),
    ),
    off("FF_USE_FLEETING_ACQUIRE_HEARTBEATS", Needless(AUTOSCALER)),
    on(
        "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
        Obeyed("Pauses between attempts at a stage grow from 5 s to 5 min; off: from 1 s to 5 s."),
    ),
    on(
        "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY",
        Obeyed("Requests for jobs follow what they bring. Only in the configuration."),
    ),
    on(
        "FF_USE_GITALY_CORRELATION_ID",
        Obeyed("git's requests carry an id that GitLab's logs show."),
    ),
    off(
        "FF_USE_GIT_PROACTIVE_AUTH",
        Obeyed("git sends its credentials without being asked for them (2.46 and newer)."),
    ),
    off("FF_HASH_CACHE_KEYS", Obeyed("Names of caches are SHA-256 sums of their keys.")),
    on("FF_ENABLE_JOB_INPUTS_INTERPOLATION", Obeyed("`${{ job.inputs.… }}` is replaced.")),
    off("FF_USE_JOB_ROUTER", Refused("jobs are asked for at GitLab's own API only")),
    off(
        "FF_SCRIPT_TO_STEP_MIGRATION",
        Refused("scripts run in a shell; GitLab Runner's Kubernetes executor fails such jobs"),
    ),
    off(
        "FF_USE_PARALLEL_CACHE_TRANSFER",
        Needless(
            "Several caches are transferred at a time; large ones come in pieces side by side and go to S3 in parts.",
        ),
    ),
    off(
        "FF_USE_PARALLEL_ARTIFACT_TRANSFER",
        Needless("Several archives are transferred at a time, each as one stream."),
    ),
    off(
        "FF_CONCRETE",
        Refused(
            "stages run in the agent; `run:` works without it where the image has `step-runner`",
        ),
    ),
    off("FF_SUSPENDABLE_ENVIRONMENTS", Refused("a pod ends with its job and cannot be suspended")),
    off("FF_USE_NATIVE_CONTAINER_STOP", Needless(DOCKER)),
];
