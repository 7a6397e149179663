//! The JSON that answers `POST jobs/request` with 201.

use serde_json::{Value, json};

use super::spec::{JobSpec, Variable};

/// What a job gets from the server at the moment it is handed out.
pub(super) struct Handout<'a> {
    pub(super) id: u64,
    pub(super) token: &'a str,
    /// Base URL under which clients reach the server, without a trailing slash.
    pub(super) url: &'a str,
    pub(super) project_id: u64,
    pub(super) queued_seconds: f64,
    pub(super) queue_size: usize,
    /// The jobs it needs.
    pub(super) dependencies: Vec<Dependency>,
}

pub(super) struct Dependency {
    pub(super) id: u64,
    pub(super) name: String,
    /// File name and bytes of its archive, if it has one.
    pub(super) archive: Option<(String, usize)>,
}

/// The path of jobs without a repository.
pub(super) const DEFAULT_PROJECT: &str = "podwright/sample";

pub(super) fn payload(spec: &JobSpec, handout: &Handout<'_>) -> Vec<u8> {
    let mut payload = well_formed(spec, handout);
    for patch in &spec.patches {
        patch(&mut payload);
    }
    match &spec.raw {
        Some(raw) => raw(&payload),
        None => payload.to_string().into_bytes(),
    }
}

fn well_formed(spec: &JobSpec, handout: &Handout<'_>) -> Value {
    let Handout { id, token, url, project_id, .. } = handout;
    let project = spec.repo.as_ref().map_or(DEFAULT_PROJECT, |repo| repo.path());
    let (namespace, name) = project.rsplit_once('/').unwrap_or(("", project));
    let (reference, sha, pipeline, tag) = spec.checkout();
    let refspec = if tag {
        format!("+refs/tags/{reference}:refs/tags/{reference}")
    } else {
        format!("+refs/heads/{reference}:refs/remotes/origin/{reference}")
    };
    let host = url.split_once("://").map_or(*url, |(_, rest)| rest);
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
    let repo_url = format!("{scheme}://gitlab-ci-token:{token}@{host}/{project}.git");
    let format = spec.repo.as_ref().map_or("sha1", |repo| repo.format());
    let dependencies: Vec<Value> = handout
        .dependencies
        .iter()
        .map(|Dependency { id, name, archive }| {
            let file = archive
                .as_ref()
                .map(|(filename, size)| json!({ "filename": filename, "size": size }));
            // The token of the job that downloads, not of the one that made it.
            json!({ "id": id, "token": token, "name": name, "artifacts_file": file })
        })
        .collect();
    json!({
        "id": id,
        "token": token,
        "allow_git_fetch": true,
        "job_info": {
            "id": id, "name": spec.name, "stage": spec.stage, "pipeline_id": pipeline,
            "project_id": project_id, "project_name": name, "project_full_path": project,
            "namespace_id": 71, "root_namespace_id": 70, "organization_id": 1,
            "instance_id": "podwright-testkit",
            "instance_uuid": "0f0c7d1e-5a55-4d7c-9c3e-1f2e3d4c5b6a",
            "user_id": 17, "scoped_user_id": null,
            "time_in_queue_seconds": handout.queued_seconds,
            "project_jobs_running_on_instance_runners_count": "+Inf",
            "queue_size": handout.queue_size, "queue_depth": 1,
        },
        "git_info": {
            "repo_url": repo_url, "repo_object_format": format, "ref": reference, "sha": sha,
            "before_sha": "0".repeat(40), "ref_type": if tag { "tag" } else { "branch" },
            "refspecs": [format!("+refs/pipelines/{pipeline}:refs/pipelines/{pipeline}"), refspec],
            "depth": spec.depth, "protected": true,
        },
        "runner_info": {
            "timeout": spec.timeout.as_secs(), "uuid": "6d1f5d3a-1b0e-4c7a-8f2b-7c9f0a1b2c3d",
            "runner_session_url": null,
        },
        "inputs": [],
        "variables": variables(spec, handout, project, namespace, name, &repo_url),
        "steps": spec.steps,
        "hooks": spec.hooks,
        "image": spec.image,
        "services": spec.services,
        "artifacts": spec.artifacts,
        "cache": [],
        "credentials": [],
        "dependencies": dependencies,
        "features": spec.features,
        "secrets": {},
        "policy_options": { "execution_policy_job": false, "policy_name": "" },
        "suspend_options": { "suspend_on_success": false, "suspend_on_failure": false },
    })
}

/// The predefined variables a job can count on, then its own, as GitLab orders them.
fn variables(
    spec: &JobSpec,
    handout: &Handout<'_>,
    project: &str,
    namespace: &str,
    name: &str,
    repo_url: &str,
) -> Vec<Value> {
    let Handout { id, token, url, project_id, .. } = handout;
    let (reference, sha, pipeline, tag) = spec.checkout();
    let (scheme, authority) = url.split_once("://").unwrap_or(("http", url));
    let authority = authority.split('/').next().unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let shown = |key: &str, value: String| Variable::new(key, value).json();
    let mut all = vec![
        shown("CI_PIPELINE_ID", pipeline.to_string()),
        shown("CI_PIPELINE_URL", format!("{url}/{project}/-/pipelines/{pipeline}")),
        shown("CI_JOB_ID", id.to_string()),
        shown("CI_JOB_URL", format!("{url}/{project}/-/jobs/{id}")),
        Variable::new("CI_JOB_TOKEN", *token).masked().json(),
        Variable::new("CI_REGISTRY_PASSWORD", *token).masked().json(),
        Variable::new("CI_REPOSITORY_URL", repo_url).private().json(),
        shown("CI_JOB_NAME", spec.name.clone()),
        shown("CI_JOB_STAGE", spec.stage.clone()),
        shown("CI", "true".into()),
        shown("GITLAB_CI", "true".into()),
        shown("CI_SERVER_URL", (*url).to_owned()),
        shown("CI_SERVER_HOST", host.to_owned()),
        shown("CI_SERVER_PORT", port.to_owned()),
        shown("CI_SERVER_PROTOCOL", scheme.to_owned()),
        shown("CI_SERVER_NAME", "GitLab".into()),
        shown("CI_API_V4_URL", format!("{url}/api/v4")),
        shown("CI_PROJECT_ID", project_id.to_string()),
        shown("CI_PROJECT_NAME", name.to_owned()),
        shown("CI_PROJECT_PATH", project.to_owned()),
        shown("CI_PROJECT_PATH_SLUG", slug(project)),
        shown("CI_PROJECT_NAMESPACE", namespace.to_owned()),
        shown("CI_PROJECT_URL", format!("{url}/{project}")),
        shown("CI_DEFAULT_BRANCH", "main".into()),
        shown("CI_COMMIT_SHA", sha.clone()),
        shown("CI_COMMIT_SHORT_SHA", sha.get(..8).unwrap_or(&sha).to_owned()),
        shown("CI_COMMIT_REF_NAME", reference.clone()),
        shown("CI_COMMIT_REF_SLUG", slug(&reference)),
        shown(if tag { "CI_COMMIT_TAG" } else { "CI_COMMIT_BRANCH" }, reference),
    ];
    if spec.repo.is_none() {
        all.push(shown("GIT_STRATEGY", "none".into()));
    }
    all.extend(spec.variables.iter().map(Variable::json));
    all
}

/// GitLab's slug: lower case, everything but letters and digits to `-`, 63 bytes, no `-` at the ends.
fn slug(text: &str) -> String {
    let slug: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    slug.trim_matches('-').to_owned()
}
