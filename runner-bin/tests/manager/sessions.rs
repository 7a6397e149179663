//! People look into running jobs: terminals and services, as GitLab's web page reaches them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use runner_testkit::gitlab::{Image, JobRef, JobSpec, SessionInfo};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::house::{House, PATIENCE, Process};

const SERVER: &str = "[session_server]\nlisten_address = \"127.0.0.1:0\"\n";

/// GitLab's side of a session: trusts the session's certificate and nothing else.
pub(crate) struct Web {
    session: SessionInfo,
}

pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

impl Web {
    /// The session of a job that was handed out.
    async fn of(job: &JobRef) -> Self {
        let mut session = None;
        crate::house::until("a session", || {
            session = job.session();
            session.is_some()
        })
        .await;
        Self { session: session.unwrap() }
    }

    fn address(&self) -> &str {
        let rest = self.session.url.strip_prefix("https://").unwrap();
        rest.split('/').next().unwrap()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        use rustls::pki_types::pem::PemObject as _;
        let pem = self.session.certificate.as_bytes();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
        let config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let host = self.address().rsplit_once(':').unwrap().0.to_owned();
        let name = rustls::pki_types::ServerName::try_from(host).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// A websocket; or the status of the refusal.
    async fn exec(&self, protocol: &str) -> Result<Socket, u16> {
        let url = self.session.url.replace("https://", "wss://") + "/exec";
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
        headers.insert("authorization", self.session.authorization.parse().unwrap());
        let tls = self.connect().await;
        let opened = tokio_tungstenite::client_async(request, tls);
        match timeout(PATIENCE, opened).await.expect("an answer in time") {
            Ok((socket, answer)) => {
                assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
                Ok(socket)
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A terminal, waiting for the one before to be let go of.
    pub(crate) async fn terminal(&self, protocol: &str) -> Socket {
        free_terminal(self, protocol).await
    }

    /// A plain request; status, headers, body.
    async fn get(&self, path: &str) -> (u16, String) {
        let pem = self.session.certificate.as_bytes();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(pem).unwrap()])
            .no_proxy()
            .build()
            .unwrap();
        let url = format!("{}{path}", self.session.url);
        let request = client.get(url).header("authorization", &self.session.authorization);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Types and reads until this is on the screen.
async fn shows(socket: &mut Socket, text: &str) -> String {
    let mut shown = String::new();
    while !shown.contains(text) {
        let message = timeout(PATIENCE, socket.next()).await;
        match message.unwrap_or_else(|_| panic!("{text:?} in time; shown: {shown}")) {
            Some(Ok(Message::Binary(bytes))) => shown.push_str(&String::from_utf8_lossy(&bytes)),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("{other:?} before {text:?}; shown: {shown}"),
        }
    }
    shown
}

async fn types(socket: &mut Socket, keys: &str) {
    socket.send(Message::binary(keys.to_owned())).await.unwrap();
}

pub(crate) async fn busy(house: &House, head: &str, spec: JobSpec) -> (Process, JobRef, Web) {
    house.write(&format!("{head}{SERVER}{}", house.one()));
    let manager = house.start();
    let job = house.gitlab.enqueue(spec);
    job.wait_trace("started", PATIENCE).await.unwrap();
    let web = Web::of(&job).await;
    (manager, job, web)
}

pub(crate) fn waits() -> JobSpec {
    let script = ["touch here", "echo started", "until [ -e done ]; do echo .; sleep 0.3; done"];
    JobSpec::new("test").script(script)
}

#[tokio::test]
async fn manager_60_a_terminal_is_a_shell_in_the_jobs_container() {
    let house = House::new().await;
    let (_manager, job, web) = busy(&house, "", waits()).await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "ls; echo in-$((40 + 2))\r").await;
    let shown = shows(&mut socket, "in-42").await;
    assert!(shown.contains("here"), "in the project's directory: {shown}");
    // GitLab's page sends what is typed as text.
    socket.send(Message::text("touch done\r")).await.unwrap();
    socket.close(None).await.unwrap();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!((end.state.as_str(), end.checksum_ok), ("success", Some(true)));
    assert!(house.gitlab.violations().is_empty(), "{:?}", house.gitlab.violations());
}

#[tokio::test]
async fn manager_60_a_terminal_in_base64_and_one_that_can_be_resized() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let house = House::new().await;
    let (_manager, _job, web) = busy(&house, "", waits()).await;
    let mut socket = web.exec("base64.terminal.gitlab.com").await.unwrap();
    socket.send(Message::text(STANDARD.encode("echo in-$((40 + 2))\r"))).await.unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("in-42") {
        if let Message::Text(text) =
            timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
        {
            shown.extend(STANDARD.decode(text.as_bytes()).unwrap());
        }
    }
    types_exit(&mut socket, STANDARD.encode("exit\r")).await;

    let mut socket = free_terminal(&web, "terminal.podwright.dev").await;
    types(&mut socket, "stty size\r").await;
    shows(&mut socket, "24 80").await;
    socket.send(Message::text(r#"{"columns":132,"rows":43}"#)).await.unwrap();
    types(&mut socket, "stty size\r").await;
    shows(&mut socket, "43 132").await;
}

/// The shell ends, and with it the connection.
async fn types_exit(socket: &mut Socket, text: String) {
    socket.send(Message::text(text)).await.unwrap();
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("an end in time") {}
}

/// The one before is let go of a moment after it has ended.
async fn free_terminal(web: &Web, protocol: &str) -> Socket {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match web.exec(protocol).await {
            Ok(socket) => return socket,
            Err(status) => assert_eq!(status, 423),
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn manager_58_manager_59_who_may_not_look_is_told_why() {
    let house = House::new().await;
    let (_manager, job, web) = busy(&house, "", waits()).await;
    assert!(web.session.url.starts_with("https://127.0.0.1:"), "{:?}", web.session);
    assert_eq!(web.get("/exec").await.0, 405);
    assert_eq!(web.get("/other").await.0, 404);
    let changed = |url: &str, authorization: &str| Web {
        session: SessionInfo {
            url: url.to_owned(),
            authorization: authorization.to_owned(),
            ..web.session.clone()
        },
    };
    let (url, token) = (&web.session.url, &web.session.authorization);
    let wrong = changed(url, &token.replace(|c: char| c.is_ascii_digit(), "x"));
    assert_eq!(wrong.exec("terminal.gitlab.com").await.err(), Some(401));
    let bearer = changed(url, &format!("Bearer {token}"));
    assert_eq!(bearer.exec("terminal.gitlab.com").await.err(), Some(401));
    let base = url.rsplit_once('/').unwrap().0;
    for id in ["0".repeat(64), "x".to_owned(), format!("{}?", &url[base.len() + 1..])] {
        let other = changed(&format!("{base}/{id}"), token);
        assert_eq!(other.exec("terminal.gitlab.com").await.err(), Some(404), "{id}");
    }
    let _first = web.exec("terminal.gitlab.com").await.unwrap();
    assert_eq!(web.exec("terminal.gitlab.com").await.err(), Some(423));
    job.cancel();
    job.wait_finished(PATIENCE).await.unwrap();
    let gone = async {
        while web.exec("terminal.gitlab.com").await.err() != Some(404) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("a job that is over has no session");
}

/// An HTTP server that tells what it was asked, in this process: pods of the simulated cluster share
/// the host's network.
async fn echo_server() -> u16 {
    let app = axum::Router::new().fallback(|request: axum::extract::Request| async move {
        let asked = format!("{} {}", request.method(), request.uri());
        let token = request.headers().contains_key("authorization");
        let body = axum::body::to_bytes(request.into_body(), 1024).await.unwrap();
        let body = format!("{asked} token={token} body={}", String::from_utf8_lossy(&body));
        ([("x-served", "yes")], body)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    port
}

#[tokio::test]
async fn manager_62_a_declared_port_of_a_service_is_reached_and_no_other() {
    let house = House::new().await;
    let port = echo_server().await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let image = crate::house::IMAGE;
    let service = Image::new(image).alias("web").port(port).port(closed);
    let service = service.command(["sleep", "1000"]);
    let (_manager, _job, web) = busy(&house, "", waits().service(service)).await;
    let (status, text) = web.get(&format!("/proxy/web/{port}/a/b?c=d")).await;
    assert_eq!((status, text.as_str()), (200, "GET /a/b?c=d token=false body="));
    let (status, text) = web.get(&format!("/proxy/web/p{port}/")).await;
    assert_eq!((status, text.as_str()), (200, "GET / token=false body="));
    for path in ["other/80/", "web/1/", "web//", "/80/", "web", ""] {
        assert_eq!(web.get(&format!("/proxy/{path}")).await.0, 404, "{path}");
    }
    assert_eq!(web.get(&format!("/proxy/web/{closed}/")).await.0, 503);
}

#[tokio::test]
async fn manager_61_a_job_that_is_over_shows_as_running_until_the_terminal_is_closed() {
    let house = House::new().await;
    let (_manager, job, web) = busy(&house, "", waits()).await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "touch done\r").await;
    job.wait_trace("Terminal is connected, will time out in", PATIENCE).await.unwrap();
    assert_eq!(job.state().as_str(), "running");
    // The job's own processes are gone by now, and the terminal is not.
    types(&mut socket, "echo still-$((40 + 2))\r").await;
    shows(&mut socket, "still-42").await;
    socket.close(None).await.unwrap();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!((end.state.as_str(), end.checksum_ok), ("success", Some(true)));
}

#[tokio::test]
async fn manager_61_a_terminal_that_stays_open_is_closed_after_the_session_timeout() {
    let house = House::new().await;
    house.write(&format!("{SERVER}session_timeout = 2\n{}", house.one()));
    let _manager = house.start();
    let job = house.gitlab.enqueue(waits());
    job.wait_trace("started", PATIENCE).await.unwrap();
    let web = Web::of(&job).await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "touch done\r").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.state.as_str(), "success");
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("an end in time") {}
}

#[tokio::test]
async fn manager_61_a_terminal_that_stays_open_is_closed_when_the_jobs_own_time_is_over() {
    let house = House::new().await;
    house.write(&format!("{SERVER}session_timeout = 1800\n{}", house.one()));
    let _manager = house.start();
    // Enough for the script on a busy machine, and far less than the session's time.
    let job = house.gitlab.enqueue(waits().timeout(Duration::from_secs(15)));
    job.wait_trace("started", PATIENCE).await.unwrap();
    let web = Web::of(&job).await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "touch done\r").await;
    job.wait_trace("Terminal is connected, will time out in", PATIENCE).await.unwrap();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.state.as_str(), "success");
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("an end in time") {}
}

/// Two managers cannot listen on one address here; in a cluster, a Service stands before them.
fn with_address(house: &House, listen: u16, advertise: u16) -> String {
    let server = format!(
        "[session_server]\nlisten_address = \"127.0.0.1:{listen}\"\n\
         advertise_address = \"127.0.0.1:{advertise}\"\n"
    );
    format!("{server}{}", house.one())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_terminal_can_be_opened_again_after_another_manager_has_taken_the_job_over() {
    let house = House::new().await;
    let port = free_port();
    house.write(&with_address(&house, port, port));
    let mut first = house.start();
    let job = house.gitlab.enqueue(waits());
    job.wait_trace("started", PATIENCE).await.unwrap();
    let web = Web::of(&job).await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "echo in-$((40 + 2))\r").await;
    shows(&mut socket, "in-42").await;
    first.signal(Signal::TERM);
    assert_eq!(first.end().await, Some(0));

    // The same address, certificate and token as GitLab was told by the first one.
    let second = house.start();
    second.says("job adopted").await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "touch done\r").await;
    job.wait_trace("Terminal is connected", PATIENCE).await.unwrap();
    types(&mut socket, "exit\r").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!((end.state.as_str(), end.checksum_ok), ("success", Some(true)));
}

#[tokio::test]
async fn any_manager_behind_an_address_lets_people_into_the_jobs_of_all() {
    let house = House::new().await;
    let common = free_port();
    // The first takes the job, and cannot be reached; the second can.
    let first_port = free_port();
    house.write(&with_address(&house, first_port, common));
    let _first = house.start();
    let job = house.gitlab.enqueue(waits());
    job.wait_trace("started", PATIENCE).await.unwrap();
    let web = Web::of(&job).await;
    assert!(web.address().ends_with(&format!(":{common}")));
    house.write_to("second.toml", &with_address(&house, common, common));
    let second = house.start_from("second.toml");
    second.says("Session server listening").await;
    let mut socket = web.exec("terminal.gitlab.com").await.unwrap();
    types(&mut socket, "touch done; echo in-$((40 + 2))\r").await;
    shows(&mut socket, "in-42").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.state.as_str(), "success");
}

#[tokio::test]
async fn manager_58_an_address_with_a_scheme_is_fatal_and_without_a_server_no_session_is_offered() {
    let house = House::new().await;
    house.write(&format!("{SERVER}advertise_address = \"https://h:1\"\n{}", house.one()));
    let mut manager = house.start();
    assert_eq!(manager.end().await, Some(1));
    assert!(manager.log().contains("write host:port"), "{}", manager.log());

    house.write(&house.one());
    let _manager = house.start();
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["true"]));
    job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(job.session(), None);
}
