//! The stages of a plan, in order. A stage that has nothing to do is not there.
//!
//! ```text
//!   prepare_script → get_sources → restore_cache → download_artifacts
//!     → step_… → after_script
//!     → archive_cache_on_failure or archive_cache
//!     → upload_artifacts_on_failure or upload_artifacts_on_success → cleanup_file_variables
//! ```
//!
//! Resolving secrets comes before planning, since the plan carries their values.

use std::time::Duration;

use super::caches::Caches;
use super::error::PlanError;
use super::flags::Flags;
use super::job_settings::{JobSettings, stage_limit};
use super::repository::{Remote, remote};
use super::scripts::{AFTER_SCRIPT, Scripts};
use super::settings::{PlanSettings, Transfers};
use super::sources::get_sources;
use super::values::parse_bool;
use super::variables::VariableSet;
use crate::job::{Artifact, ArtifactFormat, ArtifactWhen, Job, Sources};
use crate::plan::{
    Download, OnFailure, Operation, Place, Provenance, Stage, StageTimeout, Transfer, Upload, When,
};

/// What the names of stages with the job's own commands begin with.
pub(crate) const STEP: &str = "step_";

/// The number under which all user steps share one timeout.
const USER_STEPS: u32 = 0;

pub(super) struct Stages<'a> {
    pub(super) job: &'a Job,
    pub(super) settings: &'a PlanSettings,
    pub(super) flags: &'a Flags,
    pub(super) job_settings: &'a JobSettings,
    pub(super) variables: &'a VariableSet,
}

impl Stages<'_> {
    pub(super) fn plan(&self, transfers: Transfers) -> Result<Vec<Stage>, PlanError> {
        let Transfers { downloads, uploads, cache: scope, .. } = transfers;
        let Self { job, settings, variables, flags, .. } = *self;
        let caches = Caches { job, settings, variables, flags, scope };
        let mut stages = vec![self.prepare()];
        stages.extend(self.job.sources.as_ref().map(|sources| self.get_sources(sources)));
        stages.extend(caches.restore()?);
        stages.extend(self.download_artifacts(downloads)?);
        stages.extend(self.user_steps()?);
        stages.extend(self.after_script());
        stages.extend(caches.archive()?);
        // The variant for failures first: if it came second, a failed upload of a successful job
        // would count as the failure that it waits for.
        stages.extend(self.upload_artifacts(&uploads)?);
        stages.push(Stage {
            when: When::Always,
            on_failure: OnFailure::Ignored,
            ..stage(
                "cleanup_file_variables",
                "Cleaning up project directory and file based variables",
                Place::Helper,
                Operation::Cleanup,
            )
        });
        Ok(stages)
    }

    fn prepare(&self) -> Stage {
        let operation = Operation::Prepare { via: self.settings.manager_host.clone() };
        Stage {
            timeout: own(stage_limit(self.settings.prepare_timeout, self.job)),
            ..stage("prepare_script", "Preparing environment", Place::Helper, operation)
        }
    }

    fn get_sources(&self, sources: &Sources) -> Stage {
        let operation = Operation::GetSources(Box::new(get_sources(self, sources)));
        Stage {
            attempts: self.job_settings.get_sources_attempts,
            timeout: own(stage_limit(self.settings.get_sources_timeout, self.job)),
            ..stage("get_sources", "Getting source from Git repository", Place::Helper, operation)
        }
    }

    fn download_artifacts(&self, transfers: Vec<Transfer>) -> Result<Option<Stage>, PlanError> {
        let wanted: Vec<_> =
            self.job.dependencies.iter().filter(|d| !d.filename.is_empty()).collect();
        if wanted.len() != transfers.len() {
            return Err(PlanError::Transfers { expected: wanted.len(), found: transfers.len() });
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let archives = wanted
            .into_iter()
            .zip(transfers)
            .map(|(dependency, from)| Download {
                job: dependency.id,
                name: dependency.name.clone(),
                size: dependency.size,
                from,
            })
            .collect();
        let operation = Operation::DownloadArtifacts { archives };
        Ok(Some(Stage {
            attempts: self.job_settings.artifact_download_attempts,
            ..stage("download_artifacts", "Downloading artifacts", Place::Helper, operation)
        }))
    }

    fn user_steps(&self) -> Result<Vec<Stage>, PlanError> {
        let timeout = self.job_settings.script_timeout;
        let stages = self.scripts().steps()?.into_iter().map(|(name, script)| {
            let name = format!("{STEP}{}", section_name(&name));
            let title = format!("Executing \"{name}\" stage of the job script");
            Stage {
                timeout: timeout.map(|limit| StageTimeout { limit, shared: Some(USER_STEPS) }),
                ..stage(&name, &title, Place::Build, Operation::Script(script))
            }
        });
        Ok(stages.collect())
    }

    fn after_script(&self) -> Option<Stage> {
        let operation = Operation::Script(self.scripts().after_script()?);
        let ignored = self.job_settings.after_script_ignore_errors;
        Some(Stage {
            when: When::AfterScript,
            on_failure: if ignored { OnFailure::Warns } else { OnFailure::FailsJob },
            timeout: own(Some(self.job_settings.after_script_timeout)),
            ..stage(AFTER_SCRIPT, "Running after_script", Place::Build, operation)
        })
    }

    pub(super) fn scripts(&self) -> Scripts<'_> {
        Scripts {
            job: self.job,
            settings: self.settings,
            job_settings: self.job_settings,
            variables: self.variables,
            flags: self.flags,
        }
    }

    fn upload_artifacts(&self, transfers: &[Option<Transfer>]) -> Result<Vec<Stage>, PlanError> {
        let artifacts = &self.job.artifacts;
        if artifacts.len() != transfers.len() {
            return Err(PlanError::Transfers { expected: artifacts.len(), found: transfers.len() });
        }
        let variant = |name, title, when, skipped| {
            let archives: Vec<_> = artifacts
                .iter()
                .zip(transfers)
                .filter(|(artifact, _)| artifact.when != skipped && has_content(artifact))
                .filter_map(|(artifact, to)| {
                    let provenance = self.provenance(artifact);
                    Some(Upload { provenance, ..upload(artifact, to.clone()?) })
                })
                .collect();
            let operation = Operation::UploadArtifacts { archives };
            Stage { when, ..stage(name, title, Place::Helper, operation) }
        };
        let stages = [
            variant(
                "upload_artifacts_on_failure",
                "Uploading artifacts for failed job",
                When::Failure,
                ArtifactWhen::OnSuccess,
            ),
            variant(
                "upload_artifacts_on_success",
                "Uploading artifacts for successful job",
                When::Success,
                ArtifactWhen::OnFailure,
            ),
        ];
        Ok(stages.into_iter().filter(has_archives).collect())
    }
}

