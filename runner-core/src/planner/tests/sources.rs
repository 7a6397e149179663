//! What the agent is told about getting the sources.

use rstest::rstest;

use super::*;
use crate::plan::{Nesting, Submodules};

#[test]
fn credentials_are_for_the_hosts_of_the_sources_and_of_gitlab() {
    let mut job = job_with(&[("CI_SERVER_URL", "https://GitLab.example:443/")]);
    assert_eq!(sources(&planned(&job)).login_origins, ["https://gitlab.example"]);
    job.variables.push(variable("CI_SERVER_URL", "http://public.example:8080/gitlab"));
    assert_eq!(
        sources(&planned(&job)).login_origins,
        ["https://gitlab.example", "http://public.example:8080"]
    );
    let settings =
        PlanSettings { clone_url: Some("https://inside.example/x".to_owned()), ..settings() };
    let plan = plan(&job, &settings, Transfers::default()).unwrap();
    assert_eq!(
        sources(&plan).login_origins,
        ["https://gitlab.example", "https://inside.example", "http://public.example:8080"]
    );
}

#[test]
fn a_url_that_not_everybody_reads_alike_gets_no_credentials() {
    for url in [
        "https://a\\@b.example/p.git",
        "https://a\t:x@b.example/p.git",
        "https://b.exam\"ple/p",
        "https://b.example::443/p.git",
    ] {
        let mut job = job();
        job.sources.as_mut().unwrap().url = url.into();
        let plan = planned(&job);
        assert!(sources(&plan).login_origins.is_empty(), "{url}");
        assert!(!sources(&plan).url.contains('@'), "{url}");
    }
}

#[rstest]
#[case::port_22(&[("CI_SERVER_SHELL_SSH_PORT", "22")], &[
    "git@gitlab.example:", "ssh://git@gitlab.example/", "ssh://git@gitlab.example:22/",
])]
#[case::no_port(&[], &[
    "git@gitlab.example:", "ssh://git@gitlab.example/", "ssh://git@gitlab.example:22/",
])]
#[case::other_port(&[("CI_SERVER_SHELL_SSH_PORT", "2222")], &["ssh://git@gitlab.example:2222/"])]
#[case::other_host(
    &[("CI_SERVER_SHELL_SSH_PORT", "2222"), ("CI_SERVER_SHELL_SSH_HOST", "ssh.example")],
    &["ssh://git@ssh.example:2222/"]
)]
fn stages_54_ssh_urls_of_submodules_become_https(
    #[case] variables: &[(&str, &str)],
    #[case] old: &[&str],
) {
    let mut job = job_with(variables);
    job.variables.push(variable("CI_SERVER_HOST", "gitlab.example"));
    job.variables.push(variable("CI_SERVER_URL", "https://gitlab.example"));
    assert!(sources(&planned(&job)).instead_of.is_empty());
    job.variables.push(variable("GIT_SUBMODULE_FORCE_HTTPS", "true"));
    let expected: Vec<_> =
        old.iter().map(|old| ("https://gitlab.example/".to_owned(), (*old).to_owned())).collect();
    assert_eq!(sources(&planned(&job)).instead_of, expected);
    // The runner's own idea of the address wins.
    let settings =
        PlanSettings { clone_url: Some("https://inside.example/x/".to_owned()), ..settings() };
    let plan = plan(&job, &settings, Transfers::default()).unwrap();
    assert!(sources(&plan).instead_of.iter().all(|(new, _)| new == "https://inside.example/x/"));
}

