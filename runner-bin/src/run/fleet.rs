//! From a configuration to the runners of a manager, again and again: what has not changed stays,
//! with its connections and jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use runner_cache::{CacheSettings, ObjectCache};
use runner_core::cache::CacheStore;
use runner_core::ids::SourceId;
use runner_core::manager::{AfterJob, KeepAlivePace, RequestPace, Roster, Runner};
use runner_core::secret::Secret;
use runner_core::source::JobSource;
use runner_gitlab::{GitLabSettings, GitLabSource, HealthSettings, RunnerApi, short_token};
use runner_k8s::names::manager_id;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RunnerIdentity};
use runner_secrets::{Secrets, SecretsSettings};
use tracing::{error, info};

use super::boot_verify::{Canary, CanarySource};
use super::plan::plan_settings;
use crate::config::{Config, RunnerConfig};
use crate::metrics::{ClusterCounts, Metrics, RunnerName};
use crate::sessions::Registry;
use crate::{environment, version};

/// The runners that are there.
pub(super) struct Fleet {
    system_id: String,
    metrics: Arc<Metrics>,
    /// For all runners: it keeps nothing but connections.
    secrets: Option<Arc<Secrets>>,
    /// Where people look into jobs.
    sessions: Option<Arc<Registry>>,
    members: Vec<Member>,
}

/// A runner with what it was made of.
struct Member {
    config: RunnerConfig,
    common: Common,
    /// What was in the certificate files: jobs are told.
    tls: Tls,
    runner: Arc<Runner>,
    desk: Desk,
    house: House,
}

/// A source, and what it was made of.
#[derive(Clone)]
struct Desk {
    settings: GitLabSettings,
    source: Arc<GitLabSource>,
}

/// Authorities, and a client's certificate with its key.
type Tls = (Option<String>, Option<(String, Secret)>);

/// Settings of the whole file that a runner depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Common {
    check_interval: Duration,
    /// How long a job that is over may be looked into.
    session_timeout: Duration,
    connection_max_age: Option<Duration>,
}

/// An executor, and what it was made of.
#[derive(Clone)]
struct House {
    settings: KubernetesSettings,
    source: SourceId,
    name: String,
    short_token: String,
    executor: Arc<KubernetesExecutor>,
}

impl Fleet {
    pub(super) fn new(system_id: String, metrics: Arc<Metrics>) -> Self {
        let settings =
            SecretsSettings::default().with_aws_environment(|name| std::env::var(name).ok());
        let secrets = match Secrets::new(settings) {
            Ok(secrets) => Some(Arc::new(secrets)),
            Err(error) => {
                error!("jobs will miss their secrets: {:#}", anyhow::Error::from(error));
                None
            }
        };
        Self { system_id, metrics, secrets, sessions: None, members: Vec::new() }
    }

    /// Lets people look into the jobs of runners that are built from now on.
    pub(super) fn with_sessions(mut self, sessions: Option<Arc<Registry>>) -> Self {
        self.sessions = sessions;
        self
    }

    /// The runners of this configuration. One that cannot be set up is left out, with an error in
    /// the log.
    pub(super) async fn apply(&mut self, config: &Config) -> Roster {
        let common = Common {
            check_interval: config.check_interval,
            session_timeout: config.session_server.session_timeout,
            connection_max_age: config.connection_max_age,
        };
        let mut old = std::mem::take(&mut self.members);
        for runner in &config.runners {
            if let Some(fault) = &runner.fault {
                error!(runner = runner.name, "this runner is left out: {fault}");
                continue;
            }
            let tls = runner.tls.load();
            let same = |member: &Member| {
                member.config == *runner && member.common == common && member.tls == tls
            };
            if let Some(at) = old.iter().position(same) {
                let member = old.swap_remove(at);
                // As GitLab Runner does: a new configuration is a new chance.
                member.desk.source.forget_refusals();
                self.members.push(member);
                continue;
            }
            match self.build(runner, common, &old).await {
                Ok(member) => {
                    info!(runner = runner.name, "runner ready");
                    self.members.push(member);
                }
                Err(error) => {
                    error!(runner = runner.name, "this runner cannot be set up: {error:#}");
                }
            }
        }
        self.tell_metrics(config.concurrent);
        if let Some(sessions) = &self.sessions {
            sessions.set_patience(config.session_server.session_timeout);
            let house = |member: &Member| {
                let (source, executor) =
                    (member.desk.source.clone(), member.house.executor.clone());
                (source as _, executor as _)
            };
            sessions.set_houses(self.members.iter().map(house).collect());
        }
        let runners = self.members.iter().map(|member| Arc::clone(&member.runner)).collect();
        Roster { concurrent: config.concurrent, runners }
    }

