//! The keys of a `[[runners]]` entry as flags and environment variables, for `register` and
//! `run-single`. Names are GitLab Runner's, with their exceptions.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use crate::config::GoDuration;

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Flag,
    Duration,
    /// The flag may be repeated; the variable gives one element.
    List,
    /// The same, and the variable's value is split at commas.
    CommaList,
    /// `KEY:VALUE`, repeated.
    Map,
    /// `KEY:true`, repeated.
    FlagMap,
    /// TOML's value as JSON.
    Json,
}

/// One key.
#[derive(Clone, Debug)]
struct Flag {
    /// Where it goes below `[[runners]]`.
    path: Vec<String>,
    long: String,
    short: Option<char>,
    aliases: Vec<String>,
    variables: Vec<String>,
    kind: Kind,
}

impl Flag {
    fn new(path: &str, long: &str, variable: &str, kind: Kind) -> Self {
        Self {
            path: path.split('.').map(str::to_owned).collect(),
            long: long.to_owned(),
            short: None,
            aliases: Vec::new(),
            variables: Some(variable)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect(),
            kind,
        }
    }
}

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| {
    let mut flags = runner();
    flags.extend(cache());
    flags.extend(kubernetes());
    flags
});

fn runner() -> Vec<Flag> {
    use Kind::{Duration, Flag as Bool, FlagMap, Integer, List, Text};
    let rows: &[(&str, &str, &str, Kind)] = &[
        ("name", "name", "RUNNER_NAME", Text),
        ("url", "url", "CI_SERVER_URL", Text),
        ("token", "token", "CI_SERVER_TOKEN", Text),
        ("tls-ca-file", "tls-ca-file", "CI_SERVER_TLS_CA_FILE", Text),
        ("tls-cert-file", "tls-cert-file", "CI_SERVER_TLS_CERT_FILE", Text),
        ("tls-key-file", "tls-key-file", "CI_SERVER_TLS_KEY_FILE", Text),
        ("limit", "limit", "RUNNER_LIMIT", Integer),
        ("request_concurrency", "request-concurrency", "RUNNER_REQUEST_CONCURRENCY", Integer),
        ("strict_check_interval", "strict-check-interval", "RUNNER_STRICT_CHECK_INTERVAL", Bool),
        (
            "unhealthy_requests_limit",
            "unhealthy-requests-limit",
            "RUNNER_UNHEALTHY_REQUESTS_LIMIT",
            Integer,
        ),
        // GitLab Runner's own tag is misspelled, so its variable has no effect there.
        ("unhealthy_interval", "unhealthy-interval", "RUNNER_UNHEALTHY_INTERVAL", Duration),
        (
            "job_status_final_update_retry_limit",
            "job-status-final-update-retry-limit",
            "RUNNER_JOB_STATUS_FINAL_UPDATE_RETRY_LIMIT",
            Integer,
        ),
        ("executor", "executor", "RUNNER_EXECUTOR", Text),
        ("feature_flags", "feature-flags", "FEATURE_FLAGS", FlagMap),
        ("output_limit", "output-limit", "RUNNER_OUTPUT_LIMIT", Integer),
        ("environment", "env", "RUNNER_ENV", List),
        ("builds_dir", "builds-dir", "RUNNER_BUILDS_DIR", Text),
        ("cache_dir", "cache-dir", "RUNNER_CACHE_DIR", Text),
        ("custom_build_dir.enabled", "custom_build_dir-enabled", "CUSTOM_BUILD_DIR_ENABLED", Bool),
        ("clone_url", "clone-url", "CLONE_URL", Text),
        ("shell", "shell", "RUNNER_SHELL", Text),
        ("pre_get_sources_script", "pre-get-sources-script", "RUNNER_PRE_GET_SOURCES_SCRIPT", Text),
        (
            "post_get_sources_script",
            "post-get-sources-script",
            "RUNNER_POST_GET_SOURCES_SCRIPT",
            Text,
        ),
        ("pre_build_script", "pre-build-script", "RUNNER_PRE_BUILD_SCRIPT", Text),
        ("post_build_script", "post-build-script", "RUNNER_POST_BUILD_SCRIPT", Text),
        ("prepare_timeout", "prepare-timeout", "RUNNER_PREPARE_TIMEOUT", Duration),
        ("get_sources_timeout", "get-sources-timeout", "RUNNER_GET_SOURCES_TIMEOUT", Duration),
        ("debug_trace_disabled", "debug-trace-disabled", "RUNNER_DEBUG_TRACE_DISABLED", Bool),
        (
            "safe_directory_checkout",
            "safe-directory-checkout",
            "RUNNER_SAFE_DIRECTORY_CHECKOUT",
            Bool,
        ),
        ("clean_git_config", "clean-git-config", "RUNNER_CLEAN_GIT_CONFIG", Bool),
        ("proxy_exec", "proxy-exec", "RUNNER_PROXY_EXEC", Bool),
        ("step_runner_image", "step-runner-image", "STEP_RUNNER_IMAGE", Text),
        ("use_slot_cgroups", "use-slot-cgroups", "RUNNER_USE_SLOT_CGROUPS", Bool),
        ("slot_cgroup_template", "slot-cgroup-template", "RUNNER_SLOT_CGROUP_TEMPLATE", Text),
    ];
    let mut flags: Vec<Flag> = rows
        .iter()
        .map(|(path, long, variable, kind)| Flag::new(path, long, variable, *kind))
        .collect();
    for flag in &mut flags {
        match flag.long.as_str() {
            "name" => flag.aliases.push("description".to_owned()),
            "url" => flag.short = Some('u'),
            "token" => flag.short = Some('t'),
            // As GitLab Runner's reads, letter by letter.
            "job-status-final-update-retry-limit" => {
                flag.variables.push("RUNNER_job_status_final_update_retry_limit".to_owned());
            }
            _ => {}
        }
    }
    flags
}

