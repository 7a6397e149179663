//! Caches: keys, policies, when, fallbacks.

use rstest::rstest;

use super::{job_with, settings};
use crate::cache::{CacheScope, Uploads};
use crate::job::{ArtifactWhen, Cache, Job};
use crate::plan::{ArchiveCache, OnFailure, Operation, Plan, RestoreCache, When};
use crate::planner::{PlanError, PlanSettings, Transfers, plan};

fn cache(key: &str) -> Cache {
    Cache { key: key.to_owned(), paths: vec!["vendor".to_owned()], ..Cache::default() }
}

fn with(caches: Vec<Cache>, variables: &[(&str, &str)]) -> Job {
    Job { caches, ..job_with(variables) }
}

fn try_plan(job: &Job, flags: &[&str]) -> Result<Plan, PlanError> {
    let feature_flags = flags.iter().map(|flag| ((*flag).to_owned(), true)).collect();
    let scope =
        CacheScope { prefix: "project/7".to_owned(), grant: "g".into(), uploads: Uploads::Whole };
    let transfers = Transfers { cache: Some(scope), ..Transfers::default() };
    plan(job, &PlanSettings { feature_flags, ..settings() }, transfers)
}

fn restores(plan: &Plan) -> Vec<RestoreCache> {
    let stage = plan.stages.iter().find(|stage| stage.name == "restore_cache");
    match stage.map(|stage| &stage.operation) {
        Some(Operation::RestoreCaches(stage)) => stage.caches.clone(),
        _ => Vec::new(),
    }
}

fn archives(plan: &Plan, name: &str) -> Vec<ArchiveCache> {
    match plan.stages.iter().find(|stage| stage.name == name).map(|stage| &stage.operation) {
        Some(Operation::ArchiveCaches(stage)) => stage.caches.clone(),
        _ => Vec::new(),
    }
}

fn objects(restore: &RestoreCache) -> Vec<&str> {
    restore.keys.iter().map(|key| key.object.as_str()).collect()
}