    fn tell_metrics(&self, concurrent: usize) {
        let name = |member: &Member| RunnerName {
            short_token: short_token(member.config.token.expose()),
            name: member.config.name.clone(),
            system_id: self.system_id.clone(),
            stage_durations: member.config.flag("FF_EXPORT_HIGH_CARDINALITY_METRICS"),
            limit: member.config.limit,
            queue_times: member.config.queue_times.clone(),
        };
        let runners = self.members.iter().map(|member| (member.desk.source.id(), name(member)));
        let cluster = |member: &Member| ClusterCounts {
            runner: [
                short_token(member.config.token.expose()),
                member.config.name.clone(),
                self.system_id.clone(),
            ],
            requests: member.house.executor.requests().clone(),
            streams: member.house.executor.streams().clone(),
            pause_pods: member.house.executor.pause_numbers().cloned(),
            room: member.house.executor.room_counts().clone(),
        };
        let clusters = self.members.iter().map(cluster).collect();
        self.metrics.configure(concurrent, runners.collect(), clusters);
    }

    async fn build(
        &self,
        config: &RunnerConfig,
        common: Common,
        old: &[Member],
    ) -> anyhow::Result<Member> {
        let desk = self.desk(config, common, old)?;
        let house = self.house(config, desk.source.id(), old).await?;
        let tls = config.tls.load();
        let mut runner = self.runner(config, common, &desk.source, &house);
        (runner.plan.tls_ca, runner.plan.tls_client) = tls.clone();
        let (config, runner) = (config.clone(), Arc::new(runner));
        Ok(Member { config, common, tls, runner, desk, house })
    }

    /// The source that asks the same GitLab in the same way already, or a new one. A new one costs
    /// connections and a list of the system's authorities, and the old one stays as long as its jobs run.
    fn desk(&self, config: &RunnerConfig, common: Common, old: &[Member]) -> anyhow::Result<Desk> {
        let mut settings = gitlab_settings(config, &self.system_id, common.connection_max_age);
        let known = old
            .iter()
            .map(|member| &member.desk)
            .find(|desk| desk.settings.is_same_source(&settings));
        if let Some(desk) = known {
            // As for a runner that has not changed at all.
            desk.source.forget_refusals();
            return Ok(desk.clone());
        }
        settings.observer = self.metrics.calls_of(settings.source_id()?);
        settings.sessions = self.sessions.clone().map(|sessions| sessions as _);
        let source = Arc::new(GitLabSource::new(settings.clone())?);
        Ok(Desk { settings, source })
    }

    /// The executor that runs such jobs already, or a new one.
    async fn house(
        &self,
        config: &RunnerConfig,
        source: SourceId,
        old: &[Member],
    ) -> anyhow::Result<House> {
        let settings = config.kubernetes.clone().context("there are no [runners.kubernetes]")?;
        let short_token = short_token(config.token.expose());
        let known = old.iter().map(|member| &member.house).find(|house| {
            house.settings == settings
                && house.source == source
                && house.name == config.name
                && house.short_token == short_token
        });
        if let Some(house) = known {
            return Ok(house.clone());
        }
        let identity = RunnerIdentity {
            source: source.clone(),
            name: config.name.clone(),
            short_token: short_token.clone(),
            // One for each executor: another one's jobs are another manager's, also in this process.
            manager: manager_id(&environment::host_name()),
        };
        let executor = KubernetesExecutor::connect(settings.clone(), identity).await?;
        let executor = Arc::new(executor);
        Ok(House { settings, source, name: config.name.clone(), short_token, executor })
    }

    fn runner(
        &self,
        config: &RunnerConfig,
        common: Common,
        source: &Arc<GitLabSource>,
        house: &House,
    ) -> Runner {
        let (name, executor) = (config.name.clone(), Arc::clone(&house.executor));
        let mut runner = Runner::new(name, Arc::clone(source) as _, executor);
        runner.artifacts = Some(Arc::clone(source) as _);
        runner.secrets = self.secrets.clone().map(|secrets| secrets as _);
        runner.cache = cache_store(config, &house.short_token);
        runner.plan.cache_limit = config.cache.as_ref().map_or(0, |cache| cache.max_archive);
        runner.sessions = self.sessions.clone().map(|sessions| sessions as _);
        runner.limit = config.limit;
        runner.check_interval = common.check_interval;
        runner.request_concurrency = config.request_concurrency;
        runner.request_pace = match config.flag_or("FF_USE_ADAPTIVE_REQUEST_CONCURRENCY", true) {
            true => RequestPace::Adaptive,
            false => RequestPace::Fixed,
        };
        runner.after_job = match config.strict_check_interval {
            true => AfterJob::WaitForTurn,
            false => AfterJob::AskAgain,
        };
        runner.relay.timestamps = config.flag_or("FF_TIMESTAMPS", true);
        runner.relay.keep_alive_pace = match config.flag("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL")
        {
            true => KeepAlivePace::FollowsInterval,
            false => KeepAlivePace::Fixed,
        };
        runner.plan = plan_settings(config, &house.settings, &self.system_id);
        if self.sessions.is_some() {
            // The pod has to be there while somebody is inside, and then until the verdict is said.
            let needed = common.session_timeout + Duration::from_secs(600);
            runner.plan.hold = runner.plan.hold.max(needed);
        }
        runner
    }

