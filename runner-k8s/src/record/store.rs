//! Secrets in the cluster.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};
use runner_core::ids::{JobId, SourceId};
use runner_core::secret::Secret;
use serde_json::Value;
use tracing::{debug, warn};

use super::body::{RecordBody, RecordPhase};
use super::claim::{ClaimError, Claimed, Found};
use super::content::{Content, OtherSecret, gzip};
use super::place::create_namespace;
use crate::names::{
    JOB_LABEL, MANAGED_LABEL, MANAGER_LABEL, ROLE_LABEL, SESSION_LABEL, SOURCE_LABEL, manager_hash,
    session_hash, source_hash,
};
use crate::pod::PodJson;

const BODY: &str = "record";
const POD: &str = "pod";
const TOKEN: &str = "token";
const ROLE: &str = "record";
/// Records in one answer of a list, without their content.
const PAGE: u32 = 500;

/// The job records of a namespace.
#[derive(Clone)]
pub struct RecordStore {
    api: Api<KubeSecret>,
    /// For Secrets beside pods in other namespaces, where that is somebody else.
    pods_of: Option<Client>,
    source: SourceId,
}

impl RecordStore {
    /// The records of this source in this namespace.
    pub fn new(client: Client, namespace: &str, source: SourceId) -> Self {
        Self { api: Api::namespaced(client, namespace), pods_of: None, source }
    }

    /// The same records, for jobs whose pods are somebody else's in other namespaces.
    pub(crate) fn with_pods_of(&self, client: Client) -> Self {
        Self { pods_of: Some(client), ..self.clone() }
    }

    fn metadata(&self, name: String, job: JobId, role: &str) -> ObjectMeta {
        let labels = [
            (MANAGED_LABEL, "podwright".to_owned()),
            (SOURCE_LABEL, source_hash(&self.source)),
            (JOB_LABEL, job.to_string()),
            (ROLE_LABEL, role.to_owned()),
        ];
        ObjectMeta {
            name: Some(name),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        }
    }

