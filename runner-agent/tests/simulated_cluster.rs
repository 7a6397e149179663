//! Whole jobs on the simulated cluster: the Kubernetes executor, the agent program in pods, the
//! least role; in both kinds of isolation.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::time::Duration;

use rstest::rstest;
use runner_core::executor::{
    Executor as _, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, JobPhase, JobRequest, Stop,
};
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Image, Job, Project, SourceFeatures, Step};
use runner_core::outcome::{InfraKind, Outcome, TraceSummary};
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::secret::Secret;
use runner_core::source::Ticket;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use runner_testkit::cluster::{
    Cluster, ClusterSettings, ImageSpec, Isolation, RandomDrops, RequestFilter, Rule,
};
use tokio::time::timeout;

const ALL: Offset = Offset(1 << 30);
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGE: &str = "debian:test";

struct World {
    cluster: Cluster,
    settings: RawSettings,
    job: Job,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(isolation: Isolation) -> Self {
        Self::with(ClusterSettings { isolation, ..ClusterSettings::default() })
    }

    fn with(settings: ClusterSettings) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::start(ClusterSettings {
            crash_backoff: Duration::from_millis(200),
            pull_backoff: Duration::from_millis(200),
            ..settings
        })
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        std::fs::create_dir(&image).unwrap();
        let agent = image.join("podwright-agent");
        std::fs::copy(env!("CARGO_BIN_EXE_podwright-agent"), agent).unwrap();
        cluster.register_image("podwright:test", ImageSpec::volume(&image));
        cluster.register_image(IMAGE, ImageSpec::present());
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
        let settings = RawSettings {
            kubeconfig: kubeconfig.to_str().unwrap().into(),
            namespace: cluster.namespace().into(),
            image: IMAGE.into(),
            helper_image: IMAGE.into(),
            agent_image: "podwright:test".into(),
            poll_timeout: 30,
            ..RawSettings::default()
        };
        World { cluster, settings, job: job(), _directory: directory }
    }

    fn script(&mut self, commands: &[&str]) {
        let script = commands.iter().map(|&line| line.to_owned()).collect();
        self.job.steps = vec![Step { name: "script".into(), script }];
    }

    async fn executor(&self, manager: &str) -> KubernetesExecutor {
        let runner = RunnerIdentity {
            source: SourceId("test".into()),
            name: "sim".into(),
            short_token: "sim".into(),
            manager: manager.into(),
        };
        let settings = KubernetesSettings::resolve(&self.settings).unwrap();
        KubernetesExecutor::connect(settings, runner).await.unwrap()
    }

    async fn reserve(&self, executor: &KubernetesExecutor) -> Box<dyn JobHandle> {
        let ticket = Ticket(Secret::new("ticket"));
        let settings = PlanSettings { hold: PATIENCE, ..PlanSettings::default() };
        let plan = plan(&self.job, &settings, Transfers::default()).unwrap();
        let request = JobRequest { job: &self.job, plan: &plan, ticket: &ticket };
        executor.reserve(request).await.unwrap()
    }

    async fn start(&self, executor: &KubernetesExecutor) -> Box<dyn JobHandle> {
        let mut handle = self.reserve(executor).await;
        // As a manager does: it is not known whether it runs, and starting twice is harmless.
        if let Err(error) = handle.start().await {
            assert!(matches!(error.kind, ExecutorErrorKind::Unavailable), "{error:?}");
            handle.start().await.unwrap();
        }
        handle.follow(Offset::ZERO, ALL).await;
        handle
    }

    async fn run(&self, executor: &KubernetesExecutor) -> (String, JobEnd) {
        let mut handle = self.start(executor).await;
        let (trace, end) = to_the_end(&mut *handle, Vec::new()).await;
        handle.dispose().await.unwrap();
        (trace, end)
    }

    /// The name of the only pod.
    fn pod(&self) -> String {
        let pods = self.cluster.pods();
        assert_eq!(pods.len(), 1, "{pods:?}");
        pods[0].clone()
    }

    /// Nothing is left, once the kubelet has had the time to end what was deleted.
    async fn nothing_is_left(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.cluster.leftovers().is_empty() {
            let left = self.cluster.leftovers();
            assert!(tokio::time::Instant::now() < deadline, "{left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn job() -> Job {
    Job {
        id: JobId(1),
        name: "simulated".into(),
        project: Project { id: 1, name: "p".into(), path: "g/p".into(), ..Project::default() },
        sources: None,
        variables: Vec::new(),
        steps: Vec::new(),
        image: None,
        services: Vec::new(),
        artifacts: Vec::new(),
        dependencies: Vec::new(),
        registries: Vec::new(),
        timeout: Duration::from_secs(300),
        features: SourceFeatures::default(),
        url: None,
    }
}

/// Events until the trace holds this text, or to the end.
async fn until(handle: &mut dyn JobHandle, text: &str) -> (Vec<u8>, Option<JobEnd>) {
    let mut trace: Vec<u8> = Vec::new();
    loop {
        if !text.is_empty() && String::from_utf8_lossy(&trace).contains(text) {
            return (trace, None);
        }
        let event = timeout(PATIENCE, handle.event()).await;
        match event.unwrap_or_else(|_| {
            panic!("nothing for long after {}", String::from_utf8_lossy(&trace))
        }) {
            JobEvent::Trace { bytes, .. } => trace.extend_from_slice(&bytes),
            JobEvent::Ended(end) => return (trace, Some(end)),
            JobEvent::Superseded => panic!("superseded"),
            _ => {}
        }
    }
}

async fn to_the_end(handle: &mut dyn JobHandle, mut trace: Vec<u8>) -> (String, JobEnd) {
    let (tail, end) = until(handle, "").await;
    let end = end.unwrap();
    trace.extend(tail);
    if let Some(summary) = end.trace {
        assert_eq!(summary, TraceSummary::of(&trace));
    }
    (String::from_utf8_lossy(&trace).into_owned(), end)
}

fn infra(end: &JobEnd) -> (InfraKind, &str) {
    match &end.outcome {
        Outcome::Infra(infra) => (infra.kind, &infra.message),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn a_job_runs_with_the_least_role_and_is_five_requests(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let mut world = World::new(isolation);
    world.script(&["echo hello from the job", "exit 37"]);
    let executor = world.executor("m1").await;
    let (trace, end) = world.run(&executor).await;
    assert!(trace.contains("hello from the job"), "{trace}");
    assert_eq!(end.outcome, Outcome::Exited(37), "{trace}");
    assert!(end.trace.is_some());
    world.nothing_is_left().await;

    // The first job of an executor finds out which transport the role allows.
    world.job.id = JobId(2);
    let before = world.cluster.requests();
    world.run(&executor).await;
    let made = world.cluster.requests().since(&before);
    let all: Vec<_> = made.iter().filter(|(verb, ..)| *verb != "watch").collect();
    assert_eq!(
        all,
        [
            ("create", "pods", 1),
            ("create", "pods/exec", 1),
            ("create", "secrets", 1),
            ("delete", "pods", 1),
            ("delete", "secrets", 1),
        ]
    );
}

#[rstest]
#[case::websocket(Rule::everything())]
#[case::spdy(Rule::least_privilege())]
#[tokio::test]
async fn no_byte_is_lost_or_doubled_when_streams_break_at_random(#[case] rules: Vec<Rule>) {
    let mut world = World::with(ClusterSettings { rules, ..ClusterSettings::default() });
    world.script(&["seq 1 300000 | sed 's/^/line of the job /'"]);
    let drops = RandomDrops { seed: 42, times: 30, mean_bytes: 60_000 };
    world.cluster.drop_streams_randomly(drops);
    let (trace, end) = world.run(&world.executor("m1").await).await;
    assert_eq!(end.outcome, Outcome::Exited(0));
    assert!(end.trace.is_some());
    let lines: Vec<&str> = trace.lines().filter(|l| l.contains("line of the job")).collect();
    let first = lines.len().min(10);
    assert!(!lines.is_empty(), "{:?}", &lines[..first]);
    world.nothing_is_left().await;
}

#[rstest]
#[tokio::test]
async fn the_next_manager_goes_on(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let mut world = World::new(isolation);
    world.script(&["echo first", "sleep 2", "echo second"]);
    let first = world.executor("m1").await;
    let mut handle = world.start(&first).await;
    let (head, _) = until(&mut *handle, "first\n").await;
    drop((handle, first));
    let second = world.executor("m2").await;
    let mut handle = second.recover().await.unwrap().pop().unwrap();
    assert_eq!(handle.phase(), JobPhase::Started);
    handle.start().await.unwrap();
    handle.follow(Offset(head.len() as u64), ALL).await;
    world.cluster.restart_api();
    let (tail, end) = until(&mut *handle, "").await;
    let end = end.unwrap();
    assert_eq!(end.outcome, Outcome::Exited(0));
    assert_eq!(end.trace, Some(TraceSummary::of(&[head, tail].concat())));
    handle.dispose().await.unwrap();
    world.nothing_is_left().await;
}

/// What happens to the pod, and what the job's author is told.
#[rstest]
#[case::evicted("evict", "evicted")]
#[case::deleted("delete", "deleted")]
#[case::build_oom("oom build", "memory")]
#[case::helper_oom("oom helper", "memory")]
#[tokio::test]
async fn a_lost_pod_is_never_a_success(
    #[case] act: &str,
    #[case] word: &str,
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let mut world = World::new(isolation);
    world.script(&["echo started", "sleep 600"]);
    let executor = world.executor("m1").await;
    let mut handle = world.start(&executor).await;
    let (head, _) = until(&mut *handle, "started\n").await;
    let pod = world.pod();
    match act {
        "evict" => world.cluster.evict(&pod).unwrap(),
        "delete" => world.cluster.delete_pod(&pod, None).unwrap(),
        other => {
            let container = other.split(' ').nth(1).unwrap();
            // A helper that is killed may be started again, once and again.
            while world.cluster.oom_kill(&pod, container).is_ok() {
                match timeout(Duration::from_millis(300), handle.event()).await {
                    Ok(JobEvent::Ended(end)) => {
                        assert_eq!(infra(&end).0, InfraKind::System, "{end:?}");
                        assert!(infra(&end).1.contains(word), "{end:?}");
                        break;
                    }
                    _ => continue,
                }
            }
            handle.dispose().await.unwrap();
            return world.nothing_is_left().await;
        }
    }
    let (_, end) = to_the_end(&mut *handle, head).await;
    assert_eq!(infra(&end).0, InfraKind::System);
    assert!(infra(&end).1.contains(word), "{end:?}");
    handle.dispose().await.unwrap();
    world.nothing_is_left().await;
}

#[tokio::test]
async fn a_cancelled_job_says_so() {
    let mut world = World::new(Isolation::Auto);
    world.script(&["echo started", "sleep 600"]);
    let executor = world.executor("m1").await;
    let mut handle = world.start(&executor).await;
    let (head, _) = until(&mut *handle, "started\n").await;
    handle.stop(Stop::Cancel).await.unwrap();
    let (_, end) = to_the_end(&mut *handle, head).await;
    assert_eq!(end.outcome, Outcome::Cancelled);
    handle.dispose().await.unwrap();
    world.nothing_is_left().await;
}

#[tokio::test]
async fn a_job_whose_image_is_not_there_fails_with_that_reason() {
    let mut world = World::new(Isolation::Auto);
    world.script(&["true"]);
    let missing = "registry.invalid:5000/no/such:1";
    world.job.image = Some(Image { name: missing.into(), ..Image::default() });
    let (_, end) = world.run(&world.executor("m1").await).await;
    assert!(infra(&end).1.contains("could not be pulled"), "{end:?}");
    world.nothing_is_left().await;
}

#[tokio::test]
async fn a_job_that_no_node_takes_fails_with_that_reason() {
    let mut world = World::new(Isolation::Auto);
    world.settings.cpu_request = "4000".into();
    world.settings.poll_timeout = 1;
    world.script(&["true"]);
    let (_, end) = world.run(&world.executor("m1").await).await;
    assert!(infra(&end).1.contains("Insufficient cpu"), "{end:?}");
    world.nothing_is_left().await;
}

#[tokio::test]
async fn an_answer_to_the_creation_that_is_lost_makes_no_second_pod() {
    use runner_testkit::cluster::Fault;
    let mut world = World::new(Isolation::Auto);
    world.script(&["echo once"]);
    let filter = RequestFilter::of("create", "pods");
    world.cluster.fail_next(1, filter, Fault::LoseAnswer);
    let (trace, end) = world.run(&world.executor("m1").await).await;
    assert_eq!(end.outcome, Outcome::Exited(0), "{trace}");
    assert!(trace.contains("once"), "{trace}");
    world.nothing_is_left().await;
}
