//! How long it takes to decide about a job and to build its pod.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use runner_core::ids::{JobId, SourceId};
use runner_core::job::{Image, Job, Project, Variable};
use runner_core::plan::Plan;
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_k8s::names::names;
use runner_k8s::overwrites::for_job;
use runner_k8s::pod::{PlanItems, PodInput, build_pod};
use runner_k8s::settings::RawSettings;
use runner_k8s::{KubernetesSettings, RunnerIdentity};

/// Jobs in a round: each is another one, so that nothing stays in a cache because it is the same.
const JOBS: u64 = 1000;

fn settings() -> KubernetesSettings {
    let text = |text: &str| text.to_owned();
    let raw = RawSettings {
        namespace: text("ci"),
        cpu_request: text("500m"),
        cpu_limit: text("2"),
        cpu_limit_overwrite_max_allowed: text("4"),
        memory_limit: text("2Gi"),
        memory_limit_overwrite_max_allowed: text("8Gi"),
        pod_labels: [(text("team"), text("$CI_PROJECT_NAMESPACE"))].into(),
        pod_annotations_overwrite_allowed: text(".*"),
        node_selector: [(text("pool"), text("ci"))].into(),
        node_tolerations: [(text("spot=true"), text("NoSchedule"))].into(),
        allowed_images: vec![text("r.example/**"), text("debian:*")],
        image_pull_secrets: vec![text("registry")],
        ..RawSettings::default()
    };
    KubernetesSettings::resolve(&raw).expect("these settings are fine")
}

/// About what GitLab sends: a hundred predefined variables, some of the project's, one service.
fn job(number: u64) -> Job {
    let variable = |key: String, value: String| Variable {
        key,
        value: value.into(),
        public: true,
        ..Variable::default()
    };
    let mut variables: Vec<_> = (0..100)
        .map(|n| variable(format!("CI_PREDEFINED_{n}"), format!("value {n} of job {number}")))
        .collect();
    variables.extend((0..10).map(|n| Variable {
        masked: true,
        public: false,
        ..variable(format!("SECRET_{n}"), format!("secret-{number}-{n}-0123456789"))
    }));
    variables.push(variable("KUBERNETES_CPU_LIMIT".into(), "3".into()));
    variables.push(variable("KUBERNETES_POD_ANNOTATIONS_1".into(), "a=$CI_PREDEFINED_1".into()));
    Job {
        project: Project {
            id: number % 50,
            name: "widgets".into(),
            path: "group/widgets".into(),
            reference: "main".into(),
            sha: "0123456789abcdef0123456789abcdef01234567".into(),
        },
        variables,
        image: Some(Image::named("debian:12")),
        services: vec![Image::named("debian:13")],
        ..Job::new(JobId(number), "unit tests", ["make"])
    }
}

fn pods(criterion: &mut Criterion) {
    let settings = settings();
    let runner = RunnerIdentity {
        source: SourceId("https://gitlab.example#hash".into()),
        name: "blue runner".into(),
        short_token: "t0k3n".into(),
        manager: "m1".into(),
    };
    let plan_of = |job: &Job| {
        plan(job, &PlanSettings::default(), Transfers::default()).expect("the job can be planned")
    };
    let jobs: Vec<(Job, Plan)> = (1..=JOBS)
        .map(|number| {
            let job = job(number);
            let plan = plan_of(&job);
            (job, plan)
        })
        .collect();
    let mut group = criterion.benchmark_group("pod");
    group.throughput(Throughput::Elements(JOBS));
    group.bench_function("overwrites", |bencher| {
        bencher.iter(|| {
            for (job, plan) in &jobs {
                black_box(for_job(&settings, job, plan).expect("nothing is refused"));
            }
        });
    });
    group.bench_function("build", |bencher| {
        let prepare = || {
            jobs.iter().map(|(job, plan)| {
                let of_job = for_job(&settings, job, plan).expect("nothing is refused");
                let names = names(&runner, job.id, job.project.id, "0");
                let secrets = vec![(names.record.clone(), vec!["plan.0".to_owned()])];
                (of_job, names, PlanItems { secrets, pull_secret: None })
            })
        };
        bencher.iter_batched(
            || prepare().collect::<Vec<_>>(),
            |prepared| {
                for ((job, plan), (of_job, names, items)) in jobs.iter().zip(&prepared) {
                    let (settings, runner) = (&*of_job.settings, &runner);
                    let input = PodInput { settings, runner, job, plan, names, items };
                    black_box(build_pod(&input).expect("the pod can be built"));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, pods);
criterion_main!(benches);
