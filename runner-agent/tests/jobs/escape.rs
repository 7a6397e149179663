//! A job that wants what lies in `helper`: plan, state and sockets, which are not in its own container.
//! Here both see the same disk, so a file of the job's directory stands for them.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::job::{Artifact, ArtifactFormat, Cache};
use runner_core::outcome::Outcome;
use runner_core::wire::{Hello, ManagerCodec, ManagerFrame, WIRE_VERSION};
use runner_testkit::objects::ObjectServer;
use tokio_util::codec::Encoder as _;

use crate::world::{Seen, World};
use crate::{artifacts, caches, scripts};

/// What no archive may hold.
const SECRET: &str = "the plan of this job";

/// A file in a directory that the job cannot see in a pod.
fn helpers_own(world: &World) -> PathBuf {
    let jobs = world.executor.directory(world.job.id);
    let directory = jobs.parent().unwrap().with_file_name("helper");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("file"), SECRET).unwrap();
    fs::canonicalize(directory).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Puts a link in the place of the project, or of the directory that it is in.
const SWAPS: [&str; 2] = [
    "cd ..; mv p elsewhere; ln -s \"$HELPER\" p",
    "cd ../..; mkdir -p made; ln -s \"$HELPER\" made/p; mv g elsewhere; ln -s made g",
];

#[rstest]
#[tokio::test]
async fn a_link_in_the_place_of_the_project_brings_no_file_of_the_helper_into_artifacts(
    #[values(0, 1)] swap: usize,
    #[values("file", "**/*", "*")] pattern: &str,
) {
    let server = ObjectServer::start().await.unwrap();
    // Not compressed, so that the text can be looked for.
    let raw = Artifact {
        paths: vec![pattern.to_owned()],
        kind: "dotenv".to_owned(),
        format: ArtifactFormat::Raw,
        ..Artifact::default()
    };
    let mut world = World::new(&[SWAPS[swap]]);
    world.job.artifacts = vec![raw];
    let helper = helpers_own(&world).display().to_string();
    let world = world.variable("HELPER", &helper);
    let seen = artifacts::run(&world, &server).await;
    let sent = server.object("upload/0");
    assert!(sent.is_none_or(|sent| !holds(&sent.bytes, SECRET)), "{}", seen.text());
    // The author learns why.
    assert!(seen.text().contains("is no directory of its own any more"), "{}", seen.text());
    assert_eq!(seen.end.outcome, Outcome::Exited(1), "{}", seen.text());
}

#[rstest]
#[tokio::test]
async fn a_link_in_the_place_of_the_project_brings_no_file_of_the_helper_into_caches(
    #[values(0, 1)] swap: usize,
) {
    let server = ObjectServer::start().await.unwrap();
    let world = World::new(&[SWAPS[swap]]);
    let helper = helpers_own(&world).display().to_string();
    let mut world = world.variable("HELPER", &helper);
    world.job.caches =
        vec![Cache { key: "key".into(), paths: vec!["**/*".into()], ..Cache::default() }];
    let seen = caches::run(&world, &server).await;
    assert!(server.names().is_empty(), "{:?} {}", server.names(), seen.text());
    assert!(seen.text().contains("is no directory of its own any more"), "{}", seen.text());
    // As with everything else about caches, the job does not depend on it.
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
}

