//! What the agent is told about getting the sources.

use super::job_settings::SubmoduleStrategy;
use super::repository::{Remote, remote, ssh_rewrites};
use super::stages::Stages;
use crate::job::Sources;
use crate::plan::{GetSources, Submodules};

/// The operation for these sources.
pub(super) fn get_sources(plan: &Stages<'_>, sources: &Sources) -> GetSources {
    let job = plan.job_settings;
    let Remote { url, login, origins } = remote(sources, plan.settings, plan.variables);
    let instead_of = match job.submodule_force_https {
        true => ssh_rewrites(sources, plan.settings, plan.variables),
        false => Vec::new(),
    };
    let (submodules, refusal) = submodules(plan);
    GetSources {
        strategy: job.strategy,
        url,
        login,
        login_origins: origins,
        proactive_login: plan.flags.is_on("FF_USE_GIT_PROACTIVE_AUTH"),
        login_in_scripts: plan.flags.is_on("FF_GIT_URLS_WITHOUT_TOKENS"),
        reference: sources.reference.clone(),
        sha: sources.sha.clone(),
        refspecs: sources.refspecs.clone(),
        depth: sources.depth,
        object_format: sources.object_format,
        checkout: job.checkout,
        clean_flags: job.clean_flags.clone(),
        fetch_flags: job.fetch_flags.clone(),
        native_clone: plan.flags.is_on("FF_USE_GIT_NATIVE_CLONE").then(|| job.clone_flags.clone()),
        user_agent: plan.settings.git_user_agent.clone(),
        correlation_id: sources
            .correlation_id
            .clone()
            // It becomes a header.
            .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()))
            .filter(|_| plan.flags.is_on("FF_USE_GITALY_CORRELATION_ID")),
        bundle_uris: plan.flags.is_on("FF_USE_GIT_BUNDLE_URIS"),
        instead_of,
        submodules,
        lfs: !job.lfs_skip_smudge,
        clean_up: plan.flags.is_on("FF_ENABLE_JOB_CLEANUP"),
        refusal,
        tls_ca: plan.settings.tls_ca.clone(),
        hooks: Box::new(plan.scripts().hooks()),
    }
}

/// What to do about submodules, or why the stage has to fail: a job that counts on its submodules
/// must not learn from a strange error that they are missing.
fn submodules(plan: &Stages<'_>) -> (Option<Submodules>, Option<String>) {
    let job = plan.job_settings;
    let nesting = match job.submodules {
        SubmoduleStrategy::None => return (None, None),
        SubmoduleStrategy::Unknown => {
            return (None, Some("unknown GIT_SUBMODULE_STRATEGY".to_owned()));
        }
        SubmoduleStrategy::Some(nesting) => nesting,
    };
    // git takes it for "exclude everything" and says so in words that lead nowhere.
    if job.submodule_paths == [":(exclude)"] {
        let refusal = "GIT_SUBMODULE_PATHS: \":(exclude)\" needs a path behind it".to_owned();
        return (None, Some(refusal));
    }
    let submodules = Submodules {
        nesting,
        depth: job.submodule_depth,
        paths: job.submodule_paths.clone(),
        update_flags: job.submodule_update_flags.clone(),
    };
    (Some(submodules), None)
}