#[test]
fn stages_55_settings_of_submodules() {
    let mut job = job_with(&[("GIT_SUBMODULE_STRATEGY", "normal")]);
    let seen = |job: &Job| sources(&planned(job)).submodules.clone().unwrap();
    let mut expected = Submodules {
        nesting: Nesting::Normal,
        depth: 20,
        paths: Vec::new(),
        update_flags: Vec::new(),
    };
    assert_eq!(seen(&job), expected);
    for (key, value) in [
        ("GIT_SUBMODULE_STRATEGY", "recursive"),
        ("GIT_SUBMODULE_DEPTH", "1"),
        ("GIT_SUBMODULE_PATHS", "libs/a  :(exclude)libs/b"),
        ("GIT_SUBMODULE_UPDATE_FLAGS", "--remote --jobs 4"),
    ] {
        job.variables.push(variable(key, value));
    }
    expected.nesting = Nesting::Recursive;
    expected.depth = 1;
    expected.paths = vec!["libs/a".to_owned(), ":(exclude)libs/b".to_owned()];
    expected.update_flags = vec!["--remote".to_owned(), "--jobs".to_owned(), "4".to_owned()];
    assert_eq!(seen(&job), expected);
    job.variables.push(variable("GIT_SUBMODULE_DEPTH", "-3"));
    assert_eq!(seen(&job).depth, 0);
    job.variables.push(variable("GIT_SUBMODULE_DEPTH", "deep"));
    let plan = planned(&job);
    let warning = "GIT_SUBMODULE_DEPTH: expected int got \"deep\", using default value: 20";
    assert_eq!(warnings(&plan), [warning]);
}

#[test]
fn stages_55_settings_of_submodules_that_cannot_be_meant_fail_the_stage() {
    let plan = planned(&job_with(&[("GIT_SUBMODULE_STRATEGY", "deep")]));
    let warning = "GIT_SUBMODULE_STRATEGY: expected one of [none normal recursive] got \"deep\", \
                   using default value: none";
    assert_eq!(warnings(&plan), [warning]);
    assert_eq!(sources(&plan).refusal.as_deref(), Some("unknown GIT_SUBMODULE_STRATEGY"));
    let plan = planned(&job_with(&[
        ("GIT_SUBMODULE_STRATEGY", "normal"),
        ("GIT_SUBMODULE_PATHS", ":(exclude)"),
    ]));
    assert!(sources(&plan).refusal.as_deref().unwrap().contains("GIT_SUBMODULE_PATHS"));
    // Nobody uses the paths.
    let plan = planned(&job_with(&[("GIT_SUBMODULE_PATHS", ":(exclude)")]));
    assert_eq!(sources(&plan).refusal, None);
}

#[test]
fn stages_56_lfs_content_is_fetched_unless_the_job_says_otherwise() {
    assert!(sources(&planned(&job())).lfs);
    assert!(!sources(&planned(&job_with(&[("GIT_LFS_SKIP_SMUDGE", "true")]))).lfs);
}

#[test]
fn stages_59_native_clone_is_for_who_asks_for_it() {
    assert_eq!(
        sources(&planned(&job_with(&[("GIT_CLONE_EXTRA_FLAGS", "-c a=b")]))).native_clone,
        None
    );
    let job = job_with(&[
        ("FF_USE_GIT_NATIVE_CLONE", "true"),
        ("GIT_CLONE_EXTRA_FLAGS", "--filter=blob:none --sparse"),
    ]);
    let flags = sources(&planned(&job)).native_clone.clone().unwrap();
    assert_eq!(flags, ["--filter=blob:none", "--sparse"]);
}

#[test]
fn flags_steer_credentials_bundles_and_the_correlation_id() {
    let mut job = job();
    job.sources.as_mut().unwrap().correlation_id = Some("01ABC".to_owned());
    let plan = planned(&job);
    let seen = sources(&plan);
    assert_eq!(seen.correlation_id.as_deref(), Some("01ABC"));
    assert_eq!(
        (seen.bundle_uris, seen.proactive_login, seen.login_in_scripts),
        (true, false, false)
    );
    for (key, value) in [
        ("FF_USE_GITALY_CORRELATION_ID", "false"),
        ("FF_USE_GIT_BUNDLE_URIS", "false"),
        ("FF_USE_GIT_PROACTIVE_AUTH", "true"),
        ("FF_GIT_URLS_WITHOUT_TOKENS", "true"),
    ] {
        job.variables.push(variable(key, value));
    }
    let plan = planned(&job);
    let seen = sources(&plan);
    assert_eq!(seen.correlation_id, None);
    assert_eq!(
        (seen.bundle_uris, seen.proactive_login, seen.login_in_scripts),
        (false, true, true)
    );
}

#[test]
fn a_correlation_id_that_is_no_header_value_is_left_out() {
    let mut job = job();
    job.sources.as_mut().unwrap().correlation_id = Some("a\r\nAuthorization: x".to_owned());
    assert_eq!(sources(&planned(&job)).correlation_id, None);
}
