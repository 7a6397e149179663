//! A person looks into a running job through the chart's session server, the manager dies, and the person looks again;
//! and what an operator sees on the job's pod meanwhile.
//!
//! With `PODWRIGHT_E2E_LOCAL_NODE` the manager gets `kill -9`; else its pod is deleted without a grace.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use runner_testkit::gitlab::{JobSpec, JobState, SessionInfo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::cluster::{Cluster, PATIENCE};
use crate::install::{Installed, NAME};

const PORT: u16 = 8093;

/// Stands before the managers as the chart's Service does where there is a kube-proxy.
struct Balancer {
    address: SocketAddr,
    backend: watch::Sender<Option<IpAddr>>,
}

impl Balancer {
    async fn start(host: IpAddr) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (backend, now) = watch::channel(None);
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Some(host) = *now.borrow() else { continue };
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect((host, PORT)).await else { return };
                    // Either end may go.
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                });
            }
        });
        Self { address, backend }
    }

    fn use_pod(&self, pod: &Pod) {
        let host = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap();
        self.backend.send_replace(Some(host.parse().unwrap()));
    }
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// As GitLab opens it; `None` while nobody answers, or another terminal is open.
async fn terminal(session: &SessionInfo) -> Option<Socket> {
    use rustls::pki_types::pem::PemObject as _;
    let certificate =
        rustls::pki_types::CertificateDer::from_pem_slice(session.certificate.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let address = session.url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let host = address.rsplit_once(':').unwrap().0.to_owned();
    let stream = TcpStream::connect(address).await.ok()?;
    let name = rustls::pki_types::ServerName::try_from(host).unwrap();
    let tls =
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let url = session.url.replace("https://", "wss://") + "/exec";
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "terminal.gitlab.com".parse().unwrap());
    headers.insert("authorization", session.authorization.parse().unwrap());
    Some(tokio_tungstenite::client_async(request, tls).await.ok()?.0)
}

async fn opened(session: &SessionInfo) -> Socket {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(Some(socket)) = timeout(Duration::from_secs(5), terminal(session)).await {
            return socket;
        }
        assert!(Instant::now() < deadline, "no terminal at {}", session.url);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Types, and reads until this is on the screen.
async fn answers(socket: &mut Socket, keys: &str, text: &str) -> String {
    socket.send(Message::binary(keys.to_owned())).await.unwrap();
    let mut shown = String::new();
    while !shown.contains(text) {
        match timeout(PATIENCE, socket.next()).await.unwrap_or_else(|_| panic!("{shown}")) {
            Some(Ok(Message::Binary(bytes))) => shown.push_str(&String::from_utf8_lossy(&bytes)),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("{other:?} before {text:?}; shown: {shown}"),
        }
    }
    shown
}

/// Ends the manager's program from one moment to the next.
async fn kill(cluster: &Cluster, pod: &Pod) {
    let name = pod.metadata.name.as_deref().unwrap();
    if std::env::var_os("PODWRIGHT_E2E_LOCAL_NODE").is_none() {
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        api.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
        return;
    }
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let id = statuses.unwrap()[0].container_id.clone().unwrap();
    let id = id.rsplit('/').next().unwrap();
    let is_first = |entry: &std::fs::DirEntry| {
        let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let status = read("status");
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        pids.is_some_and(|pids| pids.split_whitespace().last() == Some("1"))
            && read("cgroup").contains(id)
    };
    let first = std::fs::read_dir("/proc").unwrap().flatten().find(is_first);
    let pid = first.expect("the node is this machine").file_name();
    let pid = rustix::process::Pid::from_raw(pid.to_str().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The reasons of the events on a pod.
async fn events(cluster: &Cluster, pod: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let of_pod = ListParams::default().fields(&format!("involvedObject.name={pod}"));
    let all = api.list(&of_pod).await.unwrap().items.into_iter();
    all.filter_map(|event| Some(format!("{}: {}", event.reason?, event.message?))).collect()
}

#[tokio::test]
async fn a_terminal_is_opened_again_after_its_manager_was_killed_and_operators_see_what_happened() {
    let Some(world) = Installed::new("terminal").await else { return };
    let balancer = Balancer::start(world.cluster.host).await;
    let session = json!({ "enabled": true, "advertiseAddress": balancer.address.to_string() });
    world.install(&json!({ "sessionServer": session })).await;
    let managers = world.cluster.rolled_out(NAME).await;
    balancer.use_pod(&managers[0]);

    let repo = world.gitlab.repo("group/app").commit("first", [("README", "hello\n")]).create();
    let repo = repo.await.unwrap();
    let script = ["touch here", "echo started", "until [ -e done ]; do echo .; sleep 0.3; done"];
    let job = world.gitlab.enqueue(JobSpec::new("look").repo(&repo).script(script));
    job.wait_trace("started", PATIENCE).await.unwrap();
    let session = job.session().unwrap();
    let mut socket = opened(&session).await;
    let shown = answers(&mut socket, "ls; echo in-$((40 + 2))\r", "in-42").await;
    assert!(shown.contains("here"), "in the project's directory: {shown}");

    let started = Instant::now();
    kill(&world.cluster, &managers[0]).await;
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("an end in time") {}
    eprintln!("the terminal ended {:?} after its manager", started.elapsed());
    // The same address, certificate and token as GitLab was told.
    let managers = world.cluster.rolled_out(NAME).await;
    balancer.use_pod(&managers[0]);
    let mut socket = opened(&session).await;
    answers(&mut socket, "echo again-$((40 + 2))\r", "again-42").await;
    eprintln!("the terminal was open again {:?} after the kill", started.elapsed());

    // What `kubectl describe pod` shows.
    let pods = world.cluster.pods(&format!("podwright.dev/job={}", job.id())).await;
    let name = pods[0].metadata.name.as_deref().unwrap();
    let annotations = pods[0].metadata.annotations.clone().unwrap();
    let of_job = |key: &str| annotations[&format!("job.runner.gitlab.com/{key}")].clone();
    assert_eq!(of_job("id"), job.id().to_string());
    assert_eq!((of_job("name"), of_job("ref")), ("look".to_owned(), "main".to_owned()));
    assert_eq!(of_job("sha"), repo.sha("main").unwrap());
    assert!(of_job("url").starts_with("http"), "{annotations:?}");
    let variables =
        pods[0].spec.as_ref().unwrap().containers.iter().flat_map(|it| &it.env).flatten();
    let named = |name: &str| variables.clone().any(|variable| variable.name == name);
    assert!(named("CI_JOB_NAME") && !named("CI_JOB_TOKEN"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = events(&world.cluster, name).await;
        if all.iter().any(|event| event.starts_with("JobAdopted: manager ")) {
            break eprintln!("{all:#?}");
        }
        assert!(Instant::now() < deadline, "nobody said that the job was taken over: {all:?}");
        sleep(Duration::from_millis(100)).await;
    }

    answers(&mut socket, "touch done; echo bye-$((40 + 2))\r", "bye-42").await;
    socket.close(None).await.unwrap();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert_eq!((end.state, end.checksum_ok), (JobState::Success, Some(true)), "{trace}");
    assert_eq!(world.gitlab.violations(), []);
    world.cluster.remove().await;
}