fn cache() -> Vec<Flag> {
    use Kind::{Flag as Bool, Integer, Text};
    let rows: &[(&str, &str, &str, Kind)] = &[
        ("Type", "type", "TYPE", Text),
        ("Path", "path", "PATH", Text),
        ("Shared", "shared", "SHARED", Bool),
        (
            "MaxUploadedArchiveSize",
            "max_uploaded_archive_size",
            "MAXIMUM_UPLOADED_ARCHIVE_SIZE",
            Integer,
        ),
        ("s3.ServerAddress", "s3-server-address", "S3_SERVER_ADDRESS", Text),
        ("s3.AccessKey", "s3-access-key", "S3_ACCESS_KEY", Text),
        ("s3.SecretKey", "s3-secret-key", "S3_SECRET_KEY", Text),
        ("s3.SessionToken", "s3-session-token", "S3_SESSION_TOKEN", Text),
        ("s3.BucketName", "s3-bucket-name", "S3_BUCKET_NAME", Text),
        ("s3.BucketLocation", "s3-bucket-location", "S3_BUCKET_LOCATION", Text),
        ("s3.Insecure", "s3-insecure", "S3_INSECURE", Bool),
        ("s3.AuthenticationType", "s3-authentication_type", "S3_AUTHENTICATION_TYPE", Text),
        ("s3.ServerSideEncryption", "s3-server-side-encryption", "S3_SERVER_SIDE_ENCRYPTION", Text),
        (
            "s3.ServerSideEncryptionKeyID",
            "s3-server-side-encryption-key-id",
            "S3_SERVER_SIDE_ENCRYPTION_KEY_ID",
            Text,
        ),
        ("s3.DualStack", "s3-dual-stack", "S3_DUAL_STACK", Bool),
        ("s3.PathStyle", "s3-path-style", "S3_PATH_STYLE", Bool),
        ("s3.Accelerate", "s3-accelerate", "S3_ACCELERATE", Bool),
        ("s3.RoleARN", "s3-role-arn", "S3_ROLE_ARN", Text),
        ("s3.UploadRoleARN", "s3-upload-role-arn", "S3_UPLOAD_ROLE_ARN", Text),
        ("gcs.AccessID", "gcs-access-id", "GCS_ACCESS_ID", Text),
        ("gcs.PrivateKey", "gcs-private-key", "GCS_PRIVATE_KEY", Text),
        ("gcs.CredentialsFile", "gcs-credentials-file", "", Text),
        ("gcs.BucketName", "gcs-bucket-name", "GCS_BUCKET_NAME", Text),
        ("gcs.UniverseDomain", "gcs-universe-domain", "GCS_UNIVERSE_DOMAIN", Text),
        ("azure.AccountName", "azure-account-name", "AZURE_ACCOUNT_NAME", Text),
        ("azure.AccountKey", "azure-account-key", "AZURE_ACCOUNT_KEY", Text),
        ("azure.ContainerName", "azure-container-name", "AZURE_CONTAINER_NAME", Text),
        ("azure.StorageDomain", "azure-storage-domain", "AZURE_STORAGE_DOMAIN", Text),
    ];
    rows.iter()
        .map(|(path, long, variable, kind)| {
            let variable = match *variable {
                "" => "GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
                name => format!("CACHE_{name}"),
            };
            Flag::new(&format!("cache.{path}"), &format!("cache-{long}"), &variable, *kind)
        })
        .collect()
}

