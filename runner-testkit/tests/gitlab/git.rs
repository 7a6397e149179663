//! Clones with the real program.

use std::path::Path;
use std::process::Stdio;

use runner_testkit::gitlab::{Endpoint, GitLab, JobSpec, Repo};

use super::*;

async fn git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = tokio::process::Command::new("git")
        .current_dir(dir)
        .args(args)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

async fn repo(gitlab: &GitLab) -> Repo {
    gitlab
        .repo("group/app")
        .commit("first", [("README.md", "hello\n"), ("run.sh", "#!/bin/sh\necho hi\n")])
        .tag("v1.0")
        .commit("second", [("README.md", "hello again\n")])
        .branch("feature")
        .commit("third", [("deep/er/file", "x")])
        .create()
        .await
        .unwrap()
}

/// Fetches what the payload says, as a runner does; returns the commit.
async fn fetch(dir: &Path, payload: &Value, version: &str) -> Result<String, String> {
    git(dir, &["init", "--quiet", "."]).await?;
    let info = &payload["git_info"];
    let (protocol, depth) =
        (format!("protocol.version={version}"), format!("--depth={}", info["depth"]));
    let url = info["repo_url"].as_str().unwrap();
    let mut args = vec!["-c", &protocol, "fetch", "--quiet", &depth, url];
    args.extend(info["refspecs"].as_array().unwrap().iter().map(|spec| spec.as_str().unwrap()));
    git(dir, &args).await?;
    git(dir, &["checkout", "--quiet", "--detach", info["sha"].as_str().unwrap()]).await?;
    git(dir, &["rev-parse", "HEAD"]).await
}

#[tokio::test]
async fn what_the_payload_names_can_be_fetched_in_every_protocol_version() {
    let gitlab = GitLab::start().await.unwrap();
    let repo = repo(&gitlab).await;
    let client = Client::of(&gitlab);
    for (reference, version) in [("main", "2"), ("feature", "1"), ("v1.0", "0")] {
        gitlab.enqueue(JobSpec::new("unit").repo(&repo).git_ref(reference).depth(1));
        let taken = client.take().await;
        let dir = tempfile::tempdir().unwrap();
        let head = fetch(dir.path(), &taken.payload, version).await.unwrap();
        assert_eq!(Some(head.as_str()), repo.sha(reference), "{reference}");
        assert_eq!(git(dir.path(), &["rev-list", "--count", "HEAD"]).await.unwrap(), "1");
    }
    assert!(gitlab.request_counts()[&Endpoint::Git] >= 6);
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn a_clone_has_all_files_and_their_modes() {
    let gitlab = GitLab::start().await.unwrap();
    let repo = repo(&gitlab).await;
    gitlab.enqueue(JobSpec::new("unit").repo(&repo).git_ref("feature"));
    let taken = Client::of(&gitlab).take().await;
    let dir = tempfile::tempdir().unwrap();
    let url = taken.payload["git_info"]["repo_url"].as_str().unwrap();
    git(dir.path(), &["clone", "--quiet", "--branch", "feature", url, "."]).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!((read("README.md"), read("deep/er/file")), ("hello again\n".into(), "x".into()));
    let listed = git(dir.path(), &["ls-tree", "HEAD", "run.sh"]).await.unwrap();
    assert!(listed.starts_with("100755"), "{listed}");
}

#[tokio::test]
async fn the_same_calls_make_the_same_commits() {
    let (one, two) = (GitLab::start().await.unwrap(), GitLab::start().await.unwrap());
    assert_eq!(repo(&one).await.sha("main"), repo(&two).await.sha("main"));
}

#[tokio::test]
async fn without_the_token_of_a_running_job_of_this_project_there_is_no_fetch() {
    let gitlab = GitLab::start().await.unwrap();
    let repo = repo(&gitlab).await;
    gitlab.repo("group/other").commit("x", [("x", "x")]).create().await.unwrap();
    let client = Client::of(&gitlab);
    gitlab.enqueue(JobSpec::new("unit").repo(&repo));
    let taken = client.take().await;
    let url = taken.payload["git_info"]["repo_url"].as_str().unwrap().to_owned();
    let here = std::env::temp_dir();
    git(&here, &["ls-remote", &url]).await.unwrap();
    for refused in [url.replace(&taken.token, "guess"), url.replace("group/app", "group/other")] {
        let error = git(&here, &["ls-remote", &refused]).await.unwrap_err();
        assert!(error.contains("Authentication failed"), "{error}");
    }
    client.put(&taken, verdict("success", b"")).await;
    git(&here, &["ls-remote", &url]).await.unwrap_err();
}

#[tokio::test]
async fn a_larger_repository_is_streamed_and_a_broken_stream_is_an_error() {
    let gitlab = GitLab::start().await.unwrap();
    // Not compressible, so that the pack is as large as the file.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(2_000_000)
    .collect();
    let repo =
        gitlab.repo("group/large").commit("noise", [("noise", &noise)]).create().await.unwrap();
    gitlab.enqueue(JobSpec::new("unit").repo(&repo));
    let taken = Client::of(&gitlab).take().await;
    let dir = tempfile::tempdir().unwrap();
    fetch(dir.path(), &taken.payload, "2").await.unwrap();
    assert!(std::fs::read(dir.path().join("noise")).unwrap() == noise);

    gitlab.script(Endpoint::Git).cut_body(20).always();
    let dir = tempfile::tempdir().unwrap();
    fetch(dir.path(), &taken.payload, "2").await.unwrap_err();
}
