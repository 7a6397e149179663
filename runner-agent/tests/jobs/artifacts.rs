//! Artifacts of whole jobs, through the agent program, to and from a server over HTTP.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::io::Read;
use std::time::Duration;

use rstest::rstest;
use runner_core::executor::{Executor, JobRequest};
use runner_core::ids::{JobId, Offset};
use runner_core::job::{Artifact, ArtifactFormat, ArtifactWhen, Dependency};
use runner_core::outcome::Outcome;
use runner_core::plan::{HttpBody, HttpTransfer, Transfer};
use runner_core::planner::{Transfers, plan};
use runner_core::source::Ticket;
use runner_testkit::objects::ObjectServer;

use crate::world::{Seen, World, follow};

pub(crate) fn transfer(server: &ObjectServer, method: &str, name: &str) -> Transfer {
    Transfer::Http(HttpTransfer {
        method: method.to_owned(),
        url: format!("{}/{name}?artifact_type=archive", server.address()).into(),
        headers: vec![("JOB-TOKEN".to_owned(), "token".into())],
        body: HttpBody::Multipart { field: "file".to_owned() },
        tls_ca: None,
        timeout: Duration::from_secs(60),
    })
}

pub(crate) fn artifact(paths: &[&str]) -> Artifact {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Artifact { paths, kind: "archive".to_owned(), ..Artifact::default() }
}

/// Runs a job whose artifacts go to `upload/0`, `upload/1`, … and that gets those of others from
/// `download/1`, ….
pub(crate) async fn run(world: &World, server: &ObjectServer) -> Seen {
    let job = &world.job;
    let names = (0..job.artifacts.len()).map(|number| format!("upload/{number}"));
    let transfers = Transfers {
        uploads: names.map(|name| Some(transfer(server, "POST", &name))).collect(),
        downloads: job
            .dependencies
            .iter()
            .map(|dependency| transfer(server, "GET", &format!("download/{}", dependency.id)))
            .collect(),
        ..Transfers::default()
    };
    let plan = plan(job, &world.settings, transfers).unwrap();
    let ticket = Ticket("ticket".into());
    let request = JobRequest { job, plan: &plan, ticket: &ticket, session: None };
    let mut handle = world.executor.reserve(request).await.unwrap();
    world.mount_builds();
    handle.start().await.unwrap();
    let seen = follow(&mut *handle, Offset::ZERO).await;
    handle.dispose().await.unwrap();
    seen
}

fn world(script: &[&str], artifacts: &[Artifact]) -> World {
    let mut world = World::new(script);
    world.job.artifacts = artifacts.to_vec();
    world
}

/// The one part of a multipart body: its file name and content.
pub(crate) fn part(server: &ObjectServer, name: &str) -> (String, Vec<u8>) {
    let object = server.object(name).unwrap();
    let kind = object.headers["content-type"].to_str().unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = object.bytes.to_vec();
    let head = body.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let text = String::from_utf8(body[..head].to_vec()).unwrap();
    assert!(text.starts_with(&format!("--{boundary}\r\n")), "{text}");
    assert!(text.contains("name=\"file\""), "{text}");
    assert!(text.to_lowercase().contains("content-type: application/octet-stream"), "{text}");
    let file = text.split_once("filename=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    let end = format!("\r\n--{boundary}--\r\n").into_bytes();
    let content = body[head + 4..].strip_suffix(end.as_slice()).unwrap().to_vec();
    assert!(!content.windows(boundary.len()).any(|window| window == boundary.as_bytes()));
    (file, content)
}

pub(crate) fn unzipped(content: &[u8], name: &str) -> String {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(content)).unwrap();
    let mut text = String::new();
    zip.by_name(name).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn stages_98_the_level_of_gitlabs_helper_is_the_level_of_artifacts() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo the same again; done > file";
    let stored = |level: &'static str| async move {
        let server = ObjectServer::start().await.unwrap();
        let world = world(&[script], &[artifact(&["file"])]);
        let seen = run(&world.variable("ARTIFACT_COMPRESSION_LEVEL", level), &server).await;
        assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
        let again = b"the same again\nthe same again\n";
        part(&server, "upload/0").1.windows(again.len()).any(|window| window == again)
    };
    assert!(stored("fastest").await);
    assert!(!stored("default").await);
}

