//! Fetches a job's secrets and says so in its log.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::warn;

use super::shutdown::Shutdown;
use crate::job::{Job, SecretRequest, Variable};
use crate::outcome::{Infra, InfraKind, Outcome};
use crate::plan::{HeaderLine, LineLevel};
use crate::planner::{SecretSettings, VariableSet};
use crate::secret::Secret;
use crate::secrets::{SecretStore, SecretStoreError};

/// The section of the log.
const SECTION: &str = "resolve_secrets";

/// What came of it.
#[derive(Debug)]
pub(super) struct Resolved {
    /// For the job, in the order of its requests.
    pub(super) variables: Vec<Variable>,
    /// For the log.
    pub(super) lines: Vec<HeaderLine>,
}

/// Why there are none.
#[derive(Debug, PartialEq)]
pub(super) enum Unresolved {
    /// The job ends like this.
    Failed(Outcome),
    /// The manager stops.
    Stopped,
}

/// Stands where there is no store: nobody knows any provider.
pub(super) struct NoStore;

#[async_trait]
impl SecretStore for NoStore {
    fn provider(&self, _request: &SecretRequest) -> Option<&'static str> {
        None
    }

    async fn resolve(
        &self,
        _request: &SecretRequest,
        _variables: &VariableSet,
    ) -> Result<Option<Secret>, SecretStoreError> {
        Ok(None)
    }
}

/// Asks for all of a job's secrets, as often as the job allows.
///
/// # Errors
/// How the job ends without them, or that there is no time left to ask again.
pub(super) async fn resolve(
    store: &dyn SecretStore,
    job: &Job,
    variables: &VariableSet,
    settings: SecretSettings,
    shutdown: &mut Shutdown,
) -> Result<Resolved, Unresolved> {
    let mut lines = Vec::new();
    let mut attempt = 0;
    loop {
        attempt += 1;
        lines.push(marker(SECTION, LineLevel::SectionStart));
        lines.push(HeaderLine {
            level: LineLevel::Heading,
            ..HeaderLine::plain("Resolving secrets")
        });
        let result = attempt_all(store, job, variables, settings, &mut lines).await;
        lines.push(marker(SECTION, LineLevel::SectionEnd));
        let infra = match result {
            Ok(variables) => return Ok(Resolved { variables, lines }),
            Err(infra) => infra,
        };
        if attempt >= settings.attempts {
            return Err(Unresolved::Failed(Outcome::Infra(infra)));
        }
        warn!(message = infra.message, attempt, "the job's secrets could not be fetched");
        lines.push(HeaderLine::warning(format!("{}; Retrying...", infra.message)));
        tokio::select! {
            () = sleep(settings.pauses.after(attempt)) => {}
            () = shutdown.stop() => return Err(Unresolved::Stopped),
        }
    }
}

async fn attempt_all(
    store: &dyn SecretStore,
    job: &Job,
    variables: &VariableSet,
    settings: SecretSettings,
    lines: &mut Vec<HeaderLine>,
) -> Result<Vec<Variable>, Infra> {
    let mut resolved = Vec::with_capacity(job.secrets.len());
    for request in &job.secrets {
        let key = &request.key;
        lines.push(HeaderLine::plain(format!("Resolving secret \"{key}\"...")));
        let Some(provider) = store.provider(request) else {
            let text = "Not resolved: no resolver that can handle the secret";
            lines.push(HeaderLine::warning(text));
            continue;
        };
        lines.push(HeaderLine::plain(format!("Using \"{provider}\" secret resolver...")));
        let value = store.resolve(request, variables).await.map_err(|error| {
            let message = format!("resolving the secret \"{key}\": {error}");
            Infra::new(error.kind, message)
        })?;
        let value = match value {
            Some(value) => value,
            None if settings.missing_fails => {
                let message = format!("secret not found: {key}");
                return Err(Infra::new(InfraKind::System, message));
            }
            None => Secret::new(String::new()),
        };
        resolved.push(variable(request, value));
    }
    Ok(resolved)
}

fn variable(request: &SecretRequest, value: Secret) -> Variable {
    let (key, file) = (request.key.clone(), request.file);
    Variable { key, value, public: false, masked: true, file, raw: true }
}

