//! Whole logs, as GitLab gets them, of jobs that end in different ways. What differs from run to run
//! is replaced ([`normalized`]); the rest is kept byte by byte.

use std::time::Duration;

use runner_testkit::gitlab::{Artifact, Endpoint, Finished, Image, JobSpec, JobState, Variable};
use runner_testkit::objects::ObjectServer;

use crate::trace::normalized;
use crate::world::{PATIENCE, World, failure, success, text};

/// On a simulated cluster: a real one has its own names and its own pace.
async fn world(what: &str) -> Option<World> {
    World::simulated(&format!("compare the whole log of {what}")).await
}

async fn run(what: &str, spec: JobSpec) -> Option<Finished> {
    let world = world(what).await?;
    Some(Box::pin(world.run_one(spec)).await)
}

/// Whether bash still says that its child was terminated before it is itself depends on which of
/// them is faster.
fn ended(end: &Finished) -> String {
    normalized(end).replace(" 01O Terminated\n", "")
}

#[tokio::test]
async fn stages_06_the_log_of_a_job_that_fails() {
    let spec = JobSpec::new("test")
        .script(["echo before", "sh -c 'exit 42'", "echo not reached"])
        .after_script(["echo \"after: $CI_JOB_STATUS\""])
        .artifact(Artifact::archive(["log.txt"]).when("on_failure"))
        .artifact(Artifact::archive(["made.txt"]).when("on_success"));
    let Some(end) = Box::pin(run("a failure", spec)).await else { return };
    failure(&end, "script_failure");
    assert_eq!(end.exit_code, Some(42));
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_11_the_log_of_an_after_script_that_fails() {
    let spec = JobSpec::new("test")
        .script(["export KEPT=no; echo FROM_FILE=yes > $GITLAB_ENV"])
        .after_script(["echo \"${KEPT:-gone} $FROM_FILE $CI_JOB_STATUS\"", "exit 3", "echo no"]);
    let Some(end) = Box::pin(run("after_script", spec)).await else { return };
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_19_the_log_of_an_after_script_that_may_fail_the_job() {
    let spec = JobSpec::new("test")
        .variable("AFTER_SCRIPT_IGNORE_ERRORS", "false")
        .script(["true"])
        .after_script(["exit 3"]);
    let Some(end) = Box::pin(run("after_script", spec)).await else { return };
    failure(&end, "script_failure");
    assert_eq!(end.exit_code, Some(3));
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_12_the_log_of_a_job_that_is_cancelled() {
    let Some(world) = world("a cancelled job").await else { return };
    let spec = JobSpec::new("test")
        .script(["echo started", "sleep 1000", "echo not reached"])
        .after_script(["echo \"after: $CI_JOB_STATUS\""])
        .artifact(Artifact::archive(["log.txt"]).when("on_failure"));
    let job = world.gitlab.enqueue(spec);
    let running = world.manager("s_first0000000").await;
    job.wait_trace("started\n", PATIENCE).await.unwrap();
    job.cancel();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    running.drain().await;
    assert_eq!(end.state, JobState::Canceled, "{}", text(&end));
    insta::assert_snapshot!(ended(&end));
}

#[tokio::test]
async fn stages_16_the_log_of_a_job_that_takes_too_long() {
    let spec = JobSpec::new("test")
        .timeout(Duration::from_secs(2))
        .script(["sleep 1000"])
        .after_script(["echo not reached"])
        .artifact(Artifact::archive(["log.txt"]).when("always"));
    let Some(end) = Box::pin(run("a timeout", spec)).await else { return };
    failure(&end, "job_execution_timeout");
    insta::assert_snapshot!(ended(&end));
}

#[tokio::test]
async fn stages_17_the_log_of_a_script_that_takes_too_long() {
    let spec = JobSpec::new("test")
        .variable("RUNNER_SCRIPT_TIMEOUT", "2s")
        .script(["sleep 1000"])
        .after_script(["echo \"after: $CI_JOB_STATUS\""])
        .artifact(Artifact::archive(["log.txt"]).when("on_failure"));
    let Some(end) = Box::pin(run("a script's timeout", spec)).await else { return };
    failure(&end, "job_execution_timeout");
    insta::assert_snapshot!(ended(&end));
}

#[tokio::test]
async fn stages_41_the_log_of_a_debug_trace() {
    let spec = JobSpec::new("test")
        .variable("CI_DEBUG_TRACE", "true")
        .variable("SHOWN", "a value")
        .with(Variable::new("HIDDEN", "hunter2-hunter2").masked())
        .script(["echo \"$SHOWN $HIDDEN\""]);
    let Some(end) = Box::pin(run("a debug trace", spec)).await else { return };
    success(&end);
    // There is one line for each variable, and GitLab has dozens.
    let all = normalized(&end);
    let words = ["SHOWN", "HIDDEN", "printf", "echo"];
    let kept =
        |line: &&str| !line.starts_with(" 01O + ") || words.iter().any(|word| line.contains(word));
    insta::assert_snapshot!(all.lines().filter(kept).collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn stages_101_the_log_of_script_sections_and_hooks() {
    let Some(world) = world("script sections").await else { return };
    let repo = world
        .gitlab
        .repo("group/project")
        .commit("First", [("README.md", "# greeting\n")])
        .branch("main")
        .create()
        .await
        .unwrap();
    let spec = JobSpec::new("test")
        .repo(&repo)
        .git_ref("main")
        .variable("FF_SCRIPT_SECTIONS", "true")
        .hook("pre_get_sources_script", ["echo one\necho two"])
        .hook("post_get_sources_script", ["ls"])
        .script(["echo three\necho four", "echo five"])
        .after_script(["echo six\necho seven"]);
    let end = world.run_one(spec).await;
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_42_the_log_of_a_job_with_a_service() {
    let Some(world) = world("a service").await else { return };
    let service = Image::new(&world.settings.image).alias("db").entrypoint(["sleep", "1000"]);
    let spec = JobSpec::new("test").service(service).script(["echo hello"]);
    let end = world.run_one(spec).await;
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_118_the_log_of_a_job_that_a_policy_made() {
    let spec = JobSpec::new("test").script(["echo hello"]).patch(|payload| {
        payload["policy_options"] = serde_json::json!({
            "execution_policy_job": true,
            "policy_name": "Scan",
            "policy_variables_override_allowed": false,
        });
    });
    let Some(end) = Box::pin(run("a policy", spec)).await else { return };
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_69_73_the_log_of_a_cache_that_is_missed_and_then_hit() {
    let Some(mut world) = world("a cache").await else { return };
    world.cache = Some(ObjectServer::start().await.unwrap());
    let spec = |script: &str| {
        let cache = serde_json::json!([{
            "key": "vendor-main",
            "untracked": false,
            "policy": "pull-push",
            "paths": ["vendor/", "nothing/"],
            "when": "on_success",
            "fallback_keys": ["vendor-other"],
        }]);
        JobSpec::new("test").script([script]).patch(move |payload| payload["cache"] = cache.clone())
    };
    let missed = world.run_one(spec("mkdir vendor && echo kept > vendor/file")).await;
    success(&missed);
    insta::assert_snapshot!("the_log_of_a_cache_that_is_missed", normalized(&missed));
    let hit = world.run_one(spec("cat vendor/file")).await;
    success(&hit);
    insta::assert_snapshot!("the_log_of_a_cache_that_is_hit", normalized(&hit));
}

#[tokio::test]
async fn stages_88_the_log_of_artifacts_with_reports_and_of_the_job_that_needs_them() {
    let Some(world) = world("artifacts").await else { return };
    let spec = JobSpec::new("build")
        .script([
            "mkdir -p out/deep && echo one > out/one && echo two > out/deep/two",
            "echo '<testsuites/>' > junit.xml && echo VERSION=1.2 > build.env",
        ])
        .artifact(Artifact::archive(["out/"]).name("made").exclude(["out/deep/**/*"]))
        .artifact(Artifact::report("junit", "gzip", ["junit.xml", "missing-*.xml"]))
        .artifact(Artifact::report("dotenv", "gzip", ["build.env"]));
    let build = world.gitlab.enqueue(spec);
    let made = world.run(std::slice::from_ref(&build)).await.remove(0);
    success(&made);
    insta::assert_snapshot!("the_log_of_artifacts_with_reports", normalized(&made));
    let spec = JobSpec::new("test").needs(&build).script(["cat out/one"]);
    let used = world.run_one(spec).await;
    success(&used);
    insta::assert_snapshot!("the_log_of_a_job_that_needs_artifacts", normalized(&used));
}

#[tokio::test]
async fn stages_21_the_log_of_sources_that_come_with_the_second_attempt() {
    let Some(world) = world("a second attempt").await else { return };
    let repo = world.gitlab.repo("group/project").commit("First", [("README.md", "# greeting\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    world.gitlab.script(Endpoint::Git).reply(503).once();
    let spec = JobSpec::new("test").repo(&repo).git_ref("main").script(["cat README.md"]);
    let end = world.run_one(spec.variable("GET_SOURCES_ATTEMPTS", "2")).await;
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_55_the_log_of_a_job_with_submodules() {
    let Some(world) = world("submodules").await else { return };
    let library = world.gitlab.repo("group/library").commit("First", [("lib", "of the library\n")]);
    let library = library.branch("main").readable_by_jobs().create().await.unwrap();
    let modules = "[submodule \"library\"]\n\tpath = library\n\turl = ../library.git\n";
    let repo = world.gitlab.repo("group/project").commit("First", [(".gitmodules", modules)]);
    let repo = repo.submodule("library", library.sha("main").unwrap()).branch("main");
    let repo = repo.create().await.unwrap();
    let spec = JobSpec::new("test").repo(&repo).git_ref("main").script(["cat library/lib"]);
    let end = world.run_one(spec.variable("GIT_SUBMODULE_STRATEGY", "normal")).await;
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn stages_56_the_log_of_a_job_with_files_in_lfs() {
    let has_lfs = std::process::Command::new("git").args(["lfs", "version"]).output();
    if !has_lfs.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: git-lfs is not installed");
        return;
    }
    let Some(world) = world("files in LFS").await else { return };
    let attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n";
    let repo = world.gitlab.repo("group/project").commit("First", [(".gitattributes", attributes)]);
    let repo = repo.lfs_file("large.bin", "what stands in LFS\n").branch("main");
    let repo = repo.create().await.unwrap();
    let spec = JobSpec::new("test").repo(&repo).git_ref("main").script(["cat large.bin"]);
    let end = world.run_one(spec).await;
    success(&end);
    insta::assert_snapshot!(normalized(&end));
}
