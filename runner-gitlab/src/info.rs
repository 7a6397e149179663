//! What a runner says about itself: the `info` object and the `User-Agent`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::settings::GitLabSettings;

/// Name and version of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseInfo {
    /// Default: `podwright`.
    pub name: String,
    /// Default: this crate's version.
    pub version: String,
    /// Commit; empty when unknown.
    pub revision: String,
    /// Branch or tag; empty when unknown.
    pub branch: String,
    /// The compiler, for the `User-Agent`. Default: `rust`.
    pub toolchain: String,
    /// Operating system of the manager. Default: that of this build.
    pub platform: String,
    /// Architecture of the manager, in GitLab's words (`amd64`). Default: that of this build.
    pub architecture: String,
}

impl Default for ReleaseInfo {
    fn default() -> Self {
        Self {
            name: "podwright".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
            branch: String::new(),
            toolchain: "rust".to_owned(),
            platform: std::env::consts::OS.to_owned(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "x86" => "386",
                other => other,
            }
            .to_owned(),
        }
    }
}

impl ReleaseInfo {
    /// `<name> <version> (<branch>; <toolchain>; <os>/<arch>)`, the format that GitLab's logs know.
    pub(crate) fn user_agent(&self) -> String {
        let Self { name, version, branch, toolchain, platform, architecture, .. } = self;
        let branch = if branch.is_empty() { "HEAD" } else { branch };
        format!("{name} {version} ({branch}; {toolchain}; {platform}/{architecture})")
    }
}

/// What jobs may ask for. All 31 are sent, always; GitLab fails a job that needs one which is not
/// announced (`upload_multiple_artifacts`, `refspecs`, `artifacts_exclude`, `multi_build_steps`,
/// `return_exit_code`, `fallback_cache_keys`, `vault_secrets`) instead of handing it out.
///
/// The default is what Podwright can do and no more: a feature that is announced and missing is a
/// job that fails in the middle.
#[expect(missing_docs, reason = "the names are GitLab's, and their meaning is GitLab's to define")]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    pub variables: bool,
    pub image: bool,
    pub services: bool,
    pub artifacts: bool,
    pub cache: bool,
    pub fallback_cache_keys: bool,
    pub shared: bool,
    pub upload_multiple_artifacts: bool,
    pub upload_raw_artifacts: bool,
    pub session: bool,
    pub terminal: bool,
    pub refspecs: bool,
    pub masking: bool,
    pub proxy: bool,
    pub raw_variables: bool,
    pub artifacts_exclude: bool,
    pub multi_build_steps: bool,
    pub trace_reset: bool,
    pub trace_checksum: bool,
    pub trace_size: bool,
    pub vault_secrets: bool,
    pub cancelable: bool,
    pub return_exit_code: bool,
    pub service_variables: bool,
    pub service_multiple_aliases: bool,
    pub image_executor_opts: bool,
    pub service_executor_opts: bool,
    pub cancel_gracefully: bool,
    pub native_steps_integration: bool,
    pub two_phase_job_commit: bool,
    pub job_inputs: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            variables: true,
            image: true,
            services: true,
            artifacts: true,
            cache: true,
            fallback_cache_keys: true,
            upload_multiple_artifacts: true,
            upload_raw_artifacts: true,
            refspecs: true,
            masking: true,
            raw_variables: true,
            artifacts_exclude: true,
            multi_build_steps: true,
            trace_reset: true,
            trace_checksum: true,
            trace_size: true,
            cancelable: true,
            return_exit_code: true,
            service_variables: true,
            service_multiple_aliases: true,
            image_executor_opts: true,
            cancel_gracefully: true,
            job_inputs: true,
            vault_secrets: true,
            two_phase_job_commit: true,
            // GitLab Runner's Kubernetes executor leaves these two out as well.
            shared: false,
            service_executor_opts: false,
            // True where there is a session server.
            session: false,
            terminal: false,
            proxy: false,
            native_steps_integration: false,
        }
    }
}

/// The `info` object of `jobs/request` and of every update.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Info {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) revision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) platform: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) executor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) shell: String,
    pub(crate) features: Features,
    pub(crate) config: InfoConfig,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Info {
    /// What these settings say.
    pub(crate) fn of(settings: &GitLabSettings) -> Self {
        let release = settings.release.clone();
        let mut features = settings.features;
        if settings.sessions.is_some() {
            (features.session, features.terminal, features.proxy) = (true, true, true);
        }
        Self {
            name: release.name,
            version: release.version,
            revision: release.revision,
            platform: release.platform,
            architecture: release.architecture,
            executor: settings.executor.clone(),
            shell: settings.shell.clone(),
            features,
            config: InfoConfig::default(),
            labels: settings.labels.clone(),
        }
    }
}

/// Always sent, never filled for Kubernetes.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct InfoConfig {
    gpus: String,
}

#[cfg(test)]
mod tests {
    use super::{Features, ReleaseInfo};

    #[test]
    fn api_02_the_user_agent_has_gitlabs_format() {
        let release = ReleaseInfo {
            name: "gitlab-runner".into(),
            version: "19.4.0".into(),
            branch: "19-4-stable".into(),
            toolchain: "rust1.95".into(),
            platform: "linux".into(),
            architecture: "amd64".into(),
            ..ReleaseInfo::default()
        };
        assert_eq!(
            release.user_agent(),
            "gitlab-runner 19.4.0 (19-4-stable; rust1.95; linux/amd64)"
        );
    }

    #[test]
    fn api_16_all_31_features_are_always_sent() {
        let value = serde_json::to_value(Features::default()).unwrap();
        let features = value.as_object().unwrap();
        assert_eq!(features.len(), 31);
        assert!(features.values().all(serde_json::Value::is_boolean));
        // Without these GitLab would not hand out plain jobs, or not commit in two phases.
        for needed in ["refspecs", "multi_build_steps", "return_exit_code", "two_phase_job_commit"]
        {
            assert_eq!(features[needed], true, "{needed}");
        }
    }
}
