//! Where the job's token is, and where it is not.

use std::path::Path;
use std::process::Command;

use runner_testkit::gitlab::GitLab;

use super::{Shop, contains, contains_not, success};

/// Files below a directory that contain a text.
fn files_with(directory: &Path, text: &str) -> String {
    let output = Command::new("grep").args(["-rlF", "--", text]).arg(directory).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn stages_50_no_file_of_the_checkout_has_the_token() {
    let shop = Shop::new().await;
    // In the middle of the job, when all is there that there will be.
    let script = [
        "git config --list --show-origin | grep -v command | grep -c url=http",
        "git config remote.origin.url",
        "git credential fill < request | grep -c password=",
    ];
    let mut world = shop.next_job("main", &script);
    world = world.variable("GIT_TRACE", "1");
    let seen = world.run().await;
    contains_not(&seen, &shop.gitlab.read_token());
    assert_eq!(files_with(&shop.checkout(), &shop.gitlab.read_token()), "");
    contains(&seen, &["\n1\n", &format!("{}/group/app.git\n", shop.gitlab.url())]);
}

#[tokio::test]
async fn stages_51_neither_files_nor_arguments_have_the_token_of_processes() {
    let shop = Shop::new().await;
    let place = tempfile::tempdir().unwrap();
    let look =
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > \"$PLACE/arguments\" || true";
    let world = shop
        .next_job("main", &["git fetch -q origin", look])
        .variable("PLACE", &place.path().display().to_string());
    let seen = world.run().await;
    success(&seen);
    let arguments = std::fs::read_to_string(place.path().join("arguments")).unwrap();
    assert!(arguments.contains("podwright-agent"));
    assert!(!arguments.contains(&shop.gitlab.read_token()));
}

#[tokio::test]
async fn stages_51_the_jobs_own_git_authenticates_in_the_checkout() {
    let shop = Shop::new().await;
    let script = [
        "git fetch -q origin feature && git log -1 --format=%s FETCH_HEAD",
        "git pull -q origin feature && cat file",
    ];
    let seen = shop.job("main", &script).run().await;
    success(&seen);
    contains(&seen, &["\nthird\n", "\nthree\n"]);
}

#[tokio::test]
async fn stages_51_and_everywhere_with_the_flag_also_without_a_checkout() {
    let shop = Shop::new().await;
    for strategy in ["fetch", "none", "empty"] {
        let url = format!("{}/group/app.git", shop.gitlab.url());
        let clone = format!(
            "cd \"$(mktemp -d)\"; GIT_TERMINAL_PROMPT=0 git clone -q {url} x && cat x/file"
        );
        let world = shop.job("main", &[&clone]).variable("GIT_STRATEGY", strategy);
        let seen = world.variable("FF_GIT_URLS_WITHOUT_TOKENS", "true").run().await;
        success(&seen);
        contains(&seen, &["\ntwo\n"]);
    }
}

#[tokio::test]
async fn stages_52_git_config_global_of_the_job_works_and_a_bad_home_does_no_harm() {
    let shop = Shop::new().await;
    let script = [
        "export HOME=$(mktemp -d)",
        "git config --global user.name 'Some Body' && git config user.name && ls -A \"$HOME\"",
        "mkdir \"$HOME/no\"; ln -s nowhere \"$HOME/no/.gitconfig\"; HOME=$HOME/no git fetch -q origin",
    ];
    let world = shop.job("main", &script).variable("FF_GIT_URLS_WITHOUT_TOKENS", "true");
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\nSome Body\n.gitconfig\n"]);
}

#[tokio::test]
async fn helpers_of_the_job_are_asked_as_well() {
    let shop = Shop::new().await;
    let script = [
        "export HOME=$(mktemp -d)",
        "git config --global credential.helper '!f() { echo username=me; echo password=mine; }; f'",
        "printf 'protocol=http\\nhost=elsewhere.example\\n' | git credential fill",
    ];
    let seen = shop.job("main", &script).run().await;
    success(&seen);
    contains(&seen, &["username=me\npassword=mine\n"]);
}

#[tokio::test]
async fn stages_53_clone_url_takes_the_place_of_the_address() {
    let shop = Shop::new().await;
    let mut world = shop.job("main", &["cat file", "git config remote.origin.url"]);
    // An address that leads nowhere, as GitLab's public one may from inside.
    let token = shop.gitlab.read_token();
    world.job.sources.as_mut().unwrap().url =
        format!("http://gitlab-ci-token:{token}@gitlab.invalid/group/app.git").into();
    world.settings.clone_url = Some(shop.gitlab.url());
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\ntwo\n", &format!("{}/group/app.git\n", shop.gitlab.url())]);
}

#[tokio::test]
async fn stages_40_a_private_ca_is_trusted_for_gitlab_here_and_in_scripts() {
    let gitlab = GitLab::builder().tls().start().await.unwrap();
    let repo = gitlab.repo("group/app").commit("first", [("file", "one\n")]);
    let repo = repo.create().await.unwrap();
    let shop = Shop::with(gitlab, repo);
    let mut world = shop.job("main", &["true"]);
    let seen = world.run().await;
    assert!(!seen.end.outcome.is_success(), "{}", seen.text());
    contains(&seen, &["certificate"]);
    world = shop.job(
        "main",
        &[
            "unset GIT_SSL_CAINFO; git fetch -q origin && cat file",
            "head -1 \"$CI_SERVER_TLS_CA_FILE\"",
        ],
    );
    world.settings.tls_ca = shop.gitlab.ca_pem().map(str::to_owned);
    let seen = world.run().await;
    success(&seen);
    contains(&seen, &["\none\n", "\n-----BEGIN CERTIFICATE-----\n"]);
}

#[tokio::test]
async fn a_token_with_characters_of_the_shell_arrives_as_it_is() {
    let shop = Shop::new().await;
    let mut world = shop.job("main", &["true"]);
    let (scheme, host) =
        shop.gitlab.url().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    world.job.sources.as_mut().unwrap().url =
        format!("{scheme}://gitlab-ci-token:a%5Cn%24%28id%29%22%27%3B@{host}/group/app.git").into();
    assert!(!world.run().await.end.outcome.is_success());
    let requests = shop.requests();
    let sent = requests.iter().find_map(|request| request.headers.get("authorization")).unwrap();
    // base64 of `gitlab-ci-token:a\n$(id)"';`
    assert_eq!(sent, "Basic Z2l0bGFiLWNpLXRva2VuOmFcbiQoaWQpIic7");
}

#[tokio::test]
async fn proxies_of_the_job_are_gits_too() {
    let shop = Shop::new().await;
    let world = shop.job("main", &["true"]).variable("http_proxy", &shop.gitlab.url());
    let mut world = world.variable("no_proxy", "");
    let token = shop.gitlab.read_token();
    world.job.sources.as_mut().unwrap().url =
        format!("http://gitlab-ci-token:{token}@behind.invalid/group/app.git").into();
    // The stand-in is no proxy; what counts is that it was asked.
    let seen = world.run().await;
    assert!(!seen.text().contains("Could not resolve host"), "{}", seen.text());
    assert!(!shop.gitlab.requests().is_empty());
}
