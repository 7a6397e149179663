//! Getting the sources with the real git, over smart HTTP with authentication.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

mod cost;
mod credentials;
mod fresh;
mod golden;
mod leave;
mod lfs;
mod native;
mod owner;
mod planted;
mod retry;
mod reuse;
mod submodules;

use std::path::{Path, PathBuf};

use runner_core::job::{ObjectFormat, Sources, Variable};
use runner_testkit::gitlab::{Endpoint, GitLab, Repo, Request};

use crate::world::{Seen, World};

/// A GitLab with one project, and a builds directory that outlives jobs.
pub(crate) struct Shop {
    pub(crate) gitlab: GitLab,
    pub(crate) repo: Repo,
    directory: tempfile::TempDir,
}

impl Shop {
    /// With a project of two commits, a tag and a branch.
    pub(crate) async fn new() -> Self {
        let gitlab = GitLab::start().await.unwrap();
        let repo = gitlab
            .repo("group/app")
            .commit("first", [("file", "one\n"), ("dir/other", "x\n")])
            .tag("v1")
            .commit("second", [("file", "two\n"), ("run", "#!/bin/sh\necho ran\n")])
            .branch("feature")
            .commit("third", [("file", "three\n")])
            .create()
            .await
            .unwrap();
        Self::with(gitlab, repo)
    }

    pub(crate) fn with(gitlab: GitLab, repo: Repo) -> Self {
        Self { gitlab, repo, directory: tempfile::tempdir().unwrap() }
    }

    /// A job of this branch or tag.
    pub(crate) fn job(&self, reference: &str, script: &[&str]) -> World {
        let mut world = World::new(script);
        let url = self.gitlab.url();
        let (scheme, host) = url.split_once("://").unwrap();
        let token = self.gitlab.read_token();
        let path = self.repo.path();
        let kind = if reference.starts_with('v') { "tags" } else { "heads" };
        let to = if kind == "tags" { "tags" } else { "remotes/origin" };
        world.job.project.path = path.to_owned();
        world.job.sources = Some(Sources {
            url: format!("{scheme}://gitlab-ci-token:{token}@{host}/{path}.git").into(),
            reference: reference.to_owned(),
            sha: self.repo.sha(reference).unwrap().to_owned(),
            refspecs: vec![format!("+refs/{kind}/{reference}:refs/{to}/{reference}")],
            depth: 20,
            object_format: ObjectFormat::Sha1,
            allow_fetch: true,
            correlation_id: Some("correlation-1".to_owned()),
        });
        world.job.variables.push(Variable {
            key: "CI_JOB_TOKEN".into(),
            value: token.as_str().into(),
            masked: true,
            ..Variable::default()
        });
        world
            .variable("CI_SERVER_URL", &url)
            .variable("CI_PROJECT_PATH", path)
            .variable("CI_SERVER_HOST", host)
    }

    /// The same, in the builds directory that outlives jobs.
    pub(crate) fn next_job(&self, reference: &str, script: &[&str]) -> World {
        let mut world = self.job(reference, script);
        world.builds = Some(self.directory.path().to_owned());
        world
    }

    /// Where [`Self::next_job`] has its checkout.
    pub(crate) fn checkout(&self) -> PathBuf {
        self.directory.path().join(self.repo.path())
    }

    /// Requests of git's.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let mut requests = self.gitlab.requests();
        requests.retain(|request| request.endpoint == Endpoint::Git);
        requests
    }
}

#[track_caller]
pub(crate) fn success(seen: &Seen) {
    assert!(seen.end.outcome.is_success(), "{:?}: {}", seen.end.outcome, seen.text());
}

#[track_caller]
pub(crate) fn contains(seen: &Seen, lines: &[&str]) {
    let text = seen.text();
    let mut rest = text.as_str();
    for line in lines {
        match rest.find(line) {
            Some(at) => rest = &rest[at + line.len()..],
            None => panic!("{line:?} does not come, or not in this order, in\n{text}"),
        }
    }
}

#[track_caller]
pub(crate) fn contains_not(seen: &Seen, text: &str) {
    assert!(!seen.text().contains(text), "{text:?} is in\n{}", seen.text());
}

/// A program, from a directory, by whoever runs the tests.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .current_dir(directory)
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