/// Keys whose flag is `--kubernetes-` and the key with dashes.
const KUBERNETES_DASHED: &[(&str, Kind)] = &[
    ("host", Kind::Text),
    ("cert_file", Kind::Text),
    ("key_file", Kind::Text),
    ("ca_file", Kind::Text),
    ("image", Kind::Text),
    ("namespace", Kind::Text),
    ("privileged", Kind::Flag),
    ("runtime_class_name", Kind::Text),
    ("allow_privilege_escalation", Kind::Flag),
    ("allowed_images", Kind::List),
    ("allowed_pull_policies", Kind::CommaList),
    ("allowed_services", Kind::List),
    ("allowed_users", Kind::List),
    ("allowed_groups", Kind::List),
    ("pull_policy", Kind::CommaList),
    ("node_selector", Kind::Map),
    ("node_tolerations", Kind::Map),
    ("image_pull_secrets", Kind::List),
    ("use_service_account_image_pull_secrets", Kind::Flag),
    ("helper_image", Kind::Text),
    ("helper_image_flavor", Kind::Text),
    ("helper_image_autoset_arch_and_os", Kind::Flag),
    ("poll_interval", Kind::Integer),
    ("poll_timeout", Kind::Integer),
    ("resource_availability_check_max_attempts", Kind::Integer),
    ("scheduler_name", Kind::Text),
    ("service_account", Kind::Text),
    ("automount_service_account_token", Kind::Flag),
    ("cap_add", Kind::List),
    ("cap_drop", Kind::List),
    ("suspend_pvc_size", Kind::Text),
    ("suspend_pvc_storage_class", Kind::Text),
    ("dns_policy", Kind::Text),
    ("logs_base_dir", Kind::Text),
    ("scripts_base_dir", Kind::Text),
    ("print_pod_warning_events", Kind::Flag),
    ("pod_disruption_budget", Kind::Flag),
];

/// Keys whose flag keeps the underscores.
const KUBERNETES_UNDERSCORED: &[(&str, Kind)] = &[
    ("bearer_token", Kind::Text),
    ("bearer_token_overwrite_allowed", Kind::Flag),
    ("namespace_overwrite_allowed", Kind::Text),
    ("namespace_per_job", Kind::Flag),
    ("node_selector_overwrite_allowed", Kind::Text),
    ("node_tolerations_overwrite_allowed", Kind::Text),
    ("pod_labels_overwrite_allowed", Kind::Text),
    ("pod_annotations_overwrite_allowed", Kind::Text),
    ("service_account_overwrite_allowed", Kind::Text),
    ("pod_termination_grace_period_seconds", Kind::Integer),
    ("cleanup_grace_period_seconds", Kind::Integer),
    ("cleanup_resources_timeout", Kind::Duration),
    ("priority_class_name", Kind::Text),
];

fn kubernetes() -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut add = |key: &str, long: String, variable: String, kind: Kind| {
        let path = format!("kubernetes.{key}");
        flags.push(Flag::new(&path, &format!("kubernetes-{long}"), &variable, kind));
    };
    let variable = |key: &str| format!("KUBERNETES_{}", key.to_uppercase());
    for (key, kind) in KUBERNETES_DASHED {
        add(key, key.replace('_', "-"), variable(key), *kind);
    }
    for (key, kind) in KUBERNETES_UNDERSCORED {
        add(key, (*key).to_owned(), variable(key), *kind);
    }
    // Resources: of the build container, of services, of the helper, of the pod.
    for part in ["", "service_", "helper_", "pod_"] {
        for what in ["cpu", "memory", "ephemeral_storage"] {
            if (part, what) == ("pod_", "ephemeral_storage") {
                continue;
            }
            for bound in ["limit", "request"] {
                for suffix in ["", "_overwrite_max_allowed"] {
                    let key = format!("{part}{what}_{bound}{suffix}");
                    // Outside of the build container, ephemeral_storage keeps its underscore.
                    let what = match part {
                        "" => what.replace('_', "-"),
                        _ => what.to_owned(),
                    };
                    let long = format!(
                        "{}{what}-{bound}{}",
                        part.replace('_', "-"),
                        suffix.replace('_', "-")
                    );
                    add(&key, long, variable(&key), Kind::Text);
                }
            }
        }
    }
    add("context", "context".into(), "KUBECTL_CONTEXT".into(), Kind::Text);
    add(
        "retry_limit",
        "retry-limit".into(),
        "KUBERNETES_REQUEST_RETRY_LIMIT".into(),
        Kind::Integer,
    );
    add(
        "retry_backoff_max",
        "retry-backoff-max".into(),
        "KUBERNETES_REQUEST_RETRY_BACKOFF_MAX".into(),
        Kind::Integer,
    );
    add("retry_limits", "retry-limits".into(), "KUBERNETES_RETRY_LIMITS".into(), Kind::Map);
    add("pod_labels", "pod-labels".into(), String::new(), Kind::Map);
    add("pod_annotations", "pod-annotations".into(), String::new(), Kind::Map);
    add("host_aliases", "host_aliases".into(), String::new(), Kind::Json);
    security(&mut flags);
    flags
}