/// What a provenance statement means, for whoever reads one.
const BUILD_TYPE: &str = "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v19.4.0/PROVENANCE.md";

impl Stages<'_> {
    /// What the archive's provenance statement says, where the author wants one. Only zip archives
    /// have a place for it.
    fn provenance(&self, artifact: &Artifact) -> Option<Provenance> {
        let wanted = self.variables.setting("RUNNER_GENERATE_ARTIFACTS_METADATA")?;
        if !parse_bool(wanted)? || artifact.format != ArtifactFormat::Zip {
            return None;
        }
        let repository = self.job.sources.as_ref().map(|sources| {
            let Remote { url, .. } = remote(sources, self.settings, self.variables);
            url.strip_suffix(".git").map(str::to_owned).unwrap_or(url)
        });
        let value = |name: &str| self.variables.setting(name).unwrap_or_default().to_owned();
        Some(Provenance {
            runner_id: value("CI_RUNNER_ID"),
            runner_name: self.settings.runner_name.clone(),
            executor: "kubernetes".to_owned(),
            repository: repository.unwrap_or_default(),
            sha: self.job.project.sha.clone(),
            job_name: self.job.name.clone(),
            variables: self.job.variables.iter().map(|variable| variable.key.clone()).collect(),
            build_type: BUILD_TYPE.to_owned(),
            builder_version: self.settings.release_version.clone(),
        })
    }
}

/// A stage that runs after success, fails the job and is tried once.
fn stage(name: &str, title: &str, place: Place, operation: Operation) -> Stage {
    Stage {
        name: name.to_owned(),
        title: Some(title.to_owned()),
        place,
        when: When::Success,
        on_failure: OnFailure::FailsJob,
        attempts: 1,
        timeout: None,
        operation,
    }
}

fn own(limit: Option<Duration>) -> Option<StageTimeout> {
    limit.map(|limit| StageTimeout { limit, shared: None })
}

fn has_archives(stage: &Stage) -> bool {
    matches!(&stage.operation, Operation::UploadArtifacts { archives } if !archives.is_empty())
}

fn has_content(artifact: &Artifact) -> bool {
    !artifact.paths.is_empty() || !artifact.exclude.is_empty() || artifact.untracked
}

/// Name and globs stay as they are: the agent expands them where the files are, by shell rules.
fn upload(artifact: &Artifact, to: Transfer) -> Upload {
    let default = match artifact.format {
        ArtifactFormat::Gzip | ArtifactFormat::Raw => "default",
        _ => "artifacts",
    };
    let name = artifact.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(default);
    Upload {
        name: name.to_owned(),
        kind: artifact.kind.clone(),
        paths: artifact.paths.clone(),
        exclude: artifact.exclude.clone(),
        untracked: artifact.untracked,
        format: artifact.format,
        to,
        provenance: None,
    }
}

/// What may stand in a section marker: lower case, and nothing that would end the name.
fn section_name(name: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    name.to_lowercase().chars().map(keep).collect()
}
