//! More than one attempt.

use runner_testkit::gitlab::{Endpoint, GitLab};

use super::{Shop, contains, contains_not, success};

#[tokio::test]
async fn stages_21_the_second_attempt_begins_with_an_empty_checkout() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["touch left"]).run().await);
    shop.gitlab.script(Endpoint::Git).reply(500).once();
    let world = shop.next_job("main", &["cat file; ls"]).variable("GET_SOURCES_ATTEMPTS", "3");
    let mut world = world;
    world.job.features.trace_sections = true;
    let seen = world.run().await;
    success(&seen);
    contains(
        &seen,
        &[
            "section_start:",
            ":get_sources",
            "500",
            ":get_sources",
            "WARNING: Retrying...",
            ":clear_worktree",
            "Deleting all tracked and untracked files due to source fetch failure",
            "Deleting tracked and untracked files...",
            ":clear_worktree",
            ":get_sources",
            "Reinitialized existing Git repository in ",
            "Checking out ",
            ":get_sources",
            "\ntwo\ndir\nfile\nrun\n",
        ],
    );
    assert_eq!(seen.text().matches("Retrying...").count(), 1);
}

#[tokio::test]
async fn stages_07_sources_that_do_not_come_fail_the_job_without_its_script() {
    let gitlab = GitLab::start().await.unwrap();
    let repo = gitlab.repo("group/app").commit("first", [("file", "one\n")]);
    let repo = repo.create().await.unwrap();
    let shop = Shop::with(gitlab, repo);
    shop.gitlab.script(Endpoint::Git).reply(500).always();
    let world = shop.job("main", &["echo not reached"]).after_script(&["echo not reached"]);
    let seen = world.run().await;
    assert!(!seen.end.outcome.is_success());
    contains(&seen, &["500", "Job failed: command terminated with exit code 128"]);
    contains_not(&seen, "\nnot reached");
    contains_not(&seen, "Retrying...");
}

#[tokio::test]
async fn a_repository_that_is_damaged_is_made_anew_with_the_third_attempt() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["true"]).run().await);
    let git = shop.checkout().join(".git");
    // As after a node that lost power: objects without content.
    for entry in walk(&git.join("objects")) {
        let _ = std::fs::remove_file(&entry);
        std::fs::write(&entry, "").unwrap();
    }
    let world = shop.next_job("feature", &["cat file"]).variable("GET_SOURCES_ATTEMPTS", "3");
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["Retrying...", "Retrying...", "Created fresh repository.", "\nthree\n"]);
    assert_eq!(seen.text().matches("Deleting tracked and untracked files...").count(), 1);
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}