    /// For each runner that wants one, a job of our own to be run before any other.
    ///
    /// # Errors
    /// When a runner that wants one is not there, or cannot reach its cluster.
    pub(super) async fn canaries(&self, config: &Config) -> anyhow::Result<Vec<Canary>> {
        let mut canaries = Vec::new();
        for (index, wanted) in (1..).zip(&config.runners) {
            let Some(limit) = wanted.boot_verify else { continue };
            let member = self.members.iter().find(|member| member.config == *wanted);
            let member = member.with_context(|| {
                format!("boot verify failed for {}: it cannot be set up", wanted.name)
            })?;
            let source = CanarySource::new(&member.desk.source.id(), index, limit);
            let identity = RunnerIdentity {
                source: source.id(),
                name: wanted.name.clone(),
                short_token: member.house.short_token.clone(),
                manager: manager_id(&environment::host_name()),
            };
            // It makes pods for nobody else.
            let mut settings = member.house.settings.clone();
            settings.autoscaler = None;
            settings.warm_pods.clear();
            let executor = KubernetesExecutor::connect(settings, identity).await?;
            let mut runner = Runner::clone(&member.runner);
            runner.source = Arc::clone(&source) as _;
            runner.executor = Arc::new(executor);
            (runner.artifacts, runner.cache, runner.secrets) = (None, None, None);
            (runner.sessions, runner.limit) = (None, 0);
            canaries.push(Canary { runner, timeout: limit, source });
        }
        Ok(canaries)
    }

    /// Takes this manager off GitLab's list, for each runner.
    pub(super) async fn unregister(&self) {
        for member in &self.members {
            let settings =
                gitlab_settings(&member.config, &self.system_id, member.common.connection_max_age);
            let result = match RunnerApi::new(settings) {
                Ok(api) => api.unregister().await.map_err(anyhow::Error::from),
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(()) => {
                    info!(runner = member.config.name, "Unregistering runner from GitLab succeeded")
                }
                Err(error) => {
                    error!(
                        runner = member.config.name,
                        "Unregistering runner from GitLab failed: {error:#}"
                    );
                }
            }
        }
    }
}

/// How to reach GitLab for this runner.
pub(crate) fn gitlab_settings(
    config: &RunnerConfig,
    system_id: &str,
    connection_max_age: Option<Duration>,
) -> GitLabSettings {
    let mut gitlab = GitLabSettings::new(config.url.clone(), config.token.clone(), system_id);
    gitlab.runner_id = config.id;
    gitlab.release.revision = version::known(version::REVISION);
    gitlab.release.branch = version::known(version::BRANCH);
    gitlab.shell.clone_from(&config.shell);
    gitlab.labels.clone_from(&config.labels);
    gitlab.debug_trace_disabled = config.debug_trace_disabled;
    gitlab.tls.ca_file.clone_from(&config.tls.ca);
    gitlab.tls.cert_file.clone_from(&config.tls.certificate);
    gitlab.tls.key_file.clone_from(&config.tls.key);
    gitlab.tls.certs_dir = Some(environment::certs_directory());
    gitlab.timeouts.upload = config.upload_timeout;
    gitlab.connection_max_age = connection_max_age;
    gitlab.health = HealthSettings {
        limit: config.unhealthy_requests_limit,
        interval: config.unhealthy_interval,
    };
    gitlab
}

/// Where a runner's caches go. Without it jobs run all the same.
fn cache_store(config: &RunnerConfig, short_token: &str) -> Option<Arc<dyn CacheStore>> {
    let settings = CacheSettings {
        short_token: short_token.to_owned(),
        grant_key: config.token.clone(),
        ..config.cache.clone()?
    };
    match ObjectCache::new(settings) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            tracing::error!(%error, runner = config.name, "caches stay in the pods");
            None
        }
    }
}