fn security(flags: &mut Vec<Flag>) {
    use Kind::{Flag as Bool, Integer, List, Text};
    let mut add = |table: &str, key: &str, long: String, named: bool, kind: Kind| {
        let path = format!("kubernetes.{table}.{key}");
        let name = format!("KUBERNETES_{table}_{}", key.replace('.', "_")).to_uppercase();
        let name = if named { name } else { String::new() };
        flags.push(Flag::new(&path, &format!("kubernetes-{long}"), &name, kind));
    };
    let profiles = ["seccomp_profile", "app_armor_profile"];
    let pod = "pod_security_context";
    for (key, named, kind) in [
        ("fs_group", true, Integer),
        ("run_as_group", true, Integer),
        ("run_as_non_root", true, Bool),
        ("run_as_user", true, Integer),
        ("supplemental_groups", false, List),
        ("selinux_type", false, Text),
    ] {
        add(pod, key, format!("pod-security-context-{}", key.replace('_', "-")), named, kind);
    }
    for profile in profiles {
        for (key, long) in [("type", "type"), ("localhost_profile", "localhost-profile")] {
            let long = format!("pod-security-context-{profile}-{long}");
            add(pod, &format!("{profile}.{key}"), long, true, Text);
        }
    }
    for container in ["init_permissions", "build", "helper", "service"] {
        let table = format!("{container}_container_security_context");
        for (key, kind) in [
            ("privileged", Bool),
            ("run_as_user", Integer),
            ("run_as_group", Integer),
            ("run_as_non_root", Bool),
            ("read_only_root_filesystem", Bool),
            ("allow_privilege_escalation", Bool),
            ("proc_mount", Text),
            ("selinux_type", Text),
            ("capabilities.add", List),
            ("capabilities.drop", List),
        ] {
            let long = format!("{table}-{}", key.replace(['_', '.'], "-"));
            add(&table, key, long, true, kind);
        }
        for profile in profiles {
            for (key, long) in [("type", "type"), ("localhost_profile", "localhost-profile")] {
                let long = format!("{table}-{profile}-{long}");
                add(&table, &format!("{profile}.{key}"), long, true, Text);
            }
        }
    }
}

/// The flags of a `[[runners]]` entry, as the table they make.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunnerFlags(pub(crate) Table);