    /// Writes a record: one request, and one more for each Secret beside it.
    ///
    /// An answer may have been lost, and a manager may have died after it: a record of the same job
    /// that was never started is taken over.
    ///
    /// `is_held`: whether a manager lives and has the job in its hands. A source that was not told in
    /// time that a job runs gives it out again; then two know of it, and only one of their tickets is
    /// good. Which one the source alone can say, to whom it was given first: so the second waits.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another manager has started the job, [`ClaimError::Contested`]
    /// when somebody has it who must find out first whether the source still wants that.
    pub async fn create(
        &self,
        name: &str,
        body: &RecordBody,
        content: &Content,
        pod: &PodJson,
        environment: &[(String, Secret)],
        is_held: impl Fn(&str) -> bool,
    ) -> Result<Claimed, ClaimError> {
        // What the pod needs is beside it.
        let beside = inside(content, environment);
        let elsewhere = body.place.is_some();
        let mut data = if elsewhere { BTreeMap::new() } else { beside.clone() };
        data.insert(POD.to_owned(), ByteString(gzip(pod.as_str().as_bytes())));
        if let Some(token) = content.token() {
            data.insert(TOKEN.to_owned(), ByteString(token.expose().as_bytes().to_vec()));
        }
        let others = content.others(name);
        let mut body = body.clone();
        body.others = others.iter().map(|other| other.name.clone()).collect();
        if elsewhere {
            body.others.push(name.to_owned());
        }
        let mut metadata = self.metadata(name.to_owned(), body.job, ROLE);
        label(&mut metadata, &body.claim.manager);
        if let Some(session) = &body.session {
            let labels = metadata.labels.get_or_insert_default();
            labels.insert(SESSION_LABEL.to_owned(), session_hash(session));
        }
        let mut secret =
            KubeSecret { metadata, type_: Some("Opaque".into()), ..KubeSecret::default() };
        let claimed = loop {
            let mut data = data.clone();
            data.insert(BODY.to_owned(), encode(&body));
            secret.data = Some(data);
            let result = if secret.metadata.resource_version.is_none() {
                self.api.create(&PostParams::default(), &secret).await
            } else {
                self.api.replace(name, &PostParams::default(), &secret).await
            };
            match result {
                Ok(stored) => break Claimed::new(stored, body.clone(), Some(secret.data.take())),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    // It was there and went: begin anew.
                    secret.metadata.resource_version = None;
                    continue;
                }
                Err(error) => return Err(ClaimError::Api(error)),
            }
            let Some(there) = self.api.get_opt(name).await.map_err(ClaimError::Api)? else {
                secret.metadata.resource_version = None;
                continue;
            };
            let Some(found) = self.read(there) else { return Err(ClaimError::Foreign) };
            let known = &found.body;
            let ours = known.claim.manager == body.claim.manager;
            // Our own, of a try whose answer was lost, unless the source gave the job out twice.
            let again = ours && known.ticket == body.ticket;
            if !again && is_held(&known.claim.manager) {
                return Err(ClaimError::Contested(known.claim.manager.clone()));
            }
            if !ours && known.phase == RecordPhase::Started {
                return Err(ClaimError::Taken(known.claim.manager.clone()));
            }
            body.claim.epoch = runner_core::ids::Epoch(known.claim.epoch.0 + 1);
            secret.metadata.resource_version = found.secret.metadata.resource_version;
        };
        let beside = if elsewhere { beside } else { BTreeMap::new() };
        if let Err(error) = self.create_beside(&claimed, &body, others, beside).await {
            // A record without them is nothing that anybody could go on with; whoever found it would
            // fail in the same way, again and again.
            self.withdraw(&claimed, &body).await;
            return Err(ClaimError::Api(error));
        }
        Ok(claimed)
    }

    /// Creates what the pod needs outside of the record.
    async fn create_beside(
        &self,
        claimed: &Claimed,
        body: &RecordBody,
        mut others: Vec<OtherSecret>,
        beside: BTreeMap<String, ByteString>,
    ) -> kube::Result<()> {
        let api = self.beside(body);
        let elsewhere = body.place.is_some();
        if let Some(place) = &body.place {
            if place.own {
                let client = self.api.clone().into_client();
                create_namespace(&client, &place.namespace, &self.source, body.job).await?;
            }
            let (name, role, kind) = (claimed.name().to_owned(), "plan", "Opaque");
            let data = beside.into_iter().map(|(key, value)| (key, Bytes::from(value.0))).collect();
            others.push(OtherSecret { name, role, kind, data });
        }
        for other in others {
            let mut metadata = self.metadata(other.name.clone(), body.job, other.role);
            // An owner must be in the same namespace.
            metadata.owner_references = (!elsewhere).then(|| vec![claimed.owner()]);
            let data = other.data.into_iter().map(|(key, value)| (key, bytes(&value))).collect();
            let secret = KubeSecret {
                metadata,
                type_: Some(other.kind.to_owned()),
                data: Some(data),
                ..KubeSecret::default()
            };
            match api.create(&PostParams::default(), &secret).await {
                Ok(_) => {}
                // Names follow from the job, so this is an earlier try's; but its content may be
                // another one's, so it is written again.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    api.replace(&other.name, &PostParams::default(), &secret).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a record back that was only just made. Whoever may not do that leaves it to the next look
    /// at what is left behind.
    async fn withdraw(&self, claimed: &Claimed, body: &RecordBody) {
        let beside = self.beside(body);
        for other in &body.others {
            if let Err(error) = beside.delete(other, &DeleteParams::default()).await {
                debug!(secret = other, %error, "what was to be beside a job's pod is not removed");
            }
        }
        let (uid, resource_version) = claimed.version();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version }),
            ..DeleteParams::default()
        };
        if let Err(error) = self.api.delete(claimed.name(), &parameters).await {
            debug!(record = claimed.name(), %error, "a job record could not be taken back");
        }
    }

    /// The Secrets that a pod mounts.
    fn beside(&self, body: &RecordBody) -> Api<KubeSecret> {
        match &body.place {
            None => self.api.clone(),
            Some(place) => {
                let own = || self.api.clone().into_client();
                let client = self.pods_of.clone().unwrap_or_else(own);
                Api::namespaced(client, &place.namespace)
            }
        }
    }

    /// The names of records that this predicate wants, given the job and the [`manager_hash`] of
    /// whoever has claimed it. Nothing of their content is read: a record may be a megabyte.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn find(
        &self,
        mut wanted: impl FnMut(JobId, &str) -> bool,
    ) -> Result<Vec<String>, kube::Error> {
        let selector = format!("{SOURCE_LABEL}={},{ROLE_LABEL}={ROLE}", source_hash(&self.source));
        let mut page = ListParams::default().labels(&selector).limit(PAGE);
        let mut out = Vec::new();
        loop {
            let list = self.api.list_metadata(&page).await?;
            out.extend(list.items.into_iter().filter_map(|record| {
                let labels = record.metadata.labels.unwrap_or_default();
                let job = JobId(labels.get(JOB_LABEL)?.parse().ok()?);
                let manager = labels.get(MANAGER_LABEL).map(String::as_str).unwrap_or_default();
                wanted(job, manager).then_some(record.metadata.name)?
            }));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(out),
            }
        }
    }

    /// The record of this session's job; `None`: there is none.
    ///
    /// # Errors
    /// When they cannot be listed or read.
    pub async fn of_session(&self, session: &str) -> Result<Option<Found>, kube::Error> {
        let source = source_hash(&self.source);
        let hash = session_hash(session);
        let selector =
            format!("{SOURCE_LABEL}={source},{ROLE_LABEL}={ROLE},{SESSION_LABEL}={hash}");
        let list = self.api.list_metadata(&ListParams::default().labels(&selector)).await?;
        let name = list.items.into_iter().find_map(|record| record.metadata.name);
        let Some(name) = name else { return Ok(None) };
        let found = self.get(&name).await?;
        Ok(found.filter(|found| found.body.session.as_deref() == Some(session)))
    }

    /// Reads a record; `None`: there is none, or it is not one of this source's.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<Found>, kube::Error> {
        Ok(self.api.get_opt(name).await?.and_then(|secret| self.read(secret)))
    }

    fn read(&self, mut secret: KubeSecret) -> Option<Found> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let data = secret.data.as_ref()?;
        let body: RecordBody = match serde_json::from_slice(&data.get(BODY)?.0) {
            Ok(body) => body,
            Err(error) => {
                warn!(record = name, %error, "a job record cannot be read; it is left alone");
                return None;
            }
        };
        // A label is a hash of the source; the source itself decides.
        if body.version != RecordBody::VERSION || body.source != self.source {
            warn!(record = name, version = body.version, "a job record is another release's");
            return None;
        }
        secret.metadata.managed_fields = None;
        Some(Found { secret, body })
    }

    /// Takes a record over, unless somebody else is faster. `started`: its pod was seen.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when somebody is.
    pub async fn claim(
        &self,
        found: Found,
        started: bool,
        manager: &str,
    ) -> Result<Claimed, ClaimError> {
        let since = found.before_pod().map(str::to_owned);
        let Found { mut secret, mut body } = found;
        if started {
            body.phase = RecordPhase::Started;
        }
        // Once it is known to have started, nobody asks any more.
        body.since = since.filter(|_| body.phase == RecordPhase::Reserved);
        body.claim.manager = manager.to_owned();
        body.claim.epoch = runner_core::ids::Epoch(body.claim.epoch.0 + 1);
        let name = secret.metadata.name.clone().unwrap_or_default();
        label(&mut secret.metadata, manager);
        let data = secret.data.get_or_insert_default();
        data.insert(BODY.to_owned(), encode(&body));
        match self.api.replace(&name, &PostParams::default(), &secret).await {
            Ok(stored) => Ok(Claimed::new(stored, body, Some(secret.data))),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                Err(ClaimError::Taken("another manager".into()))
            }
            Err(error) => Err(ClaimError::Api(error)),
        }
    }

    /// Writes a record's body again. One request while the content is still at hand, else two.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another manager has claimed it since.
    pub async fn update(
        &self,
        claimed: &mut Claimed,
        body: RecordBody,
        pod: Option<&Value>,
    ) -> Result<(), ClaimError> {
        let name = claimed.name().to_owned();
        loop {
            let mut secret = match claimed.take_secret() {
                Some(secret) => secret,
                None => self.current(claimed).await?,
            };
            let data = secret.data.get_or_insert_default();
            data.insert(BODY.to_owned(), encode(&body));
            if let Some(pod) = pod {
                data.insert(POD.to_owned(), ByteString(gzip(pod.to_string().as_bytes())));
            }
            match self.api.replace(&name, &PostParams::default(), &secret).await {
                Ok(stored) => {
                    claimed.updated(&stored, body, secret);
                    return Ok(());
                }
                // Somebody else's change: another claim ends it, a label that was added does not.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    return Err(ClaimError::Taken("nobody: the record was deleted".into()));
                }
                Err(error) => {
                    claimed.keep(secret);
                    return Err(ClaimError::Api(error));
                }
            }
        }
    }

    /// The record as it is now, if it is still ours.
    async fn current(&self, claimed: &Claimed) -> Result<KubeSecret, ClaimError> {
        let there = self.api.get_opt(claimed.name()).await.map_err(ClaimError::Api)?;
        let found = there.and_then(|secret| self.read(secret));
        // A record that was deleted and written again is another one, whoever wrote it: the same manager
        // may have been given the job again. To try that again would be to try it for ever.
        let is_other = |found: &Found| {
            let uid = claimed.version().0;
            uid.is_some() && uid != found.secret.metadata.uid
        };
        match found {
            Some(found) if found.body.claim == claimed.body().claim && !is_other(&found) => {
                Ok(found.secret)
            }
            Some(found) => Err(ClaimError::Taken(found.body.claim.manager)),
            None => Err(ClaimError::Taken("nobody: the record was deleted".into())),
        }
    }

    /// Whether a record is there and still this manager's.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another claim has come since, or the record is gone.
    pub async fn owns(&self, claimed: &Claimed) -> Result<(), ClaimError> {
        self.current(claimed).await.map(drop)
    }

    /// Whether a record is not somebody else's.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another claim has come since. A record that is gone is no error:
    /// nobody has the job then.
    pub async fn confirm(&self, claimed: &Claimed) -> Result<(), ClaimError> {
        match self.current(claimed).await {
            Ok(_) => Ok(()),
            Err(ClaimError::Taken(who)) if who.starts_with("nobody") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a record and the Secrets beside it. Nothing left is no error.
    ///
    /// # Errors
    /// [`ClaimError::Taken`] when another manager has claimed it since.
    pub async fn delete(&self, claimed: &Claimed) -> Result<(), ClaimError> {
        let (body, beside) = (claimed.body(), self.beside(claimed.body()));
        // They go with a namespace of their own.
        let own = body.place.as_ref().is_some_and(|place| place.own);
        if !body.others.is_empty() {
            // Their names are those of any claim of this job.
            self.confirm(claimed).await?;
        }
        for other in body.others.iter().filter(|_| !own) {
            gone(beside.delete(other, &DeleteParams::default()).await.err())?;
        }
        let (uid, mut version) = claimed.version();
        loop {
            let parameters = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: uid.clone(),
                    resource_version: version.take(),
                }),
                ..DeleteParams::default()
            };
            match self.api.delete(claimed.name(), &parameters).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    match self.current(claimed).await {
                        Ok(secret) => version = secret.metadata.resource_version,
                        Err(ClaimError::Taken(who)) if who.starts_with("nobody") => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return gone(Some(error)),
            }
        }
    }
}

