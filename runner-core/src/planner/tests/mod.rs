//! The planner's rules, by the rows of the behaviour checklist.

mod settings;
mod sources;
mod stages;
mod variables;

use std::time::Duration;

use super::{PlanError, PlanSettings, Transfers, plan};
use crate::ids::JobId;
use crate::job::{
    Artifact, ArtifactFormat, ArtifactWhen, Dependency, Image, Job, ObjectFormat, Project,
    SourceFeatures, Sources, Step, Variable,
};
use crate::plan::{
    GetSources, HttpBody, HttpTransfer, LineLevel, Operation, Plan, Script, Stage, Transfer,
};

/// A small job: a repository and one command.
fn job() -> Job {
    Job {
        id: JobId(42),
        name: "test".to_owned(),
        project: Project {
            id: 7,
            name: "widgets".to_owned(),
            path: "group/widgets".to_owned(),
            reference: "main".to_owned(),
            sha: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        },
        sources: Some(Sources {
            url: "https://gitlab-ci-token:job-token-1@gitlab.example/group/widgets.git".into(),
            reference: "main".to_owned(),
            sha: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".to_owned()],
            depth: 20,
            object_format: ObjectFormat::Sha1,
            allow_fetch: true,
            correlation_id: None,
        }),
        variables: vec![public("CI_PROJECT_PATH", "group/widgets")],
        steps: vec![step("script", &["make"])],
        image: Some(Image { name: "debian:$TAG".to_owned(), ..Image::default() }),
        services: Vec::new(),
        artifacts: Vec::new(),
        dependencies: Vec::new(),
        registries: Vec::new(),
        timeout: Duration::from_secs(3600),
        features: SourceFeatures { trace_sections: true, ..SourceFeatures::default() },
        url: None,
        ..Job::empty(JobId(0))
    }
}

fn step(name: &str, script: &[&str]) -> Step {
    Step { name: name.to_owned(), script: script.iter().map(|&line| line.to_owned()).collect() }
}

fn variable(key: &str, value: &str) -> Variable {
    Variable { key: key.to_owned(), value: value.into(), ..Variable::default() }
}

fn public(key: &str, value: &str) -> Variable {
    Variable { public: true, ..variable(key, value) }
}

/// The small job with these variables.
fn job_with(variables: &[(&str, &str)]) -> Job {
    let mut job = job();
    job.variables.extend(variables.iter().map(|(key, value)| variable(key, value)));
    job
}

fn planned(job: &Job) -> Plan {
    plan(job, &settings(), Transfers::default()).unwrap()
}

/// The default settings with what does not depend on this build.
fn settings() -> PlanSettings {
    PlanSettings {
        runner_name: "blue".to_owned(),
        short_token: "t0k3n".to_owned(),
        system_id: "s_0123456789ab".to_owned(),
        manager_host: "manager-0".to_owned(),
        release_version: "1.2.3".to_owned(),
        release_revision: "abcdef12".to_owned(),
        platform: "linux/amd64".to_owned(),
        git_user_agent: "podwright 1.2.3 linux/amd64".to_owned(),
        ..PlanSettings::default()
    }
}

fn transfer(url: &str) -> Transfer {
    Transfer::Http(HttpTransfer {
        method: "GET".to_owned(),
        url: url.into(),
        headers: vec![("JOB-TOKEN".to_owned(), "job-token-1".into())],
        body: HttpBody::Raw,
        tls_ca: None,
        timeout: Duration::from_secs(60),
    })
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.stages.iter().map(|stage| stage.name.as_str()).collect()
}

fn stage<'p>(plan: &'p Plan, name: &str) -> &'p Stage {
    plan.stages.iter().find(|stage| stage.name == name).unwrap()
}

fn script<'p>(plan: &'p Plan, name: &str) -> &'p Script {
    match &stage(plan, name).operation {
        Operation::Script(script) => script,
        other => panic!("{other:?}"),
    }
}

fn sources(plan: &Plan) -> &GetSources {
    match &stage(plan, "get_sources").operation {
        Operation::GetSources(sources) => sources,
        other => panic!("{other:?}"),
    }
}

fn warnings(plan: &Plan) -> Vec<&str> {
    let is_warning = |level| level == LineLevel::Warning;
    plan.header.iter().filter(|l| is_warning(l.level)).map(|l| l.text.as_str()).collect()
}

/// The value of a variable in the plan that counts.
fn value<'p>(plan: &'p Plan, key: &str) -> Option<&'p str> {
    plan.variables.iter().rev().find(|v| v.key == key).map(|v| v.value.expose())
}
