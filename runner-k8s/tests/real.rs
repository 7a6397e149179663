//! Whole jobs on a real cluster, when `PODWRIGHT_E2E_KUBECONFIG` names a kubeconfig; without it
//! nothing is tested here, and that is said.
//!
//! `PODWRIGHT_E2E_AGENT_IMAGE` is the agent's image, `PODWRIGHT_E2E_NAMESPACE` a namespace that is
//! there (default `default`), `PODWRIGHT_E2E_IMAGE` an image with a shell and git.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]
#![expect(clippy::print_stderr, reason = "a test that was not run must say so")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, DeleteParams, ListParams};
use runner_core::executor::{
    Executor as _, JobEnd, JobEvent, JobHandle, JobPhase, JobRequest, Stop,
};
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Image, Job, Project, RegistryLogin, SourceFeatures, Step};
use runner_core::outcome::{InfraKind, Outcome, TraceSummary};
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::secret::Secret;
use runner_core::source::Ticket;
use runner_k8s::client::RequestKind;
use runner_k8s::names::source_hash;
use runner_k8s::settings::OneOrMany;
use runner_k8s::watch::PodView;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use tokio::time::timeout;

const ALL: Offset = Offset(1 << 30);
static NEXT: AtomicU64 = AtomicU64::new(0);