/// Lets records be found by who has them without reading them.
fn label(metadata: &mut ObjectMeta, manager: &str) {
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(MANAGER_LABEL.to_owned(), manager_hash(manager));
}

fn gone(error: Option<kube::Error>) -> Result<(), ClaimError> {
    match error {
        None => Ok(()),
        Some(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Some(error) => Err(ClaimError::Api(error)),
    }
}

/// What stands beside the pod in one Secret.
fn inside(content: &Content, environment: &[(String, Secret)]) -> BTreeMap<String, ByteString> {
    let plan = content.inside().into_iter().map(|(key, value)| (key, bytes(&value)));
    let values = environment
        .iter()
        .map(|(key, value)| (key.clone(), ByteString(value.expose().as_bytes().to_vec())));
    plan.chain(values).collect()
}

fn bytes(value: &Bytes) -> ByteString {
    ByteString(value.to_vec())
}

fn encode(body: &RecordBody) -> ByteString {
    ByteString(serde_json::to_vec(body).expect("a record has string keys only"))
}

impl Claimed {
    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".into(),
            kind: "Secret".into(),
            name: self.name().to_owned(),
            uid: self.version().0.unwrap_or_default(),
            ..OwnerReference::default()
        }
    }
}

impl Found {
    /// The job's own token for the API server, if it has one.
    pub fn token(&self) -> Option<Secret> {
        token_of(self.secret.data.as_ref()?)
    }

    /// The pod that was meant for the job; `None`: it cannot be read.
    pub fn pod(&self) -> Option<Value> {
        pod_of(self.secret.data.as_ref()?)
    }
}

pub(super) fn token_of(data: &BTreeMap<String, ByteString>) -> Option<Secret> {
    let text = String::from_utf8(data.get(TOKEN)?.0.clone());
    Some(Secret::new(text.ok()?))
}

/// Longest pod after decompression: far above what an API server takes.
const LONGEST_POD: u64 = 8 << 20;

pub(super) fn pod_of(data: &BTreeMap<String, ByteString>) -> Option<Value> {
    use std::io::Read as _;
    let packed = &data.get(POD)?.0;
    serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..]).take(LONGEST_POD)).ok()
}
