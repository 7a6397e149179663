//! One run of a schedule.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runner_core::ids::JobId;
use runner_k8s::names::JOB_LABEL;
use runner_testkit::chaos::{Fault, MemoryJob, Part, Queue, Schedule};
use runner_testkit::cluster::{
    Cluster, ClusterSettings, ImageSpec, Isolation, Leftovers, Pull, RequestFilter,
};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::fixed;
use crate::manager::Running;
use crate::node::{Node, Truth, Truths};

/// Jobs are over after this one, or they hang: the longest takes minutes, a pod that cannot start is
/// given up after minutes, and a verdict is offered for an hour.
const DEADLINE: Duration = Duration::from_secs(3 * 3600);
/// After the last verdict everything is removed within this time. What could not be removed for ten
/// minutes is left to the sweep for jobs without an owner.
const TIDY: Duration = Duration::from_secs(40 * 60);

/// Something that was done to a job's pod, and when.
#[derive(Clone, Debug)]
pub(crate) struct Harm {
    pub(crate) at: Instant,
    /// The pod's supervisor may go on after it.
    pub(crate) survivable: bool,
}

/// What there was at the end.
pub(crate) struct Outcome {
    pub(crate) begin: Instant,
    pub(crate) jobs: Vec<MemoryJob>,
    pub(crate) truths: BTreeMap<JobId, Truth>,
    pub(crate) harms: BTreeMap<JobId, Vec<Harm>>,
    pub(crate) wrongs: Vec<String>,
    /// What was left with a manager running, and when none did.
    pub(crate) left: Leftovers,
    pub(crate) left_at_last: Leftovers,
    /// Virtual time that it took.
    pub(crate) took: Duration,
}

struct World {
    cluster: Arc<Cluster>,
    queue: Queue,
    managers: Vec<Running>,
    started: usize,
    disruption: Option<&'static str>,
    harms: BTreeMap<JobId, Vec<Harm>>,
    truths: Truths,
    jobs: Vec<JobId>,
    /// When the last fault is over.
    calm: Instant,
    /// What ends later: when, and what.
    later: Vec<(Instant, Mend)>,
}

#[derive(PartialEq, Eq)]
enum Mend {
    Line(String),
    Streams,
    Node,
    Schedulable,
    Quota,
    Webhook,
}

/// How a cluster differs from the usual one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// How pulls of the jobs' image go.
    pub(crate) pull: Option<Pull>,
    /// `pod_disruption_policy` of all managers. `None`: each second one lets jobs finish.
    pub(crate) disruption: Option<&'static str>,
}

/// Runs a schedule on this thread, which is used for nothing else.
pub(crate) fn run(schedule: &Schedule, work_dir: &std::path::Path) -> Outcome {
    run_with(schedule, work_dir, &Setup::default())
}

/// The same on a cluster that differs.
pub(crate) fn run_with(schedule: &Schedule, work_dir: &std::path::Path, setup: &Setup) -> Outcome {
    fixed::fix(schedule.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could fail");
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        fixed::fix_clock();
        World::run(schedule, work_dir, setup).await
    })
}

/// How long a fault lasts, as far as it says so.
fn lasts(fault: &Fault) -> Duration {
    match fault {
        Fault::CutOff(_, time)
        | Fault::Freeze(_, time)
        | Fault::ApiAway(time)
        | Fault::StallStreams(time)
        | Fault::SourceAway(time)
        | Fault::SourceSilent(time)
        | Fault::SourceForbids(time)
        | Fault::LoseNode(time)
        | Fault::Unschedulable(time)
        | Fault::Quota(time)
        | Fault::Webhook(time) => *time,
        // Ten answers.
        Fault::SourceSlow(by) => *by * 10,
        _ => Duration::ZERO,
    }
}

impl World {
    async fn run(schedule: &Schedule, work_dir: &std::path::Path, setup: &Setup) -> Outcome {
        let begin = Instant::now();
        let truths: Truths = Rc::new(RefCell::default());
        let (node, image) = Node::new(Rc::clone(&truths));
        let playing = tokio::task::spawn_local(node.run());
        let settings = ClusterSettings {
            isolation: Isolation::Plain,
            work_dir: Some(work_dir.to_owned()),
            ..ClusterSettings::default()
        };
        let cluster = Cluster::in_memory(settings).expect("the directory can be made");
        cluster.register_image("helper:1", image.clone());
        let pull = setup.pull.clone().unwrap_or(image.pull.clone());
        cluster.register_image("build:1", ImageSpec { pull, ..image });
        cluster.register_image("agent:1", ImageSpec::volume(work_dir));
        let queue = Queue::new(&schedule.jobs);
        let mut world = World {
            cluster: Arc::new(cluster),
            queue,
            managers: Vec::new(),
            started: 0,
            disruption: setup.disruption,
            harms: BTreeMap::new(),
            truths,
            jobs: schedule.jobs.iter().map(|job| job.id).collect(),
            calm: begin,
            later: Vec::new(),
        };
        for _ in 0..schedule.managers {
            world.add_manager();
        }
        for event in &schedule.events {
            world.wait_until(begin + event.at).await;
            world.hurt(&event.fault).await;
            world.calm = world.calm.max(Instant::now() + lasts(&event.fault));
        }
        world.wait_until(world.calm).await;
        world.heal();
        drop(timeout_at(begin + DEADLINE, world.queue.all_over()).await);
        let took = begin.elapsed();
        let left = world.tidy().await;
        let wrongs = world.queue.wrongs();
        for manager in std::mem::take(&mut world.managers) {
            manager.retire().await;
        }
        let left_at_last = world.cluster.leftovers();
        let jobs = world.queue.jobs();
        let World { cluster, truths, harms, .. } = world;
        drop(cluster);
        // Containers that are still there are killed, so that their spools can be compared.
        playing.abort();
        sleep(Duration::from_secs(1)).await;
        let truths = truths.borrow().clone();
        Outcome { begin, jobs, truths, harms, wrongs, left, left_at_last, took }
    }

