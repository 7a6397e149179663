//! What an idle session costs: growth of the resident set from the first to the last of many.
//!
//! Without a cluster the server is a second process that talks TLS with a throw-away certificate. With
//! `PODWRIGHT_E2E_KUBECONFIG` it is a real API server over TLS, and `PODWRIGHT_E2E_POD`
//! (`namespace/pod/container`) names a running container with a shell.
#![expect(clippy::print_stdout, reason = "the numbers are the point")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runner_k8s::stream::{ExecTarget, Patience, Session, Transport};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const ROLE: &str = "PODWRIGHT_BENCH_STREAM_ROLE";
const SESSIONS: usize = 200;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// An authority (DER, base64) and what it vouches for.
fn certificate() -> (String, Arc<ServerConfig>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
    let server = key();
    let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = names.signed_by(&server, &authority).expect("a certificate");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.serialize_der())),
        )
        .expect("they fit");
    (STANDARD.encode(authority.der()), Arc::new(config))
}

/// Answers upgrades, sends one message of 32 KiB (so that buffers have been used), and holds on.
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (authority, config) = certificate();
    println!("{} {authority}", listener.local_addr().expect("it listens"));
    let mut kept = Vec::new();
    for socket in listener.incoming().flatten() {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
        let mut socket = StreamOwned::new(connection, socket);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let mut answer = match key {
            Some(key) => {
                let accept = derive_accept_key(key.as_bytes());
                format!(
                    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\
                     Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
                )
                .into_bytes()
            }
            None => b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                      X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
                .to_vec(),
        };
        // A frame of a kind that nobody knows, which the session skips; then one beat.
        let mut payload = vec![0, 0, 0x7f, 0xef, 200];
        payload.resize(4 + 0x7fef, 0);
        payload.extend_from_slice(&[0, 0, 0, 3, 69, b'{', b'}']);
        match key {
            Some(_) => {
                answer.extend_from_slice(&[0x82, 126]);
                answer.extend_from_slice(&(1 + payload.len() as u16).to_be_bytes());
                answer.push(1);
            }
            None => {
                answer.extend_from_slice(&[0, 0, 0, 5]);
                answer.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            }
        }
        answer.extend_from_slice(&payload);
        socket.write_all(&answer).expect("the client reads");
        socket.flush().expect("the client reads");
        kept.push(socket);
    }
}

/// The same bytes as [`serve`] sends, from a shell.
const SCRIPT: &str =
    r"printf '\000\000\177\357\310'; head -c 32750 /dev/zero; printf '\000\000\000\003\105{}'; cat";

async fn measure(name: &str, client: &kube::Client, target: &ExecTarget, transport: Transport) {
    let mut kept = Vec::new();
    let mut first = 0;
    // The first ones bring what all share.
    for count in 0..SESSIONS + 20 {
        if count == 20 {
            first = resident();
        }
        let opened = Session::open(client, target, transport, Patience::default()).await;
        let mut session = opened.expect("a session");
        session.next().await.expect("the beat");
        kept.push(session);
    }
    let each = (resident() - first) as f64 / SESSIONS as f64;
    println!("{name}, {transport}: {each:.1} KiB for an idle session");
}

/// A process of its own for each transport: memory that one has given back would serve the other.
async fn measure_here(transport: Transport) {
    let Some(path) = std::env::var_os("PODWRIGHT_E2E_KUBECONFIG") else {
        let mut server = Command::new(std::env::current_exe().expect("this program"))
            .env(ROLE, "server")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server");
        let mut address = String::new();
        let output = server.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut address).expect("its address");
        let (address, authority) = address.trim().split_once(' ').expect("address and authority");
        let mut config = kube::Config::new(format!("https://{address}").parse().expect("a URL"));
        config.root_cert = Some(vec![STANDARD.decode(authority).expect("base64")]);
        let client = kube::Client::try_from(config).expect("a client");
        let target = ExecTarget {
            namespace: "ci".into(),
            pod: "job".into(),
            container: "helper".into(),
            command: vec!["relay".into()],
        };
        measure("TLS to another process", &client, &target, transport).await;
        server.kill().and_then(|()| server.wait()).expect("the server ends");
        return;
    };
    let kubeconfig = kube::config::Kubeconfig::read_from(path).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let client = kube::Client::try_from(config.expect("a config")).expect("a client");
    let pod = std::env::var("PODWRIGHT_E2E_POD").expect("PODWRIGHT_E2E_POD");
    let mut parts = pod.split('/').map(str::to_owned);
    let mut next = || parts.next().expect("namespace/pod/container");
    let (namespace, pod, container) = (next(), next(), next());
    let command = ["sh", "-c", SCRIPT].map(str::to_owned).to_vec();
    let target = ExecTarget { namespace, pod, container, command };
    measure("TLS to a real API server", &client, &target, transport).await;
}

fn main() {
    // It fails only when there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let transport = match std::env::var(ROLE).as_deref() {
        Ok("server") => return serve(),
        Ok("websocket") => Transport::WebSocket,
        Ok(_) => Transport::Spdy,
        Err(_) => {
            for role in ["websocket", "SPDY"] {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                let status = command.env(ROLE, role).status().expect("a process");
                assert!(status.success(), "{role}: {status}");
            }
            return;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(measure_here(transport));
}
