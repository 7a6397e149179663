//! Caches of whole jobs, through the agent program and a store over HTTP.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

mod large;
mod managers;

use std::fs;
use std::io::Write;
use std::time::Duration;

use rstest::rstest;
use runner_core::cache::{CacheAction, CacheStore};
use runner_core::executor::{Executor, JobEvent, JobHandle, JobRequest};
use runner_core::ids::Offset;
use runner_core::job::Cache;
use runner_core::outcome::Outcome;
use runner_core::planner::{Transfers, plan};
use runner_core::source::Ticket;
use runner_core::wire::AnswerFrame;
use runner_testkit::objects::ObjectServer;
use tokio::time::timeout;

use crate::artifacts::{artifact, transfer};
use crate::world::{PATIENCE, Seen, World};

const SHA: &str = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"; // "key"

fn cache(paths: &[&str]) -> Cache {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Cache { key: "key".to_owned(), paths, ..Cache::default() }
}

fn world(script: &[&str], caches: &[Cache]) -> World {
    let mut world = World::new(script);
    world.job.caches = caches.to_vec();
    world
}

/// Runs a job whose manager answers its questions.
pub(crate) async fn run(world: &World, server: &ObjectServer) -> Seen {
    let mut handle = reserve(world, Some(server)).await;
    handle.start().await.unwrap();
    let seen = follow(&mut *handle, server).await;
    handle.dispose().await.unwrap();
    seen
}

pub(crate) async fn reserve(world: &World, server: Option<&ObjectServer>) -> Box<dyn JobHandle> {
    let cache = server.map(|server| server.scope(&world.job));
    let transfers = Transfers { cache, ..Transfers::default() };
    let plan = plan(&world.job, &world.settings, transfers).unwrap();
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job: &world.job, plan: &plan, ticket: &ticket, session: None };
    let handle = world.executor.reserve(request).await.unwrap();
    world.mount_builds();
    handle
}

async fn follow(handle: &mut dyn JobHandle, server: &ObjectServer) -> Seen {
    handle.follow(Offset::ZERO, Offset(u64::MAX)).await;
    let mut trace = Vec::new();
    let events = async {
        loop {
            match handle.event().await {
                JobEvent::Trace { bytes, .. } => trace.extend_from_slice(&bytes),
                JobEvent::Asked(ask) => {
                    let (transfer, refused) = match server.sign(&ask.cache.unwrap()).await {
                        Ok(transfer) => (Some(transfer), String::new()),
                        Err(error) => (None, error.to_string()),
                    };
                    handle.answer(AnswerFrame { id: ask.id, transfer, refused }).await;
                }
                JobEvent::Ended(end) => return end,
                _ => {}
            }
        }
    };
    let end = timeout(PATIENCE, events).await.expect("the job ends in time");
    Seen { trace, end }
}

