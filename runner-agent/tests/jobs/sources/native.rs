//! `git clone` in place of `git fetch`.
//!
//! git 2.49 is newer than what many systems have; a program in front of the real git says that it is
//! 2.49 and does what `clone --revision` does there. Everything else is the real one's work.

use super::{Shop, contains, contains_not, success};
use crate::world::World;

fn git_of(version: &str) -> String {
    format!(
        r#"#!/bin/sh
real() {{ PATH="${{PATH#*:}}" exec git "$@"; }}
[ "$1" = version ] && echo "git version {version}" && exit
[ "$1" = clone ] || real "$@"
for argument; do [ "$argument" = --revision ] && break; done
[ "$argument" = --revision ] || real "$@"
shift
while [ $# -gt 2 ]; do
    case $1 in
        --revision) revision=$2; shift;;
        --depth) depth="--depth $2"; shift;;
        -c) configuration=$2; shift;;
    esac
    shift
done
PATH="${{PATH#*:}}"
git init -q . && git remote add origin "$1" && git fetch -q $depth origin "$revision" &&
    git update-ref --no-deref HEAD FETCH_HEAD
"#
    )
}

fn native(world: World, version: &str) -> World {
    world
        .with_git(&git_of(version))
        .variable("FF_USE_GIT_NATIVE_CLONE", "true")
        .variable("GIT_STRATEGY", "clone")
}

#[tokio::test]
async fn stages_59_branch_and_tag_are_cloned_by_name_with_the_jobs_flags() {
    let shop = Shop::new().await;
    for (reference, content, commits) in
        [("main", "two", 2), ("feature", "three", 3), ("v1", "one", 1)]
    {
        let script = [
            "cat file; git config a.b",
            "echo $(git rev-list --count HEAD) commits",
            "git fetch -q origin",
        ];
        let world = native(shop.job(reference, &script), "2.49.0");
        let seen = world.variable("GIT_CLONE_EXTRA_FLAGS", "-c a.b=c").run().await;
        success(&seen);
        contains(
            &seen,
            &[
                "Git version at least \"2.49\"",
                &format!("Cloning repository for {reference} with git depth set to 20..."),
                "Checking out ",
                &format!("\n{content}\nc\n"),
                &format!("\n{commits} commits\n"),
            ],
        );
        contains_not(&seen, "Created fresh repository.");
    }
}

#[tokio::test]
async fn stages_59_a_whole_ref_is_cloned_as_a_revision() {
    let shop = Shop::new().await;
    let mut world = native(shop.job("feature", &["cat file"]), "2.51.1.windows.1");
    let sources = world.job.sources.as_mut().unwrap();
    sources.reference = "refs/heads/feature".to_owned();
    sources.depth = 0;
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["Cloning repository for refs/heads/feature...", "\nthree\n"]);
}

#[tokio::test]
async fn stages_59_an_older_git_fetches() {
    let shop = Shop::new().await;
    for version in ["2.9.5", "2.48.1", "nonsense"] {
        let seen = native(shop.job("main", &["cat file"]), version).run().await;
        success(&seen);
        contains(&seen, &["Fetching changes with git depth set to 20...", "\ntwo\n"]);
        contains_not(&seen, "Cloning repository");
    }
}

#[tokio::test]
async fn stages_59_what_is_there_is_removed_first_and_strategy_fetch_keeps_fetching() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &["touch left"]).run().await);
    let world = shop.next_job("main", &["ls"]).variable("FF_USE_GIT_NATIVE_CLONE", "true");
    let seen = world.with_git(&git_of("2.49.0")).run().await;
    contains(&seen, &["Reinitialized", "Removing left\n"]);
    success(&shop.next_job("main", &["touch left"]).run().await);
    let seen = native(shop.next_job("main", &["ls"]), "2.49.0").run().await;
    success(&seen);
    contains(&seen, &["Cloning repository for main"]);
    contains_not(&seen, "\nleft\n");
}
