//! As whom a job's pod is made, followed and removed: the runner, or whoever the job's own
//! `KUBERNETES_BEARER_TOKEN` names.
//!
//! | What | As whom |
//! |---|---|
//! | the pod, its budget, its streams, logs and events | the job's token |
//! | Secrets beside a pod in another namespace, and the watch there | the job's token |
//! | the job record, signs of life, the watch of the runner's own namespace, events about the job | the runner |
//! | a namespace of the job's own | the runner, who alone may make and remove any |
//!
//! The token stands in the job record, whose readers have the plan with it anyway, so that the next
//! manager has it, too.

use std::error::Error as _;
use std::sync::Arc;

use kube::{Api, Client};
use runner_core::executor::{ExecutorError, ExecutorErrorKind};
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::link::{Connect, ExecConnector};
use super::shared::Shared;
use crate::client::Clients;
use crate::record::RecordStore;
use crate::watch::PodView;

/// See the module.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) clients: Clients,
    pub(crate) connector: Arc<dyn Connect>,
    pub(crate) store: RecordStore,
    /// Tells the watches of different tokens apart; empty for the runner itself.
    pub(crate) who: String,
}

impl Access {
    /// The pods of a namespace.
    pub(crate) fn pods(&self, namespace: &str) -> Api<PodView> {
        Api::namespaced(self.clients.api.clone(), namespace)
    }

    /// For streams into pods.
    pub(crate) fn stream(&self) -> &Client {
        &self.clients.stream
    }
}

impl Access {
    /// Says whose credentials it was that the API server does not know. Its own it may know again, so
    /// that is waited for; a job's token is the job's business.
    pub(crate) fn explain(&self, error: ExecutorError) -> ExecutorError {
        let is_unknown = error
            .source()
            .and_then(|source| source.downcast_ref::<kube::Error>())
            .is_some_and(|error| matches!(error, kube::Error::Api(status) if status.code == 401));
        if self.who.is_empty() || !is_unknown {
            return error;
        }
        let message = "the cluster does not accept the job's KUBERNETES_BEARER_TOKEN: it is none of \
                       its own, or its time is over";
        let outcome = Outcome::Infra(Infra::new(InfraKind::Configuration, message));
        ExecutorError::new(ExecutorErrorKind::Refused(outcome), error.message)
    }
}

impl Shared {
    /// As whoever has this token; without one as the runner.
    ///
    /// # Errors
    /// When there is no way to the API server with a token.
    pub(crate) async fn access(&self, token: Option<&Secret>) -> Result<Access, ExecutorError> {
        let Some(token) = token else {
            return Ok(Access {
                clients: self.clients.clone(),
                connector: Arc::clone(&self.connector),
                store: self.store.clone(),
                who: String::new(),
            });
        };
        let connection = self.settings.connection.with_token(token.clone());
        let clients = self.clients.also(&connection).await.map_err(|error| {
            let message = "the runner cannot use the job's KUBERNETES_BEARER_TOKEN";
            let outcome = Outcome::Infra(Infra::new(InfraKind::Configuration, message));
            ExecutorError::new(ExecutorErrorKind::Refused(outcome), format!("{message}: {error}"))
        })?;
        let hash = Sha256::digest(token.expose().as_bytes());
        Ok(Access {
            connector: Arc::new(ExecConnector::new(clients.stream.clone())),
            store: self.store.with_pods_of(clients.api.clone()),
            who: hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            clients,
        })
    }
}
