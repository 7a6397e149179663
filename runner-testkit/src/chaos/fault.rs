//! Everything that goes wrong.

use std::time::Duration;

use super::random::Random;

/// A fault. Managers are named by their place among those that live, jobs by their place in the
/// schedule; both are taken modulo how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A manager is killed, and nobody takes its place.
    KillManager(usize),
    /// A manager is killed, and another one starts at once.
    ReplaceManager(usize),
    /// A manager is told to leave its jobs to others (SIGTERM of a rolling upgrade).
    RetireManager(usize),
    /// Another manager starts.
    AddManager,
    /// A manager reaches nobody for so long: its connections break.
    CutOff(usize, Duration),
    /// A manager stands still (a frozen machine): its connections stay, and nothing moves.
    Freeze(usize, Duration),
    /// The API server is away for so long.
    ApiAway(Duration),
    /// The API server cuts all connections.
    ApiRestart,
    /// The next so many requests of a kind go wrong.
    Api(ApiCall, Trouble, u32),
    /// Watches cannot go on from where they were (410).
    ExpireWatches,
    /// All streams into pods break.
    DropStreams,
    /// The next stream breaks after so many bytes.
    DropStreamAfter(u64),
    /// All streams into pods stall for so long.
    StallStreams(Duration),
    /// The source does not answer for so long (502 and 503).
    SourceAway(Duration),
    /// The source answers nothing at all for so long; requests end by their deadline.
    SourceSilent(Duration),
    /// The source answers with 403 for so long.
    SourceForbids(Duration),
    /// The source answers late by this much for a while.
    SourceSlow(Duration),
    /// The next so many answers of the source get lost; what was asked for is done.
    SourceLosesAnswers(u32),
    /// The source loses the end of a job's trace: so many bytes.
    SourceLosesTrace(usize, usize),
    /// The source says once that its trace of a job is not the one described.
    SourceRejectsTrace(usize),
    /// The source takes the verdict of a job late: it asks so many times for patience.
    SourceHesitates(usize, u32),
    /// Somebody cancels a job.
    Cancel(usize),
    /// The source wants nothing more of a job.
    Abort(usize),
    /// The kubelet evicts a job's pod.
    Evict(usize),
    /// The kernel kills a container of a job's pod for want of memory.
    OutOfMemory(usize, Part),
    /// A container's first process is killed.
    KillContainer(usize, Part),
    /// Somebody deletes a job's pod.
    DeletePod(usize),
    /// A job's pod is evicted by the API, as when its node is drained.
    Drain(usize),
    /// The pods' node is lost, and a fresh one comes after so long.
    LoseNode(Duration),
    /// No pod finds a node for so long.
    Unschedulable(Duration),
    /// Quota refuses pods for so long.
    Quota(Duration),
    /// A webhook refuses pods for so long.
    Webhook(Duration),
    /// All wall clocks jump by so many seconds.
    ClockJump(i64),
}

/// A container of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where the agent's supervisor runs.
    Helper,
    /// Where the scripts run.
    Build,
}

/// A kind of request to the API server: verb and resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiCall(pub &'static str, pub &'static str);

/// What becomes of a request to the API server.
type Trouble = crate::cluster::Fault;

const CALLS: [ApiCall; 12] = [
    ApiCall("create", "secrets"),
    ApiCall("update", "secrets"),
    ApiCall("get", "secrets"),
    ApiCall("list", "secrets"),
    ApiCall("delete", "secrets"),
    ApiCall("create", "pods"),
    ApiCall("delete", "pods"),
    ApiCall("list", "pods"),
    ApiCall("watch", "pods"),
    ApiCall("get", "pods/exec"),
    ApiCall("update", "configmaps"),
    ApiCall("list", "configmaps"),
];

/// Turns of the wheel in [`Fault::any`]. Some kinds have several, and two turns choose between two.
const TURNS: usize = 34;

impl Fault {
    /// A fault of any kind, all equally likely.
    pub(super) fn any(random: &mut Random) -> Self {
        let which = random.next() as usize % 1000;
        let number = random.next() as usize % 1000;
        let seconds = |random: &mut Random, most: u64| random.millis(500..most * 1000);
        let part = match random.percent(60) {
            true => Part::Helper,
            false => Part::Build,
        };
        match which % TURNS {
            0 => Self::KillManager(number),
            1 | 2 => Self::ReplaceManager(number),
            3 => Self::RetireManager(number),
            4 => Self::AddManager,
            5 => Self::CutOff(number, seconds(random, 120)),
            6 => Self::Freeze(number, seconds(random, 120)),
            7 => Self::ApiAway(seconds(random, 90)),
            8 => Self::ApiRestart,
            9 | 10 | 32 => {
                let call = *random.pick(&CALLS);
                Self::Api(call, trouble(random), 1 + random.next() as u32 % 4)
            }
            11 => Self::ExpireWatches,
            12 => Self::DropStreams,
            13 => Self::DropStreamAfter(random.within(1..20_000)),
            14 => Self::StallStreams(seconds(random, 90)),
            15 => Self::SourceAway(seconds(random, 240)),
            16 => Self::SourceSilent(seconds(random, 120)),
            17 => Self::SourceForbids(seconds(random, 60)),
            18 => Self::SourceSlow(seconds(random, 20)),
            19 => Self::SourceLosesAnswers(1 + random.next() as u32 % 5),
            20 => Self::SourceLosesTrace(number, 1 + random.next() as usize % 3000),
            21 => Self::SourceRejectsTrace(number),
            22 => Self::SourceHesitates(number, 1 + random.next() as u32 % 4),
            23 => Self::Cancel(number),
            24 => Self::Abort(number),
            25 => Self::Evict(number),
            26 => Self::OutOfMemory(number, part),
            27 => Self::KillContainer(number, part),
            28 => Self::DeletePod(number),
            29 => match number % 4 {
                0 => Self::LoseNode(seconds(random, 120)),
                _ => Self::Unschedulable(seconds(random, 120)),
            },
            30 => match number % 2 {
                0 => Self::Quota(seconds(random, 60)),
                _ => Self::Webhook(seconds(random, 10)),
            },
            33 => Self::Drain(number),
            _ => Self::ClockJump(random.within(0..7200) as i64 - 3600),
        }
    }
}

fn trouble(random: &mut Random) -> Trouble {
    match random.next() % 8 {
        0 => Trouble::Conflict,
        1 => Trouble::Gone,
        2 => Trouble::TooManyRequests { retry_after: Duration::from_secs(random.within(1..10)) },
        3 => Trouble::Internal,
        4 => Trouble::Unavailable,
        5 => Trouble::Drop,
        6 => Trouble::LoseAnswer,
        _ => Trouble::Delay(random.millis(100..60_000)),
    }
}