fn notices(lines: &[crate::plan::HeaderLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn stages_3_without_paths_there_is_no_stage() {
    let empty = Cache { key: "k".to_owned(), ..Cache::default() };
    let plan = try_plan(&with(vec![empty], &[]), &[]).unwrap();
    assert!(!plan.stages.iter().any(|stage| stage.name.contains("cache")));
}

#[test]
fn stages_1_caches_are_restored_after_the_sources_and_saved_before_the_artifacts() {
    let plan = try_plan(&with(vec![cache("k")], &[]), &[]).unwrap();
    let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let expected = [
        "prepare_script",
        "get_sources",
        "restore_cache",
        "step_script",
        "archive_cache",
        "cleanup_file_variables",
    ];
    assert_eq!(names, expected);
    let stage = &plan.stages[4];
    assert_eq!((stage.when, stage.on_failure), (When::Success, OnFailure::Ignored));
}

#[rstest]
#[case("", ArtifactWhen::OnSuccess, 1, 0)]
#[case("", ArtifactWhen::OnFailure, 0, 1)]
#[case("", ArtifactWhen::Always, 1, 1)]
fn stages_68_when_decides_which_variant_saves(
    #[case] policy: &str,
    #[case] when: ArtifactWhen,
    #[case] success: usize,
    #[case] failure: usize,
) {
    let cache = Cache { when, policy: policy.to_owned(), ..cache("k") };
    let plan = try_plan(&with(vec![cache], &[]), &[]).unwrap();
    assert_eq!(archives(&plan, "archive_cache").len(), success);
    assert_eq!(archives(&plan, "archive_cache_on_failure").len(), failure);
}

#[rstest]
#[case("pull-push", true, true)]
#[case("", true, true)]
#[case("pull", true, false)]
#[case("push", false, true)]
#[case("$POLICY", true, false)]
fn stages_67_118_policies(#[case] policy: &str, #[case] pulls: bool, #[case] pushes: bool) {
    let cache = Cache { policy: policy.to_owned(), ..cache("k") };
    let plan = try_plan(&with(vec![cache], &[("POLICY", "pull")]), &[]).unwrap();
    let restore = restores(&plan).remove(0);
    assert_eq!(!restore.keys.is_empty(), pulls);
    if !pulls {
        assert_eq!(notices(&restore.notices), ["Not downloading cache k due to policy"]);
    }
    let archive = archives(&plan, "archive_cache").remove(0);
    assert_eq!(archive.key.is_some(), pushes);
    if !pushes {
        assert_eq!(notices(&archive.notices), ["Not uploading cache k due to policy"]);
    }
}

#[test]
fn stages_67_an_unknown_policy_fails_the_job() {
    let cache = Cache { policy: "sometimes".to_owned(), ..cache("k") };
    let error = try_plan(&with(vec![cache], &[]), &[]).unwrap_err();
    assert_eq!(error.to_string(), "unknown cache policy sometimes for k");
    assert_eq!(error.infra().kind, crate::outcome::InfraKind::System);
}

#[test]
fn stages_64_a_cache_without_a_key_belongs_to_job_and_ref() {
    let plan = try_plan(&with(vec![cache("")], &[]), &[]).unwrap();
    assert_eq!(objects(&restores(&plan)[0]), ["test/main"]);
    let mut nameless = with(vec![cache("")], &[]);
    nameless.name = "..".to_owned();
    nameless.project.reference = ".".to_owned();
    let plan = try_plan(&nameless, &[]).unwrap();
    let skipped = "Skipping cache extraction due to empty cache key";
    assert_eq!(notices(&restores(&plan)[0].notices), [skipped]);
    let skipped = "Skipping cache archiving due to empty cache key";
    assert_eq!(notices(&archives(&plan, "archive_cache")[0].notices), [skipped]);
}

#[test]
fn stages_64_a_key_that_had_to_be_changed_is_said() {
    let plan = try_plan(&with(vec![cache("../$A"), cache("..")], &[("A", "x")]), &[]).unwrap();
    let restores = restores(&plan);
    assert_eq!(notices(&restores[0].notices), [r#"cache key "../x" sanitized to "x""#]);
    assert_eq!(
        notices(&restores[1].notices),
        [
            r#"cache key ".." could not be sanitized"#,
            "Skipping cache extraction due to empty cache key"
        ]
    );
}

#[test]
fn stages_65_hashed_keys_find_the_plain_ones_and_the_other_way_round() {
    let plan = try_plan(&with(vec![cache("foo")], &[]), &["FF_HASH_CACHE_KEYS"]).unwrap();
    let key = &restores(&plan)[0].keys[0];
    let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    assert_eq!(key.object, format!("2c/{digest}"));
    assert_eq!((key.alternate.as_str(), key.local.as_str()), ("foo", digest));
    assert_eq!(key.human, "foo");
}

#[test]
fn stages_69_fallbacks_come_in_order_and_the_jobs_own_last() {
    let cache = Cache {
        fallback_keys: vec!["$B-fallback".to_owned(), "$UNSET".to_owned(), "c".to_owned()],
        ..cache("a")
    };
    let variables = [("B", "b"), ("CACHE_FALLBACK_KEY", "global")];
    let plan = try_plan(&with(vec![cache], &variables), &[]).unwrap();
    assert_eq!(objects(&restores(&plan)[0]), ["a", "b-fallback", "c", "global"]);
}

#[rstest]
#[case("main-protected")]
#[case("main-protected. .")]
#[case("main-protected/")]
#[case("x\\..\\main-protected")]
fn stages_69_the_jobs_own_fallback_names_no_protected_cache(#[case] key: &str) {
    let job = with(vec![cache("a")], &[("CACHE_FALLBACK_KEY", key)]);
    let plan = try_plan(&job, &[]).unwrap();
    let restore = restores(&plan).remove(0);
    assert_eq!(objects(&restore), ["a"]);
    let warning = restore.notices.iter().find(|line| line.text.contains("not allowed"));
    assert!(warning.unwrap().text.ends_with("not allowed to end in \"-protected\""));
    // In the list of fallbacks, which the source has checked, it may stand.
    let listed = Cache { fallback_keys: vec!["main-protected".to_owned()], ..cache("a") };
    let plan = try_plan(&with(vec![listed], &[]), &[]).unwrap();
    assert_eq!(objects(&restores(&plan)[0]), ["a", "main-protected"]);
}

#[test]
fn the_time_for_one_cache_is_the_jobs_choice() {
    for (value, seconds) in [("3", 180), ("", 600), ("x", 600), ("0", 600)] {
        let job = with(vec![cache("a")], &[("CACHE_REQUEST_TIMEOUT", value)]);
        let plan = try_plan(&job, &[]).unwrap();
        let Operation::RestoreCaches(stage) = &plan.stages[2].operation else { panic!() };
        assert_eq!(stage.limit.as_secs(), seconds, "{value}");
    }
}
