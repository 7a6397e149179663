//! Whom the manager cannot reach stands in its log, with the reason: the operator who finds no job taken
//! looks there first.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::house::House;

/// An address where nobody listens, for as long as this is kept.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

#[tokio::test]
async fn why_gitlab_cannot_be_reached_is_said() {
    let house = House::new().await;
    let (_kept, address) = nobody();
    house.write(&house.one().replace(&house.gitlab.url(), &format!("http://{address}")));
    let manager = house.start();
    manager.says("Checking for jobs... failed").await;
    manager.says("GitLab cannot be reached while asking for a job").await;
    manager.says("Connection refused").await;
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_named_once_with_the_reason() {
    let house = House::new().await;
    let (_kept, address) = nobody();
    let config = house.config();
    let kubeconfig: PathBuf = config.with_file_name("kubeconfig");
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let away = text.replace(&house.cluster.url(), &format!("https://{address}"));
    assert_ne!(text, away);
    std::fs::write(&kubeconfig, away).unwrap();
    house.write(&house.one());
    let manager = house.start();
    manager.says("the cluster's API server does not answer").await;
    manager.says("Connection refused").await;
    // The next look is after the lease's quarter; a line for each would hide all others.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(manager.log().matches("API server does not answer").count(), 1, "{}", manager.log());
}

#[tokio::test]
async fn an_api_server_that_answers_again_is_said_too() {
    let house = House::new().await;
    house.write(&house.one());
    let manager = house.start();
    house.polls(1).await;
    house.cluster.api_away(Duration::from_secs(600));
    manager.says("the cluster's API server does not answer").await;
    house.cluster.api_back();
    manager.says("the cluster's API server answers again").await;
}
