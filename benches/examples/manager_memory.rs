//! What a running job costs the manager: growth of its resident set from 100 to 1,000 jobs.
//!
//! The manager is `podwright run` in a process of its own. Here are a GitLab and a Kubernetes API that it
//! reaches over TLS; both are stand-ins, and so are the pods: no process runs in them, but an agent
//! speaks the real protocol. Every job has 20 masked variables and a payload of 60 KB, has logged 1 MB
//! and goes on running.
//!
//!     cargo build --release && cargo run --release -p benches --example manager_memory [FROM TO]
#![expect(clippy::print_stdout, reason = "the numbers are the point")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Isolation, scripted_agent};
use runner_testkit::gitlab::{GitLab, JobRef, JobSpec, JobState, Variable};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

const LOG: usize = 1 << 20;
const PAYLOAD: usize = 60_000;
/// Long enough for what is only passing through to be gone: GitLab's interval and a sign of life.
const SETTLE: Duration = Duration::from_secs(35);

/// The manager, killed at the end.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Manager {
    /// A number of KiB from `/proc/PID/status`.
    fn status(&self, key: &str) -> usize {
        let path = format!("/proc/{}/status", self.0.id());
        let status = fs::read_to_string(path).expect("the manager should be running");
        let line = status.lines().find(|line| line.starts_with(key)).expect("Linux");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

/// A kubeconfig for the cluster by TLS: in front of it stands a proxy with a throw-away certificate.
async fn behind_tls(cluster: &Cluster) -> String {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = names.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(proxy(listener, acceptor, cluster.address()));
    let ca = STANDARD.encode(authority.pem());
    cluster.kubeconfig().replace(
        &format!("server: {}", cluster.url()),
        &format!("server: https://{address}\n    certificate-authority-data: {ca}"),
    )
}

async fn proxy(listener: TcpListener, acceptor: TlsAcceptor, to: SocketAddr) {
    while let Ok((socket, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let (Ok(mut near), Ok(mut far)) =
                (acceptor.accept(socket).await, TcpStream::connect(to).await)
            else {
                return;
            };
            // Either side may go.
            drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        });
    }
}

fn job(number: usize) -> JobSpec {
    let mut spec = JobSpec::new(format!("job-{number}")).script(["sleep 3600"]);
    for index in 0..20 {
        let value = format!("s3cr3t-{number:06}-{index:02}-abcdefghijklmnop");
        spec = spec.with(Variable::new(format!("SECRET_{index}"), value).masked());
    }
    // What GitLab sends besides makes up for the rest.
    for index in 0..100 {
        let value = "v".repeat(PAYLOAD / 100 - 90);
        spec = spec.variable(format!("CI_SOMETHING_{index:03}"), value);
    }
    spec
}

fn manager(directory: &Path, gitlab: &GitLab, kubeconfig: &Path, last: usize) -> Manager {
    let ca = directory.join("ca.pem");
    fs::write(&ca, gitlab.ca_pem().expect("TLS")).expect("a file");
    let config = directory.join("config.toml");
    let text = format!(
        "concurrent = {last}\ncheck_interval = 1\n[[runners]]\nname = \"memory\"\nurl = \"{}\"\n\
         token = \"{}\"\ntls-ca-file = {ca:?}\nexecutor = \"kubernetes\"\n[runners.kubernetes]\n\
         kubeconfig = {kubeconfig:?}\nnamespace = \"ci\"\nimage = \"job\"\nhelper_image = \"job\"\n\
         agent_image = \"agent\"\npoll_timeout = 600\n",
        gitlab.url(),
        gitlab.runner_token(),
    );
    fs::write(&config, text).expect("a file");
    let log = fs::File::create(directory.join("log")).expect("a file");
    let here = std::env::current_exe().expect("this program");
    let program = here.ancestors().nth(2).map(|target| target.join("podwright"));
    let program: PathBuf = program.filter(|program| program.exists()).expect(
        "the manager's program should be beside this one: run `cargo build --release` first",
    );
    let child = Command::new(program)
        .arg("run")
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("the manager starts");
    Manager(child)
}

/// Waits until all of these have logged everything, then for silence.
async fn settled(jobs: &[JobRef], log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut waiting: Vec<_> = jobs.iter().collect();
    while !waiting.is_empty() {
        waiting.retain(|job| job.trace().len() < LOG);
        if Instant::now() > deadline {
            let log = fs::read_to_string(log).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(20).collect();
            panic!("{} jobs do not get on: {end:#?}", waiting.len());
        }
        sleep(Duration::from_millis(500)).await;
    }
    sleep(SETTLE).await;
}

async fn run(first: usize, last: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let gitlab = GitLab::builder().tls().start().await.expect("a GitLab");
    let cluster = Cluster::start(ClusterSettings {
        isolation: Isolation::Plain,
        node_cpus: 100_000,
        ..ClusterSettings::default()
    });
    let cluster = cluster.expect("a cluster");
    let (finish, finished) = watch::channel(false);
    let line = b"a line of a log that is about as long as such lines mostly are, 80 characters.\n";
    let trace: Bytes = line.iter().copied().cycle().take(LOG).collect();
    cluster.register_image("job", ImageSpec::scripted(scripted_agent(trace, finished)));
    let agent = directory.path().join("agent");
    fs::create_dir(&agent).expect("a directory");
    cluster.register_image("agent", ImageSpec::volume(agent));
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, behind_tls(&cluster).await).expect("a file");

    let manager = manager(directory.path(), &gitlab, &kubeconfig, last);
    let log = directory.path().join("log");
    let mut jobs: Vec<JobRef> = Vec::new();
    let mut sizes = Vec::new();
    for count in [first, last] {
        let more: Vec<_> = (jobs.len()..count).map(|number| gitlab.enqueue(job(number))).collect();
        jobs.extend(more);
        settled(&jobs, &log).await;
        assert_eq!(cluster.open_streams(), count, "a stream for each");
        let (now, peak) = (manager.status("VmRSS"), manager.status("VmHWM"));
        println!("{count} running jobs: {now} KiB, at most {peak} KiB");
        sizes.push(now);
    }
    let slope = (sizes[1] as f64 - sizes[0] as f64) / (last - first) as f64;
    println!("{slope:.1} KiB for a running job");

    finish.send_replace(true);
    for job in &jobs {
        let end = job.wait_finished(Duration::from_secs(300)).await.expect("the job ends");
        assert_eq!(end.state, JobState::Success);
    }
    sleep(SETTLE).await;
    println!("all of them over: {} KiB", manager.status("VmRSS"));
}

fn main() {
    // It fails only when there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    let (first, last) = match numbers[..] {
        [first, last] if first < last => (first, last),
        _ => (100, 1000),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(first, last));
}