#[tokio::test]
async fn stages_89_an_archive_is_one_part_of_a_form_and_sent_while_it_is_packed() {
    let server = ObjectServer::start().await.unwrap();
    let archive = Artifact { name: Some("$NAME/x".into()), ..artifact(&["out", "none"]) };
    let world = world(&["mkdir out; echo content > out/file"], &[archive]).variable("NAME", "n");
    let seen = run(&world, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    let (file, content) = part(&server, "upload/0");
    assert_eq!((file.as_str(), unzipped(&content, "out/file").as_str()), ("x.zip", "content\n"));
    let object = server.object("upload/0").unwrap();
    assert_eq!(object.headers["job-token"], "token");
    assert_eq!(object.headers["transfer-encoding"], "chunked");
    let text = seen.text();
    for line in [
        "Uploading artifacts...",
        "out: found 2 matching artifact files and directories",
        "none: no matching files. Ensure that the artifact path is relative to the working directory",
        "Uploading artifacts as \"archive\" to coordinator... 201 Created",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[rstest]
#[case(ArtifactFormat::Zip, "artifacts.zip", b"PK".as_slice())]
#[case(ArtifactFormat::ZipZstd, "artifacts.zip", b"PK".as_slice())]
#[case(ArtifactFormat::TarZstd, "artifacts.tar.zst", b"\x28\xb5\x2f\xfd".as_slice())]
#[case(ArtifactFormat::Gzip, "default.gz", b"\x1f\x8b".as_slice())]
#[case(ArtifactFormat::Raw, "default", b"content\n".as_slice())]
#[tokio::test]
async fn stages_87_every_format_has_its_name(
    #[case] format: ArtifactFormat,
    #[case] name: &str,
    #[case] magic: &[u8],
) {
    let server = ObjectServer::start().await.unwrap();
    let report = Artifact { format, kind: "junit".into(), ..artifact(&["report"]) };
    let seen = run(&world(&["echo content > report"], &[report]), &server).await;
    let (file, content) = part(&server, "upload/0");
    assert_eq!(file, name, "{}", seen.text());
    assert!(content.starts_with(magic));
    assert!(seen.text().contains("Uploading artifacts as \"junit\" to coordinator... 201 Created"));
}

#[tokio::test]
async fn stages_89_a_server_that_is_busy_gets_the_same_archive_again() {
    let server = ObjectServer::start().await.unwrap();
    server.fail_with([503, 500]);
    // Packed a second time, it would hold something else.
    let script = "mkdir out; head -c 300000 /dev/urandom > out/noise; mkfifo out/pipe";
    let seen = run(&world(&[script], &[artifact(&["out"])]), &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    assert_eq!(server.requests().len(), 3);
    assert_eq!(seen.text().matches("Retrying...").count(), 2);
    assert!(seen.text().contains("coordinator... 503 Service Unavailable"), "{}", seen.text());
}

#[rstest]
#[case(403, 1, "403 Forbidden: permission denied")]
#[case(413, 1, "413 Request Entity Too Large: the archive has ")]
#[case(400, 1, "400 Bad Request")]
#[case(500, 3, "500 Internal Server Error")]
#[tokio::test]
async fn stages_89_91_a_refused_upload_fails_the_job(
    #[case] status: u16,
    #[case] tries: usize,
    #[case] said: &str,
) {
    let server = ObjectServer::start().await.unwrap();
    server.fail_with([status; 3]);
    let seen = run(&world(&["echo x > f"], &[artifact(&["f"])]), &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(1), "{}", seen.text());
    assert_eq!(server.requests().len(), tries);
    assert!(seen.text().contains(said), "{}", seen.text());
}

#[tokio::test]
async fn stages_89_a_redirect_changes_the_host_and_nothing_else() {
    let (server, other) =
        (ObjectServer::start().await.unwrap(), ObjectServer::start().await.unwrap());
    server.answer_with(307, "location", format!("{}/elsewhere", other.address()));
    let seen = run(&world(&["echo x > f"], &[artifact(&["f"])]), &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0), "{}", seen.text());
    assert_eq!(other.names(), ["upload/0"]);
    assert!(seen.text().contains("upload request redirected"), "{}", seen.text());

    server.fail_with([307]);
    let seen = run(&world(&["echo x > f"], &[artifact(&["f"])]), &server).await;
    assert!(seen.text().contains("empty location"), "{}", seen.text());
}

#[tokio::test]
async fn stages_90_a_job_without_files_to_upload_succeeds() {
    let server = ObjectServer::start().await.unwrap();
    let seen = run(&world(&["true"], &[artifact(&["none"])]), &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(0));
    assert!(seen.text().contains("ERROR: No files to upload"), "{}", seen.text());
    assert!(server.requests().is_empty());
}

#[rstest]
#[case("true", &["upload/0", "upload/2"])]
#[case("exit 3", &["upload/1", "upload/2"])]
#[tokio::test]
async fn stages_92_when_decides(#[case] end: &str, #[case] expected: &[&str]) {
    let server = ObjectServer::start().await.unwrap();
    let of = |when| Artifact { when, ..artifact(&["f"]) };
    let all = [of(ArtifactWhen::OnSuccess), of(ArtifactWhen::OnFailure), of(ArtifactWhen::Always)];
    run(&world(&["echo x > f", end], &all), &server).await;
    assert_eq!(server.names(), expected);
}

#[tokio::test]
async fn stages_88_a_report_that_is_no_file_fails_and_keeps_no_other_from_being_sent() {
    let server = ObjectServer::start().await.unwrap();
    let gzip = Artifact { format: ArtifactFormat::Gzip, ..artifact(&["dir"]) };
    let raw = Artifact { format: ArtifactFormat::Raw, ..artifact(&["a", "b"]) };
    let script = ["mkdir dir; echo a > a; echo b > b"];
    let seen = run(&world(&script, &[gzip, raw, artifact(&["a"])]), &server).await;
    let text = seen.text();
    assert!(text.contains("the \"dir\" is not a regular file"), "{text}");
    assert!(text.contains("only one file can be sent as raw"), "{text}");
    assert_eq!(server.names(), ["upload/2"], "{text}");
    assert_eq!(seen.end.outcome, Outcome::Exited(1));
}

#[tokio::test]
async fn stages_82_what_is_excluded_stays_out() {
    let server = ObjectServer::start().await.unwrap();
    let archive = Artifact { exclude: vec!["out/**/*.o".into()], ..artifact(&["out"]) };
    let script = ["mkdir -p out/sub; touch out/a.o out/sub/b.o out/c"];
    let seen = run(&world(&script, &[archive]), &server).await;
    let (_, content) = part(&server, "upload/0");
    let zip = zip::ZipArchive::new(std::io::Cursor::new(content)).unwrap();
    let mut names: Vec<_> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["out/", "out/c", "out/sub/"], "{}", seen.text());
    assert!(seen.text().contains("out/**/*.o: excluded 2 files"), "{}", seen.text());
}

#[tokio::test]
async fn a_link_out_of_the_project_gives_nothing_away() {
    let server = ObjectServer::start().await.unwrap();
    let script = ["ln -s /etc outside; ln -s /etc/passwd one"];
    let archive = artifact(&["outside/passwd", "outside/*", "one"]);
    let seen = run(&world(&script, &[archive]), &server).await;
    let (_, content) = part(&server, "upload/0");
    assert_eq!(unzipped(&content, "one"), "/etc/passwd", "{}", seen.text());
    assert!(!content.windows(5).any(|window| window == b"root:"));
}

#[tokio::test]
async fn stages_96_a_provenance_statement_is_in_the_archive() {
    let server = ObjectServer::start().await.unwrap();
    let raw = Artifact { format: ArtifactFormat::Raw, ..artifact(&["f"]) };
    let script = ["echo abc > f; ln -s /etc/passwd artifacts-metadata.json"];
    let world = world(&script, &[artifact(&["f"]), raw])
        .variable("RUNNER_GENERATE_ARTIFACTS_METADATA", "true");
    let seen = run(&world, &server).await;
    let (_, content) = part(&server, "upload/0");
    let text = unzipped(&content, "artifacts-metadata.json");
    let statement: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(statement["subject"][0]["name"], "f", "{}", seen.text());
    assert_eq!(
        statement["predicate"]["buildDefinition"]["externalParameters"]["entryPoint"],
        "test"
    );
    assert_eq!(part(&server, "upload/1").1, b"abc\n");
}

/// An archive as an earlier job would have made it.
async fn archive_of(script: &str, paths: &[&str]) -> Vec<u8> {
    let server = ObjectServer::start().await.unwrap();
    run(&world(&[script], &[artifact(paths)]), &server).await;
    part(&server, "upload/0").1
}

fn dependency(id: u64) -> Dependency {
    Dependency {
        id: JobId(id),
        name: format!("job {id}"),
        token: "token".into(),
        filename: "artifacts.zip".into(),
        size: 1,
    }
}

#[tokio::test]
async fn stages_93_archives_are_fetched_side_by_side_and_unpacked_in_order() {
    let server = ObjectServer::start().await.unwrap();
    let mut world = World::new(&["cat f; ls | tr '\\n' ' '"]);
    for id in 1..=6 {
        let archive = archive_of(&format!("echo {id} > f; echo x > g{id}"), &["f", "g*"]).await;
        server.put(&format!("download/{id}"), archive, 1);
        world.job.dependencies.push(dependency(id));
    }
    let seen = run(&world, &server).await;
    let text = seen.text();
    assert!(text.contains("6\nf g1 g2 g3 g4 g5 g6 "), "{text}");
    let said =
        |id: u64| text.find(&format!("Downloading artifacts for job {id} ({id})...")).unwrap();
    assert!((1..6).all(|id| said(id) < said(id + 1)), "{text}");
}

#[rstest]
#[case(401, 1, "this job may not read the artifacts")]
#[case(403, 1, "this job may not read the artifacts")]
#[case(404, 1, "the archive has expired or was deleted")]
#[case(500, 3, "500 Internal Server Error")]
#[tokio::test]
async fn stages_93_an_archive_that_cannot_be_had_fails_the_job(
    #[case] status: u16,
    #[case] tries: usize,
    #[case] said: &str,
) {
    let server = ObjectServer::start().await.unwrap();
    server.fail_with([status; 3]);
    let mut world = World::new(&["echo not reached"]);
    world.job.dependencies.push(dependency(1));
    let seen = run(&world, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(1));
    assert_eq!(server.requests().len(), tries);
    assert!(seen.text().contains(said) && !seen.text().contains("not reached"), "{}", seen.text());
}

#[tokio::test]
async fn stages_93_a_redirect_to_a_store_is_followed_without_the_token() {
    let (server, store) =
        (ObjectServer::start().await.unwrap(), ObjectServer::start().await.unwrap());
    store.put("direct", archive_of("echo content > f", &["f"]).await, 1);
    server.answer_with(302, "location", format!("{}/direct", store.address()));
    let mut world = World::new(&["cat f"]);
    world.job.dependencies.push(dependency(1));
    let seen = run(&world, &server).await;
    assert!(seen.text().contains("content"), "{}", seen.text());
    assert_eq!((server.requests().len(), store.requests()), (1, vec!["GET direct".to_owned()]));
}

#[tokio::test]
async fn stages_94_a_hostile_archive_fails_the_job_with_a_clear_message() {
    use std::io::Write;
    let server = ObjectServer::start().await.unwrap();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("../../evil", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"x").unwrap();
    server.put("download/1", zip.finish().unwrap().into_inner(), 1);
    let mut world = World::new(&["true"]);
    world.job.dependencies.push(dependency(1));
    let seen = run(&world, &server).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(1));
    let line =
        "the archive was refused: its entry \"../../evil\" lies outside of the project directory";
    assert!(seen.text().contains(line), "{}", seen.text());
}