impl clap::Args for RunnerFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for RunnerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let variable = |name: &str| std::env::var(name).ok();
        collect(matches, &variable).map(Self).map_err(|message| {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{message}\n"))
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(flag: &'static Flag) -> Arg {
    let mut arg = Arg::new(flag.long.as_str()).long(flag.long.as_str());
    if let Some(short) = flag.short {
        arg = arg.short(short);
    }
    for alias in &flag.aliases {
        arg = arg.visible_alias(alias.as_str());
    }
    let names: Vec<String> = flag.variables.iter().map(|name| format!("[env: {name}]")).collect();
    let help = format!("{} {}", flag.path.join("."), names.join(" "));
    arg = arg.help(help.trim().to_owned());
    match flag.kind {
        // `--flag`, `--flag=true`, `--flag=false`; a word behind it belongs to something else.
        Kind::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::List | Kind::CommaList | Kind::Map | Kind::FlagMap => arg.action(ArgAction::Append),
        _ => arg.allow_hyphen_values(true),
    }
}

/// Flags first, then variables. An empty variable counts as not set: GitLab Runner takes an empty
/// `KUBERNETES_PRIVILEGED` for true.
fn collect(
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Table, String> {
    let mut table = Table::new();
    for flag in FLAGS.iter() {
        let given: Option<Vec<String>> = matches
            .try_get_many::<String>(&flag.long)
            .ok()
            .flatten()
            .map(|values| values.cloned().collect());
        let from_flag = given.is_some();
        let given = given.or_else(|| {
            let mut names = flag.variables.iter();
            names
                .find_map(|name| variable(name).filter(|text| !text.is_empty()))
                .map(|text| vec![text])
        });
        let Some(given) = given else { continue };
        let source = match from_flag {
            true => format!("--{}", flag.long),
            false => flag.variables.join(" or "),
        };
        let value = value(flag.kind, given).map_err(|problem| format!("{source}: {problem}"))?;
        insert(&mut table, &flag.path, value);
    }
    Ok(table)
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn value(kind: Kind, given: Vec<String>) -> Result<Value, String> {
    let last = || given.last().cloned().unwrap_or_default();
    let flag = |text: &str| match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        other => Err(format!("\"{other}\" is not true or false")),
    };
    Ok(match kind {
        Kind::Text => last().into(),
        Kind::Integer => {
            let text = last();
            let number: i64 =
                text.trim().parse().map_err(|_| format!("\"{text}\" is not an integer"))?;
            number.into()
        }
        Kind::Flag => flag(&last())?.into(),
        Kind::Duration => {
            let text = last();
            GoDuration::parse(&text).ok_or_else(|| {
                format!("\"{text}\" is not a duration such as \"90s\" or \"1h30m\"")
            })?;
            text.into()
        }
        Kind::List => given.into(),
        Kind::CommaList => {
            let parts = given.iter().flat_map(|text| text.split(','));
            parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>().into()
        }
        Kind::Map | Kind::FlagMap => {
            let mut map = Table::new();
            for pair in &given {
                let (key, text) = pair
                    .split_once(':')
                    .ok_or_else(|| format!("\"{pair}\" is not of the form KEY:VALUE"))?;
                let value = if kind == Kind::FlagMap { flag(text)?.into() } else { text.into() };
                map.insert(key.to_owned(), value);
            }
            map.into()
        }
        Kind::Json => {
            let json: serde_json::Value =
                serde_json::from_str(&last()).map_err(|error| format!("is not JSON: {error}"))?;
            Value::try_from(json).map_err(|error| error.to_string())?
        }
    })
}

/// Puts into `table` what `template` has and it has not. Empty values count as not there.
pub(crate) fn fill(table: &mut Table, template: &Table) {
    for (key, from) in template {
        match (table.get_mut(key), from) {
            (Some(Value::Table(inner)), Value::Table(from)) => fill(inner, from),
            (Some(known), _) if !is_empty(known) => {}
            _ => {
                table.insert(key.clone(), from.clone());
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Integer(number) => *number == 0,
        Value::Array(list) => list.is_empty(),
        Value::Table(table) => table.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args as _;
    use rstest::rstest;
    use toml::Table;

    use super::{FLAGS, Kind, RunnerFlags, collect, fill};

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Table, String> {
        let command = RunnerFlags::augment_args(clap::Command::new("test"));
        let arguments = std::iter::once("test").chain(arguments.iter().copied());
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        collect(&matches, &|name| {
            variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn manager_43_every_variable_lands_in_its_key() {
        let mut seen = BTreeSet::new();
        for flag in FLAGS.iter() {
            let (text, shown) = match flag.kind {
                Kind::Text => ("x", "\"x\""),
                Kind::Integer => ("7", "7"),
                Kind::Flag => ("true", "true"),
                Kind::Duration => ("5m", "\"5m\""),
                Kind::List | Kind::CommaList => ("x", "[\"x\"]"),
                Kind::Map => ("a:b", "{ a = \"b\" }"),
                Kind::FlagMap => ("a:true", "{ a = true }"),
                Kind::Json => ("[1]", "[1]"),
            };
            let lands = |table: Table| {
                let mut value = toml::Value::Table(table);
                for key in &flag.path {
                    value = value.get(key).unwrap_or_else(|| panic!("{flag:?}")).clone();
                }
                assert_eq!(value.to_string(), shown, "{flag:?}");
            };
            for name in &flag.variables {
                assert!(seen.insert(name.clone()), "{name} is read twice");
                lands(read(&[], &[(name, text)]).unwrap());
                // Empty counts as not set, for every kind.
                assert!(read(&[], &[(name, "")]).unwrap().is_empty(), "{name}");
            }
            lands(read(&[&format!("--{}={text}", flag.long)], &[]).unwrap());
        }
        assert!(seen.len() > 150, "{}", seen.len());
    }

    #[rstest]
    #[case("KUBECTL_CONTEXT", "context")]
    #[case("KUBERNETES_REQUEST_RETRY_LIMIT", "retry_limit")]
    #[case("KUBERNETES_BEARER_TOKEN", "bearer_token")]
    #[case("KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST", "helper_ephemeral_storage_request")]
    #[case("KUBERNETES_POD_CPU_LIMIT_OVERWRITE_MAX_ALLOWED", "pod_cpu_limit_overwrite_max_allowed")]
    fn manager_43_exceptions_of_variables(#[case] name: &str, #[case] key: &str) {
        let table = read(&[], &[(name, "1")]).unwrap();
        assert!(table["kubernetes"].get(key).is_some(), "{table}");
    }

    #[rstest]
    #[case("--kubernetes-namespace_overwrite_allowed=x", "namespace_overwrite_allowed")]
    #[case("--kubernetes-service-ephemeral_storage-limit=1Gi", "service_ephemeral_storage_limit")]
    #[case("--kubernetes-ephemeral-storage-limit=1Gi", "ephemeral_storage_limit")]
    #[case(
        "--kubernetes-build_container_security_context-run-as-user=5",
        "build_container_security_context"
    )]
    fn manager_43_exceptions_of_flags(#[case] flag: &str, #[case] key: &str) {
        let table = read(&[flag], &[]).unwrap();
        assert!(table["kubernetes"].get(key).is_some(), "{table}");
    }

    #[test]
    fn manager_43_what_a_cluster_puts_into_the_environment_is_not_read() {
        let variables = [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_PORT_443_TCP", "x"),
        ];
        assert!(read(&[], &variables).unwrap().is_empty());
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_a_flag_of_a_bool_needs_no_value() {
        let table = read(
            &["--limit", "3", "--kubernetes-privileged", "--env=A=1", "--env=B=2"],
            &[("RUNNER_LIMIT", "9"), ("RUNNER_ENV", "C=3")],
        )
        .unwrap();
        assert_eq!(table["limit"].as_integer(), Some(3));
        assert_eq!(table["kubernetes"]["privileged"].as_bool(), Some(true));
        assert_eq!(table["environment"].as_array().unwrap().len(), 2);
        let table = read(&["--kubernetes-privileged=false"], &[]).unwrap();
        assert_eq!(table["kubernetes"]["privileged"].as_bool(), Some(false));
    }

    #[rstest]
    #[case("RUNNER_LIMIT", "many", "not an integer")]
    #[case("RUNNER_PREPARE_TIMEOUT", "5 min", "not a duration")]
    #[case("KUBERNETES_PRIVILEGED", "yes", "not true or false")]
    #[case("KUBERNETES_NODE_SELECTOR", "a=b", "KEY:VALUE")]
    fn a_value_of_the_wrong_kind_is_named_with_its_variable(
        #[case] name: &str,
        #[case] text: &str,
        #[case] word: &str,
    ) {
        let message = read(&[], &[(name, text)]).unwrap_err();
        assert!(message.contains(name) && message.contains(word), "{message}");
    }

    #[test]
    fn manager_42_a_template_fills_what_is_not_there() {
        let table = |text: &str| toml::from_str::<Table>(text).unwrap();
        let mut own = table(
            "limit = 5\nurl = \"\"\nenvironment = [\"A=1\"]\n[kubernetes]\nimage = \"own\"\nprivileged = false\n",
        );
        fill(
            &mut own,
            &table(
                "limit = 9\nurl = \"https://t\"\nenvironment = [\"B=2\"]\noutput_limit = 7\n[kubernetes]\n\
             image = \"theirs\"\nnamespace = \"ci\"\nprivileged = true\n[kubernetes.pod_labels]\na = \"b\"\n",
            ),
        );
        let expected = table(
            "limit = 5\nurl = \"https://t\"\nenvironment = [\"A=1\"]\noutput_limit = 7\n[kubernetes]\n\
             image = \"own\"\nnamespace = \"ci\"\nprivileged = false\n[kubernetes.pod_labels]\na = \"b\"\n",
        );
        assert_eq!(own, expected);
    }
}