struct World {
    settings: RawSettings,
    source: SourceId,
    job: Job,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl World {
    fn new() -> Option<Self> {
        let Some(kubeconfig) = variable("PODWRIGHT_E2E_KUBECONFIG") else {
            eprintln!("PODWRIGHT_E2E_KUBECONFIG is not set: nothing was tested on a real cluster");
            return None;
        };
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let image = variable("PODWRIGHT_E2E_IMAGE")
            .unwrap_or_else(|| "docker.io/library/debian:test".to_owned());
        let settings = RawSettings {
            kubeconfig,
            namespace: variable("PODWRIGHT_E2E_NAMESPACE").unwrap_or_else(|| "default".into()),
            image: image.clone(),
            helper_image: image,
            agent_image: variable("PODWRIGHT_E2E_AGENT_IMAGE")
                .expect("PODWRIGHT_E2E_AGENT_IMAGE must be set beside PODWRIGHT_E2E_KUBECONFIG"),
            poll_timeout: 60,
            ..RawSettings::default()
        };
        let run = NEXT.fetch_add(1, Ordering::Relaxed);
        let source = SourceId(format!("test {} {run}", std::process::id()));
        Some(Self { settings, source, job: job(1000 + run) })
    }

    async fn executor(&self, manager: &str) -> KubernetesExecutor {
        let runner = RunnerIdentity {
            source: self.source.clone(),
            name: "real".into(),
            short_token: "real".into(),
            manager: manager.into(),
        };
        let settings = KubernetesSettings::resolve(&self.settings).unwrap();
        KubernetesExecutor::connect(settings, runner).await.unwrap()
    }

    fn script(&mut self, commands: &[&str]) {
        let script = commands.iter().map(|&line| line.to_owned()).collect();
        self.job.steps = vec![Step { name: "script".into(), script }];
    }

    async fn reserve(&self, executor: &KubernetesExecutor) -> Box<dyn JobHandle> {
        let ticket = Ticket(Secret::new("ticket"));
        let settings = PlanSettings { hold: Duration::from_secs(60), ..PlanSettings::default() };
        let plan = plan(&self.job, &settings, Transfers::default()).unwrap();
        let request = JobRequest { job: &self.job, plan: &plan, ticket: &ticket, session: None };
        executor.reserve(request).await.unwrap()
    }

    async fn run(&self, executor: &KubernetesExecutor) -> (String, JobEnd) {
        let mut handle = self.reserve(executor).await;
        handle.start().await.unwrap();
        handle.follow(Offset::ZERO, ALL).await;
        let result = to_the_end(&mut *handle).await;
        handle.dispose().await.unwrap();
        result
    }

    async fn client(&self) -> kube::Client {
        let path = variable("PODWRIGHT_E2E_KUBECONFIG").unwrap();
        let file = kube::config::Kubeconfig::read_from(path).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    async fn pods(&self) -> Api<PodView> {
        Api::namespaced(self.client().await, &self.settings.namespace)
    }

    async fn pod(&self) -> PodView {
        let selector = format!("podwright.dev/job={}", self.job.id);
        let list = self.pods().await.list(&ListParams::default().labels(&selector)).await.unwrap();
        list.items.into_iter().next().unwrap()
    }
}

fn job(id: u64) -> Job {
    Job {
        id: JobId(id),
        name: "real".into(),
        project: Project { id: 1, name: "p".into(), path: "g/p".into(), ..Project::default() },
        sources: None,
        variables: Vec::new(),
        steps: Vec::new(),
        image: None,
        services: Vec::new(),
        artifacts: Vec::new(),
        dependencies: Vec::new(),
        caches: Vec::new(),
        registries: Vec::new(),
        timeout: Duration::from_secs(300),
        features: SourceFeatures::default(),
        url: None,
        ..Job::empty(JobId(0))
    }
}

/// Events until the trace holds this text, or to the end.
async fn until(handle: &mut dyn JobHandle, text: &str) -> (Vec<u8>, Option<JobEnd>) {
    let mut trace: Vec<u8> = Vec::new();
    loop {
        if !text.is_empty() && String::from_utf8_lossy(&trace).contains(text) {
            return (trace, None);
        }
        let event = timeout(Duration::from_secs(120), handle.event()).await;
        match event.unwrap_or_else(|_| panic!("nothing for 120 s after {trace:?}")) {
            JobEvent::Trace { bytes, .. } => trace.extend_from_slice(&bytes),
            JobEvent::Ended(end) => return (trace, Some(end)),
            JobEvent::Superseded => panic!("superseded"),
            _ => {}
        }
    }
}

async fn to_the_end(handle: &mut dyn JobHandle) -> (String, JobEnd) {
    let (trace, end) = until(handle, "").await;
    let end = end.unwrap();
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

#[tokio::test]
async fn a_job_runs_and_is_five_requests() {
    let Some(mut world) = World::new() else { return };
    world.script(&["echo hello from $0", "exit 37"]);
    // No sign of life of the manager falls into the job, however slow the machine is.
    world.settings.manager_lease_duration = 3600;
    let executor = world.executor("m1").await;
    let (trace, end) = world.run(&executor).await;
    assert!(trace.contains("hello from"), "{trace}");
    assert_eq!(end.outcome, Outcome::Exited(37), "{trace}");
    assert!(end.trace.is_some());

    // The first job of an executor finds out which transport the role allows. That a script failed is also said
    // on the pod, where the role allows events, which is a request that nobody waits for.
    world.job.id = JobId(world.job.id.0 + 500);
    let kinds = [
        RequestKind::Create,
        RequestKind::Stream,
        RequestKind::Delete,
        RequestKind::Get,
        RequestKind::Update,
        RequestKind::Other,
    ];
    let count = || kinds.map(|kind| executor.requests().get(kind));
    let before = count();
    world.run(&executor).await;
    let after = count();
    let made: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(made, [2, 1, 2, 0, 0, 0], "create twice, one stream, delete twice");
}

#[tokio::test]
async fn the_next_manager_goes_on() {
    let Some(mut world) = World::new() else { return };
    world.script(&["echo first", "sleep 3", "echo second"]);
    let first = world.executor("m1").await;
    let mut handle = world.reserve(&first).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    let (head, _) = until(&mut *handle, "first\n").await;
    drop(handle);
    first.retire().await;

    let second = world.executor("m2").await;
    let mut handle = second.recover().await.unwrap().pop().unwrap();
    assert_eq!(handle.phase(), JobPhase::Started);
    handle.start().await.unwrap();
    handle.follow(Offset(head.len() as u64), ALL).await;
    let (tail, end) = until(&mut *handle, "").await;
    let end = end.unwrap();
    assert_eq!(end.outcome, Outcome::Exited(0));
    assert_eq!(end.trace, Some(TraceSummary::of(&[head, tail].concat())));
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_manager_that_lives_shows_it_again_and_again_and_keeps_its_jobs() {
    let Some(mut world) = World::new() else { return };
    world.settings.manager_lease_duration = 2;
    let first = world.executor("m1").await;
    drop(world.reserve(&first).await);
    let second = world.executor("m2").await;
    let labels = format!("podwright.dev/source={}", source_hash(&world.source));
    let leases: Api<Lease> = Api::namespaced(world.client().await, &world.settings.namespace);
    let renewed = async {
        let mut seen = BTreeSet::new();
        // Each a quarter of the lease after the one before: longer than others wait for one.
        while seen.len() < 7 {
            let all = leases.list(&ListParams::default().labels(&labels)).await.unwrap();
            let of_first = |spec: &LeaseSpec| spec.holder_identity.as_deref() == Some("m1");
            let specs = all.items.into_iter().filter_map(|lease| lease.spec).filter(of_first);
            seen.extend(specs.filter_map(|spec| spec.renew_time).map(|time| time.0));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(20), renewed).await.expect("its lease should be renewed");
    assert!(second.recover().await.unwrap().is_empty(), "a living manager's job was taken");
    first.retire().await;
    second.retire().await;
    let third = world.executor("m3").await;
    let mut handle = third.recover().await.unwrap().pop().unwrap();
    handle.dispose().await.unwrap();
    third.retire().await;
}

#[tokio::test]
async fn a_job_that_was_only_written_down_is_reserved_and_one_whose_pod_is_gone_is_not() {
    let Some(mut world) = World::new() else { return };
    world.script(&["sleep 60"]);
    let first = world.executor("m1").await;
    drop(world.reserve(&first).await);
    first.retire().await;
    let second = world.executor("m2").await;
    let mut handle = second.recover().await.unwrap().pop().unwrap();
    assert_eq!(handle.phase(), JobPhase::Reserved);
    handle.start().await.unwrap();
    drop(handle);
    second.retire().await;
    let pod = world.pod().await;
    world.pods().await.delete(pod.name(), &DeleteParams::default().grace_period(0)).await.unwrap();

    let third = world.executor("m3").await;
    let mut handle = third.recover().await.unwrap().pop().unwrap();
    assert_eq!(handle.phase(), JobPhase::Started);
    handle.start().await.unwrap();
    let (_, end) = until(&mut *handle, "").await;
    assert!(infra(&end.unwrap()).1.contains("deleted"));
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_deleted_while_the_job_runs() {
    let Some(mut world) = World::new() else { return };
    world.script(&["echo started", "sleep 60"]);
    let executor = world.executor("m1").await;
    let mut handle = world.reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    until(&mut *handle, "started\n").await;
    let pod = world.pod().await;
    world.pods().await.delete(pod.name(), &DeleteParams::default()).await.unwrap();
    let (_, end) = until(&mut *handle, "").await;
    let end = end.unwrap();
    assert_eq!(infra(&end).0, InfraKind::System);
    assert!(infra(&end).1.contains("deleted"), "{end:?}");
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_job_says_so() {
    let Some(mut world) = World::new() else { return };
    world.script(&["echo started", "sleep 60"]);
    let executor = world.executor("m1").await;
    let mut handle = world.reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    until(&mut *handle, "started\n").await;
    handle.stop(Stop::Cancel).await.unwrap();
    let (_, end) = until(&mut *handle, "").await;
    assert_eq!(end.unwrap().outcome, Outcome::Cancelled);
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn an_image_that_does_not_exist() {
    let Some(mut world) = World::new() else { return };
    world.script(&["true"]);
    world.job.image =
        Some(Image { name: "registry.invalid:5000/no/such:1".into(), ..Image::default() });
    let (trace, end) = world.run(&world.executor("m1").await).await;
    assert!(infra(&end).1.contains("could not be pulled"), "{end:?}");
    assert!(end.trace.is_some(), "the helper's trace is complete: {trace}");
}

#[tokio::test]
async fn an_image_name_that_is_none() {
    let Some(mut world) = World::new() else { return };
    world.script(&["true"]);
    world.job.image = Some(Image { name: "UPPER/Case:::1".into(), ..Image::default() });
    let (_, end) = world.run(&world.executor("m1").await).await;
    assert_eq!(infra(&end).0, InfraKind::Configuration);
}

/// `PODWRIGHT_E2E_PRIVATE_IMAGE` is an image that the node does not have and that only user `kube`
/// with password `kube` gets from its registry.
#[tokio::test]
async fn the_next_pull_policy_gets_an_image_with_the_jobs_own_login() {
    let Some(mut world) = World::new() else { return };
    let Some(name) = variable("PODWRIGHT_E2E_PRIVATE_IMAGE") else {
        eprintln!("PODWRIGHT_E2E_PRIVATE_IMAGE is not set: pulling was not tested");
        return;
    };
    world.script(&["echo pulled"]);
    world.settings.pull_policy = OneOrMany::Many(vec!["never".into(), "if-not-present".into()]);
    let registry = name.split('/').next().unwrap().to_owned();
    world.job.registries =
        vec![RegistryLogin { registry, username: "kube".into(), password: Secret::new("kube") }];
    world.job.image = Some(Image { name, ..Image::default() });
    let executor = world.executor("m1").await;
    let (trace, end) = world.run(&executor).await;
    assert_eq!(end.outcome, Outcome::Exited(0), "{trace}");
    assert!(trace.contains("pulled"));
    // Record, credentials, two pods.
    assert_eq!(executor.requests().get(RequestKind::Create), 4);
}

#[tokio::test]
async fn memory_beyond_the_limit() {
    let Some(mut world) = World::new() else { return };
    world.settings.memory_limit = "64Mi".into();
    world.script(&["echo eating", "tail /dev/zero"]);
    let (trace, end) = world.run(&world.executor("m1").await).await;
    // cgroup v1 kills the child, and the script fails; cgroup v2 kills the container.
    assert!(!end.outcome.is_success(), "{end:?} {trace}");
}

#[tokio::test]
async fn a_service_that_is_killed_for_memory_is_named() {
    let Some(mut world) = World::new() else { return };
    world.settings.service_memory_limit = "32Mi".into();
    world.script(&["sleep 30"]);
    world.job.services = vec![Image {
        name: world.settings.image.clone(),
        aliases: vec!["hungry".into()],
        entrypoint: Some(vec!["tail".into(), "/dev/zero".into()]),
        ..Image::default()
    }];
    let (_, end) = world.run(&world.executor("m1").await).await;
    assert!(infra(&end).1.contains("\"hungry\" used more memory"), "{end:?}");
}

#[tokio::test]
async fn a_job_that_no_node_takes() {
    let Some(mut world) = World::new() else { return };
    world.settings.cpu_request = "4000".into();
    world.settings.poll_timeout = 3;
    world.script(&["true"]);
    let (_, end) = world.run(&world.executor("m1").await).await;
    assert!(infra(&end).1.contains("Insufficient cpu"), "{end:?}");
}
