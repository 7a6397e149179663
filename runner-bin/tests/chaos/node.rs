//! What runs in the containers: the real supervisor with its real journal and spool, relays, and
//! build containers whose scripts are no processes. It also writes down what really happened.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use runner_agent::builder::Door;
use runner_agent::control::Control;
use runner_agent::plan_file;
use runner_agent::process::Reaper;
use runner_agent::recorder::{Progress, Recorder};
use runner_agent::relay::{not_ready, pass_on};
use runner_agent::session::Callers;
use runner_agent::spool::SpoolReader;
use runner_agent::supervise::{Surroundings, supervise_in};
use runner_core::ids::{JobId, Offset};
use runner_core::layout;
use runner_core::outcome::Verdict;
use runner_core::wire::AgentCodec;
use runner_testkit::cluster::{
    ImageSpec, ScriptedExec, ScriptedIo, ScriptedProgram, ScriptedStart,
};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use crate::serve::Serve;

/// What really happened to a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// The pods in which it ran.
    pub(crate) pods: BTreeSet<String>,
    /// What its agent came to.
    pub(crate) verdict: Option<Verdict>,
    /// When.
    pub(crate) concluded: Option<Instant>,
    /// What its spool held at last.
    pub(crate) spool: Vec<u8>,
    /// How often its supervisor was started.
    pub(crate) starts: u32,
    /// Why there was no supervisor, for somebody who looks at a failure.
    pub(crate) failures: Vec<String>,
}

/// What really happened, by job.
pub(crate) type Truths = Rc<RefCell<BTreeMap<JobId, Truth>>>;

enum Call {
    Start(ScriptedStart, oneshot::Sender<i32>),
    Exec(ScriptedIo, oneshot::Sender<i32>),
}

/// The node on which all pods are. Containers are started by the cluster's tasks, which may be on
/// any thread as far as their types know; the agent is not made for that, so they are played here.
pub(crate) struct Node {
    calls: mpsc::UnboundedReceiver<Call>,
    truths: Truths,
    pods: Rc<RefCell<BTreeMap<String, Pod>>>,
}

struct Pod {
    door: mpsc::UnboundedSender<DuplexStream>,
    /// Taken by the supervisor while it waits there.
    knocks: Rc<tokio::sync::Mutex<mpsc::UnboundedReceiver<DuplexStream>>>,
    callers: Option<mpsc::UnboundedSender<DuplexStream>>,
}

impl Pod {
    fn new() -> Self {
        // Bounded by the build container, which knocks again only when it was let go.
        let (door, knocks) = mpsc::unbounded_channel();
        Self { door, knocks: Rc::new(tokio::sync::Mutex::new(knocks)), callers: None }
    }
}

impl Node {
    /// A node, and the image that all containers of jobs have.
    pub(crate) fn new(truths: Truths) -> (Self, ImageSpec) {
        // Bounded by the containers and streams that there are.
        let (sender, calls) = mpsc::unbounded_channel();
        let start = sender.clone();
        let program = ScriptedProgram::new(move |begin| {
            let (done, code) = oneshot::channel();
            drop(start.send(Call::Start(begin, done)));
            async move { code.await.unwrap_or(1) }
        });
        let exec = ScriptedExec::new(move |io| {
            let (done, code) = oneshot::channel();
            drop(sender.send(Call::Exec(io, done)));
            async move { code.await.unwrap_or(1) }
        });
        let image = ImageSpec { program: Some(program), ..ImageSpec::scripted(exec) };
        (Self { calls, truths, pods: Rc::default() }, image)
    }

    /// Plays all containers for as long as it is polled, on a local task set.
    pub(crate) async fn run(mut self) {
        while let Some(call) = self.calls.recv().await {
            let (pods, truths) = (Rc::clone(&self.pods), Rc::clone(&self.truths));
            tokio::task::spawn_local(async move {
                match call {
                    Call::Start(start, mut done) => {
                        // Killed: whoever waits for the exit code is gone.
                        let killed = async { done.closed().await };
                        tokio::select! {
                            biased;
                            () = killed => {}
                            code = play(start, pods, truths) => {
                                // The container may be killed at this very moment.
                                let _ = done.send(code);
                            }
                        }
                    }
                    Call::Exec(io, done) => {
                        relay(io, &pods).await;
                        // The same of the stream.
                        let _ = done.send(0);
                    }
                }
            });
        }
    }
}

type Pods = Rc<RefCell<BTreeMap<String, Pod>>>;

async fn play(start: ScriptedStart, pods: Pods, truths: Truths) -> i32 {
    if start.command.iter().any(|word| word == "serve") {
        let door = pods.borrow_mut().entry(start.pod.clone()).or_insert_with(Pod::new).door.clone();
        let mut terminated = start.terminated.clone();
        tokio::select! {
            biased;
            // It goes on for as long as its supervisor is there.
            () = async { drop(terminated.wait_for(|_| false).await) } => {}
            () = Serve::default().run(door) => {}
        }
        return 0;
    }
    match supervise(&start, &pods, &truths).await {
        Ok(()) => 0,
        Err(error) => {
            drop(std::fs::write(&start.termination_log, format!("podwright-agent: {error}")));
            2
        }
    }
}

