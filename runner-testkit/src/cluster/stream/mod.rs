//! `pods/exec` and `pods/attach`: programs whose streams go over an upgraded connection.
//!
//! This module decides whether a stream can begin, and what its status frame says. The two ways to put
//! streams onto a connection are in [`websocket`] and [`spdy`].

mod dictionary;
mod spdy;
mod websocket;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::kinds::PODS;
use super::kubelet::log::Log;
use super::kubelet::process::{self, StartError};
use super::kubelet::{Running, Stdin};
use super::line::Line;
use super::logs;
use super::refusal::Refusal;
use super::route::Route;
use super::scripted::ScriptedIo;
use super::server::{Body, full};
use super::shared::Shared;

/// The streams that a client has asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    resize: bool,
}

/// A protocol's number, which decides small differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V5,
}

/// Bytes that a program has written, and where.
type Output = (u8, Bytes);

const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// A program as the stream's protocols see it.
struct Session {
    stdin: Stdin,
    output: mpsc::Receiver<Output>,
    /// The text of the status frame.
    status: oneshot::Receiver<String>,
}

/// Begins a stream.
pub(super) async fn open(
    shared: &Arc<Shared>,
    line: &Arc<Line>,
    route: &Route,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let Some(pod) = shared.store.get(&PODS, &route.namespace, &route.name) else {
        return Err(Refusal::not_found("pods", "", &route.name));
    };
    let headers = request.headers().clone();
    if !has(&headers, CONNECTION.as_str(), "upgrade") {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    let container = logs::container(&pod, route.query.get("container"))?;
    let query = &route.query;
    let wanted = Wanted {
        stdin: query.is("stdin"),
        stdout: query.is("stdout"),
        stderr: query.is("stderr") && !query.is("tty"),
        resize: query.is("tty"),
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Refusal::text(400, "you must specify at least 1 of stdin, stdout, stderr"));
    }
    if *shared.node_lost.lock() {
        let why = "error dialing backend: dial tcp 127.0.0.1:10250: connect: no route to host";
        return Err(Refusal::internal(why));
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let running = shared.running.lock().get(&(uid, container.clone())).cloned();
    let Some(running) = running else {
        return Err(Refusal::text(500, format!("container not found ({container:?})")));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let websocket = has(&headers, UPGRADE.as_str(), "websocket");
    let mut response = if websocket && request.method() == Method::GET {
        websocket::accept(&headers)?
    } else if has(&headers, UPGRADE.as_str(), "spdy/3.1") {
        spdy::accept(&headers)?
    } else {
        return Err(Refusal::bad_request("Upgrade request required"));
    };
    let version = response.extensions_mut().remove::<Version>().unwrap_or(Version::V4);
    let command = query.all("command");
    let attach = route.subresource == "attach";
    line.mark_stream(shared.faults.stream_budget());
    shared.tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let begin = async move {
            if attach {
                attached(&running)
            } else {
                executed(&running, command, wanted, version).await
            }
        };
        if websocket {
            websocket::run(upgraded, version, wanted, begin).await;
        } else {
            spdy::run(upgraded, wanted, begin).await;
        }
    });
    Ok(response)
}

fn has(headers: &HeaderMap, name: &str, token: &str) -> bool {
    offers(headers, name).iter().any(|v| v.eq_ignore_ascii_case(token))
}

/// All comma-separated values of a header.
fn offers(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_owned())
        .collect()
}

fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(upgrade));
    response
}

