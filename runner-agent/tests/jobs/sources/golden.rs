//! The log of the stage, as a whole.

use runner_testkit::gitlab::{Endpoint, GitLab};

use super::{Shop, lfs, submodules, success};
use crate::world::{Seen, World};

/// The part of a trace from the stage's section to the next one, without what differs from run to run.
fn sources(seen: &Seen) -> String {
    let text = seen.text();
    let begin = text
        .find("section_start:")
        .and_then(|at| text[at..].find(":get_sources").map(|further| at + further));
    let begin = text[..begin.unwrap()].rfind("section_start").unwrap();
    let end = text.find(":step_script").and_then(|at| text[..at].rfind("section_start"));
    let mut out = String::new();
    for line in text[begin..end.unwrap()].split_inclusive('\n') {
        out.push_str(&normalized(line));
    }
    out.replace('\r', "\\r").replace('\x1b', "\\e")
}

fn normalized(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    // Directories, ports, times and hashes.
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '/') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        out.push_str(&word(&rest[..end]));
        rest = &rest[end..];
    }
    out + rest
}

fn word(word: &str) -> String {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match word {
        _ if word.starts_with("/tmp/") => {
            let group = word.find("/group/").map_or(word.len(), |at| at);
            format!("/builds{}", &word[group..])
        }
        _ if digits && word.len() == 10 => "TIME".to_owned(),
        _ if hex && word.len() >= 8 => "HASH".to_owned(),
        _ => word.to_owned(),
    }
}

/// Runs it with section markers.
async fn run(shop: &Shop, mut world: World) -> String {
    world.job.features.trace_sections = true;
    let seen = world.run().await;
    success(&seen);
    sources(&seen).replace(&shop.gitlab.url(), "https://gitlab.example")
}

#[tokio::test]
async fn a_clone_and_then_a_fetch() {
    let shop = Shop::new().await;
    let clone = shop.next_job("main", &["touch left"]).variable("GIT_STRATEGY", "clone");
    insta::assert_snapshot!("clone", run(&shop, clone).await);
    insta::assert_snapshot!("fetch", run(&shop, shop.next_job("feature", &["true"])).await);
}

#[tokio::test]
async fn submodules_first_and_again() {
    let shop = submodules::shop().await;
    let job = || {
        let world = shop.next_job("main", &["touch near/left; echo spoilt > libs/far/lib"]);
        world.variable("GIT_SUBMODULE_STRATEGY", "recursive")
    };
    insta::assert_snapshot!("submodules", run(&shop, job()).await);
    insta::assert_snapshot!("submodules_again", run(&shop, job()).await);
}

#[tokio::test]
async fn files_in_lfs() {
    if !lfs::has_lfs() {
        return;
    }
    let shop = lfs::shop().await;
    let world = shop.job("main", &["true"]).variable("GIT_SUBMODULE_STRATEGY", "normal");
    insta::assert_snapshot!("lfs", run(&shop, world).await);
}

#[tokio::test]
async fn a_second_attempt() {
    let gitlab = GitLab::start().await.unwrap();
    let repo = gitlab.repo("group/app").commit("first", [("file", "one\n")]);
    let repo = repo.create().await.unwrap();
    let shop = Shop::with(gitlab, repo);
    shop.gitlab.script(Endpoint::Git).reply(503).once();
    let world = shop.job("main", &["true"]).variable("GET_SOURCES_ATTEMPTS", "2");
    insta::assert_snapshot!("retry", run(&shop, world).await);
}
