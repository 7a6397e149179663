//! A real browser with xterm.js against the session server, with a stand-in for what GitLab does in
//! between: it adds the token and trusts the session's certificate.
//!
//! Needs a browser and xterm.js: `.ci/run browser` brings both. Without them it says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::house::{House, PATIENCE};
use crate::sessions::{Web, busy, waits};

const PAGE: &str = include_str!("browser.html");

fn program(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("left out: {variable} is not set; `.ci/run browser` sets it");
    }
    path
}

/// Passes messages between the browser and the session, as GitLab does.
async fn pass_on(stream: TcpStream, web: &Web) {
    let mut protocol = String::new();
    #[expect(clippy::result_large_err, reason = "the library's callback")]
    let choose = |request: &Request, mut response: Response| {
        let wanted = request.headers()["sec-websocket-protocol"].clone();
        protocol = wanted.to_str().unwrap().to_owned();
        response.headers_mut().insert("sec-websocket-protocol", wanted);
        Ok(response)
    };
    let browser = tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap();
    let session = web.terminal(&protocol).await;
    let (mut to_browser, mut from_browser) = browser.split();
    let (mut to_session, mut from_session) = session.split();
    let there = async {
        while let Some(Ok(message)) = from_browser.next().await {
            if to_session.send(message).await.is_err() {
                return;
            }
        }
        let _ = to_session.close().await;
    };
    let back = async {
        while let Some(Ok(message)) = from_session.next().await {
            if to_browser.send(message).await.is_err() {
                return;
            }
        }
        let _ = to_browser.close().await;
    };
    tokio::join!(there, back);
}

/// Serves the page, and takes its report.
async fn serve_page(xterm: &Path, websocket: u16, report: mpsc::Sender<String>) -> u16 {
    use axum::http::header::CONTENT_TYPE;
    use axum::routing::{get, post};
    let page = PAGE.replace("@PORT@", &websocket.to_string());
    let file = |name: &str| std::fs::read_to_string(xterm.join(name)).unwrap();
    let (script, style) = (file("lib/xterm.js"), file("css/xterm.css"));
    let typed = |kind: &'static str, text: String| {
        get(move || std::future::ready(([(CONTENT_TYPE, kind)], text)))
    };
    let app = axum::Router::new()
        .route("/", typed("text/html", page))
        .route("/xterm.js", typed("text/javascript", script))
        .route("/xterm.css", typed("text/css", style))
        .route("/report", post(async move |body: String| drop(report.send(body).await)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    port
}

#[tokio::test]
async fn a_browser_types_sees_resizes_and_closes() {
    let (Some(browser), Some(xterm)) = (program("PODWRIGHT_CHROMIUM"), program("PODWRIGHT_XTERM"))
    else {
        return;
    };
    let house = House::new().await;
    let (_manager, job, web) = busy(&house, "", waits()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let websocket = listener.local_addr().unwrap().port();
    let passing = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            pass_on(stream, &web).await;
        }
    });
    let (report, mut reports) = mpsc::channel(1);
    let port = serve_page(&xterm, websocket, report).await;
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", house.path("browser").display()))
        .arg(format!("http://127.0.0.1:{port}/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = timeout(PATIENCE, reports.recv()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    passing.abort();
    assert_eq!(said.expect("a report of the page in time").as_deref(), Some("ok"));
    // The page's last words in the terminal.
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!((end.state.as_str(), end.checksum_ok), ("success", Some(true)));
}
