//! Checkouts that an earlier job has left behind.

use std::fs;

use super::{Shop, contains, contains_not, run, success};

#[tokio::test]
async fn stages_43_the_next_job_reuses_what_is_there() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["echo x > file; echo y > new"]).run().await);
    let seen = shop.next_job("feature", &["cat file; git status --short; ls"]).run().await;
    success(&seen);
    contains(
        &seen,
        &[
            "Reinitialized existing Git repository in ",
            "Checking out ",
            "Removing new\n",
            "$ cat file; git status --short; ls",
            "\nthree\ndir\nfile\nrun\n",
        ],
    );
    contains_not(&seen, "Created fresh repository.");
}

#[tokio::test]
async fn stages_43_locks_of_a_git_that_was_killed_are_removed() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["true"]).run().await);
    let git = shop.checkout().join(".git");
    fs::create_dir_all(git.join("refs/remotes/origin")).unwrap();
    for lock in ["index.lock", "shallow.lock", "HEAD.lock", "config.lock", "packed-refs.lock"] {
        fs::write(git.join(lock), "").unwrap();
    }
    for name in ["main", "feature"] {
        fs::write(git.join(format!("refs/remotes/origin/{name}.lock")), "").unwrap();
    }
    success(&shop.next_job("feature", &["true"]).run().await);
}

#[tokio::test]
async fn stages_43_a_shallow_checkout_becomes_a_whole_one() {
    let shop = Shop::new().await;
    let script =
        ["echo $(git rev-list --count HEAD) commits; git rev-parse --is-shallow-repository"];
    let mut shallow = shop.next_job("feature", &script);
    shallow.job.sources.as_mut().unwrap().depth = 1;
    contains(&shallow.run().await, &["\n1 commits\ntrue\n"]);
    let mut whole = shop.next_job("feature", &script);
    whole.job.sources.as_mut().unwrap().depth = 0;
    contains(&whole.run().await, &["\n3 commits\nfalse\n"]);
}

#[tokio::test]
async fn stages_44_strategy_clone_removes_what_is_there_also_what_cannot_be_written() {
    let shop = Shop::new().await;
    let spoil = "mkdir -p a/b; touch a/b/c .git/left; chmod -R a-w a";
    success(&shop.next_job("main", &[spoil]).run().await);
    let world = shop.next_job("main", &["ls -A; ls .git/left || true"]);
    let seen = world.variable("GIT_STRATEGY", "clone").run().await;
    success(&seen);
    contains(&seen, &["Initialized empty", "Created fresh repository.", ".git/left'"]);
    contains_not(&seen, "\na\n");
}

#[tokio::test]
async fn stages_47_flags_of_clean() {
    let shop = Shop::new().await;
    let spoil = "mkdir build cache; touch build/x cache/y";
    success(&shop.next_job("main", &[spoil]).run().await);
    let none = shop.next_job("main", &["ls build cache"]).variable("GIT_CLEAN_FLAGS", "none");
    contains(&none.run().await, &["\nbuild:\nx\n", "cache:\ny\n"]);
    let some = shop.next_job("main", &["ls"]).variable("GIT_CLEAN_FLAGS", "-ffdx -e cache/");
    let seen = some.run().await;
    contains(&seen, &["Removing build/\n", "\ncache\n"]);
    let seen = shop.next_job("main", &["ls"]).run().await;
    contains(&seen, &["Removing cache/\n"]);
    contains_not(&seen, "\ncache\n");
}

#[tokio::test]
async fn files_that_git_was_told_not_to_look_at_are_made_right_again() {
    let shop = Shop::new().await;
    for spoil in [
        "git update-index --assume-unchanged file; echo spoilt > file",
        "git update-index --skip-worktree file; rm file",
        "git sparse-checkout set dir; ls",
    ] {
        success(&shop.next_job("main", &[spoil]).run().await);
        let seen = shop.next_job("main", &["cat file; git status --short"]).run().await;
        success(&seen);
        contains(&seen, &["\ntwo\n"]);
    }
}

#[tokio::test]
async fn a_partial_checkout_stays_one_and_lacks_nothing() {
    let shop = Shop::new().await;
    let first = shop.next_job("main", &["cat file"]);
    let first = first.variable("GIT_FETCH_EXTRA_FLAGS", "--filter=blob:none --quiet");
    let seen = first.run().await;
    success(&seen);
    contains(&seen, &["\ntwo\n"]);
    // Another job knows nothing of filters; what is missing is fetched when it is needed.
    let seen = shop
        .next_job("feature", &["cat file; git show v1:file || git show HEAD~2:file"])
        .run()
        .await;
    success(&seen);
    contains(&seen, &["\nthree\none\n"]);
}

#[tokio::test]
async fn a_broken_index_is_made_anew() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["true"]).run().await);
    fs::write(shop.checkout().join(".git/index"), "garbage").unwrap();
    success(&shop.next_job("main", &["cat file"]).run().await);
}

#[tokio::test]
async fn the_repositorys_settings_are_those_of_git_init() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["true"]).run().await);
    let theirs = tempfile::tempdir().unwrap();
    run(theirs.path(), "git", &["init", "--quiet", "."]);
    let settings =
        |directory: &std::path::Path| run(directory, "git", &["config", "--local", "--list"]);
    let ours = settings(&shop.checkout());
    for line in settings(theirs.path()).lines() {
        assert!(ours.contains(line), "{line} is not in\n{ours}");
    }
    run(&shop.checkout(), "git", &["fsck", "--strict"]);
}