#[rstest]
#[case("zip")]
#[case("zipzstd")]
#[case("tarzstd")]
#[tokio::test]
async fn stages_66_what_one_job_saves_the_next_one_finds(#[case] format: &str) {
    let server = ObjectServer::start().await.unwrap();
    let make = "mkdir -p vendor/sub; echo one > vendor/sub/file; ln -s sub vendor/link; \
                chmod 750 vendor/sub";
    let first = world(&[make], &[cache(&["vendor"])]).variable("CACHE_COMPRESSION_FORMAT", format);
    let seen = run(&first, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    let text = seen.text();
    for line in [
        "Checking cache for key...",
        "WARNING: file does not exist",
        "\x1b[0;33mFailed to extract cache",
        "Creating cache key...",
        "vendor: found 4 matching artifact files and directories",
        "Created cache",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let object = server.object("project/1/key").unwrap();
    assert_eq!(object.headers["x-test-meta-cachekey"], "key");
    assert_eq!(object.headers["content-type"], "application/octet-stream");
    assert!(object.headers.contains_key("last-modified"));

    let show = "cat vendor/link/file; stat -c %a vendor/sub";
    let second = world(&[show], &[cache(&["vendor"])]);
    let seen = run(&second, &server).await;
    let text = seen.text();
    assert!(text.contains("one\n750\n"), "{text}");
    assert!(text.contains("Successfully extracted cache"), "{text}");
}

#[tokio::test]
async fn stages_75_what_has_not_changed_is_not_sent_again() {
    let server = ObjectServer::start().await.unwrap();
    run(&world(&["mkdir v; echo 1 > v/a; echo 2 > v/b"], &[cache(&["v"])]), &server).await;
    assert_eq!(server.requests(), ["GET project/1/key", &other(), "PUT project/1/key"]);

    let unchanged = run(&world(&["cat v/a"], &[cache(&["v"])]), &server).await;
    assert!(unchanged.text().contains("Archive is up to date!"), "{}", unchanged.text());
    assert_eq!(server.requests(), ["GET project/1/key", "HEAD project/1/key"]);

    // A deleted file is a change, too.
    run(&world(&["rm v/b"], &[cache(&["v"])]), &server).await;
    assert_eq!(server.requests(), ["GET project/1/key", "PUT project/1/key"]);

    // And an object that somebody has removed meanwhile is made again.
    let removed = world(&["echo restored; read line < gate; cat v/a"], &[cache(&["v"])]);
    let mut handle = reserve(&removed, Some(&server)).await;
    let project = removed.executor.directory(removed.job.id).join("root/builds/g/p");
    fs::create_dir_all(&project).unwrap();
    let gate = project.join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    handle.start().await.unwrap();
    let remove = async {
        // Open as soon as the script reads, when the cache has been restored.
        let open = move || fs::OpenOptions::new().write(true).open(gate);
        let mut gate = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
        server.remove("project/1/key").unwrap();
        gate.write_all(b"go\n").unwrap();
    };
    let (seen, ()) = tokio::join!(follow(&mut *handle, &server), remove);
    handle.dispose().await.unwrap();
    assert!(seen.end.outcome.is_success(), "{}", seen.text());
    assert!(server.object("project/1/key").is_some(), "{}", seen.text());
}

/// The request for a key's other form.
fn other() -> String {
    format!("GET project/1/{}/{SHA}", &SHA[..2])
}

#[tokio::test]
async fn stages_69_fallbacks_are_asked_for_one_by_one_until_one_is_there() {
    let server = ObjectServer::start().await.unwrap();
    run(
        &world(&["mkdir v; echo main > v/a"], &[Cache { key: "main".into(), ..cache(&["v"]) }]),
        &server,
    )
    .await;
    server.asks();
    let fallback_keys = vec!["none".to_owned(), "main".to_owned(), "never".to_owned()];
    let branch = Cache { fallback_keys, policy: "pull".into(), ..cache(&["v"]) };
    let seen = run(&world(&["cat v/a"], &[branch]), &server).await;
    let text = seen.text();
    assert!(text.contains("Checking cache for main...") && !text.contains("never"), "{text}");
    let asked: Vec<_> = server.asks().into_iter().map(|ask| ask.object).collect();
    assert_eq!(
        asked.iter().filter(|object| !object.contains('/')).collect::<Vec<_>>(),
        ["key", "none", "main"]
    );
}

#[tokio::test]
async fn stages_73_77_an_error_of_the_server_is_tried_again_and_never_fails_the_job() {
    let server = ObjectServer::start().await.unwrap();
    run(&world(&["mkdir v; echo 1 > v/a"], &[cache(&["v"])]), &server).await;
    server.requests();

    server.fail_with([500, 503]);
    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    let seen = run(&world(&["cat v/a"], std::slice::from_ref(&pull)), &server).await;
    assert!(seen.text().contains("Successfully extracted cache"), "{}", seen.text());
    assert_eq!(server.requests().len(), 3);

    // 4xx: nothing that time would heal; but the other form of the key may be there.
    server.fail_with([403, 403]);
    let seen = run(&world(&["echo went on"], &[pull]), &server).await;
    let text = seen.text();
    let line = "received: 403 Forbidden. Request failed with code: Broken, message: on purpose";
    assert!(text.contains(line) && text.contains("went on"), "{text}");
    assert_eq!(seen.end.outcome, Outcome::Exited(0));
    assert_eq!(server.requests().len(), 2);

    server.fail_with([404, 404, 500, 500, 500]);
    let seen = run(&world(&["mkdir -p v; echo 2 > v/a"], &[cache(&["v"])]), &server).await;
    assert!(seen.text().contains("\x1b[0;33mFailed to create cache"), "{}", seen.text());
    assert_eq!(seen.end.outcome, Outcome::Exited(0));
}

#[rstest]
#[case(b"<html>not an archive</html>".to_vec())]
#[case(b"\x28\xb5\x2f\xfd broken".to_vec())]
#[case(Vec::new())]
#[tokio::test]
async fn a_broken_archive_never_fails_a_job(#[case] content: Vec<u8>) {
    let server = ObjectServer::start().await.unwrap();
    server.put("project/1/key", content, 1_000_000_000);
    let seen = run(&world(&["mkdir -p v; echo 1 > v/a"], &[cache(&["v"])]), &server).await;
    let text = seen.text();
    assert_eq!(seen.end.outcome, Outcome::Exited(0));
    assert!(text.contains("WARNING: the archive is damaged"), "{text}");
    assert!(text.contains("\x1b[0;33mFailed to extract cache"), "{text}");
    // And the next job finds a sound one.
    let seen = run(&world(&["cat v/a"], &[cache(&["v"])]), &server).await;
    assert!(seen.text().contains("Successfully extracted cache"), "{}", seen.text());
}

#[tokio::test]
async fn stages_80_what_a_broken_archive_left_behind_is_removed_on_request() {
    let server = ObjectServer::start().await.unwrap();
    let make = "mkdir v; head -c 2000000 /dev/urandom > v/noise; echo 1 > v/a";
    let first = world(&[make], &[cache(&["v"])]).variable("CACHE_COMPRESSION_FORMAT", "tarzstd");
    run(&first, &server).await;
    let object = server.object("project/1/key").unwrap();
    let cut = object.bytes.slice(..object.bytes.len() / 2);
    server.put("project/1/key", cut, object.modified);
    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    let seen = run(&world(&["ls v"], std::slice::from_ref(&pull)), &server).await;
    assert!(seen.text().contains("a\nnoise"), "{}", seen.text());
    let mut careful = world(&["ls v || echo clean"], &[pull]);
    careful.settings.feature_flags.push(("FF_CLEAN_UP_FAILED_CACHE_EXTRACT".into(), true));
    let seen = run(&careful, &server).await;
    assert!(seen.text().contains("Removing v") && seen.text().contains("clean"), "{}", seen.text());
    // Paths with variables are expanded here too.
    careful.job.caches[0].paths = vec!["$KEPT".into()];
    let seen = run(&careful.variable("KEPT", "v"), &server).await;
    assert!(seen.text().contains("Failed to extract cache"), "{}", seen.text());
    assert!(
        seen.text().ends_with("clean\n") || seen.text().contains("\nclean\n"),
        "{}",
        seen.text()
    );
}

#[rstest]
#[case("CACHE_MAX_UPLOADED_ARCHIVE_SIZE", "10")]
#[case("CACHE_COMPRESSION_FORMAT", "tarzstd")]
#[case("CACHE_COMPRESSION_LEVEL", "fastest")]
#[tokio::test]
async fn stages_98_variables_that_configure_gitlabs_helper_configure_caches(
    #[case] name: &str,
    #[case] value: &str,
) {
    let server = ObjectServer::start().await.unwrap();
    let script = "mkdir v; for i in 1 2 3 4 5 6 7 8 9; do echo the same again; done > v/a";
    let world = world(&[script], &[cache(&["v"])]).variable(name, value);
    let seen = run(&world, &server).await;
    let sent = server.object("project/1/key").map(|object| object.bytes);
    let has = |text: &[u8]| {
        sent.as_ref().is_some_and(|sent| sent.windows(text.len()).any(|window| window == text))
    };
    let obeyed = match name {
        "CACHE_COMPRESSION_FORMAT" => has(b"\x28\xb5\x2f\xfd"),
        // Stored as it is.
        "CACHE_COMPRESSION_LEVEL" => has(b"the same again\nthe same again\nthe same again\n"),
        _ => sent.is_none() && seen.text().contains("is too big (Limit is set to 10)"),
    };
    assert!(obeyed, "{}", seen.text());
}

#[tokio::test]
async fn stages_76_an_archive_that_is_too_big_stays() {
    let server = ObjectServer::start().await.unwrap();
    let mut world = world(&["mkdir v; echo 1 > v/a"], &[cache(&["v"])]);
    world.settings.cache_limit = 10;
    let seen = run(&world, &server).await;
    assert!(
        seen.text()
            .contains(" is too big (Limit is set to 10). Cache will be stored only locally.")
    );
    assert!(server.names().is_empty());
}

#[rstest]
#[case("exit 0", "success", Outcome::Exited(0))]
#[case("exit 5", "failure", Outcome::Exited(5))]
#[tokio::test]
async fn stages_10_a_cache_that_is_not_taken_changes_nothing_for_the_artifacts(
    #[case] end: &str,
    #[case] sent: &str,
    #[case] outcome: Outcome,
) {
    use runner_core::job::{Artifact, ArtifactWhen};
    let server = ObjectServer::start().await.unwrap();
    let always = Cache { when: ArtifactWhen::Always, policy: "push".into(), ..cache(&["v"]) };
    let mut world = world(&[&format!("mkdir v; echo 1 > v/a; {end}")], &[always]);
    let of = |when| Artifact { when, ..artifact(&["v"]) };
    world.job.artifacts = vec![of(ArtifactWhen::OnSuccess), of(ArtifactWhen::OnFailure)];
    let uploads = ["success", "failure"].map(|name| Some(transfer(&server, "POST", name)));
    let cache = Some(server.scope(&world.job));
    let transfers = Transfers { cache, uploads: uploads.to_vec(), ..Transfers::default() };
    let plan = plan(&world.job, &world.settings, transfers).unwrap();
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job: &world.job, plan: &plan, ticket: &ticket, session: None };
    let mut handle = world.executor.reserve(request).await.unwrap();
    server.fail_with([403]);
    handle.start().await.unwrap();
    let seen = follow(&mut *handle, &server).await;
    handle.dispose().await.unwrap();
    let text = seen.text();
    assert!(text.contains("\x1b[0;33mFailed to create cache"), "{text}");
    assert_eq!(seen.end.outcome, outcome, "{text}");
    assert_eq!(server.requests(), ["PUT project/1/key".to_owned(), format!("POST {sent}")]);
}

#[tokio::test]
async fn stages_79_a_key_is_never_executed() {
    let server = ObjectServer::start().await.unwrap();
    let key = "a \"$(touch owned)\" `id` ümlaut";
    let cache = Cache { key: key.replace('$', "$$"), ..cache(&["v"]) };
    let seen = run(&world(&["mkdir v; echo 1 > v/a; ls"], &[cache]), &server).await;
    assert!(!seen.text().contains("owned\n"), "{}", seen.text());
    let name = server.names().remove(0);
    assert!(name.starts_with("project/1/a%20%22$(touch%20owned)%22%20"), "{name}");
}

#[tokio::test]
async fn stages_68_a_failed_job_saves_what_is_for_failed_jobs() {
    use runner_core::job::ArtifactWhen;
    let server = ObjectServer::start().await.unwrap();
    let of = |key: &str, when| Cache { key: key.into(), when, ..cache(&["v"]) };
    let caches = [
        of("success", ArtifactWhen::OnSuccess),
        of("failure", ArtifactWhen::OnFailure),
        of("always", ArtifactWhen::Always),
    ];
    let script = ["mkdir v; echo 1 > v/a; exit 3"];
    let seen = run(&world(&script, &caches), &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(3));
    assert_eq!(server.names(), ["project/1/always", "project/1/failure"]);
}

#[tokio::test]
async fn without_a_store_the_cache_directory_is_the_cache() {
    let first = world(&["mkdir v; echo kept > v/a"], &[cache(&["v"])]);
    let mut handle = reserve(&first, None).await;
    let directory = first.executor.directory(first.job.id);
    handle.start().await.unwrap();
    let seen = crate::world::follow(&mut *handle, Offset::ZERO).await;
    let text = seen.text();
    assert!(text.contains("WARNING: Cache file does not exist"), "{text}");
    assert!(text.contains("No URL provided, cache will not be uploaded"), "{text}");
    // The volume outlives the pod.
    let volume = tempfile::tempdir().unwrap();
    copy(&directory.join("root/cache"), volume.path());
    handle.dispose().await.unwrap();
    assert!(volume.path().join("g/p/key/cache.zip").exists());

    let second = world(&["cat v/a"], &[cache(&["v"])]);
    let mut handle = reserve(&second, None).await;
    copy(volume.path(), &second.executor.directory(second.job.id).join("root/cache"));
    handle.start().await.unwrap();
    let text = crate::world::follow(&mut *handle, Offset::ZERO).await.text();
    handle.dispose().await.unwrap();
    assert!(text.contains("Instead a local version of cache will be extracted"), "{text}");
    assert!(text.contains("kept") && text.contains("Archive is up to date!"), "{text}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    let mut cp = std::process::Command::new("cp");
    assert!(cp.arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

#[tokio::test]
async fn several_caches_overwrite_each_other_in_their_order() {
    let server = ObjectServer::start().await.unwrap();
    let keys = ["one", "two", "three", "four", "five", "six"];
    for key in keys {
        let script = format!("mkdir v; echo {key} > v/a; echo {key} > v/{key}");
        let caches = [Cache { key: key.into(), ..cache(&["v"]) }];
        run(&world(&[&script], &caches), &server).await;
    }
    let of = |key: &&str| Cache { key: (*key).into(), policy: "pull".into(), ..cache(&["v"]) };
    let caches: Vec<_> = keys.iter().map(of).collect();
    let seen = run(&world(&["cat v/a; ls v | wc -l"], &caches), &server).await;
    assert!(seen.text().contains("six\n7\n"), "{}", seen.text());
}
