//! A record in this manager's hands.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use runner_core::executor::{ExecutorError, ExecutorErrorKind};

use super::body::RecordBody;
use crate::classify::executor_error;

/// A record that was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub(super) secret: KubeSecret,
    /// What it says.
    pub body: RecordBody,
}

impl Found {
    /// A version from before the pod was made, if it was, to ask what happened since.
    pub fn before_pod(&self) -> Option<&str> {
        self.body.since.as_deref().or(self.secret.metadata.resource_version.as_deref())
    }
}

/// A record that this manager holds.
#[derive(Debug)]
pub struct Claimed {
    name: String,
    uid: Option<String>,
    version: Option<String>,
    body: RecordBody,
    /// The whole Secret, so that an early update is one request. Dropped once the job runs: plans
    /// of a thousand jobs would be most of a manager's memory.
    secret: Option<Box<KubeSecret>>,
}

/// Why a record is not ours.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another manager has it.
    #[error("the job record belongs to {0}")]
    Taken(String),
    /// Somebody has it to whom the source gave it before. It will notice that it lost it, or it will
    /// run it.
    #[error("the job is still in the hands of {0}, to whom it was given before")]
    Contested(String),
    /// Something else has its name.
    #[error("a Secret of the job record's name is something else; delete it")]
    Foreign,
    /// The API server did not do it.
    #[error("the API server did not do it")]
    Api(#[source] kube::Error),
}

impl ClaimError {
    /// The same for the manager. `doing` completes "could not …".
    pub fn into_executor_error(self, doing: &str) -> ExecutorError {
        match self {
            Self::Taken(_) => ExecutorError::new(
                ExecutorErrorKind::Superseded,
                format!("could not {doing}: {self}"),
            ),
            Self::Foreign | Self::Contested(_) => ExecutorError::new(
                ExecutorErrorKind::Unavailable,
                format!("could not {doing}: {self}"),
            ),
            Self::Api(error) => executor_error(error, doing),
        }
    }
}

type Data = Option<BTreeMap<String, ByteString>>;

impl Claimed {
    pub(super) fn new(stored: KubeSecret, body: RecordBody, data: Option<Data>) -> Self {
        let metadata = stored.metadata;
        let (name, uid) = (metadata.name.clone().unwrap_or_default(), metadata.uid.clone());
        let version = metadata.resource_version.clone();
        let secret = data.flatten().map(|data| {
            let type_ = stored.type_;
            let mut metadata = metadata;
            metadata.managed_fields = None;
            Box::new(KubeSecret { metadata, type_, data: Some(data), ..KubeSecret::default() })
        });
        Self { name, uid, version, body, secret }
    }

    /// The record's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says.
    pub fn body(&self) -> &RecordBody {
        &self.body
    }

    /// The version of the record, to ask what happened since.
    pub fn resource_version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    pub(super) fn version(&self) -> (Option<String>, Option<String>) {
        (self.uid.clone(), self.version.clone())
    }

    /// The pod that was meant for the job, while it is still at hand.
    pub fn pod(&self) -> Option<serde_json::Value> {
        super::store::pod_of(self.secret.as_ref()?.data.as_ref()?)
    }

    /// The plan as it is stored, while it is at hand and in the record itself.
    pub fn plan(&self) -> Option<bytes::Bytes> {
        let data = self.secret.as_ref()?.data.as_ref()?;
        Some(bytes::Bytes::copy_from_slice(&data.get("plan.0")?.0))
    }

    /// Forgets the content; an update asks for it again.
    pub fn forget_content(&mut self) {
        self.secret = None;
    }

    pub(super) fn take_secret(&mut self) -> Option<KubeSecret> {
        self.secret.take().map(|secret| *secret)
    }

    pub(super) fn keep(&mut self, secret: KubeSecret) {
        self.secret = Some(Box::new(secret));
    }

    pub(super) fn updated(&mut self, stored: &KubeSecret, body: RecordBody, mut sent: KubeSecret) {
        self.version.clone_from(&stored.metadata.resource_version);
        sent.metadata.resource_version.clone_from(&self.version);
        self.body = body;
        self.secret = Some(Box::new(sent));
    }
}
