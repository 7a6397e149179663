//! The same against a real cluster, when `PODWRIGHT_E2E_KUBECONFIG` names a kubeconfig; without it
//! these tests say so and do nothing. They need the right to make pods and exec in the namespace
//! `pw-stream`, which has to be there with its service account, and the image
//! `docker.io/library/busybox:test` on the node.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, PostParams};
use rstest::rstest;
use runner_core::wire::{AgentFrame, MAX_TRACE};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::fake::{drain, trace, wire};
use crate::stream::link::Link;
use crate::stream::session::Session;
use crate::stream::{ExecTarget, OpenErrorKind, Patience, SessionEnd, Transport};

const NAMESPACE: &str = "pw-stream";
const MUCH: usize = 64 << 20;

/// A client, or `None` (said on stderr) where there is no cluster.
async fn cluster() -> Option<kube::Client> {
    Some(config().await?.try_into().unwrap())
}

async fn config() -> Option<kube::Config> {
    let Some(path) = std::env::var_os("PODWRIGHT_E2E_KUBECONFIG") else {
        eprintln!("PODWRIGHT_E2E_KUBECONFIG is not set: nothing was tested on a real cluster");
        return None;
    };
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    config.default_retry = false;
    Some(config)
}

/// A pod of one test, deleted by `delete`; a test that fails leaves it for whoever looks into it.
struct TestPod {
    pods: Api<Pod>,
    name: String,
}

static NAMESPACE_MADE: OnceCell<()> = OnceCell::const_new();