    fn add_manager(&mut self) {
        self.started += 1;
        let policy = match self.started % 2 {
            0 => "finish",
            _ => "stop",
        };
        let policy = self.disruption.unwrap_or(policy);
        self.managers.push(Running::start(self.started, policy, &self.cluster, &self.queue));
    }

    /// Lets time pass, and ends what ends meanwhile.
    async fn wait_until(&mut self, time: Instant) {
        loop {
            let next = self.later.iter().map(|(at, _)| *at).min().filter(|at| *at <= time);
            let Some(at) = next else { break };
            sleep_until(at).await;
            let (due, rest) =
                std::mem::take(&mut self.later).into_iter().partition(|(t, _)| *t <= at);
            self.later = rest;
            let due: Vec<(Instant, Mend)> = due;
            due.iter().for_each(|(_, mend)| self.mend(mend));
        }
        sleep_until(time).await;
    }

    fn mend(&mut self, mend: &Mend) {
        match mend {
            Mend::Line(name) => {
                let manager = self.managers.iter().find(|manager| manager.name == *name);
                if let Some(manager) = manager {
                    manager.line.mend();
                }
            }
            Mend::Streams => self.cluster.stall_streams(false),
            Mend::Node => self.cluster.restore_node(),
            // A node that is lost has no room until it is back.
            Mend::Schedulable if self.is_node_lost() => {}
            Mend::Schedulable => self.cluster.set_schedulable(true),
            Mend::Quota => self.cluster.set_pod_quota("ci", None),
            Mend::Webhook => self.cluster.refuse_pods(None),
        }
    }

    fn is_node_lost(&self) -> bool {
        self.later.iter().any(|(_, mend)| *mend == Mend::Node)
    }

    /// Everything works again, and somebody is there to do what is left.
    fn heal(&mut self) {
        let (node, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(_, mend)| *mend == Mend::Node);
        for (_, mend) in node.into_iter().chain(rest) {
            self.mend(&mend);
        }
        self.managers.iter().for_each(|manager| manager.line.mend());
        self.queue.recover();
        self.cluster.api_back();
        self.cluster.stall_streams(false);
        self.managers.retain(|manager| !manager.has_ended());
        if self.managers.is_empty() {
            self.add_manager();
        }
    }

    /// Waits until nothing is left, within bounds.
    async fn tidy(&self) -> Leftovers {
        let give_up = Instant::now() + TIDY;
        // Whoever was killed at the very end is given up first.
        sleep(Duration::from_secs(60)).await;
        loop {
            let left = self.cluster.leftovers();
            // Each manager shows one; those of killed ones are removed by the others in time.
            let signs = left.config_maps.len() <= self.managers.len();
            let tidy = left.pods.is_empty() && left.secrets.is_empty() && signs;
            if tidy || Instant::now() > give_up {
                return left;
            }
            sleep(Duration::from_secs(5)).await;
        }
    }

    fn later(&mut self, after: Duration, mend: Mend) {
        self.later.push((Instant::now() + after, mend));
    }

    fn manager(&self, number: usize) -> Option<&Running> {
        self.managers.get(number % self.managers.len().max(1))
    }

    fn job(&self, number: usize) -> Option<JobId> {
        self.jobs.get(number % self.jobs.len().max(1)).copied()
    }

    /// The pod of a job, if it has one.
    fn pod(&self, job: JobId) -> Option<String> {
        let number = job.to_string();
        self.cluster.pods().into_iter().find(|name| {
            let pod = self.cluster.pod(name);
            pod.is_some_and(|pod| pod["metadata"]["labels"][JOB_LABEL] == number.as_str())
        })
    }

    fn harm(&mut self, job: JobId, fault: &Fault, survivable: bool) {
        tracing::info!(%job, ?fault, "harmed");
        let harm = Harm { at: Instant::now(), survivable };
        self.harms.entry(job).or_default().push(harm);
    }

