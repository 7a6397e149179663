//! From GitLab's words to neutral ones.

use std::time::Duration;

use runner_core::ids::JobId;
use runner_core::job::{
    Artifact, ArtifactFormat, ArtifactWhen, Dependency, Image, Job, ObjectFormat, Project,
    RegistryLogin, SourceFeatures, Sources, Step, Variable,
};

use super::{model, requests};

/// What a job without a timeout of its own gets (`gitlab-api.md` 4.4).
const DEFAULT_TIMEOUT: u64 = 7200;

pub(super) fn job(payload: model::Payload) -> Job {
    let refusal = requests::refusal(&payload);
    let timeout = u64::try_from(payload.runner_info.timeout).ok().filter(|seconds| *seconds > 0);
    let url = url_of(&payload.variables);
    // Negative or not a number: nothing is known.
    let waited =
        payload.job_info.time_in_queue_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    let functions = payload.functions();
    let (inputs, refusal) = match requests::inputs(payload.inputs) {
        Ok(inputs) => (inputs, refusal),
        Err(infra) => (Vec::new(), refusal.or(Some(infra))),
    };
    let (job_info, git_info) = (payload.job_info, payload.git_info);
    Job {
        id: JobId(payload.id),
        name: job_info.name,
        project: Project {
            id: u64::try_from(job_info.project_id).unwrap_or(0),
            name: job_info.project_name,
            path: job_info.project_full_path,
            reference: git_info.reference.clone(),
            sha: git_info.sha.clone(),
        },
        sources: sources(git_info, payload.allow_git_fetch),
        variables: payload.variables.into_iter().map(variable).collect(),
        steps: payload.steps.into_iter().map(step).collect(),
        image: Some(payload.image).filter(|image| !image.name.is_empty()).map(image),
        services: payload
            .services
            .into_iter()
            .filter(|service| !service.name.is_empty())
            .map(image)
            .collect(),
        artifacts: payload.artifacts.into_iter().map(artifact).collect(),
        dependencies: payload.dependencies.into_iter().map(dependency).collect(),
        registries: payload
            .credentials
            .into_iter()
            .filter(|credential| credential.kind == "registry")
            .map(|credential| RegistryLogin {
                registry: credential.url,
                username: credential.username,
                password: credential.password,
            })
            .collect(),
        timeout: Duration::from_secs(timeout.unwrap_or(DEFAULT_TIMEOUT)),
        features: SourceFeatures {
            trace_sections: payload.features.trace_sections,
            failure_reasons: payload.features.failure_reasons,
            token_mask_prefixes: payload.features.token_mask_prefixes,
        },
        url,
        hooks: payload.hooks.into_iter().map(step).collect(),
        inputs,
        secrets: requests::secrets(payload.secrets),
        functions,
        notices: payload.policy_options.notices(),
        refusal,
        waited,
    }
}

fn step(step: model::Step) -> Step {
    Step { name: step.name, script: step.script }
}

fn url_of(variables: &[model::Variable]) -> Option<String> {
    let variable = variables.iter().rev().find(|variable| variable.key == "CI_JOB_URL")?;
    Some(variable.value.expose().to_owned())
}

fn sources(git: model::GitInfo, allow_fetch: bool) -> Option<Sources> {
    (!git.repo_url.is_empty()).then(|| Sources {
        url: git.repo_url,
        reference: git.reference,
        sha: git.sha,
        refspecs: git.refspecs,
        depth: u32::try_from(git.depth).unwrap_or(0),
        object_format: match git.repo_object_format.as_str() {
            "sha256" => ObjectFormat::Sha256,
            _ => ObjectFormat::Sha1,
        },
        allow_fetch,
        correlation_id: None,
    })
}

fn variable(variable: model::Variable) -> Variable {
    let model::Variable { key, value, public, masked, file, raw } = variable;
    Variable { key, value, public, masked, file, raw }
}

fn image(image: model::Image) -> Image {
    let words = image.alias.split([' ', ',']).filter(|word| !word.is_empty());
    Image {
        user: image.user(),
        aliases: words.map(str::to_owned).collect(),
        name: image.name,
        entrypoint: image.entrypoint,
        command: image.command,
        variables: image.variables.into_iter().map(variable).collect(),
        pull_policies: image.pull_policy,
        ports: image.ports.into_iter().map(|port| port.number).collect(),
    }
}

fn artifact(artifact: model::Artifact) -> Artifact {
    Artifact {
        name: Some(artifact.name).filter(|name| !name.is_empty()),
        paths: artifact.paths,
        exclude: artifact.exclude,
        untracked: artifact.untracked,
        when: match artifact.when.as_str() {
            "on_failure" => ArtifactWhen::OnFailure,
            "always" => ArtifactWhen::Always,
            _ => ArtifactWhen::OnSuccess,
        },
        format: match artifact.artifact_format.as_str() {
            "gzip" => ArtifactFormat::Gzip,
            "raw" => ArtifactFormat::Raw,
            _ => ArtifactFormat::Zip,
        },
        kind: artifact.artifact_type,
        expire_in: Some(artifact.expire_in).filter(|time| !time.is_empty()),
    }
}

fn dependency(dependency: model::Dependency) -> Dependency {
    Dependency {
        id: JobId(dependency.id),
        name: dependency.name,
        token: dependency.token,
        filename: dependency.artifacts_file.filename,
        size: u64::try_from(dependency.artifacts_file.size).unwrap_or(0),
    }
}
