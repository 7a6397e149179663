//! Order, expansion, masks.

use super::*;
use crate::planner::PlanLookup;

fn keys(plan: &Plan) -> Vec<&str> {
    plan.variables
        .iter()
        .map(|variable| variable.key.as_str())
        .filter(|key| !key.starts_with("FF_"))
        .collect()
}

#[test]
fn stages_32_the_list_is_in_gitlab_runners_order() {
    let settings = PlanSettings {
        environment: vec!["FROM_CONFIG=a=b".into(), "no assignment".into()],
        tls_ca: Some("PEM".to_owned()),
        tls_client: Some(("CERTIFICATE".to_owned(), "KEY".into())),
        ..settings()
    };
    let plan = plan(&job(), &settings, Transfers::default()).unwrap();
    assert!(plan.variables[0].key.starts_with("FF_"));
    assert_eq!(
        keys(&plan),
        [
            "CI_JOB_IMAGE",
            "CI_RUNNER_SHORT_TOKEN",
            "FROM_CONFIG",
            "CI_BUILDS_DIR",
            "CI_PROJECT_DIR",
            "CI_CONCURRENT_ID",
            "CI_CONCURRENT_PROJECT_ID",
            "CI_SERVER",
            "CI_JOB_STATUS",
            "CI_JOB_TIMEOUT",
            "CI_SERVER_TLS_CA_FILE",
            "CI_SERVER_TLS_CERT_FILE",
            "CI_SERVER_TLS_KEY_FILE",
            "CI_PROJECT_PATH",
            "CI_DISPOSABLE_ENVIRONMENT",
            "CI_RUNNER_VERSION",
            "CI_RUNNER_REVISION",
            "CI_RUNNER_EXECUTABLE_ARCH",
            "RUNNER_TEMP_PROJECT_DIR",
        ]
    );
    assert_eq!(value(&plan, "FROM_CONFIG"), Some("a=b"));
    assert!(plan.variables.iter().filter(|v| v.key.starts_with("CI_SERVER_TLS_")).all(|v| v.file));
}

#[test]
fn stages_32_the_last_one_of_a_name_wins() {
    let settings = PlanSettings { environment: vec!["A=config".into()], ..settings() };
    let job = job_with(&[("A", "first"), ("A", "last"), ("B", "$A"), ("CI_RUNNER_VERSION", "9")]);
    let plan = plan(&job, &settings, Transfers::default()).unwrap();
    assert_eq!((value(&plan, "A"), value(&plan, "B")), (Some("last"), Some("last")));
    assert_eq!(value(&plan, "CI_RUNNER_VERSION"), Some("1.2.3"));
}

#[test]
fn stages_37_the_exported_flag_is_the_resolved_one_and_there_is_only_one() {
    let settings = PlanSettings {
        environment: vec!["FF_TIMESTAMPS=true".into()],
        feature_flags: vec![("FF_TIMESTAMPS".to_owned(), false)],
        ..settings()
    };
    let plan = plan(&job_with(&[("FF_TIMESTAMPS", "true")]), &settings, Transfers::default());
    let plan = plan.unwrap();
    let flag: Vec<_> = plan.variables.iter().filter(|v| v.key == "FF_TIMESTAMPS").collect();
    assert_eq!(flag.len(), 1);
    assert_eq!(flag[0].value.expose(), "false");
    assert!(!plan.log.timestamps);
}

#[test]
fn stages_33_one_pass_raw_stays_and_a_file_is_its_path() {
    let mut job = job_with(&[
        ("A", "1"),
        ("B", "$A"),
        ("C", "$B$FILE"),
        ("PATH_LIKE", "x"),
        ("PATH_LIKE", "$PATH_LIKE:y"),
        ("USES_RAW", "$RAW"),
        ("TAG", "12"),
    ]);
    job.variables.push(Variable { raw: true, ..variable("RAW", "$A") });
    job.variables.push(Variable { file: true, ..variable("FILE", "content of $A") });
    let plan = planned(&job);
    assert_eq!(value(&plan, "B"), Some("1"));
    assert_eq!(value(&plan, "C"), Some("$A/builds/group/widgets.tmp/FILE"));
    assert_eq!(value(&plan, "PATH_LIKE"), Some("$PATH_LIKE:y:y"));
    assert_eq!(value(&plan, "RAW"), Some("$A"));
    assert_eq!(value(&plan, "USES_RAW"), Some("$A"));
    assert_eq!(value(&plan, "FILE"), Some("content of 1"));
    assert_eq!(value(&plan, "CI_JOB_IMAGE"), Some("debian:12"));

    let lookup = PlanLookup::new(&plan);
    assert_eq!(lookup.expand("i:$TAG$FILE").unwrap(), "i:12/builds/group/widgets.tmp/FILE");
    assert_eq!(lookup.setting("FILE"), Some("content of 1"));
}

