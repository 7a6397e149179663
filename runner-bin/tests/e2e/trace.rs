//! The log as GitLab gets it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_testkit::cluster::{ClusterSettings, Fault, RequestFilter, Rule};
use runner_testkit::gitlab::{Artifact, Finished, GitLab, JobSpec, Variable};

use crate::world::{PATIENCE, World, success, text};

/// Lines of the summary.
const SPANS: [&str; 14] = [
    "\x1b[0K  in the queue ",
    "\x1b[0K  finding a node ",
    "\x1b[0K  starting the pod ",
    "\x1b[0K  image of ",
    "\x1b[0K  build container ",
    "\x1b[0K  preparing ",
    "\x1b[0K  sources ",
    "\x1b[0K  restoring cache ",
    "\x1b[0K  saving cache ",
    "\x1b[0K  script ",
    "\x1b[0K  after_script ",
    "\x1b[0K  artifacts",
    "\x1b[0K  cleaning up ",
    "\x1b[0K  container ",
];

/// What differs from run to run is replaced: times, stamps, hashes, names of pods and ports.
pub(crate) fn normalized(end: &Finished) -> String {
    let text = text(end);
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        // `2026-09-01T12:34:56.123456Z 01O `: the stamp goes, the kind of line stays.
        let line = match line.as_bytes().get(26) {
            Some(b'Z') => line.get(27..).unwrap_or_default(),
            _ => line,
        };
        // A pod that is slow to start, on a busy machine.
        if line.contains("Waiting for ") && line.contains(" to run: ") {
            continue;
        }
        if let Some(at) = line.find("Summary: ") {
            out.push_str(&format!("{}Summary: SPANS\n", &line[..at]));
            continue;
        }
        // Which spans are long enough for a line differs from run to run.
        if SPANS.iter().any(|span| line.contains(span)) {
            continue;
        }
        out.push_str(&match line.find("Running on ") {
            // The pod's host name, which is this machine's where containers share it.
            Some(at) => format!("{}Running on HOST via MANAGER\n", &line[..at]),
            None => words(&without_root(&line.replace(env!("CARGO_PKG_VERSION"), "VERSION"))),
        });
    }
    let out = without_ports(&out);
    out.replace('\r', "\\r").replace('\x1b', "\\e")
}

/// `http://HOST:41234/` is another one each time.
fn without_ports(text: &str) -> String {
    let mut parts = text.split("//HOST:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("//HOST");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// In a plain simulation, a container's paths lie below a directory of its own.
fn without_root(line: &str) -> String {
    match (line.find("/tmp/sim-"), line.find("/root/")) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{}", &line[..from], &line[to + "/root".len()..])
        }
        _ => line.to_owned(),
    }
}

fn words(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        out.push_str(&word(&rest[..end]));
        rest = &rest[end..];
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '.'
}

fn word(word: &str) -> String {
    let hex = word.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = word.bytes().all(|b| b.is_ascii_digit());
    match word {
        _ if word.starts_with("runner-") && word.contains("-project-") => "POD".into(),
        // Eight digits are a short hash that happens to have no letter.
        _ if digits && matches!(word.len(), 9..=11) => "TIME".into(),
        _ if hex && word.len() >= 8 => "HASH".into(),
        _ if word.starts_with("127.0.0.1") => "HOST".into(),
        _ => word.into(),
    }
}

/// A job with every kind of stage.
pub(crate) async fn full_job(gitlab: &GitLab) -> JobSpec {
    let repo = gitlab
        .repo("group/project")
        .commit("First", [("greet.sh", "echo \"hello, $1\"\n"), ("README.md", "# greeting\n")])
        .branch("main")
        .create()
        .await
        .unwrap();
    JobSpec::new("build")
        .repo(&repo)
        .git_ref("main")
        .with(Variable::new("PASSWORD", "hunter2-hunter2").masked())
        .script(["sh greet.sh world", "echo \"the password is $PASSWORD\"", "echo made > made.txt"])
        .after_script(["echo \"after: $CI_JOB_STATUS\""])
        .artifact(Artifact::archive(["made.txt", "missing.txt"]))
}

#[tokio::test]
async fn the_trace_of_a_job_with_every_kind_of_stage_is_the_golden_one() {
    let world = World::new().await;
    let spec = full_job(&world.gitlab).await;
    let end = world.run_one(spec).await;
    success(&end);
    if crate::place::is_real() {
        // Another namespace and other image names; the rest is the same.
        return assert!(text(&end).contains("hello, world"));
    }
    insta::assert_snapshot!(normalized(&end));
}

#[tokio::test]
async fn the_trace_in_gitlab_is_the_pods_spool_byte_for_byte() {
    let work = tempfile::tempdir().unwrap();
    let cluster =
        ClusterSettings { work_dir: Some(work.path().to_owned()), ..ClusterSettings::default() };
    let Some(world) = World::simulated_with("show a pod's spool", GitLab::builder(), cluster).await
    else {
        return;
    };
    let job = world.gitlab.enqueue(full_job(&world.gitlab).await);
    // The pod stays long enough to look at it after the verdict.
    let wait = Fault::Delay(Duration::from_secs(2));
    world.cluster().fail_next(1, RequestFilter::of("delete", "pods"), wait);
    let running = world.manager("s_first0000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    let spool = std::fs::read(spool(work.path())).unwrap();
    running.drain().await;
    success(&end);
    assert_eq!(end.bytesize, Some(spool.len() as u64));
    assert!(end.trace == spool, "GitLab's trace and the pod's spool differ");
    world.check().await;
}

/// The spool of the only pod below this directory.
pub(crate) fn spool(directory: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_file() && path.ends_with("trace") => found.push(path),
                _ => {}
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// 64 MiB that no compression and no chance could make look right.
const RANDOM: &str = "head -c 50331648 /dev/urandom | base64 -w 100";

async fn dropped_streams(rules: Vec<Rule>) {
    let gitlab = GitLab::builder().trace_limit(200 << 20);
    let work = tempfile::tempdir().unwrap();
    let cluster = ClusterSettings {
        rules,
        work_dir: Some(work.path().to_owned()),
        ..ClusterSettings::default()
    };
    let Some(mut world) = World::simulated_with("drop streams at random", gitlab, cluster).await
    else {
        return;
    };
    world.output_limit = Some(100 << 20);
    let drops = runner_testkit::cluster::RandomDrops { seed: 7, times: 100, mean_bytes: 600_000 };
    world.cluster().drop_streams_randomly(drops);
    let job = world.gitlab.enqueue(JobSpec::new("random").script([RANDOM]));
    let wait = Fault::Delay(Duration::from_secs(3));
    world.cluster().fail_next(1, RequestFilter::of("delete", "pods"), wait);
    let running = world.manager("s_first0000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    let spool = std::fs::read(spool(work.path())).unwrap();
    running.drain().await;
    success(&end);
    assert!(spool.len() > 64 << 20, "{}", spool.len());
    assert!(end.trace == spool, "GitLab's trace and the pod's spool differ");
    world.check().await;
    let streams = world.cluster().requests().of("create", "pods/exec")
        + world.cluster().requests().of("get", "pods/exec");
    assert!(streams > 100, "only {streams} streams: nothing was dropped");
}

#[tokio::test]
async fn no_byte_of_64_mib_is_lost_or_doubled_when_100_websockets_break() {
    dropped_streams(Rule::everything()).await;
}

#[tokio::test]
async fn no_byte_of_64_mib_is_lost_or_doubled_when_100_spdy_streams_break() {
    dropped_streams(Rule::least_privilege()).await;
}
