//! The frames and their meaning.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cache::CacheRequest;
use crate::ids::{Epoch, JobId, Offset};
use crate::outcome::{StageReport, Verdict};
use crate::plan::HttpTransfer;

/// The version of this protocol. Both sides say theirs and speak the lower one, if whoever is newer
/// still can: see [`OLDEST_WIRE_VERSION`].
///
/// A field or a frame more is no new version: both are skipped by who does not know them.
pub const WIRE_VERSION: u32 = 1;

/// The oldest version that this build speaks. Whoever hears of an older one, or of 0, which is none,
/// gives the session up: the agent with [`RefusalReason::Version`], the manager by ending the job.
///
/// It goes up two releases after [`WIRE_VERSION`] at the earliest, so that the agents and managers of
/// the two releases before are understood.
pub const OLDEST_WIRE_VERSION: u32 = 1;

/// Whether this build can speak with a side whose newest version is this one. A newer side may still
/// refuse: it alone knows how far back it goes.
#[must_use]
pub const fn speaks(version: u32) -> bool {
    version >= OLDEST_WIRE_VERSION
}

/// From the manager to the agent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ManagerFrame {
    /// The first frame of a session.
    Hello(Hello),
    /// More, or other, trace bytes are wanted.
    Want(Want),
    /// The manager is there. A session without one for 60 s ends.
    Beat(Beat),
    /// The job is to stop.
    Stop(StopFrame),
    /// The source has trace and verdict: the agent may end.
    Release,
    /// Answer to `Ask`.
    Answer(AnswerFrame),
    /// What the manager sees of another container of the pod. Repeated in each session.
    Container(ContainerFrame),
    /// Output of another container of the pod, for the trace.
    Output(OutputFrame),
    /// A piece of the plan, for an agent that refused a `Hello` because it has none yet. Once the
    /// last piece is there the pod is this job's; `Hello` comes again.
    Assign(AssignFrame),
    /// The pod is being taken away, and this is known of it. Repeated in each session.
    Disruption(DisruptionFrame),
    /// How the pod came to run, as far as it is known. Repeated in each session, and when more is
    /// known.
    Start(StartFrame),
}

/// From the agent to the manager.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AgentFrame {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// Answer to `Hello`, or at any later time when a higher epoch has come: the session is over.
    Refused(Refused),
    /// A piece of the trace.
    Trace {
        /// Where it begins.
        offset: Offset,
        /// Its bytes; never empty.
        bytes: Bytes,
    },
    /// A stage began or ended. After `Welcome` all changes so far are repeated.
    Stage(StageFrame),
    /// The agent is there; sent every 15 s when nothing else was.
    Beat(Beat),
    /// The agent wants something that only a manager has. Repeated in every session until it is
    /// answered; at most [`MOST_ASKS`] are open at once.
    Ask(AskFrame),
    /// The job is over. Sent once all wanted trace bytes are.
    Verdict(Verdict),
}

/// See [`ManagerFrame::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`WIRE_VERSION`] of the manager.
    pub version: u32,
    /// The job it means; a pod name that was used again must not mix two jobs up.
    pub job: JobId,
    /// Its claim.
    pub epoch: Epoch,
    /// Trace bytes are wanted from here …
    pub from: Offset,
    /// … up to here (exclusive).
    pub until: Offset,
}

/// See [`AgentFrame::Welcome`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`WIRE_VERSION`] of the agent.
    pub version: u32,
    /// The agent's release, for logs.
    pub release: String,
    /// How much trace there is.
    pub length: Offset,
}

/// See [`AgentFrame::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: RefusalReason,
    /// In words, for the operator.
    pub message: String,
}

/// Why an agent refuses a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalReason {
    /// A manager with a higher epoch has the job.
    Superseded,
    /// This pod runs another job.
    WrongJob,
    /// The trace is not that long, or the frame makes no sense.
    BadRequest,
    /// The supervisor is not there (relay only); try again.
    NotReady,
    /// This pod has no job yet: send [`ManagerFrame::Assign`] and `Hello` again. The session goes on.
    Unassigned,
    /// The manager speaks no version of this protocol that the agent still knows.
    Version,
    /// A reason of a later release.
    #[serde(other)]
    Other,
}

/// See [`ManagerFrame::Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// From here, where the position changes; `None`: go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Offset>,
    /// Up to here (exclusive).
    pub until: Offset,
}

/// See [`ManagerFrame::Beat`] and [`AgentFrame::Beat`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// How much trace there is (from the agent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Offset>,
}

/// See [`ManagerFrame::Stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopFrame {
    /// How.
    pub mode: StopMode,
}

/// See [`ManagerFrame::Disruption`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisruptionFrame {
    /// How long the pod has from its order to end until it is killed, in seconds. It may be shorter
    /// than the pod's own: whoever drains a node may say so.
    pub grace_s: u64,
}

/// See [`ManagerFrame::Start`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFrame {
    /// When the pod had a node, in milliseconds since the Unix epoch. `None`: nobody has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_ms: Option<u64>,
    /// Images that were pulled for the pod. Those that the node had are not in it, and none are while
    /// nobody has asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulls: Vec<ImagePull>,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePull {
    /// For which container.
    pub container: String,
    /// How long that took, with the wait for other pulls, in milliseconds.
    pub took_ms: u64,
    /// Its size in bytes, where the kubelet says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// See [`ManagerFrame::Container`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFrame {
    /// Which.
    pub name: String,
    /// What it does.
    pub state: ContainerState,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Its first process runs.
    Running,
    /// Its first process has ended with this status.
    Ended(i32),
}

/// A piece of a line that a container printed. See [`ManagerFrame::Output`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFrame {
    /// Which container; at most 255 bytes.
    pub container: String,
    /// When the line was begun, in nanoseconds since the Unix epoch, by the container runtime. Grows
    /// from line to line, so that the agent knows what it has already.
    pub time: i64,
    /// Whether the line begins with this piece. It ends where a piece ends with a line feed.
    pub begins: bool,
    /// Never empty, at most [`MAX_TRACE`](super::MAX_TRACE) bytes.
    pub bytes: Bytes,
}

/// A piece of a plan as it is stored: JSON, usually compressed. See [`ManagerFrame::Assign`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignFrame {
    /// No more come.
    pub last: bool,
    /// At most [`MAX_TRACE`](super::MAX_TRACE) bytes.
    pub bytes: Bytes,
}

/// How to stop a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    /// The running command ends, `after_script` and the stages for failures run.
    Cancel,
    /// Everything ends now.
    Abort,
}

/// Most questions that an agent has open at once. A manager answers no more than that.
pub const MOST_ASKS: usize = 8;

/// See [`AgentFrame::Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskFrame {
    /// Tells it from the job's other questions.
    pub id: u64,
    /// An address for an object of a cache. `None`: something that only a later release asks for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub cache: Option<CacheRequest>,
}

/// What a later release wants to do with an object is no reason to give up the whole stream.
fn known<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<CacheRequest>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(from)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

/// See [`ManagerFrame::Answer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerFrame {
    /// The question's.
    pub id: u64,
    /// The request that the agent may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<HttpTransfer>,
    /// Why there is none, for the job's author.
    #[serde(default)]
    pub refused: String,
}

/// See [`AgentFrame::Stage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageFrame {
    /// It has begun.
    Started {
        /// The stage's name.
        name: String,
    },
    /// It is over.
    Finished(StageReport),
}
