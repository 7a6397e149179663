//! Services that hold the values of a job's variables (Vault and the like).

use async_trait::async_trait;

use crate::job::SecretRequest;
use crate::outcome::{Infra, InfraKind};
use crate::planner::VariableSet;
use crate::secret::Secret;

/// Fetches values of variables before a job starts.
///
/// The manager asks, so neither tokens nor credentials for such services enter the pod. A value is
/// masked in the log from its first byte on, because it is part of the plan.
///
/// ```
/// use async_trait::async_trait;
/// use runner_core::job::SecretRequest;
/// use runner_core::planner::VariableSet;
/// use runner_core::secret::Secret;
/// use runner_core::secrets::{SecretStore, SecretStoreError};
///
/// /// Values that the manager was started with.
/// struct Environment;
///
/// #[async_trait]
/// impl SecretStore for Environment {
///     fn provider(&self, _request: &SecretRequest) -> Option<&'static str> {
///         Some("the manager's environment")
///     }
///
///     async fn resolve(
///         &self,
///         request: &SecretRequest,
///         _variables: &VariableSet,
///     ) -> Result<Option<Secret>, SecretStoreError> {
///         // By a prefix: a job must not be able to name just any variable.
///         let name = format!("CI_SECRET_{}", request.key);
///         Ok(std::env::var(name).ok().map(Secret::from))
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait SecretStore: Send + Sync + 'static {
    /// Name of the service that this request is for, for the log. `None`: nobody knows it; the job
    /// runs without the variable and a warning.
    fn provider(&self, request: &SecretRequest) -> Option<&'static str>;

    /// The value. `None`: the service answers, and has no such value. `variables` are the job's,
    /// expanded, for references in the request.
    ///
    /// It ends by itself within a minute. Dropping it ends the request.
    ///
    /// # Errors
    /// When the service cannot be asked, or refuses.
    async fn resolve(
        &self,
        request: &SecretRequest,
        variables: &VariableSet,
    ) -> Result<Option<Secret>, SecretStoreError>;
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SecretStoreError {
    /// What the job's source is told: `Configuration` where the request or its credentials are
    /// wrong, `ExternalDependency` where the service failed, else `System`.
    pub kind: InfraKind,
    /// What happened and what to do, for the job's author. It holds no credential and no value.
    pub message: String,
}

impl SecretStoreError {
    /// An error of this kind.
    pub fn new(kind: InfraKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// How the job ends because of it.
    #[must_use]
    pub fn infra(&self) -> Infra {
        Infra::new(self.kind, self.message.clone())
    }
}