/// The next job of a builds directory that outlives its pods gets nothing unpacked through a link.
#[tokio::test]
async fn a_link_that_an_earlier_job_left_does_not_lead_archives_out_of_the_builds_directory() {
    let server = ObjectServer::start().await.unwrap();
    let mut first = World::new(&["mkdir out; echo brought > out/file"]);
    first.job.caches =
        vec![Cache { key: "key".into(), paths: vec!["out".into()], ..Cache::default() }];
    let seen = caches::run(&first, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    let builds = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(target.path(), builds.path().join("g")).unwrap();
    let mut next = World::new(&["ls"]);
    next.builds = Some(builds.path().to_owned());
    next.job.caches = first.job.caches.clone();
    let seen = caches::run(&next, &server).await;
    assert!(!target.path().join("p/out").exists(), "{}", seen.text());
    // Nor anything else of the job's: it does not begin.
    assert!(!target.path().join("p.tmp").exists(), "{}", seen.text());
    let Outcome::Infra(infra) = &seen.end.outcome else { panic!("{:?}", seen.end) };
    assert!(infra.message.contains("no directory of its own any more"), "{}", infra.message);
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The directory of the cache `key` of the test's project, where it is a volume that jobs mount, too.
fn cache_directory(world: &World) -> PathBuf {
    let directory = world.executor.directory(world.job.id).join("root/cache/g/p/key");
    fs::create_dir_all(&directory).unwrap();
    directory
}

async fn with_local_cache(world: &World) -> Seen {
    let mut handle = caches::reserve(world, None).await;
    handle.start().await.unwrap();
    let seen = crate::world::follow(&mut *handle, Offset::ZERO).await;
    handle.dispose().await.unwrap();
    seen
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_cache_does_not_stop_the_helper() {
    let mut world = World::new(&["echo went on"]);
    world.job.caches =
        vec![Cache { key: "key".into(), paths: vec!["x".into()], ..Cache::default() }];
    world.settings.feature_flags.push(("FF_HASH_CACHE_KEYS".into(), false));
    let directory = cache_directory(&world);
    fifo(&directory.join("cache.zip"));
    let seen = with_local_cache(&world).await;
    assert!(seen.text().contains("\nwent on\n"), "{}", seen.text());
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
}

#[tokio::test]
async fn links_in_the_cache_directory_do_not_make_the_helper_write_elsewhere() {
    let mut world = World::new(&["echo new > x"]);
    world.job.caches =
        vec![Cache { key: "key".into(), paths: vec!["x".into()], ..Cache::default() }];
    world.settings.feature_flags.push(("FF_HASH_CACHE_KEYS".into(), false));
    let helper = helpers_own(&world);
    let directory = cache_directory(&world);
    for name in ["metadata.json", "manifest.json", "cache.zip"] {
        fs::write(helper.join(name), SECRET).unwrap();
        std::os::unix::fs::symlink(helper.join(name), directory.join(name)).unwrap();
    }
    let seen = with_local_cache(&world).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    assert!(seen.text().contains("Created cache"), "{}", seen.text());
    for name in ["metadata.json", "manifest.json", "cache.zip"] {
        assert_eq!(fs::read_to_string(helper.join(name)).unwrap(), SECRET, "{name}");
    }
}

/// Says `$2` (hexadecimal) to the socket `$1` and prints how many bytes the answer has.
const SAY: &str = r#"perl -MIO::Socket::UNIX -e '
    $SIG{PIPE} = "IGNORE";
    my $c = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "no $ARGV[0]: $!";
    syswrite $c, pack("H*", $ARGV[1]);
    print "answered ", sysread($c, my $answer, 4096) // 0, " bytes\n";'"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A job whose author runs this in `helper`, by a hook.
fn with_hook(repository: &Path, script: &[&str], hook: &str) -> World {
    let mut world = World::new(script);
    world.job.sources = Some(scripts::sources(repository));
    world.job.hooks = vec![scripts::hook("pre_get_sources_script", hook)];
    let directory = world.executor.directory(world.job.id);
    let place = |name: &str| directory.join(name).display().to_string();
    let (control, link) = (place("state/control.sock"), place("link/agent.sock"));
    world.variable("CONTROL", &control).variable("LINK", &link)
}

#[tokio::test]
async fn commands_in_the_helper_cannot_pass_for_a_manager() {
    let mut hello = bytes::BytesMut::new();
    let last = Hello {
        version: WIRE_VERSION,
        job: JobId(7),
        epoch: Epoch(u64::MAX),
        from: Offset::ZERO,
        until: Offset(u64::MAX),
    };
    ManagerCodec.encode(ManagerFrame::Hello(last), &mut hello).unwrap();
    let repository = tempfile::tempdir().unwrap();
    let hook = format!("{SAY} \"$CONTROL\" {}", hex(&hello));
    let seen = with_hook(repository.path(), &["echo went on"], &hook).run().await;
    assert!(seen.text().contains("\nanswered 0 bytes\n"), "{}", seen.text());
    assert!(seen.text().contains("\nwent on\n"), "{}", seen.text());
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
}

/// Comes in before the build container's program does, and stays.
const SQUEEZE_IN: &str = r#"perl -MIO::Socket::UNIX -e '
    $SIG{PIPE} = "IGNORE";
    my ($socket, $hello, $gate, $answer) = @ARGV;
    my $c = IO::Socket::UNIX->new(Peer => $socket) or die "no $socket: $!";
    syswrite $c, pack("H*", $hello);
    open my $go, ">", $gate; print $go "go\n"; close $go;
    my $count = sysread($c, my $bytes, 4096) // 0;
    open my $out, ">", $answer; print $out "answered $count bytes\n"; close $out;'"#;

#[tokio::test]
async fn commands_in_the_helper_cannot_pass_for_the_build_container() {
    let word = br#"{"Hello":{"token":null,"run":null}}"#;
    let hello = [&u32::try_from(word.len()).unwrap().to_be_bytes()[..], &[0], word].concat();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let (gate, answer) = (path("gate"), path("answer"));
    fifo(Path::new(&gate));
    fifo(Path::new(&answer));
    let repository = tempfile::tempdir().unwrap();
    let hook = format!("{SQUEEZE_IN} \"$LINK\" {} {gate} {answer} &", hex(&hello));
    let script = format!("cat {answer}; echo went on");
    let world = with_hook(repository.path(), &[&script], &hook);
    let seen = world.serve_waits_for(Path::new(&gate)).run().await;
    assert!(seen.text().contains("\nanswered 0 bytes\nwent on\n"), "{}", seen.text());
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
}

/// `git clean` as the helper's user, in a directory of the job's choice.
#[tokio::test]
async fn cleaning_up_does_not_reach_what_a_link_in_the_place_of_the_project_leads_to() {
    let repository = tempfile::tempdir().unwrap();
    let mut world = World::new(&["mv \"$PWD\" ../away; ln -s \"$HELPER\" \"$CI_PROJECT_DIR\""]);
    world.job.sources = Some(scripts::sources(repository.path()));
    let helper = helpers_own(&world);
    fs::create_dir(helper.join(".git")).unwrap();
    let world = world.variable("HELPER", &helper.display().to_string());
    let world = world.variable("FF_ENABLE_JOB_CLEANUP", "true");
    let seen = world.run().await;
    assert!(seen.text().contains("is no directory of its own any more"), "{}", seen.text());
    assert_eq!(fs::read_to_string(helper.join("file")).unwrap(), SECRET);
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
}

/// In a builds directory that outlives its pods: what the runner writes there for a job, as the values of file
/// variables and git's credentials, must not stay where an earlier job wants it.
#[rstest]
#[case::the_directory("ln -s \"$TARGET\" p.tmp")]
#[case::a_file_in_it(
    "mkdir p.tmp; ln -s \"$TARGET/KEY\" p.tmp/KEY; ln -s \"$TARGET/env\" p.tmp/gitlab_runner_env"
)]
#[tokio::test]
async fn a_link_that_an_earlier_job_left_does_not_keep_secrets_of_the_next_one(
    #[case] plant: &str,
) {
    let (builds, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(builds.path().join("g")).unwrap();
    let planted = std::process::Command::new("sh")
        .args(["-c", plant])
        .current_dir(builds.path().join("g"))
        .env("TARGET", target.path())
        .status();
    assert!(planted.unwrap().success());
    let mut world = World::new(&["cat \"$KEY\"; echo A=b >> \"$GITLAB_ENV\"; echo went on"]);
    world.builds = Some(builds.path().to_owned());
    world.job.variables.push(runner_core::job::Variable {
        key: "KEY".into(),
        value: SECRET.into(),
        file: true,
        ..Default::default()
    });
    let seen = world.run().await;
    assert!(seen.text().contains("went on"), "{}", seen.text());
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    let left: Vec<_> = fs::read_dir(target.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