async fn supervise(start: &ScriptedStart, pods: &Pods, truths: &Truths) -> io::Result<()> {
    let missing = || io::Error::other("a volume is missing");
    let state = start.mounted(layout::STATE_DIR).ok_or_else(missing)?;
    let plan_dir = start.mounted(layout::PLAN_DIR).ok_or_else(missing)?;
    let root = state.join("root");
    let plan = plan_file::read(&plan_dir, root.to_str()).map_err(io::Error::other)?;
    let recorder = Recorder::open(&state, &plan.log)?;
    let (progress, spool) = recorder.subscribe();
    let control = Control::new(&plan, recorder);
    {
        let mut truths = truths.borrow_mut();
        let truth = truths.entry(plan.job).or_default();
        truth.pods.insert(start.pod.clone());
        truth.starts += 1;
    }
    let witness = Witness { job: plan.job, progress, spool, truths: Rc::clone(truths) };
    // Bounded by the streams that managers have open.
    let (sender, callers) = mpsc::unbounded_channel();
    let knocks = {
        let mut pods = pods.borrow_mut();
        let pod = pods.entry(start.pod.clone()).or_insert_with(Pod::new);
        pod.callers = Some(sender);
        Rc::clone(&pod.knocks)
    };
    let surroundings = Surroundings {
        door: Knocks(knocks),
        callers: Relays(callers),
        termination_log: &start.termination_log,
    };
    let mut terminated = start.terminated.clone();
    let interrupted = async {
        drop(terminated.wait_for(|told| *told).await);
        control.told_to_end();
        std::future::pending::<()>().await;
    };
    let reaper = Reaper::default();
    tokio::select! {
        biased;
        result = supervise_in(surroundings, &plan, &control, &reaper) => result,
        () = witness.watch() => Ok(()),
        () = interrupted => Ok(()),
    }
}

/// Sees what a supervisor does, to the end.
struct Witness {
    job: JobId,
    progress: watch::Receiver<Progress>,
    spool: SpoolReader,
    truths: Truths,
}

impl Witness {
    async fn watch(&self) {
        let mut progress = self.progress.clone();
        let verdict = progress.wait_for(|progress| progress.verdict.is_some()).await;
        let verdict = verdict.ok().and_then(|progress| progress.verdict.clone());
        if let Some(verdict) = verdict {
            let mut truths = self.truths.borrow_mut();
            let truth = truths.entry(self.job).or_default();
            if truth.verdict.as_ref().is_some_and(|known| *known != verdict) {
                truth.failures.push(format!("two verdicts: {verdict:?}"));
            }
            truth.verdict = Some(verdict);
            truth.concluded.get_or_insert_with(Instant::now);
        }
        std::future::pending().await
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let Offset(length) = self.progress.borrow().length;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut truths = self.truths.borrow_mut();
        let truth = truths.entry(self.job).or_default();
        match self.spool.read(Offset::ZERO, &mut bytes) {
            Ok(()) => truth.spool = bytes,
            Err(error) => truth.failures.push(format!("the spool cannot be read: {error}")),
        }
        if let Some(verdict) = self.progress.borrow().verdict.clone() {
            truth.verdict.get_or_insert(verdict);
            truth.concluded.get_or_insert_with(Instant::now);
        }
    }
}

/// What a manager starts in `helper`.
async fn relay(io: ScriptedIo, pods: &Pods) {
    let callers = pods.borrow().get(&io.pod).and_then(|pod| pod.callers.clone());
    let (near, far) = tokio::io::duplex(64 << 10);
    let open = callers.is_some_and(|callers| callers.send(far).is_ok());
    if !open {
        drop(not_ready(io.stdout).await);
        return;
    }
    let (read, write) = tokio::io::split(near);
    drop(pass_on(read, write, io.stdin, io.stdout).await);
}

/// Where relays come in.
struct Relays(mpsc::UnboundedReceiver<DuplexStream>);

impl Callers for Relays {
    type Stream = DuplexStream;

    async fn next(&mut self) -> io::Result<Framed<DuplexStream, AgentCodec>> {
        match self.0.recv().await {
            Some(stream) => Ok(Framed::new(stream, AgentCodec)),
            None => std::future::pending().await,
        }
    }
}

/// Where the build container comes in.
struct Knocks(Rc<tokio::sync::Mutex<mpsc::UnboundedReceiver<DuplexStream>>>);

impl Door for Knocks {
    type Stream = DuplexStream;

    async fn open(&mut self) -> io::Result<(DuplexStream, (u32, u32))> {
        match self.0.lock().await.recv().await {
            // Root's, as in most images: nothing is handed over.
            Some(stream) => Ok((stream, (0, 0))),
            None => std::future::pending().await,
        }
    }
}
