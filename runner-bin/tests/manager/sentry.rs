//! Errors go to Sentry, too.

use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::house::{House, PATIENCE};

/// A Sentry with project 7: its DSN, and what it is sent.
async fn sentry() -> (String, mpsc::Receiver<(String, Value)>) {
    let (events, received) = mpsc::channel(16);
    let take = async move |headers: HeaderMap, body: String| {
        let auth = headers["x-sentry-auth"].to_str().unwrap().to_owned();
        let event = serde_json::from_str(body.lines().nth(2).unwrap()).unwrap();
        events.send((auth, event)).await.unwrap();
    };
    let app = axum::Router::new().route("/api/7/envelope/", post(take));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dsn = format!("http://public@{}/7", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (dsn, received)
}

#[tokio::test]
async fn manager_10_errors_are_sent_with_their_fields_also_the_one_that_ends_the_manager() {
    let (dsn, mut events) = sentry().await;
    let house = House::new().await;
    let docker =
        "[[runners]]\nname = \"d\"\nurl = \"https://g\"\ntoken = \"t\"\nexecutor = \"docker\"\n";
    house.write(&format!("sentry_dsn = {dsn:?}\n{docker}{}", house.one()));
    let _manager = house.start();
    let (auth, event) = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    assert!(auth.contains("sentry_key=public") && auth.contains("sentry_version=7"), "{auth}");
    let text = event["logentry"]["formatted"].as_str().unwrap();
    assert!(text.starts_with("this runner is left out"), "{event}");
    assert_eq!(event["extra"]["runner"], "d");

    // Nothing can listen there, which is fatal.
    house.write_to(
        "fatal.toml",
        &format!("listen_address = \"192.0.2.1:1\"\nsentry_dsn = {dsn:?}\n"),
    );
    let mut fatal = house.start_from("fatal.toml");
    assert_eq!(fatal.end().await, Some(1));
    let (_, event) = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    let text = event["logentry"]["formatted"].as_str().unwrap();
    assert!(text.starts_with("Service run failed: cannot listen on 192.0.2.1:1"), "{event}");
}
