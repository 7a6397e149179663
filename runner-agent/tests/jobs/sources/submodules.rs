//! Submodules: how many, how deep, and who hears the credentials.

use runner_core::outcome::Outcome;
use runner_testkit::gitlab::{GitLab, Repo, Request};

use super::{Shop, contains, contains_not, success};
use crate::world::World;

fn gitmodules(modules: &[(&str, &str)]) -> String {
    let one = |(path, url): &(&str, &str)| {
        format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n\tbranch = main\n")
    };
    modules.iter().map(one).collect()
}

async fn library(gitlab: &GitLab, path: &str) -> Repo {
    let builder = gitlab.repo(path);
    let builder = builder.commit("old", [("lib", "old\n")]).commit("new", [("lib", "new\n")]);
    builder.create().await.unwrap()
}

/// `app` has `near` by a relative URL and `far` by an absolute one; `near` has `inner`.
pub(super) async fn shop() -> Shop {
    let gitlab = GitLab::start().await.unwrap();
    let inner = library(&gitlab, "group/inner").await;
    let near = gitlab
        .repo("group/near")
        .commit("one", [("near", "near\n")])
        .commit("two", [(".gitmodules", gitmodules(&[("inner", "../inner.git")]))])
        .submodule("inner", inner.sha("main").unwrap())
        .create()
        .await
        .unwrap();
    let far = library(&gitlab, "other/far").await;
    let url = format!("{}/other/far.git", gitlab.url());
    let modules = gitmodules(&[("near", "../near.git"), ("libs/far", &url)]);
    let app = gitlab
        .repo("group/app")
        .commit("one", [(".gitmodules", modules.as_str()), ("file", "app\n")])
        .submodule("near", near.sha("main").unwrap())
        .submodule("libs/far", far.sha("main").unwrap())
        .create()
        .await
        .unwrap();
    Shop::with(gitlab, app)
}

fn with(world: World, variables: &[(&str, &str)]) -> World {
    variables.iter().fold(world, |world, (key, value)| world.variable(key, value))
}

const LOOK: &str = "cat near/near near/inner/lib libs/far/lib || true";

#[tokio::test]
async fn stages_55_without_a_strategy_submodules_are_empty() {
    let seen = shop().await.job("main", &["ls -A near libs/far | wc -l"]).run().await;
    success(&seen);
    contains(&seen, &["Skipping Git submodules setup"]);
    contains_not(&seen, "Submodule");
}

#[tokio::test]
async fn stages_55_normal_and_recursive() {
    let shop = shop().await;
    let normal = with(shop.job("main", &[LOOK]), &[("GIT_SUBMODULE_STRATEGY", "normal")]);
    let seen = normal.run().await;
    success(&seen);
    contains(
        &seen,
        &[
            "Updating/initializing submodules with git depth set to 20...",
            "Updated submodules",
            "Configuring submodules to use parent git credentials...",
            "\nnear\n",
            "near/inner/lib: No such file",
            "\nnew\n",
        ],
    );
    let recursive = with(shop.job("main", &[LOOK]), &[("GIT_SUBMODULE_STRATEGY", "recursive")]);
    let seen = recursive.run().await;
    success(&seen);
    contains(
        &seen,
        &["Updating/initializing submodules recursively with git depth", "\nnear\nnew\nnew\n"],
    );
}

#[tokio::test]
async fn stages_55_paths_and_depth() {
    let shop = shop().await;
    let world = with(
        shop.job("main", &["ls -A near; git -C libs/far rev-list --count HEAD"]),
        &[
            ("GIT_SUBMODULE_STRATEGY", "normal"),
            ("GIT_SUBMODULE_PATHS", "libs/far"),
            ("GIT_SUBMODULE_DEPTH", "1"),
        ],
    );
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["with git depth set to 1...", "\n1\n"]);
    contains_not(&seen, "path 'near'");
    let world = with(
        shop.job("main", &["ls -A libs/far | wc -l; cat near/near"]),
        &[("GIT_SUBMODULE_STRATEGY", "normal"), ("GIT_SUBMODULE_PATHS", ":(exclude)libs/far")],
    );
    contains(&world.run().await, &["path 'near'", "\n0\nnear\n"]);
}

#[tokio::test]
async fn stages_55_flags_of_update_and_the_branch_of_a_remote() {
    let gitlab = GitLab::start().await.unwrap();
    let lib = gitlab
        .repo("group/lib")
        .commit("old", [("lib", "old\n")])
        .tag("v1")
        .commit("new", [("lib", "new\n")])
        .create()
        .await
        .unwrap();
    let app = gitlab
        .repo("group/app")
        .commit("one", [(".gitmodules", gitmodules(&[("lib", "../lib.git")]))])
        .submodule("lib", lib.sha("v1").unwrap())
        .create()
        .await
        .unwrap();
    let shop = Shop::with(gitlab, app);
    let script = ["cat lib/lib"];
    let normal = [("GIT_SUBMODULE_STRATEGY", "normal")];
    contains(&with(shop.job("main", &script), &normal).run().await, &["\nold\n"]);
    let remote = [normal[0], ("GIT_SUBMODULE_UPDATE_FLAGS", "--remote --jobs 2")];
    for _ in 0..2 {
        let seen = with(shop.next_job("main", &script), &remote).run().await;
        success(&seen);
        contains(&seen, &["\nnew\n"]);
    }
}

