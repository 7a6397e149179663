//! Which stages there are, and what is in them.

use std::time::Duration;

use super::*;
use crate::plan::{GitStrategy, OnFailure, Place, StageTimeout, When};

/// A job with all that a plan can hold, and its transfers.
fn full() -> (Job, Transfers) {
    let mut job = job();
    job.steps = vec![
        step("script", &["echo one\necho two", "make"]),
        step("release", &["release-cli --tag \"$TAG\""]),
        step("after_script", &["rm -rf scratch"]),
    ];
    job.variables.extend([
        public("TAG", "v1"),
        Variable { masked: true, ..variable("CI_JOB_TOKEN", "job-token-1") },
        Variable { masked: true, file: true, ..variable("KEY", " s3cr3t\n") },
    ]);
    let artifact = |when, kind: &str| Artifact {
        paths: vec![format!("{kind}/**")],
        when,
        kind: kind.to_owned(),
        ..Artifact::default()
    };
    job.artifacts = vec![
        artifact(ArtifactWhen::OnSuccess, "archive"),
        artifact(ArtifactWhen::OnFailure, "core"),
        Artifact { format: ArtifactFormat::Gzip, ..artifact(ArtifactWhen::Always, "junit") },
    ];
    let dependency = |id, filename: &str| Dependency {
        id: JobId(id),
        name: "build".to_owned(),
        token: "dependency-token".into(),
        filename: filename.to_owned(),
        size: 99,
    };
    job.dependencies = vec![dependency(40, ""), dependency(41, "artifacts.zip")];
    let transfers = Transfers {
        downloads: vec![transfer("https://gitlab.example/41")],
        uploads: vec![
            Some(transfer("https://gitlab.example/a")),
            Some(transfer("https://gitlab.example/b")),
            Some(transfer("https://gitlab.example/c")),
        ],
        ..Transfers::default()
    };
    (job, transfers)
}

#[test]
fn stages_01_the_order_of_a_job_with_everything() {
    let (job, transfers) = full();
    let plan = plan(&job, &settings(), transfers).unwrap();
    let seen: Vec<_> = plan
        .stages
        .iter()
        .map(|s| (s.name.as_str(), s.title.as_deref().unwrap(), s.place, s.when))
        .collect();
    assert_eq!(
        seen,
        [
            ("prepare_script", "Preparing environment", Place::Helper, When::Success),
            ("get_sources", "Getting source from Git repository", Place::Helper, When::Success),
            ("download_artifacts", "Downloading artifacts", Place::Helper, When::Success),
            (
                "step_script",
                "Executing \"step_script\" stage of the job script",
                Place::Build,
                When::Success
            ),
            (
                "step_release",
                "Executing \"step_release\" stage of the job script",
                Place::Build,
                When::Success
            ),
            ("after_script", "Running after_script", Place::Build, When::AfterScript),
            (
                "upload_artifacts_on_failure",
                "Uploading artifacts for failed job",
                Place::Helper,
                When::Failure
            ),
            (
                "upload_artifacts_on_success",
                "Uploading artifacts for successful job",
                Place::Helper,
                When::Success
            ),
            (
                "cleanup_file_variables",
                "Cleaning up project directory and file based variables",
                Place::Helper,
                When::Always
            ),
        ]
    );
}

#[test]
fn a_whole_plan_is_as_written_down() {
    let (job, transfers) = full();
    let plan = plan(&job, &settings(), transfers).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&plan.to_json()).unwrap();
    let golden = include_str!("plan.json");
    if std::env::var_os("PODWRIGHT_WRITE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/planner/tests/plan.json");
        std::fs::write(path, format!("{json:#}\n")).unwrap();
        return;
    }
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    assert_eq!(
        format!("{json:#}"),
        format!("{golden:#}"),
        "when the change is wanted, run again with PODWRIGHT_WRITE_GOLDEN=1"
    );
    assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan);
}

#[test]
fn stages_03_what_has_nothing_to_do_is_not_there() {
    assert_eq!(
        names(&planned(&job())),
        ["prepare_script", "get_sources", "step_script", "cleanup_file_variables"]
    );
    let mut bare = job();
    bare.sources = None;
    bare.steps = vec![step("script", &[]), step("after_script", &[])];
    bare.artifacts = vec![Artifact { name: Some("empty".to_owned()), ..Artifact::default() }];
    let transfers = Transfers { uploads: vec![Some(transfer("u"))], ..Transfers::default() };
    let plan = plan(&bare, &settings(), transfers).unwrap();
    assert_eq!(names(&plan), ["prepare_script", "cleanup_file_variables"]);
    // The project directory has a name all the same.
    assert_eq!(plan.directories.project, "/builds/group/widgets");
}