    fn harm_all(&mut self, fault: &Fault) {
        for job in self.jobs.clone() {
            if self.pod(job).is_some() {
                self.harm(job, fault, false);
            }
        }
    }

    async fn hurt(&mut self, fault: &Fault) {
        match fault {
            Fault::KillManager(number) | Fault::ReplaceManager(number) => {
                if !self.managers.is_empty() {
                    let at = number % self.managers.len();
                    self.managers.remove(at).kill().await;
                }
                if matches!(fault, Fault::ReplaceManager(_)) {
                    self.add_manager();
                }
            }
            Fault::RetireManager(number) => {
                if !self.managers.is_empty() {
                    let at = number % self.managers.len();
                    let manager = self.managers.remove(at);
                    // It may take its time, e.g. while it is cut off; others live meanwhile.
                    tokio::task::spawn_local(manager.retire());
                }
            }
            Fault::AddManager => self.add_manager(),
            Fault::CutOff(number, time) | Fault::Freeze(number, time) => {
                let Some(manager) = self.manager(*number) else { return };
                match fault {
                    Fault::Freeze(..) => manager.line.freeze(),
                    _ => manager.line.cut(),
                }
                let name = manager.name.clone();
                self.later(*time, Mend::Line(name));
            }
            Fault::ApiAway(time) => self.cluster.api_away(*time),
            Fault::ApiRestart => self.cluster.restart_api(),
            Fault::Api(call, trouble, times) => {
                self.cluster.fail_next(*times, RequestFilter::of(call.0, call.1), *trouble);
            }
            Fault::ExpireWatches => self.cluster.expire_watches(),
            Fault::DropStreams => self.cluster.drop_streams(),
            Fault::DropStreamAfter(bytes) => self.cluster.drop_stream_after(*bytes),
            Fault::StallStreams(time) => {
                self.cluster.stall_streams(true);
                self.later(*time, Mend::Streams);
            }
            Fault::SourceAway(time) => self.queue.away(*time),
            Fault::SourceSilent(time) => self.queue.silent(*time),
            Fault::SourceForbids(time) => self.queue.forbid(*time),
            Fault::SourceSlow(by) => self.queue.slow(*by),
            Fault::SourceLosesAnswers(count) => self.queue.lose_answers(*count),
            Fault::Unschedulable(time) => {
                self.cluster.set_schedulable(false);
                self.later(*time, Mend::Schedulable);
            }
            Fault::Quota(time) => {
                self.cluster.set_pod_quota("ci", Some(0));
                self.later(*time, Mend::Quota);
            }
            Fault::Webhook(time) => {
                self.cluster.refuse_pods(Some("no pods today"));
                self.later(*time, Mend::Webhook);
            }
            // There is one node: it is lost already.
            Fault::LoseNode(_) if self.is_node_lost() => {}
            Fault::LoseNode(time) => {
                self.harm_all(fault);
                self.cluster.lose_node();
                self.later(*time, Mend::Node);
            }
            Fault::ClockJump(seconds) => fixed::jump(*seconds),
            other => self.hurt_job(other),
        }
    }

    fn hurt_job(&mut self, fault: &Fault) {
        let number = match fault {
            Fault::SourceLosesTrace(number, _)
            | Fault::SourceRejectsTrace(number)
            | Fault::SourceHesitates(number, _)
            | Fault::Cancel(number)
            | Fault::Abort(number)
            | Fault::Evict(number)
            | Fault::OutOfMemory(number, _)
            | Fault::KillContainer(number, _)
            | Fault::Drain(number)
            | Fault::DeletePod(number) => *number,
            _ => return,
        };
        let Some(job) = self.job(number) else { return };
        let name = |part: &Part| match part {
            Part::Helper => "helper",
            Part::Build => "build",
        };
        match fault {
            Fault::SourceLosesTrace(_, bytes) => return self.queue.lose_trace(job, *bytes),
            Fault::SourceRejectsTrace(_) => return self.queue.reject_trace(job),
            Fault::SourceHesitates(_, times) => return self.queue.hesitate(job, *times),
            Fault::Cancel(_) => return self.queue.cancel(job),
            Fault::Abort(_) => return self.queue.abort(job),
            _ => {}
        }
        let Some(pod) = self.pod(job) else { return };
        let done = match fault {
            Fault::Evict(_) => self.cluster.evict(&pod),
            Fault::OutOfMemory(_, part) => self.cluster.oom_kill(&pod, name(part)),
            Fault::KillContainer(_, part) => self.cluster.kill_pid1(&pod, name(part)),
            Fault::Drain(_) => self.cluster.drain(&pod, None),
            _ => self.cluster.delete_pod(&pod, None),
        };
        if done.is_ok() {
            let helper = |part: &Part| *part == Part::Helper;
            let survivable = match fault {
                Fault::OutOfMemory(_, part) | Fault::KillContainer(_, part) => helper(part),
                _ => false,
            };
            self.harm(job, fault, survivable);
        }
    }
}
