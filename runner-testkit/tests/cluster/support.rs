//! A cluster with a plain HTTP client, a watch reader and a websocket client.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Isolation};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const IMAGE: &str = "busybox:test";

pub(crate) struct Sim {
    pub(crate) cluster: Cluster,
}

pub(crate) fn settings(isolation: Isolation) -> ClusterSettings {
    ClusterSettings {
        isolation,
        crash_backoff: Duration::from_millis(200),
        pull_backoff: Duration::from_millis(200),
        ..ClusterSettings::default()
    }
}

pub(crate) fn sim() -> Sim {
    Sim::start(settings(Isolation::Auto))
}

impl Sim {
    pub(crate) fn start(settings: ClusterSettings) -> Self {
        let cluster = Cluster::start(settings).unwrap();
        cluster.register_image(IMAGE, ImageSpec::present());
        Sim { cluster }
    }

    pub(crate) async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> hyper::Result<http::Response<Incoming>> {
        let tcp = TcpStream::connect(self.cluster.address()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "sim")
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await
    }

    pub(crate) async fn call_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let body = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let response = self.send(token, method, path, &[], body).await.unwrap();
        let code = response.status().as_u16();
        let bytes = timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
        let bytes = bytes.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    /// As the admin.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        self.call_as(self.cluster.admin_token(), method, path, body).await
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.cluster.namespace())
    }

    pub(crate) async fn create(&self, pod: &Value) -> Value {
        let (code, body) = self.call(Method::POST, &self.path("pods"), Some(pod)).await;
        assert_eq!(code, 201, "{body}");
        body
    }

    pub(crate) async fn watch(&self, query: &str) -> Watch {
        let path = self.path(&format!("pods?watch=true&allowWatchBookmarks=true&{query}"));
        let token = self.cluster.admin_token().to_owned();
        let response = self.send(&token, Method::GET, &path, &[], Vec::new()).await.unwrap();
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), buffer: BytesMut::new() }
    }

    /// Waits until a pod satisfies this, and returns it.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut watch = self.watch(&format!("fieldSelector=metadata.name%3D{name}")).await;
        let mut last = Value::Null;
        loop {
            let event = timeout(PATIENCE, watch.next()).await;
            let event = event.unwrap_or_else(|_| panic!("never so, last seen: {last:#}"));
            let event = event.expect("the watch ended");
            if event["type"] != "BOOKMARK" && wanted(&event["object"]) {
                return event["object"].clone();
            }
            last = event["object"].clone();
        }
    }

    pub(crate) async fn until_running(&self, name: &str) -> Value {
        self.until(name, |p| p["status"]["phase"] == "Running").await
    }

    pub(crate) async fn until_ended(&self, name: &str) -> Value {
        let ended =
            |p: &Value| matches!(p["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        self.until(name, ended).await
    }

    /// Runs a pod to its end and returns it with the log of its container `main`.
    pub(crate) async fn run(&self, pod: &Value) -> (Value, String) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.create(pod).await;
        let pod = self.until_ended(name).await;
        let path = self.path(&format!("pods/{name}/log?container=main"));
        let (_, log) = self.call(Method::GET, &path, None).await;
        // A log that happens to be JSON has been parsed.
        (pod, log.as_str().map_or_else(|| log.to_string(), str::to_owned))
    }

    pub(crate) async fn upgrade(
        &self,
        token: &str,
        path: &str,
        protocols: &str,
    ) -> Result<(String, Exec), (u16, String)> {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ];
        let response =
            self.send(token, Method::GET, &self.path(path), &headers, Vec::new()).await.unwrap();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let code = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            return Err((code, String::from_utf8_lossy(&body).into_owned()));
        }
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let protocol = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
        let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        Ok((protocol, Exec(WebSocketStream::from_raw_socket(io, Role::Client, None).await)))
    }

    /// Runs `sh -c SCRIPT` in a container by exec.
    pub(crate) async fn exec(&self, pod: &str, container: &str, script: &str) -> Exec {
        let path = exec_path(pod, container, &["sh", "-c", script]);
        let token = self.cluster.admin_token().to_owned();
        self.upgrade(&token, &path, "v5.channel.k8s.io").await.unwrap().1
    }
}

pub(crate) fn exec_path(pod: &str, container: &str, command: &[&str]) -> String {
    let mut path =
        format!("pods/{pod}/exec?container={container}&stdin=true&stdout=true&stderr=true");
    for word in command {
        path.push_str("&command=");
        for byte in word.bytes() {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

pub(crate) struct Watch {
    body: Incoming,
    buffer: BytesMut,
}

impl Watch {
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|&b| b == b'\n') {
                let line = self.buffer.split_to(at + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref()?);
        }
    }
}

pub(crate) struct Exec(pub(crate) WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>);

/// What came over a stream.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Option<Value>,
    /// Channel and length of each message, and "close".
    pub(crate) order: Vec<String>,
    pub(crate) closed: bool,
}

impl Exec {
    pub(crate) async fn input(&mut self, bytes: &[u8]) {
        let mut message = vec![0];
        message.extend_from_slice(bytes);
        self.0.send(Message::binary(message)).await.unwrap();
    }

    pub(crate) async fn close_input(&mut self) {
        self.0.send(Message::binary(vec![255, 0])).await.unwrap();
    }

    /// Reads until something has come on stdout.
    pub(crate) async fn begun(&mut self) {
        let mut came = Came::default();
        timeout(PATIENCE, async {
            while came.stdout.is_empty() {
                if let Message::Binary(bytes) = self.0.next().await.unwrap().unwrap() {
                    came.take(&bytes);
                }
            }
        })
        .await
        .expect("nothing came");
    }

    pub(crate) async fn read(&mut self) -> Came {
        let mut came = Came::default();
        timeout(PATIENCE, async {
            while let Some(message) = self.0.next().await {
                match message {
                    Ok(Message::Binary(bytes)) => came.take(&bytes),
                    Ok(Message::Close(frame)) => {
                        came.closed = true;
                        came.order.push(format!("close {}", u16::from(frame.unwrap().code)));
                        break;
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        })
        .await
        .expect("the stream neither ended nor went on");
        came
    }
}

impl Came {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let (channel, bytes) = (bytes[0], &bytes[1..]);
        self.order.push(format!("{channel}:{}", if bytes.is_empty() { "" } else { "x" }));
        match channel {
            1 => self.stdout.extend_from_slice(bytes),
            2 => self.stderr.extend_from_slice(bytes),
            3 => self.status = Some(serde_json::from_slice(bytes).unwrap()),
            other => panic!("channel {other}"),
        }
    }
}

/// A pod with one container `main` that runs a script.
pub(crate) fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": "main", "image": IMAGE, "command": ["sh", "-c", script],
            }],
        },
    })
}

pub(crate) fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}