#[test]
fn stages_92_artifacts_go_into_the_variants_their_when_asks_for() {
    let (job, transfers) = full();
    let plan = plan(&job, &settings(), transfers).unwrap();
    let kinds = |name| match &stage(&plan, name).operation {
        Operation::UploadArtifacts { archives } => {
            archives.iter().map(|archive| archive.kind.clone()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(kinds("upload_artifacts_on_success"), ["archive", "junit"]);
    assert_eq!(kinds("upload_artifacts_on_failure"), ["core", "junit"]);
}

#[test]
fn stages_91_a_failed_upload_cannot_start_the_variant_for_failures() {
    let (job, transfers) = full();
    let plan = plan(&job, &settings(), transfers).unwrap();
    let at = |name| names(&plan).iter().position(|found| *found == name).unwrap();
    assert!(at("upload_artifacts_on_failure") < at("upload_artifacts_on_success"));
    assert_eq!(stage(&plan, "upload_artifacts_on_success").on_failure, OnFailure::FailsJob);
}

#[test]
fn stages_87_an_archive_without_a_name_gets_one_by_its_format() {
    let (mut job, transfers) = full();
    job.artifacts[0].name = Some("$CI_JOB_NAME ${A:-b}".to_owned());
    let plan = plan(&job, &settings(), transfers).unwrap();
    let Operation::UploadArtifacts { archives } =
        &stage(&plan, "upload_artifacts_on_success").operation
    else {
        panic!()
    };
    // Where there is a name, the agent expands it.
    assert_eq!(archives[0].name, "$CI_JOB_NAME ${A:-b}");
    assert_eq!(archives[1].name, "default");
}

#[test]
fn an_archive_that_the_store_does_not_take_is_left_out() {
    let (job, mut transfers) = full();
    transfers.uploads[1] = None;
    transfers.uploads[2] = None;
    let plan = plan(&job, &settings(), transfers).unwrap();
    assert!(!names(&plan).contains(&"upload_artifacts_on_failure"));
}

#[test]
fn transfers_that_do_not_fit_the_job_are_an_error_and_not_a_mix_up() {
    let (job, mut transfers) = full();
    transfers.uploads.pop();
    let error = plan(&job, &settings(), transfers).unwrap_err();
    assert_eq!(error, PlanError::Transfers { expected: 3, found: 2 });
    assert_eq!(error.infra().kind, crate::outcome::InfraKind::System);
    let (job, _) = full();
    let error = plan(&job, &settings(), Transfers::default()).unwrap_err();
    assert_eq!(error, PlanError::Transfers { expected: 1, found: 0 });
}

#[test]
fn stages_63_pre_and_post_build_script_wrap_user_steps_and_not_after_script() {
    let (job, transfers) = full();
    let settings = PlanSettings {
        pre_build_script: Some("pre".to_owned()),
        post_build_script: Some("post".to_owned()),
        ..settings()
    };
    let plan = plan(&job, &settings, transfers).unwrap();
    assert_eq!(
        script(&plan, "step_script").commands,
        ["pre", "echo one\necho two", "make", "post"]
    );
    assert_eq!(script(&plan, "step_release").commands.len(), 3);
    assert_eq!(script(&plan, "after_script").commands, ["rm -rf scratch"]);
}

#[test]
fn stages_119_only_a_release_step_is_expanded() {
    let (job, transfers) = full();
    let plan = plan(&job, &settings(), transfers).unwrap();
    assert_eq!(script(&plan, "step_release").commands, ["release-cli --tag \"v1\""]);
    let plan = planned(&Job { steps: vec![step("script", &["echo $TAG"])], ..super::job() });
    assert_eq!(script(&plan, "step_script").commands, ["echo $TAG"]);
}

#[test]
fn a_step_name_cannot_end_its_section_marker() {
    let plan = planned(&Job { steps: vec![step("A b\r\x1b[0K:c", &["x"])], ..job() });
    assert_eq!(names(&plan)[2], "step_a_b___0k_c");
}

#[test]
fn stages_19_after_script_warns_unless_told_to_fail_the_job() {
    let with = |variables: &[(&str, &str)]| {
        let mut job = job_with(variables);
        job.steps.push(step("after_script", &["x"]));
        stage(&planned(&job), "after_script").on_failure
    };
    assert_eq!(with(&[]), OnFailure::Warns);
    assert_eq!(with(&[("AFTER_SCRIPT_IGNORE_ERRORS", "true")]), OnFailure::Warns);
    assert_eq!(with(&[("AFTER_SCRIPT_IGNORE_ERRORS", "false")]), OnFailure::FailsJob);
}

#[test]
fn stages_17_all_user_steps_share_the_script_timeout() {
    let mut job = job_with(&[("RUNNER_SCRIPT_TIMEOUT", "2s")]);
    job.steps.push(step("release", &["x"]));
    let plan = planned(&job);
    let shared = Some(StageTimeout { limit: Duration::from_secs(2), shared: Some(0) });
    assert_eq!(stage(&plan, "step_script").timeout, shared);
    assert_eq!(stage(&plan, "step_release").timeout, shared);
    assert_eq!(stage(&planned(&super::job()), "step_script").timeout, None);
}

#[test]
fn stages_20_limits_of_the_configuration_apply_when_they_are_shorter_than_the_job() {
    let with = |limit| {
        let limit = Some(Duration::from_secs(limit));
        let settings =
            PlanSettings { prepare_timeout: limit, get_sources_timeout: limit, ..settings() };
        let plan = plan(&job(), &settings, Transfers::default()).unwrap();
        let [prepare, sources] =
            ["prepare_script", "get_sources"].map(|name| stage(&plan, name).timeout);
        assert_eq!(prepare, sources);
        prepare.map(|timeout| timeout.limit.as_secs())
    };
    assert_eq!((with(30), with(3600), with(0), with(3601)), (Some(30), Some(3600), None, None));
}

#[test]
fn stages_21_attempts_are_those_of_the_job() {
    let mut job = job_with(&[("GET_SOURCES_ATTEMPTS", "3"), ("ARTIFACT_DOWNLOAD_ATTEMPTS", "2")]);
    let (full, transfers) = full();
    job.dependencies = full.dependencies;
    let transfers = Transfers { uploads: Vec::new(), ..transfers };
    let plan = plan(&job, &settings(), transfers).unwrap();
    assert_eq!(stage(&plan, "get_sources").attempts, 3);
    assert_eq!(stage(&plan, "download_artifacts").attempts, 2);
    assert_eq!(stage(&plan, "step_script").attempts, 1);
}

#[test]
fn stages_45_the_strategy_is_the_jobs_or_what_the_source_allows() {
    let with = |variables: &[(&str, &str)]| {
        let plan = planned(&job_with(variables));
        (sources(&plan).strategy, sources(&plan).checkout)
    };
    assert_eq!(with(&[]), (GitStrategy::Fetch, true));
    assert_eq!(with(&[("GIT_STRATEGY", "clone")]), (GitStrategy::Clone, true));
    assert_eq!(with(&[("GIT_STRATEGY", "none")]), (GitStrategy::None, false));
    assert_eq!(with(&[("GIT_STRATEGY", "empty")]), (GitStrategy::Empty, false));
    assert_eq!(with(&[("GIT_STRATEGY", "Fetch")]), (GitStrategy::Fetch, true));
    let mut fresh = job();
    fresh.sources.as_mut().unwrap().allow_fetch = false;
    assert_eq!(sources(&planned(&fresh)).strategy, GitStrategy::Clone);
}

#[test]
fn stages_46_47_48_git_arguments_are_words_and_none_means_none() {
    let with = |variables: &[(&str, &str)]| {
        let plan = planned(&job_with(variables));
        let sources = sources(&plan);
        (sources.checkout, sources.clean_flags.join("|"), sources.fetch_flags.join("|"))
    };
    assert_eq!(with(&[]), (true, "-ffdx".to_owned(), "--prune|--quiet".to_owned()));
    assert_eq!(
        with(&[
            ("GIT_CHECKOUT", "false"),
            ("GIT_CLEAN_FLAGS", " -ffdx  -e cache/ "),
            ("GIT_FETCH_EXTRA_FLAGS", "none"),
        ]),
        (false, "-ffdx|-e|cache/".to_owned(), String::new())
    );
    assert_eq!(with(&[("GIT_CLEAN_FLAGS", "none")]).1, "");
}

#[test]
fn stages_50_git_gets_the_credentials_apart_from_the_url_and_they_are_masked() {
    let plan = planned(&job());
    assert_eq!(sources(&plan).url, "https://gitlab.example/group/widgets.git");
    let login = sources(&plan).login.as_ref().unwrap();
    assert_eq!(
        (login.username.as_str(), login.password.expose()),
        ("gitlab-ci-token", "job-token-1")
    );
    assert!(plan.log.masks.contains(&"job-token-1".into()));
}

#[test]
fn stages_53_clone_url_takes_the_place_of_the_url_and_keeps_its_own_path() {
    let with = |clone_url: &str, job: &Job| {
        let settings = PlanSettings { clone_url: Some(clone_url.to_owned()), ..settings() };
        let plan = plan(job, &settings, Transfers::default()).unwrap();
        let login = sources(&plan).login.clone();
        (sources(&plan).url.clone(), login.map(|login| login.password.expose().to_owned()))
    };
    let token = |token: &str| Some(token.to_owned());
    let job = job_with(&[("CI_JOB_TOKEN", "from-variable")]);
    assert_eq!(
        with("http://u:p@git.local:81/sub/", &job),
        ("http://git.local:81/sub/group/widgets.git".to_owned(), token("from-variable"))
    );
    assert_eq!(
        with("https://git.local", &super::job()),
        ("https://git.local/group/widgets.git".to_owned(), token("job-token-1"))
    );
    assert_eq!(
        with("ssh://git.local", &job),
        ("ssh://git@git.local/group/widgets.git".to_owned(), None)
    );
}
