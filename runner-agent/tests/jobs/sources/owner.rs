//! Whose the checkout is, when the helper and the job's own container run as different users.

use runner_core::job::Step;
use runner_core::plan::BuildUser;

use super::{Shop, contains, contains_not, success};

const USER: u32 = 12_345;

#[expect(clippy::print_stderr, reason = "a test that was not run must say so")]
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out: only root can be several users");
    }
    root
}

/// What a job does to its checkout, and what lies in it.
const WORK: &[&str] = &[
    "id -u; stat -c '%u %a %n' . .git .git/config file dir/other run",
    "chmod 700 dir; echo x >> file; rm run; mkdir new; touch new/file dir/new",
    "export HOME=/nonexistent; touch ../sibling; git status --short; git add -A; git -c user.name=a -c user.email=a@b commit -qm mine && echo committed",
];

#[tokio::test]
async fn stages_61_git_runs_as_the_jobs_user_where_that_is_known() {
    if !is_root() {
        return;
    }
    let shop = Shop::new().await;
    let mut world = shop.job("main", WORK).builds_as(USER);
    world.amend = |plan| plan.build_user = Some(BuildUser { uid: USER, gid: USER });
    let seen = world.run().await;
    success(&seen);
    contains(
        &seen,
        &[
            "\n12345\n12345 755 .\n12345 755 .git\n12345 644 .git/config\n12345 644 file\n",
            "12345 644 dir/other\n12345 755 run\n",
            " M file\n D run\n",
            "\ncommitted\n",
        ],
    );
    contains_not(&seen, "WARNING");
    contains_not(&seen, "warning");
}

#[tokio::test]
async fn stages_61_the_checkout_is_handed_over_where_the_user_is_learnt_later() {
    if !is_root() {
        return;
    }
    let shop = Shop::new().await;
    let seen = shop.job("main", WORK).builds_as(USER).run().await;
    success(&seen);
    contains(
        &seen,
        &["\n12345\n12345 755 .\n12345 755 .git\n", "12345 644 file\n", "\ncommitted\n"],
    );
    contains_not(&seen, "WARNING");
}

#[tokio::test]
async fn stages_60_git_works_in_a_checkout_that_is_somebody_elses() {
    if !is_root() {
        return;
    }
    let shop = Shop::new().await;
    // The job runs as root in a checkout that was made for somebody else.
    let mut world = shop
        .job("main", &["git status", "git config --show-origin --get-all safe.directory | wc -l"]);
    world.amend = |plan| plan.build_user = Some(BuildUser { uid: USER, gid: USER });
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["HEAD detached at", "\n1\n"]);
}

#[tokio::test]
async fn a_checkout_of_another_user_is_taken_over_with_all_of_it() {
    if !is_root() {
        return;
    }
    let shop = Shop::new().await;
    let first = shop.next_job("main", &["mkdir dir/left; touch dir/left/file"]);
    success(&first.run().await);
    for _ in 0..2 {
        let mut world = shop.next_job("feature", WORK).builds_as(USER);
        world.amend = |plan| plan.build_user = Some(BuildUser { uid: USER, gid: USER });
        let seen = world.run().await;
        success(&seen);
        contains(&seen, &["Reinitialized", "\n12345\n12345 755 .\n", "\ncommitted\n"]);
    }
}

#[tokio::test]
async fn stages_62_hooks_can_use_git_and_what_they_make_is_the_jobs_too() {
    if !is_root() {
        return;
    }
    let shop = Shop::new().await;
    let mut world =
        shop.job("main", &["stat -c '%u %n' file made", "rm file made"]).builds_as(USER);
    world.amend = |plan| plan.build_user = Some(BuildUser { uid: USER, gid: USER });
    world.job.hooks = vec![
        Step {
            name: "pre_get_sources_script".into(),
            script: vec!["export HOME=\"$PWD\"; git config --global user.name hook".into()],
        },
        Step {
            name: "post_get_sources_script".into(),
            script: vec!["git log -1 --format='hook saw %s'; touch made".into()],
        },
    ];
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\nhook saw second\n", "\n12345 file\n12345 made\n"]);
}
