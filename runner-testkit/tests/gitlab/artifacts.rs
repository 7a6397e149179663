//! Uploads, downloads and the other origin.

use reqwest::multipart::{Form, Part};
use runner_testkit::gitlab::{Artifact, GitLab, JobSpec, Rule};

use super::*;

async fn upload(client: &Client, job: &Taken, query: &str, data: &'static [u8]) -> Response {
    let part = Part::bytes(data).file_name("out.zip").mime_str("application/octet-stream");
    client
        .call(Method::POST, &format!("jobs/{}/artifacts?{query}", job.id))
        .header("JOB-TOKEN", &job.token)
        .multipart(Form::new().part("file", part.unwrap()))
        .send()
        .await
        .unwrap()
}

const ARCHIVE: &str = "artifact_type=archive&artifact_format=zip&expire_in=1+week";

#[tokio::test]
async fn api_69_an_upload_is_stored_with_what_its_query_says() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    assert_eq!(upload(&client, &taken, ARCHIVE, b"PK").await.status(), 201);
    let stored = gitlab.artifacts(&job);
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].filename.as_str(), stored[0].data.as_ref()), ("out.zip", &b"PK"[..]));
    assert_eq!(stored[0].expire_in.as_deref(), Some("1 week"));
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn api_70_an_upload_above_the_limit_is_413_whatever_its_size() {
    let gitlab = GitLab::builder().artifact_limit(1000).start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    for data in [&[0; 1001][..], &[0; 3_000_000][..]] {
        assert_eq!(upload(&client, &taken, ARCHIVE, data).await.status(), 413);
    }
    assert_eq!(gitlab.artifacts(&job).len(), 0);
    assert_eq!(rules(&gitlab), [Rule::Artifact, Rule::Artifact]);
}

#[tokio::test]
async fn the_same_upload_again_is_taken_and_another_of_its_type_refused() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, job, taken) = running(&gitlab).await;
    upload(&client, &taken, ARCHIVE, b"one").await;
    assert_eq!(upload(&client, &taken, ARCHIVE, b"one").await.status(), 201);
    assert_eq!(upload(&client, &taken, ARCHIVE, b"two").await.status(), 400);
    let junit = "artifact_type=junit&artifact_format=gzip";
    assert_eq!(upload(&client, &taken, junit, b"xml").await.status(), 201);
    assert_eq!(gitlab.artifacts(&job).len(), 2);
    for wrong in ["artifact_type=junit&artifact_format=zip", "artifact_type=nonsense"] {
        assert_eq!(upload(&client, &taken, wrong, b"x").await.status(), 400, "{wrong}");
    }
}

/// A job with an archive, and one running that needs it.
async fn with_dependency(gitlab: &GitLab) -> (Client, Taken, Taken) {
    let client = Client::of(gitlab);
    let compile = gitlab.enqueue(JobSpec::new("compile").artifact(Artifact::archive(["out"])));
    gitlab.enqueue(JobSpec::new("test").needs(&compile));
    let maker = client.take().await;
    upload(&client, &maker, ARCHIVE, b"PKdata").await;
    client.put(&maker, verdict("success", b"")).await;
    let user = client.take().await;
    (client, maker, user)
}

#[tokio::test]
async fn a_dependency_names_the_archive_and_its_token_downloads_it() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, maker, user) = with_dependency(&gitlab).await;
    let dependency = &user.payload["dependencies"][0];
    assert_eq!(
        (dependency["id"].as_u64(), &dependency["name"]),
        (Some(maker.id), &"compile".into())
    );
    assert_eq!(dependency["artifacts_file"]["size"], 6);
    let reply = client
        .call(Method::GET, &format!("jobs/{}/artifacts?direct_download=true", maker.id))
        .header("JOB-TOKEN", dependency["token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.bytes().await.unwrap(), "PKdata");
    assert_eq!(gitlab.violations(), []);
}

#[tokio::test]
async fn api_71_a_job_that_does_not_need_it_is_403_and_one_without_archive_is_404() {
    let gitlab = GitLab::start().await.unwrap();
    let (client, maker, user) = with_dependency(&gitlab).await;
    gitlab.enqueue(JobSpec::new("stranger"));
    let stranger = client.take().await;
    let get = |id: u64, token: &str| {
        client.call(Method::GET, &format!("jobs/{id}/artifacts")).header("JOB-TOKEN", token).send()
    };
    assert_eq!(get(maker.id, &stranger.token).await.unwrap().status(), 403);
    assert_eq!(rules(&gitlab), [Rule::JobToken]);
    assert_eq!(get(user.id, &user.token).await.unwrap().status(), 404);
}

#[tokio::test]
async fn api_71_a_direct_download_is_redirected_and_must_not_carry_the_token() {
    let gitlab = GitLab::builder().object_storage().start().await.unwrap();
    let (mut client, maker, user) = with_dependency(&gitlab).await;
    client.http = http().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let path = format!("jobs/{}/artifacts?direct_download=true", maker.id);
    let reply =
        client.call(Method::GET, &path).header("JOB-TOKEN", &user.token).send().await.unwrap();
    assert_eq!(reply.status(), 302);
    let location = header(&reply, "location").to_owned();
    assert!(!location.starts_with(&gitlab.url()), "{location}");

    let whole = client.http.get(&location).send().await.unwrap();
    assert_eq!(whole.bytes().await.unwrap(), "PKdata");
    let part = client.http.get(&location).header("Range", "bytes=2-3").send().await.unwrap();
    assert_eq!((part.status().as_u16(), header(&part, "content-range")), (206, "bytes 2-3/6"));
    assert_eq!(part.bytes().await.unwrap(), "da");
    assert_eq!(gitlab.violations(), []);

    client.http.get(&location).header("JOB-TOKEN", &user.token).send().await.unwrap();
    assert_eq!(rules(&gitlab), [Rule::TokenLeaked]);
}
