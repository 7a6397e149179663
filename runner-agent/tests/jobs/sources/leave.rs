//! What is left of a job that wants nothing to be left (`FF_ENABLE_JOB_CLEANUP`).

use std::fs;

use super::{Shop, contains, run, submodules, success};
use crate::world::World;

fn tidy(world: World) -> World {
    world.variable("FF_ENABLE_JOB_CLEANUP", "true")
}

const SPOIL: &str = "echo spoilt > file; rm run; mkdir build; touch build/x; git add -A";

#[tokio::test]
async fn stages_113_a_fetched_checkout_is_as_it_was() {
    let shop = Shop::new().await;
    let seen = tidy(shop.next_job("main", &[SPOIL])).run().await;
    success(&seen);
    contains(&seen, &["Cleaning up project directory", "HEAD is now at "]);
    let checkout = shop.checkout();
    assert_eq!(fs::read_to_string(checkout.join("file")).unwrap(), "two\n");
    assert!(checkout.join("run").exists() && !checkout.join("build").exists());
    assert!(!checkout.with_extension("tmp").exists());
    assert_eq!(run(&checkout, "git", &["status", "--short"]), "");
}

#[tokio::test]
async fn stages_113_without_the_flag_everything_stays() {
    let shop = Shop::new().await;
    success(&shop.next_job("main", &[SPOIL]).run().await);
    assert!(shop.checkout().join("build/x").exists());
}

#[tokio::test]
async fn stages_113_a_clone_goes_altogether_and_without_git_nothing_is_touched() {
    let shop = Shop::new().await;
    let world = tidy(shop.next_job("main", &[SPOIL])).variable("GIT_STRATEGY", "clone");
    success(&world.run().await);
    assert!(!shop.checkout().exists());
    let world = tidy(shop.next_job("main", &["touch kept"])).variable("GIT_STRATEGY", "none");
    contains(&world.run().await, &["Skipping build directory cleanup step"]);
    assert!(shop.checkout().join("kept").exists());
}

#[tokio::test]
async fn stages_113_submodules_are_as_they_were() {
    let shop = submodules::shop().await;
    let spoil = "touch near/left near/inner/left; echo spoilt > libs/far/lib; rm near/inner/lib";
    let world = tidy(shop.next_job("main", &[spoil]));
    let seen = world.variable("GIT_SUBMODULE_STRATEGY", "recursive").run().await;
    success(&seen);
    let checkout = shop.checkout();
    assert_eq!(fs::read_to_string(checkout.join("libs/far/lib")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(checkout.join("near/inner/lib")).unwrap(), "new\n");
    assert!(!checkout.join("near/left").exists() && !checkout.join("near/inner/left").exists());
}

#[tokio::test]
async fn cleaning_up_obeys_nothing_of_the_jobs() {
    let shop = Shop::new().await;
    let place = tempfile::tempdir().unwrap();
    let mark = place.path().join("mark");
    let plant = [
        "printf '#!/bin/sh\\necho ran >> \"%s\"\\ncat\\n' \"$MARK\" > \"$MARK.sh\"; chmod +x \"$MARK.sh\"",
        "git config core.fsmonitor \"$MARK.sh\"; git config filter.x.smudge \"$MARK.sh\"; git config filter.x.clean \"$MARK.sh\"",
        "mkdir -p .git/info; echo '* filter=x' > .git/info/attributes; echo '* filter=x' > .gitattributes",
        "cp \"$MARK.sh\" .git/hooks/post-checkout; cp \"$MARK.sh\" .git/hooks/post-index-change",
        "git config alias.clean \"!$MARK.sh\"; git config core.worktree /; rm file",
        // Whatever else is still running may do it again.
        "(while sleep 0.01; do git config core.fsmonitor \"$MARK.sh\"; touch left; done) >/dev/null 2>&1 &",
        "rm -f \"$MARK\"; echo planted",
    ];
    let world = tidy(shop.next_job("main", &plant));
    let seen = world.variable("MARK", &mark.display().to_string()).run().await;
    success(&seen);
    contains(&seen, &["\nplanted\n", "HEAD is now at "]);
    assert!(!mark.exists(), "{}", seen.text());
    assert_eq!(fs::read_to_string(shop.checkout().join("file")).unwrap(), "two\n");
    assert!(!shop.checkout().join("left").exists());
}

#[tokio::test]
async fn cleaning_up_waits_for_no_pipe_and_reads_no_device() {
    let shop = Shop::new().await;
    let plant = [
        "mkdir -p .git/modules/pipe .git/modules/head",
        "echo x > .git/modules/pipe/HEAD; mkfifo .git/modules/pipe/config",
        "echo x > .git/modules/head/HEAD; ln -s /dev/zero .git/modules/head/config",
        "echo planted",
    ];
    let world = tidy(shop.next_job("main", &plant));
    let seen = world.variable("GIT_SUBMODULE_STRATEGY", "normal").run().await;
    success(&seen);
    contains(&seen, &["\nplanted\n", "HEAD is now at "]);
}

/// A submodule's files are where its configuration says, which the job writes; a link on the way there
/// leads to what is the helper's own.
#[tokio::test]
async fn cleaning_up_follows_no_link_to_the_files_of_a_submodule() {
    let shop = Shop::new().await;
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("journal"), "the helper's").unwrap();
    let plant = [
        "mkdir .git/modules; cp -r .git .git-copy; mv .git-copy .git/modules/m; git rev-parse HEAD > .git/modules/m/HEAD",
        "printf '[core]\\n\\tworktree = ../../../link\\n' > .git/modules/m/config; rm .git/modules/m/index",
        "ln -s \"$OWN\" link",
        "echo planted",
    ];
    let world = tidy(shop.next_job("main", &plant)).variable("GIT_CLEAN_FLAGS", "none");
    let world = world.variable("OWN", &own.path().display().to_string());
    let seen = world.variable("GIT_SUBMODULE_STRATEGY", "normal").run().await;
    contains(&seen, &["\nplanted\n", "HEAD is now at "]);
    let names: Vec<_> =
        fs::read_dir(own.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["journal"], "{}", seen.text());
    assert_eq!(fs::read_to_string(own.path().join("journal")).unwrap(), "the helper's");
    success(&seen);
}
