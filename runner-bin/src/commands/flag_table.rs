//! Which keys have which flags and variables. Names are GitLab Runner's, with their exceptions.

use super::flags::{Flag, Kind};

/// All of them.
pub(super) fn all() -> Vec<Flag> {
    let mut flags = runner();
    flags.extend(cache());
    flags.extend(kubernetes());
    flags
}

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
