//! How long it takes from settings and a job to the pod as it is sent.
//!
//! | Bench | What is in it |
//! |---|---|
//! | `pod/typical` | overwrites and pod of a job as most are: 112 variables, one service |
//! | `pod/every_feature` | the same with whatever settings and jobs can ask for, and a patch |
//! | `pod/random` | a thousand random jobs with settings that allow everything |
//! | `around/plan` | beside the pod, once for each job: the plan as text, compressed, for its Secret |
//!
//! Each round is a thousand different jobs, so that nothing stays in a cache because it is the same.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runner_core::ids::{JobId, SourceId};
use runner_core::job::{Image, Job, Project, Variable};
use runner_core::plan::Plan;
use runner_core::planner::{PlanLookup, PlanSettings, Transfers, plan};
use runner_k8s::names::names;
use runner_k8s::overwrites::for_job;
use runner_k8s::pod::{PlanItems, PodInput, build_pod};
use runner_k8s::record::Content;
use runner_k8s::{KubernetesSettings, RawSettings, RunnerIdentity};

/// Jobs in a round.
const JOBS: u64 = 1000;

/// Of a runner as many are.
const TYPICAL: &str = include_str!("pod/typical.toml");
/// With a table of each kind.
const EVERY_FEATURE: &str = include_str!("pod/every_feature.toml");

fn settings(toml: &str) -> KubernetesSettings {
    let raw: RawSettings = toml::from_str(toml).expect("these settings can be read");
    KubernetesSettings::resolve(&raw).expect("these settings are fine")
}

fn public(key: impl Into<String>, value: impl Into<String>) -> Variable {
    let (key, value) = (key.into(), value.into().into());
    Variable { key, value, public: true, ..Variable::default() }
}

/// About what GitLab sends: a hundred predefined variables, some of the project's, one service.
fn typical(number: u64) -> Job {
    let mut variables: Vec<_> = (0..100)
        .map(|n| public(format!("CI_PREDEFINED_{n}"), format!("value {n} of job {number}")))
        .collect();
    variables.extend((0..10).map(|n| Variable {
        masked: true,
        public: false,
        ..public(format!("SECRET_{n}"), format!("secret-{number}-{n}-0123456789"))
    }));
    variables.push(public("KUBERNETES_CPU_LIMIT", "3"));
    variables.push(public("KUBERNETES_POD_ANNOTATIONS_1", "a=$CI_PREDEFINED_1"));
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

/// All kinds of overwrites, three services with variables of their own, an entry point, a patch.
fn every_feature(number: u64) -> Job {
    let mut job = typical(number);
    let more = [
        ("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "true"),
        ("FF_KUBERNETES_HONOR_ENTRYPOINT", "true"),
        ("KUBERNETES_MEMORY_LIMIT", "4Gi"),
        ("KUBERNETES_HELPER_CPU_LIMIT", "1"),
        ("KUBERNETES_SERVICE_MEMORY_LIMIT", "1Gi"),
        ("KUBERNETES_POD_LABELS_1", "team=$CI_PREDEFINED_2"),
        ("KUBERNETES_NODE_SELECTOR_1", "disk=ssd"),
        ("KUBERNETES_NODE_TOLERATIONS_1", "gpu=true:NoSchedule"),
        ("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "ci-deploy"),
    ];
    job.variables.extend(more.map(|(key, value)| public(key, value)));
    job.services = (0..3)
        .map(|n| Image {
            aliases: vec![format!("db{n}"), format!("db{n}.local")],
            variables: vec![
                public("PGDATA", "/data/$CI_PREDEFINED_3"),
                public("SECRET_OF", "$SECRET_1"),
            ],
            command: Some(vec!["postgres".into(), "-c".into(), "fsync=off".into()]),
            ..Image::named(format!("registry.example/postgres:{n}"))
        })
        .collect();
    job.image = Some(Image {
        entrypoint: Some(vec!["/entry".into()]),
        user: Some("1000:1000".into()),
        ..Image::named("registry.example/build:$CI_PREDEFINED_4")
    });
    job
}

/// Something of everything, more or less of it; the same for the same number.
fn random(number: u64) -> Job {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % most
    };
    let all = every_feature(number);
    let mut job = Job { services: Vec::new(), ..typical(number) };
    job.variables.truncate(60 + usize::try_from(below(52)).unwrap_or_default());
    let (_, more) = all.variables.split_at(112);
    job.variables.extend(more.iter().filter(|_| below(3) == 0).cloned());
    job.services.extend(all.services.into_iter().filter(|_| below(3) == 0));
    if below(4) == 0 {
        job.image = all.image;
    }
    for variable in &mut job.variables {
        variable.file = below(20) == 0 && variable.key.starts_with("SECRET_");
        if below(30) == 0 && variable.key.starts_with("CI_") {
            variable.value =
                "x$CI_PREDEFINED_5".repeat(1 + usize::try_from(below(40)).unwrap_or(0)).into();
        }
    }
    job
}

fn runner() -> RunnerIdentity {
    RunnerIdentity {
        source: SourceId("https://gitlab.example#hash".into()),
        name: "blue runner".into(),
        short_token: "t0k3n".into(),
        manager: "m1".into(),
    }
}

fn planned(make: impl Fn(u64) -> Job) -> Vec<(Job, Plan)> {
    let planned = |number| {
        let job = make(number);
        let plan = plan(&job, &PlanSettings::default(), Transfers::default());
        let plan = plan.expect("the job can be planned");
        (job, plan)
    };
    (1..=JOBS).map(planned).collect()
}

/// All that is decided about a job for the cluster, and its pod as text.
fn pod_of(settings: &KubernetesSettings, runner: &RunnerIdentity, job: &Job, plan: &Plan) -> usize {
    let lookup = &PlanLookup::new(plan);
    let of_job = for_job(settings, job, lookup).expect("nothing is refused");
    let names = names(runner, job.id, job.project.id, "0");
    let secrets = vec![(names.record.clone(), vec!["plan.0".to_owned()])];
    let (settings, items) = (&*of_job.settings, &PlanItems { secrets, pull_secret: None });
    let input = PodInput { settings, runner, job, lookup, names: &names, items };
    build_pod(&input).expect("the pod can be built").pod.as_str().len()
}

fn pods(criterion: &mut Criterion) {
    let runner = runner();
    let mut group = criterion.benchmark_group("pod");
    group.throughput(Throughput::Elements(JOBS));
    let mut bench = |name: &str, toml: &str, make: fn(u64) -> Job| {
        let (settings, jobs) = (settings(toml), planned(make));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for (job, plan) in &jobs {
                    black_box(pod_of(&settings, &runner, job, plan));
                }
            });
        });
    };
    bench("typical", TYPICAL, typical);
    bench("every_feature", EVERY_FEATURE, every_feature);
    bench("random", EVERY_FEATURE, random);
    group.finish();
}

fn plans(criterion: &mut Criterion) {
    let jobs = planned(typical);
    let mut group = criterion.benchmark_group("around");
    group.throughput(Throughput::Elements(JOBS));
    group.bench_function("plan", |bencher| {
        bencher.iter(|| {
            for (_, plan) in &jobs {
                black_box(Content::new(&plan.to_json(), None).expect("the plan is not too large"));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, pods, plans);
criterion_main!(benches);
