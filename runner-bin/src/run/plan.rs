//! What a runner's jobs are planned with.

use runner_core::plan::ScriptLanguage;
use runner_core::planner::PlanSettings;
use runner_gitlab::short_token;
use runner_k8s::KubernetesSettings;

use crate::config::RunnerConfig;
use crate::{environment, version};

/// The settings of all plans of this runner.
pub(crate) fn plan_settings(
    config: &RunnerConfig,
    kubernetes: &KubernetesSettings,
    system_id: &str,
) -> PlanSettings {
    let mut plan = PlanSettings {
        runner_name: config.name.clone(),
        short_token: short_token(config.token.expose()),
        system_id: system_id.to_owned(),
        manager_host: environment::host_name(),
        release_revision: version::REVISION.to_owned(),
        environment: config.environment.clone(),
        pre_get_sources_script: config.pre_get_sources_script.clone(),
        post_get_sources_script: config.post_get_sources_script.clone(),
        summary: config.job_summary,
        language: match config.shell.as_str() {
            "pwsh" => ScriptLanguage::PowerShell,
            _ => ScriptLanguage::Shell,
        },
        pre_build_script: config.pre_build_script.clone(),
        post_build_script: config.post_build_script.clone(),
        feature_flags: config.feature_flags.clone().into_iter().collect(),
        output_limit: config.output_limit,
        clone_url: config.clone_url.clone(),
        custom_build_dir: config.custom_build_dir,
        prepare_timeout: config.prepare_timeout,
        get_sources_timeout: config.get_sources_timeout,
        debug_trace_disabled: config.debug_trace_disabled,
        ..PlanSettings::default()
    };
    plan.executor = "kubernetes".to_owned();
    plan.default_image = kubernetes.image.clone().unwrap_or_default();
    plan.executor_lines = vec![
        format!("Using Kubernetes namespace: {}", kubernetes.namespace),
        "Using Kubernetes executor with image {image} ...".to_owned(),
    ];
    if let Some(directory) = &config.builds_dir {
        plan.builds_dir.clone_from(directory);
    }
    if let Some(directory) = &config.cache_dir {
        plan.cache_dir.clone_from(directory);
    }
    plan.builds_shared = kubernetes.shares_builds(&plan.builds_dir);
    plan
}