/// Starts a program in a container.
async fn executed(
    running: &Running,
    command: Vec<String>,
    wanted: Wanted,
    version: Version,
) -> Session {
    // Two pieces for each stream; a slow client holds back the program as a full pipe does.
    let (tx, output) = mpsc::channel(4);
    let (status_tx, status) = oneshot::channel();
    if let Some((exec, pod)) = &running.exec {
        let (near, stdin) = tokio::io::duplex(4 << 10);
        let (stdout, far) = tokio::io::duplex(64 << 10);
        let (exec, pod) = (exec.clone(), pod.clone());
        tokio::spawn(async move {
            let io = ScriptedIo { pod, command: command.clone(), stdin, stdout };
            let ((), code) = tokio::join!(pump(far, STDOUT, wanted.stdout, &tx), exec.run(io));
            // Nobody waits for the status of a stream that was dropped.
            drop(status_tx.send(ended(ExitStatus::from_raw(code << 8), &command, version)));
        });
        let stdin: Option<Box<dyn AsyncWrite + Send + Unpin>> = Some(Box::new(near));
        return Session { stdin: Arc::new(Mutex::new(stdin)), output, status };
    }
    let program = running.exec(command.clone(), wanted.stdin);
    let process = match process::start(program).await {
        Ok(process) => process,
        Err(error) => {
            // The receiver lives in the session that is returned.
            drop(status_tx.send(not_started(&error, version)));
            return Session { stdin: Arc::default(), output, status };
        }
    };
    let stdin: Option<Box<dyn AsyncWrite + Send + Unpin>> =
        process.stdin.map(|stdin| Box::new(stdin) as _);
    let stdin = Arc::new(Mutex::new(stdin));
    let (stdout, stderr, exit) = (process.stdout, process.stderr, process.exit);
    tokio::spawn(async move {
        let copied = async {
            tokio::join!(
                pump(stdout, STDOUT, wanted.stdout, &tx),
                pump(stderr, STDERR, wanted.stderr, &tx)
            );
        };
        let (exit, ()) = tokio::join!(exit, copied);
        let text = match exit {
            Ok(exit) => ended(exit, &command, version),
            Err(_) => not_started(&StartError::NotFound("the program was lost".into()), version),
        };
        // Nobody waits for the status of a stream that was dropped.
        drop(status_tx.send(text));
    });
    Session { stdin, output, status }
}

/// Reads a pipe to its end. When the client is gone the pipe is closed, here and at once, and the
/// program notices.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    channel: u8,
    wanted: bool,
    tx: &mpsc::Sender<Output>,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(32 << 10);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) if wanted => {
                if tx.send((channel, buffer.split().freeze())).await.is_err() {
                    return;
                }
            }
            Ok(_) => buffer.clear(),
        }
    }
}

/// Joins the output of a container's own program from now on.
fn attached(running: &Running) -> Session {
    let (tx, output) = mpsc::channel(4);
    let (status_tx, status) = oneshot::channel();
    let log = running.log.clone();
    tokio::spawn(async move {
        follow(&log, &tx).await;
        drop(status_tx.send(json!({"metadata": {}, "status": "Success"}).to_string()));
    });
    Session { stdin: running.stdin.clone(), output, status }
}

async fn follow(log: &Log, tx: &mpsc::Sender<Output>) {
    let mut end = log.end();
    let mut at = end.borrow().0;
    loop {
        let closed = end.borrow_and_update().1;
        for chunk in log.since(at) {
            at = chunk.at + chunk.bytes.len() as u64;
            let channel = if chunk.error_stream { STDERR } else { STDOUT };
            if tx.send((channel, chunk.bytes)).await.is_err() {
                return;
            }
        }
        if closed {
            return;
        }
        tokio::select! {
            changed = end.changed() => if changed.is_err() { return },
            () = tx.closed() => return,
        }
    }
}

fn ended(exit: ExitStatus, command: &[String], version: Version) -> String {
    let code = process::exit_code(exit);
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"}).to_string();
    }
    let why = match version {
        Version::V5 => format!("command terminated with exit code {code}"),
        Version::V4 => format!("error executing command [{}], exit code {code}", command.join(" ")),
    };
    failure(
        &format!("command terminated with non-zero exit code: {why}"),
        "NonZeroExitCode",
        json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]}),
        None,
    )
}

fn not_started(error: &StartError, version: Version) -> String {
    let runtime = "error executing command in container: failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed:";
    let inner = format!("{runtime} {error}");
    // Two servers wrap the message on the way of a v5 stream, one on that of a v4 stream.
    let inner = match version {
        Version::V5 => format!("Internal error occurred: {inner}"),
        Version::V4 => inner,
    };
    let causes = json!({"causes": [{"message": inner}]});
    failure(&format!("Internal error occurred: {inner}"), "InternalError", causes, Some(500))
}

fn failure(message: &str, reason: &str, details: Value, code: Option<u16>) -> String {
    let mut status = json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "details": details,
    });
    if let Some(code) = code {
        status["code"] = code.into();
    }
    status.to_string()
}

/// Gives a program input; `None` closes it.
async fn feed(stdin: &Stdin, bytes: Option<&[u8]>) {
    let mut pipe = stdin.lock().await;
    match bytes {
        Some(bytes) => {
            if let Some(open) = pipe.as_mut()
                && (open.write_all(bytes).await.is_err() || open.flush().await.is_err())
            {
                // The program reads no more, which is its right.
                *pipe = None;
            }
        }
        None => *pipe = None,
    }
}
