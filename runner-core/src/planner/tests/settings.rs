//! Header, warnings, directories, limits.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::outcome::InfraKind;

#[test]
fn stages_04_the_header_names_program_runner_and_changed_flags_in_order() {
    let job = job_with(&[("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", "1"), ("GIT_CHECKOUT", "maybe")]);
    let settings = PlanSettings {
        feature_flags: vec![
            ("FF_TIMESTAMPS".to_owned(), false),
            ("FF_USE_FASTZIP".to_owned(), true),
        ],
        executor_lines: vec!["Using Kubernetes namespace: ci".to_owned()],
        ..settings()
    };
    let plan = plan(&job, &settings, Transfers::default()).unwrap();
    let lines: Vec<_> = plan.header.iter().map(|l| (l.level, l.text.as_str())).collect();
    assert_eq!(
        lines,
        [
            (LineLevel::Plain, "Running with podwright 1.2.3 (abcdef12)"),
            (LineLevel::Plain, "  on blue t0k3n, system ID: s_0123456789ab"),
            (
                LineLevel::Plain,
                "  feature flags: FF_CLEAN_UP_FAILED_CACHE_EXTRACT:true, FF_TIMESTAMPS:false"
            ),
            (
                LineLevel::Warning,
                "GIT_CHECKOUT: expected bool got \"maybe\", using default value: true"
            ),
            (LineLevel::Plain, "Using Kubernetes namespace: ci"),
        ]
    );
    assert!(!plan.log.timestamps);

    let nameless = PlanSettings { short_token: String::new(), ..super::settings() };
    let plan = super::plan(&super::job(), &nameless, Transfers::default()).unwrap();
    assert_eq!(plan.header.len(), 1);
}

#[test]
fn stages_02_the_executor_has_a_section_with_its_heading_and_the_expanded_image() {
    let settings = PlanSettings {
        executor: "kubernetes".to_owned(),
        default_image: "alpine".to_owned(),
        executor_lines: vec!["Using Kubernetes executor with image {image} ...".to_owned()],
        ..settings()
    };
    let tail = |job: &Job| {
        let plan = plan(job, &settings, Transfers::default()).unwrap();
        let lines: Vec<_> = plan.header.iter().map(|l| (l.level, l.text.clone())).collect();
        lines[2..].to_vec()
    };
    let expected = |image: &str| {
        [
            (LineLevel::SectionStart, "prepare_executor".to_owned()),
            (LineLevel::Heading, "Preparing the \"kubernetes\" executor".to_owned()),
            (LineLevel::Plain, format!("Using Kubernetes executor with image {image} ...")),
            (LineLevel::SectionEnd, "prepare_executor".to_owned()),
        ]
    };
    let mut job = job_with(&[("TAG", "v2")]);
    job.image = Some(crate::job::Image { name: "debian:$TAG".into(), ..Default::default() });
    assert_eq!(tail(&job), expected("debian:v2"));
    job.image = None;
    assert_eq!(tail(&job), expected("alpine"));
}

#[rstest]
#[case("", 300, None)]
#[case("  ", 300, None)]
#[case("90s", 90, None)]
#[case("0", 300, None)]
#[case("-1m", 300, Some("Ignoring relative RUNNER_AFTER_SCRIPT_TIMEOUT timeout: -1m"))]
#[case("soon", 300, Some("Ignoring malformed RUNNER_AFTER_SCRIPT_TIMEOUT timeout: soon"))]
#[case("30", 300, Some("Ignoring malformed RUNNER_AFTER_SCRIPT_TIMEOUT timeout: 30"))]
#[case("1h", 3600, None)]
#[case(
    "61m",
    300,
    Some(
        "RUNNER_AFTER_SCRIPT_TIMEOUT timeout: 61m is longer than job timeout. Setting to job timeout"
    )
)]
fn stages_18_the_after_script_timeout(
    #[case] raw: &str,
    #[case] seconds: u64,
    #[case] warning: Option<&str>,
) {
    let mut job = job_with(&[("RUNNER_AFTER_SCRIPT_TIMEOUT", raw)]);
    job.steps.push(step("after_script", &["x"]));
    let plan = planned(&job);
    let timeout = stage(&plan, "after_script").timeout.unwrap();
    assert_eq!((timeout.limit, timeout.shared), (Duration::from_secs(seconds), None));
    assert_eq!(warnings(&plan), Vec::from_iter(warning));
}

#[rstest]
#[case("0", 1, Some("number of attempts out of the range [1, 10], clamping to: 1"))]
#[case("11", 10, Some("number of attempts out of the range [1, 10], clamping to: 10"))]
#[case("-99999999999", 1, Some("number of attempts out of the range [1, 10], clamping to: 1"))]
#[case("x", 1, Some("expected int got \"x\", using default value: 1"))]
#[case("10", 10, None)]
fn stages_22_attempts_outside_one_to_ten_are_clamped(
    #[case] raw: &str,
    #[case] attempts: u32,
    #[case] warning: Option<&str>,
) {
    let plan = planned(&job_with(&[("GET_SOURCES_ATTEMPTS", raw)]));
    assert_eq!(stage(&plan, "get_sources").attempts, attempts);
    let expected = warning.map(|text| format!("GET_SOURCES_ATTEMPTS: {text}"));
    assert_eq!(warnings(&plan), Vec::from_iter(expected.as_deref()));
    // A slip in a setting that has no effect here is named too.
    let plan = planned(&job_with(&[("EXECUTOR_JOB_SECTION_ATTEMPTS", raw)]));
    assert_eq!(warnings(&plan).len(), usize::from(warning.is_some()));
}