#[test]
fn references_that_blow_up_fail_the_job_and_not_the_manager() {
    let big = "x".repeat(1 << 20);
    let many = "$BIG".repeat(1000);
    let job = job_with(&[("BIG", &big), ("MANY", &many)]);
    let error = plan(&job, &settings(), Transfers::default()).unwrap_err();
    assert!(matches!(error, PlanError::TooLong(_)));
    // Each of them short of the limit, all together not.
    let many = "$BIG".repeat(50);
    let job = job_with(&[("BIG", &big), ("A", &many), ("B", &many), ("C", &many)]);
    assert!(plan(&job, &settings(), Transfers::default()).is_err());
}

#[test]
fn a_value_of_50_mb_is_no_problem() {
    let big = format!("{}'\n\"$$", "x".repeat(995)).repeat(50_000);
    let plan = planned(&job_with(&[("BIG", &big), ("A", "1")]));
    assert_eq!(value(&plan, "BIG").unwrap().len(), big.len() - 50_000);
}

#[test]
fn a_name_that_no_shell_takes_is_left_out_with_a_warning() {
    let mut job = job_with(&[("a-b", "x"), ("OK", "y")]);
    job.variables.push(Variable { file: true, ..variable("../../etc/cron.d/x", "z") });
    let plan = planned(&job);
    assert_eq!(
        warnings(&plan),
        [
            "\"a-b\": not a name that a shell can export, the variable is left out",
            "\"../../etc/cron.d/x\": not a name that a shell can export, the variable is left out",
        ]
    );
    assert_eq!((value(&plan, "a-b"), value(&plan, "OK")), (None, Some("y")));
}

#[test]
fn stages_28_masks_are_expanded_trimmed_and_each_there_once() {
    let mut job = job_with(&[("A", "inner")]);
    let masked = |key: &str, text: &str| Variable { masked: true, ..variable(key, text) };
    job.variables.extend([
        masked("M1", "  se$A\n"),
        masked("M2", "seinner"),
        masked("M3", " \t"),
        Variable { raw: true, ..masked("M4", "$A") },
        Variable { file: true, ..masked("M5", "line 1\nline 2\n") },
    ]);
    let plan = planned(&job);
    let masks: Vec<_> = plan.log.masks.iter().map(|mask| mask.expose()).collect();
    assert_eq!(masks, ["seinner", "$A", "line 1\nline 2", "job-token-1"]);
}

#[test]
fn stages_29_all_token_prefixes_are_there_however_many() {
    let mut job = job();
    job.features.token_mask_prefixes = (0..40).map(|n| format!("custom{n}-")).collect();
    job.features.token_mask_prefixes.push("glpat-".to_owned());
    job.features.token_mask_prefixes.push(String::new());
    assert_eq!(planned(&job).log.token_prefixes.len(), 14 + 40);
    job.variables.push(variable("FF_MASK_ALL_DEFAULT_TOKENS", "false"));
    job.features.token_mask_prefixes.clear();
    assert_eq!(planned(&job).log.token_prefixes, ["glpat-"]);
}

#[test]
fn stages_35_a_containers_environment_holds_public_and_internal_variables_only() {
    let mut job = job_with(&[("PRIVATE", "p"), ("TWICE", "1")]);
    job.variables.push(public("SHOWN", "$PRIVATE"));
    job.variables.push(public("TWICE", "2"));
    job.variables.push(Variable { file: true, ..public("FILE", "content") });
    let settings = PlanSettings {
        environment: vec!["INTERNAL=i".into()],
        tls_client: Some(("CERTIFICATE".to_owned(), "KEY".into())),
        ..settings()
    };
    let plan = plan(&job, &settings, Transfers::default()).unwrap();
    let environment = PlanLookup::new(&plan).container_environment(&job.variables);
    let get = |name: &str| {
        let found: Vec<_> = environment.iter().filter(|(key, _)| *key == name).collect();
        assert!(found.len() < 2, "{name} is there twice");
        found.first().map(|(_, value)| value.as_ref())
    };
    assert_eq!((get("PRIVATE"), get("CI_SERVER_TLS_KEY_FILE")), (None, None));
    assert_eq!((get("SHOWN"), get("INTERNAL"), get("TWICE")), (Some("p"), Some("i"), Some("2")));
    assert_eq!(get("FILE"), Some("/builds/group/widgets.tmp/FILE"));
    assert_eq!(
        get("CI_SERVER_TLS_CERT_FILE").unwrap(),
        "/builds/group/widgets.tmp/CI_SERVER_TLS_CERT_FILE"
    );
}