#[tokio::test]
async fn stages_55_the_next_job_reuses_submodules_and_undoes_what_was_done_to_them() {
    let shop = shop().await;
    let recursive = [("GIT_SUBMODULE_STRATEGY", "recursive")];
    let spoil = [
        "echo spoilt > libs/far/lib; touch libs/far/left near/inner/left; rm near/inner/lib",
        "git -C near checkout -q HEAD~ || true",
    ];
    success(&with(shop.next_job("main", &spoil), &recursive).run().await);
    let before = shop.requests().len();
    let look = [LOOK, "git submodule status --recursive; git status --short; find . -name left"];
    let seen = with(shop.next_job("main", &look), &recursive).run().await;
    success(&seen);
    contains(&seen, &["Reinitialized", "Updated submodules", "\nnear\nnew\nnew\n"]);
    contains_not(&seen, "\n+");
    contains_not(&seen, "/left\n");
    let requests = shop.requests().split_off(before);
    let is_own = |request: &Request| request.path.starts_with("/group/app.git/");
    assert!(requests.iter().all(is_own), "{}\n{requests:?}", seen.text());
}

#[tokio::test]
async fn stages_55_git_in_submodules_has_the_credentials_in_scripts() {
    let shop = shop().await;
    let script = ["git -C near fetch origin", "git -C near/inner fetch origin", "echo fetched"];
    let world = with(shop.job("main", &script), &[("GIT_SUBMODULE_STRATEGY", "recursive")]);
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\nfetched\n"]);
}

#[tokio::test]
async fn stages_54_ssh_urls_of_this_gitlab_become_https() {
    let gitlab = GitLab::start().await.unwrap();
    let lib = library(&gitlab, "group/lib").await;
    let sha = lib.sha("main").unwrap();
    let modules = gitmodules(&[
        ("short", "git@ssh.example:group/lib.git"),
        ("long", "ssh://git@ssh.example/group/lib.git"),
    ]);
    let app = gitlab.repo("group/app").commit("one", [(".gitmodules", modules)]);
    let app = app.submodule("short", sha).submodule("long", sha).create().await.unwrap();
    let shop = Shop::with(gitlab, app);
    let world = with(
        shop.job("main", &["cat short/lib long/lib", "git -C long fetch origin && echo fetched"]),
        &[
            ("GIT_SUBMODULE_STRATEGY", "normal"),
            ("GIT_SUBMODULE_FORCE_HTTPS", "true"),
            ("CI_SERVER_SHELL_SSH_HOST", "ssh.example"),
        ],
    );
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\nnew\nnew\n", "\nfetched\n"]);
}

#[tokio::test]
async fn credentials_never_go_to_another_host() {
    let elsewhere = GitLab::start().await.unwrap();
    let public = elsewhere.repo("some/public").public().commit("one", [("lib", "public\n")]);
    let public = public.create().await.unwrap();
    let private = library(&elsewhere, "some/private").await;
    let gitlab = GitLab::start().await.unwrap();
    let urls = ["public", "private"].map(|name| format!("{}/some/{name}.git", elsewhere.url()));
    let modules = gitmodules(&[("public", &urls[0]), ("private", &urls[1])]);
    let app = gitlab
        .repo("group/app")
        .commit("one", [(".gitmodules", modules)])
        .submodule("public", public.sha("main").unwrap())
        .submodule("private", private.sha("main").unwrap())
        .create()
        .await
        .unwrap();
    let shop = Shop::with(gitlab, app);
    let world = shop.job("main", &["echo not reached"]);
    let world = with(world, &[("GIT_SUBMODULE_STRATEGY", "normal")]);
    let seen = world.run().await;
    assert!(matches!(seen.end.outcome, Outcome::Exited(_)) && !seen.end.outcome.is_success());
    contains(&seen, &["Updating submodules failed. Retrying..."]);
    let requests = elsewhere.requests();
    assert!(requests.iter().any(|request| request.path.contains("public")));
    assert!(requests.iter().any(|request| request.path.contains("private")));
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));
    // Nor does what else is only for GitLab.
    assert!(
        requests.iter().all(|request| !request.headers.contains_key("x-gitaly-correlation-id"))
    );
}

#[tokio::test]
async fn stages_55_a_strategy_that_is_none_fails_before_anything_is_done() {
    let shop = shop().await;
    let world = with(shop.job("main", &["true"]), &[("GIT_SUBMODULE_STRATEGY", "deep")]);
    let seen = world.run().await;
    assert_eq!(seen.end.outcome, Outcome::Exited(1));
    contains(&seen, &["unknown GIT_SUBMODULE_STRATEGY"]);
    assert!(shop.requests().is_empty());
}
