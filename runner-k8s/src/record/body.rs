//! What the record says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use runner_core::executor::Remarks;
use runner_core::ids::{Epoch, JobId, Offset, SourceId};
use runner_core::outcome::Outcome;
use runner_core::source::Ticket;
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::pod::Fallbacks;

/// The key `record` of a job record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordBody {
    /// Format version.
    pub version: u32,
    /// Whose job.
    pub source: SourceId,
    /// Which job.
    pub job: JobId,
    /// How to speak for it.
    pub ticket: Ticket,
    /// Who looks after it.
    pub claim: Claim,
    /// How far it is known to be.
    pub phase: RecordPhase,
    /// Its pod.
    pub pod: String,
    /// Where its pod is, if not in the record's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Where a person finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Names its session, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Secrets beside this one, or beside the pod.
    #[serde(default)]
    pub others: Vec<String>,
    /// Pull policies that are left to try.
    #[serde(default, skip_serializing_if = "Fallbacks::is_empty")]
    pub fallbacks: Fallbacks,
    /// Containers whose output is shown in the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listens: Option<Listens>,
    /// The shape of a warm pod that can do the job's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<String>,
    /// The version of the record before anybody took it over, where nobody knew then whether its pod
    /// ever was. What happened to pods is asked for from here on: a claim makes a new version, since
    /// which nothing has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The version of the record before a warm pod was noted as the job's. What shows that the pod got
    /// the job is younger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<String>,
    /// Longest life of the pod in seconds, to know when to stop waiting for an answer.
    pub patience: u64,
    /// What managers have said.
    #[serde(default)]
    pub remarks: StoredRemarks,
}

impl RecordBody {
    /// The format that this build writes. Optional fields do not change it.
    pub const VERSION: u32 = 1;

    /// The job has a pod that was ready before; `version` is the record's so far. It gets labels and
    /// plan later.
    pub(crate) fn promise(&mut self, pod: &str, version: Option<&str>) {
        pod.clone_into(&mut self.pod);
        self.promised = version.map(str::to_owned);
        self.phase = RecordPhase::Started;
    }

    /// The pod that was promised never had the job, which starts as if it had not been promised.
    pub(crate) fn returns_to(&mut self, own: &serde_json::Value) {
        own["metadata"]["name"].as_str().unwrap_or_default().clone_into(&mut self.pod);
        self.promised = None;
        self.phase = RecordPhase::Reserved;
    }
}

/// Stands among the containers whose output is shown: how long images took belongs into the log's
/// summary. No container can have this name.
pub(crate) const POD_PULLS: &str = "#pulls";

/// Whose output is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listens {
    /// Names of containers, [`POD_EVENTS`](runner_core::plan::POD_EVENTS) or `#pulls`.
    pub containers: Vec<String>,
    /// Most bytes of each: the trace has no room for more.
    pub limit: u64,
}

/// A manager's hold on a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The process.
    pub manager: String,
    /// Grows with every claim; the agent serves the highest.
    pub epoch: Epoch,
}

/// How far a job is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordPhase {
    /// Written down. It may have been started since: that is not worth a request, and can be found
    /// out.
    Reserved,
    /// It was started.
    Started,
}

/// [`Remarks`] as JSON; the bytes are base64, since a trace may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRemarks {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    before: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<(Offset, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

impl From<&Remarks> for StoredRemarks {
    fn from(remarks: &Remarks) -> Self {
        Self {
            before: STANDARD.encode(&remarks.before),
            after: remarks.after.as_ref().map(|(at, bytes)| (*at, STANDARD.encode(bytes))),
            outcome: remarks.outcome.clone(),
        }
    }
}

impl StoredRemarks {
    /// The remarks; what is not base64 is lost rather than the job.
    pub fn to_remarks(&self) -> Remarks {
        let bytes = |text: &str| Bytes::from(STANDARD.decode(text).unwrap_or_default());
        Remarks {
            before: bytes(&self.before),
            after: self.after.as_ref().map(|(at, text)| (*at, bytes(text))),
            outcome: self.outcome.clone(),
        }
    }
}