fn marker(name: &str, level: LineLevel) -> HeaderLine {
    HeaderLine { level, at: Some(Timestamp::now().as_second()), ..HeaderLine::plain(name) }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{NoStore, Resolved, Unresolved, resolve};
    use crate::ids::JobId;
    use crate::job::{Job, SecretRequest};
    use crate::manager::shutdown;
    use crate::outcome::{InfraKind, Outcome};
    use crate::plan::LineLevel;
    use crate::planner::{PlanSettings, before_secrets};
    use crate::secret::Secret;
    use crate::secrets::{MockSecretStore, SecretStore, SecretStoreError};

    fn job(attempts: &str, fails_if_missing: &str) -> Job {
        let variable = |key: &str, value: &str| crate::job::Variable {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        let request =
            |key: &str, file| SecretRequest { key: key.into(), file, provider: "{}".into() };
        Job {
            variables: vec![
                variable("SECRETS_RETRIEVAL_ATTEMPTS", attempts),
                variable("FF_SECRET_RESOLVING_FAILS_IF_MISSING", fails_if_missing),
            ],
            secrets: vec![request("A", true), request("B", false)],
            ..Job::empty(JobId(1))
        }
    }

    async fn run(store: &dyn SecretStore, job: &Job) -> Result<Resolved, Unresolved> {
        let (variables, settings) = before_secrets(job, &PlanSettings::default()).unwrap();
        let (_stop, mut shutdown) = shutdown::channel();
        resolve(store, job, &variables, settings, &mut shutdown).await
    }

    fn texts(resolved: &Resolved) -> Vec<(LineLevel, &str)> {
        resolved.lines.iter().map(|line| (line.level, line.text.as_str())).collect()
    }

    fn store() -> MockSecretStore {
        let mut store = MockSecretStore::new();
        store.expect_provider().returning(|_| Some("vault"));
        store
    }

    #[tokio::test(start_paused = true)]
    async fn stages_117_values_are_masked_raw_and_private_and_the_log_has_a_section() {
        let mut store = store();
        store.expect_resolve().returning(|request, _| Ok(Some(format!("${}", request.key).into())));
        let resolved = run(&store, &job("1", "true")).await.unwrap();
        let seen: Vec<_> = resolved
            .variables
            .iter()
            .map(|v| (v.key.as_str(), v.value.expose(), v.file, v.masked && v.raw && !v.public))
            .collect();
        assert_eq!(seen, [("A", "$A", true, true), ("B", "$B", false, true)]);
        assert_eq!(
            texts(&resolved),
            [
                (LineLevel::SectionStart, "resolve_secrets"),
                (LineLevel::Heading, "Resolving secrets"),
                (LineLevel::Plain, "Resolving secret \"A\"..."),
                (LineLevel::Plain, "Using \"vault\" secret resolver..."),
                (LineLevel::Plain, "Resolving secret \"B\"..."),
                (LineLevel::Plain, "Using \"vault\" secret resolver..."),
                (LineLevel::SectionEnd, "resolve_secrets"),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn stages_117_one_failure_and_two_attempts_are_a_success_after_a_pause() {
        let mut store = store();
        let mut calls = 0;
        store.expect_resolve().returning(move |_, _| {
            calls += 1;
            match calls {
                1 => Err(SecretStoreError::new(InfraKind::ExternalDependency, "sealed")),
                _ => Ok(Some("x".into())),
            }
        });
        let began = Instant::now();
        let resolved = run(&store, &job("2", "true")).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(resolved.variables.len(), 2);
        let warning = (LineLevel::Warning, "resolving the secret \"A\": sealed; Retrying...");
        assert!(texts(&resolved).contains(&warning));
        let sections = texts(&resolved).iter().filter(|l| l.0 == LineLevel::SectionStart).count();
        assert_eq!(sections, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn stages_117_the_last_failure_is_the_jobs_and_keeps_its_class() {
        for kind in [InfraKind::Configuration, InfraKind::ExternalDependency, InfraKind::System] {
            let mut store = store();
            store
                .expect_resolve()
                .times(3)
                .returning(move |_, _| Err(SecretStoreError::new(kind, "no")));
            let Err(Unresolved::Failed(Outcome::Infra(infra))) =
                run(&store, &job("3", "true")).await
            else {
                panic!("it cannot succeed")
            };
            assert_eq!(
                (infra.kind, infra.message.as_str()),
                (kind, "resolving the secret \"A\": no")
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stages_117_a_missing_value_fails_the_job_or_is_empty_as_the_flag_says() {
        let mut store = store();
        store.expect_resolve().returning(|_, _| Ok(None));
        let Err(Unresolved::Failed(Outcome::Infra(infra))) = run(&store, &job("1", "true")).await
        else {
            panic!("it cannot succeed")
        };
        assert_eq!(infra.message, "secret not found: A");
        let resolved = run(&store, &job("1", "false")).await.unwrap();
        assert!(resolved.variables.iter().all(|v| v.value == Secret::new(String::new())));
        assert_eq!(resolved.variables.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn stages_117_a_secret_that_nobody_can_resolve_is_a_warning() {
        let resolved = run(&NoStore, &job("1", "true")).await.unwrap();
        assert!(resolved.variables.is_empty());
        let warning = "Not resolved: no resolver that can handle the secret";
        assert!(texts(&resolved).contains(&(LineLevel::Warning, warning)));
    }
}
