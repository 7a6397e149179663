//! What a running job costs the manager: growth of its resident set from 100 to 1,000 jobs.
//!
//! GitLab and the Kubernetes API are reached over TLS. Every job has 20 masked variables and a payload of 60 KB, has logged
//! 1 MB and goes on running.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runner_testkit::cluster::Cluster;
use runner_testkit::gitlab::{GitLab, JobRef, JobSpec, JobState, Variable};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use crate::process::Manager;
use crate::stage;

const LOG: usize = 1 << 20;
const PAYLOAD: usize = 60_000;
/// Long enough for what is only passing through to be gone: GitLab's interval and a sign of life.
const SETTLE: Duration = Duration::from_secs(35);

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
         kubeconfig = {kubeconfig:?}\n{}",
        gitlab.url(),
        gitlab.runner_token(),
        stage::KUBERNETES,
    );
    fs::write(&config, text).expect("a file");
    Manager::start(&config)
}

/// Waits until all of these have logged everything, then for silence.
async fn settled(jobs: &[JobRef], manager: &Manager) {
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut waiting: Vec<_> = jobs.iter().collect();
    while !waiting.is_empty() {
        waiting.retain(|job| job.trace().len() < LOG);
        if Instant::now() > deadline {
            panic!("{} jobs do not get on: {:#?}", waiting.len(), manager.last_words());
        }
        sleep(Duration::from_millis(500)).await;
    }
    sleep(SETTLE).await;
}

pub(crate) async fn run(first: usize, last: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let gitlab = GitLab::builder().tls().start().await.expect("a GitLab");
    let (cluster, finish) = stage::cluster(directory.path(), LOG);
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, behind_tls(&cluster).await).expect("a file");

    let manager = manager(directory.path(), &gitlab, &kubeconfig, last);
    let mut jobs: Vec<JobRef> = Vec::new();
    let mut sizes = Vec::new();
    for count in [first, last] {
        let more: Vec<_> = (jobs.len()..count).map(|number| gitlab.enqueue(job(number))).collect();
        jobs.extend(more);
        settled(&jobs, &manager).await;
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
