//! How many times git is started: processes are what the stage costs beside the network.

use super::{Shop, submodules, success};

/// Writes down with which command it was started, and does it.
const COUNT: &str = r#"#!/bin/sh
echo "$@" >> "$COUNT"
PATH="${PATH#*:}" exec git "$@"
"#;

/// The commands of git that the helper has started itself, without their settings.
async fn commands(world: crate::world::World) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("count");
    let world = world.with_git(COUNT).variable("COUNT", &file.display().to_string());
    success(&world.run().await);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let command = |line: &str| {
        let mut words = line.split(' ').peekable();
        while words.next_if_eq(&"-c").is_some() {
            words.next();
        }
        words.take_while(|word| !word.starts_with(['-', '+'])).take(2).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(command).collect()
}

#[tokio::test]
async fn a_fresh_checkout_takes_two_and_a_used_one_three() {
    let shop = Shop::new().await;
    assert_eq!(commands(shop.next_job("main", &["true"])).await, ["fetch origin", "checkout"]);
    let again = commands(shop.next_job("main", &["true"])).await;
    assert_eq!(again, ["fetch origin", "checkout", "clean"]);
    let none = shop.next_job("main", &["true"]).variable("GIT_STRATEGY", "none");
    assert!(commands(none).await.is_empty());
}

#[tokio::test]
async fn submodules_of_a_fresh_checkout_take_one_more() {
    let shop = submodules::shop().await;
    let world = shop.job("main", &["true"]).variable("GIT_SUBMODULE_STRATEGY", "recursive");
    assert_eq!(commands(world).await, ["fetch origin", "checkout", "submodule update"]);
    // Nothing to do.
    let shop = Shop::new().await;
    let world = shop.job("main", &["true"]).variable("GIT_SUBMODULE_STRATEGY", "recursive");
    assert_eq!(commands(world).await, ["fetch origin", "checkout"]);
}
