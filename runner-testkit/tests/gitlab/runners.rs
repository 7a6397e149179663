//! Registration and TLS.

use runner_testkit::gitlab::{GitLab, Rule};
use serde_json::json;

use super::*;

async fn call(client: &Client, method: Method, path: &str, token: &str) -> Response {
    let body = json!({ "token": token, "system_id": "s_0123456789ab", "info": {} });
    client.call(method, path).header("RUNNER-TOKEN", token).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn api_12_a_known_runner_verifies_and_an_unknown_one_is_403() {
    let gitlab = GitLab::start().await.unwrap();
    let client = Client::of(&gitlab);
    let reply = call(&client, Method::POST, "runners/verify", gitlab.runner_token()).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.json::<Value>().await.unwrap()["token"], gitlab.runner_token());
    assert_eq!(call(&client, Method::POST, "runners/verify", "wrong").await.status(), 403);
}

#[tokio::test]
async fn api_10_api_13_a_registered_runner_polls_until_it_is_unregistered() {
    let gitlab = GitLab::builder().registration_token("reg").start().await.unwrap();
    let mut client = Client::of(&gitlab);
    assert_eq!(call(&client, Method::POST, "runners", "wrong").await.status(), 403);
    let reply = call(&client, Method::POST, "runners", "reg").await;
    assert_eq!(reply.status(), 201);
    let body: Value = reply.json().await.unwrap();
    client.runner = body["token"].as_str().unwrap().to_owned();
    assert_eq!(client.request(json!({})).await.status(), 204);
    assert_eq!(call(&client, Method::DELETE, "runners", &client.runner).await.status(), 204);
    assert_eq!(client.request(json!({})).await.status(), 403);
}

#[tokio::test]
async fn api_14_a_token_that_was_reset_is_replaced() {
    let gitlab = GitLab::start().await.unwrap();
    let mut client = Client::of(&gitlab);
    let old = client.runner.clone();
    let reset = "runners/reset_authentication_token";
    let body: Value = call(&client, Method::POST, reset, &old).await.json().await.unwrap();
    assert_eq!(client.request(json!({})).await.status(), 403);
    client.runner = body["token"].as_str().unwrap().to_owned();
    assert_eq!(client.request(json!({})).await.status(), 204);
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_404_and_noted() {
    let gitlab = GitLab::start().await.unwrap();
    let reply = Client::of(&gitlab).call(Method::GET, "version").send().await.unwrap();
    assert_eq!(reply.status(), 404);
    assert_eq!(rules(&gitlab), [Rule::UnknownPath]);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn api_66_over_tls_only_a_client_that_trusts_its_authority_gets_through() {
    let gitlab = GitLab::builder().tls().start().await.unwrap();
    assert!(gitlab.url().starts_with("https://127.0.0.1:"));
    let mut client = Client::of(&gitlab);
    let request = client.call(Method::POST, "jobs/request");
    request.send().await.unwrap_err();
    let authority = reqwest::Certificate::from_pem(gitlab.ca_pem().unwrap().as_bytes()).unwrap();
    client.http = http().tls_certs_only([authority]).build().unwrap();
    assert_eq!(client.request(json!({})).await.status(), 204);
}

#[tokio::test]
async fn it_stops_with_all_its_connections_when_it_is_dropped() {
    let gitlab = GitLab::start().await.unwrap();
    let addr = gitlab.addr();
    let client = Client::of(&gitlab);
    client.request(json!({})).await;
    drop(gitlab);
    client.call(Method::POST, "jobs/request").send().await.unwrap_err();
    let closed = async {
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, closed).await.unwrap();
}
