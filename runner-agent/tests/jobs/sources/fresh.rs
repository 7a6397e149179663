//! Checkouts that begin with nothing.

use runner_core::job::ObjectFormat;
use runner_core::outcome::Outcome;
use runner_testkit::gitlab::GitLab;

use super::{Shop, contains, contains_not, run, success};

#[tokio::test]
async fn stages_43_a_fresh_checkout_of_branch_and_tag() {
    let shop = Shop::new().await;
    for (reference, content) in [("main", "two"), ("feature", "three"), ("v1", "one")] {
        let seen = shop.job(reference, &["git log -1 --format=%H", "cat file"]).run().await;
        success(&seen);
        let sha = shop.repo.sha(reference).unwrap();
        contains(
            &seen,
            &[
                "Getting source from Git repository",
                "Gitaly correlation ID: correlation-1",
                "Fetching changes with git depth set to 20...",
                "Initialized empty Git repository in ",
                "/builds/group/app/.git/\n",
                "Created fresh repository.",
                &format!("Checking out {} as detached HEAD (ref is {reference})...", &sha[..8]),
                "Skipping Git submodules setup",
                &format!("\n{sha}\n"),
                &format!("\n{content}\n"),
            ],
        );
    }
}

#[tokio::test]
async fn stages_43_depth_and_everything() {
    let shop = Shop::new().await;
    let script = ["echo $(git rev-list --count HEAD) commits"];
    let mut world = shop.job("feature", &script);
    world.job.sources.as_mut().unwrap().depth = 2;
    contains(&world.run().await, &["git depth set to 2...", "\n2 commits"]);
    world = shop.job("feature", &script);
    world.job.sources.as_mut().unwrap().depth = 0;
    contains(&world.run().await, &["Fetching changes...", "\n3 commits"]);
}

#[tokio::test]
async fn without_refspecs_all_branches_and_tags_are_fetched() {
    let shop = Shop::new().await;
    let mut world = shop.job("main", &["git for-each-ref --format='ref %(refname)'"]);
    world.job.sources.as_mut().unwrap().refspecs.clear();
    contains(&world.run().await, &["refs/remotes/origin/feature", "origin/main", "refs/tags/v1"]);
}

#[tokio::test]
async fn stages_46_without_checkout_only_refs_are_fetched() {
    let shop = Shop::new().await;
    let world = shop
        .job("main", &["ls | wc -l", "git log -1 --format=%s origin/main"])
        .variable("GIT_CHECKOUT", "false");
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["Skipping Git checkout", "\n0\n", "\nsecond\n"]);
}

#[tokio::test]
async fn stages_45_strategies_without_git() {
    let shop = Shop::new().await;
    let none = shop.next_job("main", &["touch kept"]).variable("GIT_STRATEGY", "none");
    contains(
        &none.run().await,
        &[
            "Skipping Git repository setup",
            "Skipping Git checkout",
            "Skipping Git submodules setup",
        ],
    );
    let again = shop.next_job("main", &["ls kept"]).variable("GIT_STRATEGY", "none").run().await;
    success(&again);
    let empty = shop.next_job("main", &["ls | wc -l; touch kept; pwd"]);
    let empty = empty.variable("GIT_STRATEGY", "empty");
    for seen in [empty.run().await, empty.run().await] {
        success(&seen);
        contains(&seen, &["creating an empty build directory", "\n0\n", "/group/app-empty\n"]);
    }
    assert!(shop.requests().is_empty());
}

#[tokio::test]
async fn stages_48_flags_of_fetch() {
    let shop = Shop::new().await;
    let world = shop.job("main", &["true"]).variable("GIT_FETCH_EXTRA_FLAGS", "none");
    // Without --quiet git says where it was.
    contains(&world.run().await, &["From http://"]);
    let world = shop.job("main", &["git tag"]).variable("GIT_FETCH_EXTRA_FLAGS", "--tags --quiet");
    let seen = world.run().await;
    contains(&seen, &["\nv1\n"]);
    contains_not(&seen, "From http://");
}

#[tokio::test]
async fn stages_49_user_agent_and_correlation_id_reach_the_server() {
    let shop = Shop::new().await;
    let mut world = shop.job("main", &["true"]);
    world.settings.git_user_agent = "podwright 9 test/arch".into();
    success(&world.run().await);
    let requests = shop.requests();
    assert!(requests.len() >= 3, "{requests:?}");
    for request in requests {
        assert_eq!(request.headers["user-agent"], "podwright 9 test/arch");
        assert_eq!(request.headers["x-gitaly-correlation-id"], "correlation-1");
    }
}

#[tokio::test]
async fn credentials_that_need_no_question_save_requests() {
    let shop = Shop::new().await;
    success(&shop.job("main", &["true"]).run().await);
    let asked = shop.requests();
    assert_eq!(asked[0].status, Some(401));
    let world = shop.job("main", &["true"]).variable("FF_USE_GIT_PROACTIVE_AUTH", "true");
    success(&world.run().await);
    if git_minor() >= 46 {
        let requests = shop.requests().split_off(asked.len());
        assert!(requests.len() < asked.len());
        assert!(requests.iter().all(|request| request.status == Some(200)), "{requests:?}");
    }
}

#[tokio::test]
async fn stages_58_sha256_repositories() {
    let gitlab = GitLab::start().await.unwrap();
    let repo = gitlab.repo("group/app").sha256().commit("first", [("file", "one\n")]);
    let repo = repo.create().await.unwrap();
    let shop = Shop::with(gitlab, repo);
    for _ in 0..2 {
        let mut world = shop.next_job("main", &["git log -1 --format=%H", "git status --short"]);
        world.job.sources.as_mut().unwrap().object_format = ObjectFormat::Sha256;
        let seen = world.run().await;
        success(&seen);
        let sha = shop.repo.sha("main").unwrap();
        assert_eq!(sha.len(), 64);
        contains(&seen, &[&format!("\n{sha}\n")]);
    }
}

#[tokio::test]
async fn a_commit_that_is_not_there_fails_the_job_and_runs_nothing() {
    let shop = Shop::new().await;
    for (sha, said) in
        [("0123456789012345678901234567890123456789", "fatal: "), ("abc", "Checking out abc as")]
    {
        let mut world = shop.job("main", &["echo not reached"]);
        world.job.sources.as_mut().unwrap().sha = sha.to_owned();
        let seen = world.run().await;
        assert!(matches!(seen.end.outcome, Outcome::Exited(code) if code != 0), "{}", seen.text());
        contains(&seen, &[said]);
        contains_not(&seen, "\nnot reached");
    }
}

#[tokio::test]
async fn a_commit_that_is_an_option_is_refused() {
    let shop = Shop::new().await;
    let mut world = shop.job("main", &["true"]);
    world.job.sources.as_mut().unwrap().sha = "--detach".to_owned();
    contains(&world.run().await, &["\"--detach\" is no commit to check out"]);
}

/// The 47 of 2.47.3.
fn git_minor() -> u32 {
    let version = run(std::path::Path::new("/"), "git", &["version"]);
    version.split(['.', ' ']).nth(3).unwrap().parse().unwrap()
}
