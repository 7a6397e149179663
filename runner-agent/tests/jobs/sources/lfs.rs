//! Files in LFS, with the real `git-lfs` where it is installed.

use std::process::Command;

use runner_testkit::gitlab::GitLab;

use super::{Shop, contains, contains_not, success};

#[expect(clippy::print_stderr, reason = "a test that was not run must say so")]
pub(super) fn has_lfs() -> bool {
    let found = Command::new("git").args(["lfs", "version"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("left out: git-lfs is not installed (Debian's package git-lfs)");
    }
    found
}

const ATTRIBUTES: &str = "*.bin filter=lfs diff=lfs merge=lfs -text\n";

pub(super) async fn shop() -> Shop {
    let gitlab = GitLab::start().await.unwrap();
    let lib = gitlab
        .repo("group/lib")
        .commit("one", [("assets/.gitattributes", ATTRIBUTES)])
        .lfs_file("assets/inner.bin", "content of inner\n")
        .create()
        .await
        .unwrap();
    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n";
    let app = gitlab
        .repo("group/app")
        .commit("one", [(".gitattributes", ATTRIBUTES), (".gitmodules", modules)])
        .lfs_file("a.bin", "content of a\n")
        .lfs_file("deep/b.bin", "content of b\n")
        .submodule("lib", lib.sha("main").unwrap())
        .create()
        .await
        .unwrap();
    Shop::with(gitlab, app)
}

#[tokio::test]
async fn stages_56_files_in_lfs_are_there_after_the_checkout() {
    if !has_lfs() {
        return;
    }
    let shop = shop().await;
    for _ in 0..2 {
        let status = "git -c filter.lfs.clean='git-lfs clean -- %f' status --short";
        let seen = shop.next_job("main", &["cat a.bin deep/b.bin", status]).run().await;
        success(&seen);
        contains(&seen, &["\ncontent of a\ncontent of b\n"]);
        contains_not(&seen, " M ");
    }
    // One request says where they are, for all of them at once.
    let batches = shop
        .requests()
        .iter()
        .filter(|it| it.path.ends_with("/batch") && it.status == Some(200))
        .count();
    assert_eq!(batches, 1);
}

#[tokio::test]
async fn stages_56_pointers_stay_where_the_job_wants_them() {
    let shop = shop().await;
    let world = shop.job("main", &["cat a.bin"]).variable("GIT_LFS_SKIP_SMUDGE", "true");
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\nversion https://git-lfs.github.com/spec/v1\noid sha256:"]);
    assert!(shop.requests().iter().all(|request| !request.path.contains("lfs")));
}

#[tokio::test]
async fn stages_56_files_in_lfs_of_submodules() {
    if !has_lfs() {
        return;
    }
    let shop = shop().await;
    let world = shop.job("main", &["cat a.bin lib/assets/inner.bin"]);
    let seen = world.variable("GIT_SUBMODULE_STRATEGY", "normal").run().await;
    success(&seen);
    contains(&seen, &["Pulling LFS files...", "\ncontent of a\ncontent of inner\n"]);
}

#[tokio::test]
async fn a_file_whose_content_is_gone_fails_the_stage() {
    if !has_lfs() {
        return;
    }
    let gitlab = GitLab::start().await.unwrap();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{:064}\nsize 5\n", 1);
    let app = gitlab.repo("group/app");
    let app = app.commit("one", [(".gitattributes", ATTRIBUTES), ("gone.bin", &pointer)]);
    let app = app.create().await.unwrap();
    let shop = Shop::with(gitlab, app);
    let seen = shop.job("main", &["echo not reached"]).run().await;
    assert!(!seen.end.outcome.is_success(), "{}", seen.text());
    contains_not(&seen, "\nnot reached");
}