#[test]
fn what_a_job_asks_for_and_does_not_get_is_said() {
    let plan = planned(&job_with(&[("GIT_STRATEGY", "rebase"), ("FF_CONCRETE", "true")]));
    assert_eq!(
        warnings(&plan),
        [
            "FF_CONCRETE is on, without effect on this runner: stages run in the agent; `run:` works without it where the image has `step-runner`",
            "GIT_STRATEGY: expected one of [clone fetch none empty] got \"rebase\", using default value: fetch",
        ]
    );
}

#[test]
fn stages_41_the_runner_may_forbid_the_debug_trace() {
    let job = job_with(&[("CI_DEBUG_TRACE", "true")]);
    assert!(script(&planned(&job), "step_script").xtrace);
    let settings = PlanSettings { debug_trace_disabled: true, ..settings() };
    let plan = plan(&job, &settings, Transfers::default()).unwrap();
    assert!(!script(&plan, "step_script").xtrace);
    assert_eq!(warnings(&plan), ["CI_DEBUG_TRACE: usage is disabled on this Runner"]);
    assert!(!script(&planned(&super::job()), "step_script").xtrace);
}

#[test]
fn stages_38_directories_follow_from_the_url_and_the_settings() {
    let with = |variables: &[(&str, &str)], settings: PlanSettings| {
        let plan = plan(&job_with(variables), &settings, Transfers::default()).unwrap();
        let directories = &plan.directories;
        assert_eq!(value(&plan, "CI_PROJECT_DIR"), Some(directories.project.as_str()));
        assert_eq!(value(&plan, "CI_BUILDS_DIR"), Some(settings.builds_dir.as_str()));
        assert_eq!(value(&plan, "RUNNER_TEMP_PROJECT_DIR"), Some(directories.temp.as_str()));
        assert_eq!(directories.temp, format!("{}.tmp", directories.project));
        (directories.project.clone(), directories.cache.clone())
    };
    let pair = |project: &str, cache: &str| (project.to_owned(), cache.to_owned());
    assert_eq!(with(&[], settings()), pair("/builds/group/widgets", "/cache/group/widgets"));
    assert_eq!(
        with(&[("GIT_STRATEGY", "empty")], settings()),
        pair("/builds/group/widgets-empty", "/cache/group/widgets-empty")
    );
    let shared = PlanSettings {
        builds_shared: true,
        project_slot: 3,
        builds_dir: "/data/b".to_owned(),
        ..settings()
    };
    assert_eq!(with(&[], shared), pair("/data/b/t0k3n/3/group/widgets", "/cache/group/widgets"));
    assert_eq!(
        with(&[("GIT_CLONE_PATH", "$CI_BUILDS_DIR/x/${CI_CONCURRENT_ID}/../y")], settings()),
        pair("/builds/x/y", "/cache/group/widgets")
    );
    let mut odd = job();
    odd.sources.as_mut().unwrap().url = "https://h/a/../../etc".into();
    assert_eq!(planned(&odd).directories.project, "/builds/project-7");
}

#[rstest]
#[case("/elsewhere/x")]
#[case("/builds/../etc")]
#[case("/buildsx/y")]
#[case("/builds")]
#[case("relative")]
fn stages_39_a_clone_path_outside_the_builds_root_is_refused(#[case] path: &str) {
    let job = job_with(&[("GIT_CLONE_PATH", path)]);
    let error = plan(&job, &settings(), Transfers::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("the GIT_CLONE_PATH={path:?} is not within \"/builds\""));
    assert_eq!(error.infra().kind, InfraKind::Configuration);

    let forbidding = PlanSettings { custom_build_dir: false, ..settings() };
    let error = plan(&job, &forbidding, Transfers::default()).unwrap_err();
    assert_eq!(error, PlanError::ClonePathForbidden);
}

#[test]
fn a_job_without_a_timeout_gets_gitlabs_default() {
    let plan = planned(&Job { timeout: Duration::ZERO, ..job() });
    assert_eq!(plan.timeout, Duration::from_secs(7200));
    assert_eq!(value(&plan, "CI_JOB_TIMEOUT"), Some("7200"));
}

proptest! {
    #[test]
    fn whatever_the_variables_say_there_is_a_plan_or_an_error_and_paths_stay_inside(
        variables in prop::collection::vec(
            ("(GIT_[A-Z_]{1,12}|GIT_CLONE_PATH|GIT_STRATEGY|FF_TIMESTAMPS|A|B|[^a]{0,4})", "([$/.{}A-B0-9a-z -]{0,20}|.{0,10})", any::<[bool; 3]>()),
            0..8,
        ),
        url in "(https://h/)?[a-z./%2e$-]{0,20}",
    ) {
        let mut job = job();
        job.sources.as_mut().unwrap().url = url.into();
        for (key, value, [file, raw, masked]) in &variables {
            job.variables.push(Variable { file: *file, raw: *raw, masked: *masked, ..variable(key, value) });
        }
        if let Ok(plan) = plan(&job, &settings(), Transfers::default()) {
            prop_assert!(plan.directories.project.starts_with("/builds/"));
            prop_assert!(!plan.directories.project.contains(".."));
            prop_assert!(plan.header.iter().all(|line| !line.text.contains(['\n', '\r'])));
            prop_assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan);
        }
    }
}