impl TestPod {
    async fn new(client: &kube::Client, name: &str) -> Self {
        NAMESPACE_MADE
            .get_or_init(|| async {
                let namespace = serde_json::json!({"metadata": {"name": NAMESPACE}});
                let namespace: Namespace = serde_json::from_value(namespace).unwrap();
                let namespaces = Api::all(client.clone());
                // It may be there.
                let _ = namespaces.create(&PostParams::default(), &namespace).await;
            })
            .await;
        let pods = Api::namespaced(client.clone(), NAMESPACE);
        let name = format!("{name}-{}", std::process::id());
        let pod = serde_json::json!({
            "metadata": {"name": name},
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "activeDeadlineSeconds": 600,
                "restartPolicy": "Never",
                "containers": [{
                    "name": "helper",
                    "image": "docker.io/library/busybox:test",
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "600"],
                }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        // A new namespace's service account takes a moment.
        let create = || async { pods.create(&PostParams::default(), &pod).await };
        let soon = backon::ConstantBuilder::default()
            .with_delay(Duration::from_millis(200))
            .with_max_times(50);
        backon::Retryable::retry(create, soon).await.unwrap();
        Self { pods, name }
    }

    fn target(&self, command: &[&str]) -> ExecTarget {
        ExecTarget {
            namespace: NAMESPACE.into(),
            pod: self.name.clone(),
            container: "helper".into(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// Opens a link; asks again until the container runs.
    async fn link(&self, client: &kube::Client, transport: Transport, command: &[&str]) -> Link {
        let target = self.target(command);
        let open = || Link::open(client, &target, transport, Patience::default());
        let soon = backon::ConstantBuilder::default()
            .with_delay(Duration::from_millis(200))
            .with_max_times(150);
        backon::Retryable::retry(open, soon).await.unwrap()
    }

    async fn delete(self) {
        self.pods.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// Bytes without a pattern that a lost or swapped piece could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[rstest]
#[case(Transport::WebSocket, "echo-ws")]
#[case(Transport::Spdy, "echo-spdy")]
#[tokio::test]
async fn frames_64_mib_through_cat_come_back_whole(
    #[case] transport: Transport,
    #[case] name: &str,
) {
    let Some(client) = cluster().await else { return };
    let pod = TestPod::new(&client, name).await;
    let mut link = pod.link(&client, transport, &["cat"]).await;
    let mut decoder = crate::stream::FrameDecoder::default();
    let noise = noise(MUCH);
    let (mut sent, mut got) = (0, 0);
    let mut hash = Sha256::new();
    let started = tokio::time::Instant::now();
    while got < MUCH {
        while let Some(frame) = decoder.next_frame().unwrap() {
            let AgentFrame::Trace { offset, bytes } = frame else { panic!("{frame:?}") };
            assert_eq!(offset.0, got as u64);
            got += bytes.len();
            hash.update(&bytes);
        }
        // A window of 1 MiB keeps both directions busy from one task.
        if sent < MUCH && sent - got < 1 << 20 {
            let piece = noise[sent..sent + MAX_TRACE].to_vec();
            link.send(wire([trace(sent as u64, piece)])).await.unwrap();
            sent += MAX_TRACE;
            if sent == MUCH {
                link.end_input();
            }
        } else if got < MUCH {
            decoder.push(link.recv().await.unwrap());
        }
    }
    let took = started.elapsed();
    assert_eq!(hash.finalize(), Sha256::digest(&noise));
    let (frames, end) = drain(&mut Session::over(link)).await;
    assert_eq!(frames, []);
    assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
    eprintln!("{transport}: 64 MiB there and back in {took:?}");
    pod.delete().await;
}

#[rstest]
#[case(Transport::WebSocket, "flood-ws")]
#[case(Transport::Spdy, "flood-spdy")]
#[tokio::test]
async fn output_of_64_mib_arrives_whole(#[case] transport: Transport, #[case] name: &str) {
    let Some(client) = cluster().await else { return };
    let pod = TestPod::new(&client, name).await;
    let script =
        "head -c 67108864 /dev/urandom > /tmp/x; cat /tmp/x; sha256sum /tmp/x >&2; exit 37";
    let started = tokio::time::Instant::now();
    let mut link = pod.link(&client, transport, &["sh", "-c", script]).await;
    let (mut got, mut hash) = (0, Sha256::new());
    let end = loop {
        match link.recv().await {
            Ok(bytes) => {
                got += bytes.len();
                hash.update(&bytes);
            }
            Err(end) => break end,
        }
    };
    let SessionEnd::Exited { code: 37, stderr } = &end else { panic!("{end:?}") };
    assert_eq!(got, MUCH);
    let sum: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(stderr.to_string().contains(&sum), "{stderr}, not {sum}");
    eprintln!("{transport}: 64 MiB in {:?}, with making them", started.elapsed());
    pod.delete().await;
}

#[rstest]
#[case(Transport::WebSocket, "ends-ws")]
#[case(Transport::Spdy, "ends-spdy")]
#[tokio::test]
async fn the_ends_have_their_names(#[case] transport: Transport, #[case] name: &str) {
    let Some(client) = cluster().await else { return };
    let pod = TestPod::new(&client, name).await;

    let link = pod.link(&client, transport, &["sh", "-c", "echo oops >&2; exit 3"]).await;
    let (_, end) = drain(&mut Session::over(link)).await;
    let SessionEnd::Exited { code: 3, stderr } = &end else { panic!("{end:?}") };
    assert_eq!(stderr.as_bytes(), b"oops\n");

    let mut session =
        Session::open(&client, &pod.target(&["true"]), transport, Patience::default())
            .await
            .unwrap();
    let (_, end) = drain(&mut session).await;
    assert!(matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");

    let link = pod.link(&client, transport, &["/no/such/program"]).await;
    let (_, end) = drain(&mut Session::over(link)).await;
    assert!(matches!(end, SessionEnd::Refused { .. } | SessionEnd::Exited { code: 126.., .. }));
    eprintln!("{transport}: no such program: {end}");

    let mut target = pod.target(&["true"]);
    target.container = "nobody".into();
    let error = Session::open(&client, &target, transport, Patience::default()).await.unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::Rejected, "{error}");
    eprintln!("{error}");
    target.pod = "nobody".into();
    let error = Session::open(&client, &target, transport, Patience::default()).await.unwrap_err();
    assert_eq!(error.kind, OpenErrorKind::NotFound, "{error}");
    eprintln!("{error}");

    // Killed from outside while a session waits.
    let mut link = pod.link(&client, transport, &["cat"]).await;
    pod.delete().await;
    let end = timeout(Duration::from_secs(20), link.recv()).await.unwrap().unwrap_err();
    assert!(!matches!(end, SessionEnd::Exited { code: 0, .. }), "{end:?}");
    eprintln!("{transport}: pod deleted: {end}");
}

#[rstest]
#[case(Transport::WebSocket, "pings-ws")]
#[case(Transport::Spdy, "pings-spdy")]
#[tokio::test]
async fn an_idle_session_is_kept_alive_by_pings(#[case] transport: Transport, #[case] name: &str) {
    let Some(client) = cluster().await else { return };
    let pod = TestPod::new(&client, name).await;
    drop(pod.link(&client, transport, &["true"]).await);
    let patience = Patience {
        ping: Duration::from_millis(200),
        pong: Duration::from_secs(1),
        ..Patience::default()
    };
    let mut link = Link::open(&client, &pod.target(&["cat"]), transport, patience).await.unwrap();
    let silence = timeout(Duration::from_secs(4), link.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
    link.send("x".into()).await.unwrap();
    assert_eq!(link.recv().await.unwrap(), "x");
    link.close().await;
    pod.delete().await;
}

/// The least role that an operator grants: `create` on pods/exec, no `get`.
#[tokio::test]
async fn a_role_with_only_create_on_exec_gets_in_by_spdy() {
    let Some(mut config) = config().await else { return };
    let client: kube::Client = config.clone().try_into().unwrap();
    let pod = TestPod::new(&client, "role").await;
    drop(pod.link(&client, Transport::Spdy, &["true"]).await);

    let user = "pw-stream-least";
    let role: Role = serde_json::from_value(serde_json::json!({
        "metadata": {"name": user},
        "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}],
    }))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(serde_json::json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }))
    .unwrap();
    // Both may be there from an earlier run.
    let _ = Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &role).await;
    let bindings = Api::namespaced(client.clone(), NAMESPACE);
    let _ = bindings.create(&PostParams::default(), &binding).await;
    config.auth_info.impersonate = Some(user.to_owned());
    let least: kube::Client = config.try_into().unwrap();

    // The authorizer learns of a new binding by a watch, so the first answers may be refusals.
    let mut link = pod.link(&least, Transport::Spdy, &["cat"]).await;
    link.send("in".into()).await.unwrap();
    assert_eq!(link.recv().await.unwrap(), "in");

    let target = pod.target(&["cat"]);
    let error = Session::open(&least, &target, Transport::WebSocket, Patience::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.suggests()), (OpenErrorKind::Forbidden, Some(Transport::Spdy)));
    eprintln!("{error}");
    pod.delete().await;
}
