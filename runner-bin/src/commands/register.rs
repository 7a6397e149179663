//! `register`: adds a runner to the file.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use runner_core::causes::causes;
use runner_core::secret::Secret;
use runner_gitlab::{
    GitLabSettings, RegisteredRunner, Registration, RunnerApi, is_created_runner_token, short_token,
};
use toml::{Table, Value};
use tracing::{error, info, warn};

use super::file::{self, ConfigFile, Opened};
use super::flags::{RunnerFlags, fill};
use crate::config::{self, Severity};
use crate::run::{gitlab_settings, read};
use crate::{environment, system_id};

/// Add a runner to the file.
///
/// Every key of [[runners]] has a flag and a variable; a template fills in what neither says.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Register {
    #[command(flatten)]
    file: ConfigFile,
    /// A file with one [[runners]], which fills in what flags and variables do not say.
    #[arg(long, env = "TEMPLATE_CONFIG_FILE", value_name = "FILE")]
    template_config: Option<PathBuf>,
    /// Never ask.
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    non_interactive: Option<bool>,
    /// Leave the registration at GitLab when the file cannot be written.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leave_runner: Option<bool>,
    /// Registration token (deprecated by GitLab), or a runner's token.
    #[arg(long, short, value_name = "TOKEN")]
    registration_token: Option<String>,
    /// Tags, with a registration token.
    #[arg(long)]
    tag_list: Option<String>,
    /// Take jobs without tags, with a registration token.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    run_untagged: Option<bool>,
    /// Stay with its project, with a registration token.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    locked: Option<bool>,
    /// not_protected or ref_protected, with a registration token.
    #[arg(long)]
    access_level: Option<String>,
    /// Longest time of a job in seconds, with a registration token.
    #[arg(long)]
    maximum_timeout: Option<u64>,
    /// Take no jobs yet, with a registration token.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    paused: Option<bool>,
    /// Note for GitLab's interface, with a registration token.
    #[arg(long)]
    maintenance_note: Option<String>,
    #[command(flatten)]
    runner: RunnerFlags,
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn variable_flag(name: &str) -> anyhow::Result<Option<bool>> {
    variable(name)
        .map(|text| match text.as_str() {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
            _ => bail!("{name}: \"{text}\" is not true or false"),
        })
        .transpose()
}

/// Which token was given, and how.
enum Given {
    /// A runner's.
    Runner(Secret),
    /// A registration token.
    Registration(Secret),
}

impl Register {
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        self.read_variables()?;
        if let Some(level) = &self.access_level {
            let known = ["", "not_protected", "ref_protected"].contains(&level.as_str());
            ensure!(
                known,
                "--access-level {level:?} is not allowed; not_protected or ref_protected"
            );
        }
        let mut table = self.runner.0.clone();
        if let Some(template) = &self.template_config {
            fill(&mut table, &template_runner(template)?);
        }
        let path = self.file.path();
        let opened = Opened::read(&path)?;
        let url =
            self.text(&table, "url", "GitLab's address (for example https://gitlab.com/)", "")?;
        table.insert("url".into(), url.clone().into());
        let given = self.given(&table)?;
        let name = self.name(&table)?;
        table.insert("name".into(), name.clone().into());
        let executor = self.text(&table, "executor", "The executor", "kubernetes")?;
        ensure!(
            executor == "kubernetes",
            "Invalid executor specified: {executor}; kubernetes is the one there is"
        );
        table.insert("executor".into(), executor.into());
        for other in [
            "docker",
            "machine",
            "ssh",
            "parallels",
            "virtualbox",
            "custom",
            "instance",
            "autoscaler",
            "referees",
        ] {
            table.remove(other);
        }

        make_directory(&path)?;
        let system_id = system_id::of(&path)?;
        let registered = file::block_on(self.register(&table, given, &system_id, &name))??;
        self.finish(&opened, table, registered, &system_id)
    }

    /// Variables of the own flags; those of the runner's flags were read with them. An empty one
    /// counts as not set.
    fn read_variables(&mut self) -> anyhow::Result<()> {
        let text = |value: &mut Option<String>, name: &str| {
            if value.is_none() {
                *value = variable(name);
            }
        };
        text(&mut self.registration_token, "REGISTRATION_TOKEN");
        text(&mut self.tag_list, "RUNNER_TAG_LIST");
        text(&mut self.access_level, "REGISTER_ACCESS_LEVEL");
        text(&mut self.maintenance_note, "REGISTER_MAINTENANCE_NOTE");
        for (value, name) in [
            (&mut self.non_interactive, "REGISTER_NON_INTERACTIVE"),
            (&mut self.leave_runner, "REGISTER_LEAVE_RUNNER"),
            (&mut self.run_untagged, "REGISTER_RUN_UNTAGGED"),
            (&mut self.locked, "REGISTER_LOCKED"),
            (&mut self.paused, "REGISTER_PAUSED"),
        ] {
            if value.is_none() {
                *value = variable_flag(name)?;
            }
        }
        if self.maximum_timeout.is_none() {
            self.maximum_timeout = variable("REGISTER_MAXIMUM_TIMEOUT")
                .map(|text| text.parse().context("REGISTER_MAXIMUM_TIMEOUT is not a number"))
                .transpose()?;
        }
        Ok(())
    }

    /// A value that flags, variables, template or a person give.
    fn text(
        &self,
        table: &Table,
        key: &str,
        question: &str,
        default: &str,
    ) -> anyhow::Result<String> {
        if let Some(text) = table.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()) {
            return Ok(text.to_owned());
        }
        if self.non_interactive == Some(true) {
            ensure!(!default.is_empty() && key != "executor", "The {key} needs to be entered");
            return Ok(default.to_owned());
        }
        ask(question, default)
    }

    fn name(&self, table: &Table) -> anyhow::Result<String> {
        self.text(table, "name", "A name for the runner", &environment::host_name())
    }

    fn given(&self, table: &Table) -> anyhow::Result<Given> {
        let token = table.get("token").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        if !token.is_empty() {
            if is_created_runner_token(token) {
                let reserved = self.reserved();
                ensure!(
                    reserved.is_empty(),
                    "Runner configuration other than name and executor configuration is reserved: {} \
                     can only be set in GitLab for a runner with such a token",
                    reserved.join(", ")
                );
            }
            return Ok(Given::Runner(Secret::new(token)));
        }
        let token = match &self.registration_token {
            Some(token) => token.trim().to_owned(),
            None if self.non_interactive == Some(true) => {
                bail!("The registration-token needs to be entered")
            }
            None => ask("The runner's token", "")?,
        };
        if !is_created_runner_token(&token) {
            return Ok(Given::Registration(Secret::new(token)));
        }
        let reserved = self.reserved();
        if !reserved.is_empty() {
            warn!(
                "{} are set in GitLab for a runner with such a token; they have no effect here",
                reserved.join(", ")
            );
        }
        Ok(Given::Runner(Secret::new(token)))
    }

    /// What only GitLab decides for a runner that was made there, and was given here all the same.
    fn reserved(&self) -> Vec<&'static str> {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        [
            ("--locked", self.locked == Some(false)),
            ("--access-level", said(&self.access_level)),
            ("--run-untagged", self.run_untagged == Some(true)),
            ("--maximum-timeout", self.maximum_timeout.is_some_and(|seconds| seconds > 0)),
            ("--paused", self.paused == Some(true)),
            ("--tag-list", said(&self.tag_list)),
            ("--maintenance-note", said(&self.maintenance_note)),
        ]
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
    }

    async fn register(
        &self,
        table: &Table,
        given: Given,
        system_id: &str,
        name: &str,
    ) -> anyhow::Result<Registered> {
        match given {
            Given::Runner(token) => {
                let short = short_token(token.expose());
                let identity = api(table, &token, system_id)?.verify().await.map_err(|error| {
                    error!(runner = short, %error, "Verifying runner... is not valid");
                    anyhow::anyhow!("Failed to verify the runner.")
                })?;
                let created = is_created_runner_token(token.expose());
                ensure!(
                    !created || identity.id > 0,
                    "Failed to verify the runner: GitLab did not name its number"
                );
                info!(runner = short, "Verifying runner... is valid");
                Ok(Registered { token, identity })
            }
            Given::Registration(token) => {
                warn!(
                    "registration tokens are deprecated by GitLab; create the runner there, and use its glrt-… token"
                );
                let tag_list = self.tag_list.clone().unwrap_or_default();
                let registration = Registration {
                    description: name.to_owned(),
                    maintenance_note: self.maintenance_note.clone().unwrap_or_default(),
                    run_untagged: tag_list.is_empty() || self.run_untagged == Some(true),
                    tag_list,
                    locked: self.locked.unwrap_or(true),
                    access_level: self.access_level.clone().unwrap_or_default(),
                    maximum_timeout: self.maximum_timeout.unwrap_or(0),
                    paused: self.paused.unwrap_or(false),
                };
                let api = api(table, &token, system_id)?;
                let identity = api.register(&registration).await.map_err(|error| {
                    error!(
                        runner = short_token(token.expose()),
                        error = causes(&error),
                        "Registering runner... failed"
                    );
                    anyhow::anyhow!("Failed to register the runner.")
                })?;
                info!(runner = short_token(token.expose()), "Registering runner... succeeded");
                Ok(Registered { token: identity.token.clone(), identity })
            }
        }
    }

    /// Writes the file. What GitLab knows already is taken back if that fails.
    fn finish(
        &self,
        opened: &Opened,
        mut table: Table,
        registered: Registered,
        system_id: &str,
    ) -> anyhow::Result<()> {
        let Registered { token, identity } = registered;
        let url = table.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        table.insert("id".into(), i64::try_from(identity.id).unwrap_or(0).into());
        table.insert("token".into(), token.expose().into());
        table.insert("token_obtained_at".into(), date(Some(Timestamp::now())));
        table.insert("token_expires_at".into(), date(identity.expires));
        // GitLab Runner adds a second entry, so that a container that is started again polls twice.
        let old = opened.places(|runner| runner.token == token && runner.url == url);
        if !old.is_empty() {
            warn!(
                runner = short_token(token.expose()),
                "this runner is in the file already; its entry is replaced"
            );
        }
        let written = opened.edit(|document| {
            document.set_default("concurrent", 1);
            document.set_default("check_interval", 0);
            document.remove_runners(&old)?;
            document.add_runner(&table)
        });
        if let Err(error) = written {
            if self.leave_runner != Some(true) && old.is_empty() {
                let undo = file::block_on(async {
                    api(&table, &token, system_id)?.unregister().await.map_err(anyhow::Error::from)
                });
                match undo.and_then(|result| result) {
                    Ok(()) => warn!("the registration was taken back"),
                    Err(error) => error!("the registration could not be taken back: {error:#}"),
                }
            }
            return Err(error);
        }
        check(&opened.path);
        info!(
            "Runner registered successfully. A manager that runs with this file takes it up by itself."
        );
        info!("Configuration (with the authentication token) was saved in {:?}", opened.path);
        Ok(())
    }
}

/// A runner that GitLab knows.
struct Registered {
    token: Secret,
    identity: RegisteredRunner,
}

/// What is said about the file as it is now.
fn check(path: &Path) {
    let Ok(reading) = read(path) else { return };
    for finding in &reading.findings.0 {
        if finding.severity > Severity::Note {
            warn!("{}: {finding}", path.display());
        }
    }
}

/// GitLab's interface for what is being registered.
fn api(table: &Table, token: &Secret, system_id: &str) -> anyhow::Result<RunnerApi> {
    let mut runner = table.clone();
    // As the file will hold them; a registration token in place of the runner's is as good.
    runner.insert("token".into(), token.expose().into());
    let mut file = Table::new();
    file.insert("runners".into(), Value::Array(vec![Value::Table(runner)]));
    let reading = config::read_from_environment(&file.to_string());
    let errors = || {
        let errors =
            reading.findings.0.iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let config = reading.config.as_ref().with_context(errors)?;
    let runner = config.runners.first().context("there is no runner")?;
    let settings: GitLabSettings = gitlab_settings(runner, system_id, None);
    Ok(RunnerApi::new(settings)?)
}

/// The only `[[runners]]` of a template, without its token.
fn template_runner(path: &Path) -> anyhow::Result<Table> {
    let at = path.display();
    let reading = match read(path) {
        Ok(reading) => reading,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => config::empty(),
        Err(error) => return Err(error).context(format!("cannot read the template {at}")),
    };
    if reading.findings.has(Severity::Error) {
        let errors: Vec<String> =
            reading.findings.of(Severity::Error).map(ToString::to_string).collect();
        bail!("the template {at} cannot be used: {}", errors.join("; "));
    }
    let config = reading.config.with_context(|| format!("the template {at} cannot be used"))?;
    let runners = reading.table.get("runners").and_then(Value::as_array);
    let [Value::Table(runner)] = runners.map(Vec::as_slice).unwrap_or_default() else {
        bail!("the template {at} must hold exactly one [[runners]] entry");
    };
    let mut runner = runner.clone();
    runner.remove("token");
    // The host name comes first, as in GitLab Runner.
    runner.remove("name");
    if let Some(first) = config.runners.first().filter(|runner| !runner.url.is_empty()) {
        runner.insert("url".into(), first.url.clone().into());
    }
    Ok(runner)
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.with_context(|| format!("cannot make {}", directory.display()))
}

/// Year 1 means never.
fn date(time: Option<Timestamp>) -> Value {
    let text = time.map_or_else(
        || "0001-01-01T00:00:00Z".to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    text.parse::<toml::value::Datetime>().map_or_else(|_| text.into(), Value::Datetime)
}

/// Asks a person.
#[expect(clippy::print_stdout, reason = "a person is asked")]
fn ask(question: &str, default: &str) -> anyhow::Result<String> {
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    print!("{question}{shown}: ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    if read == 0 {
        bail!("there is nobody to ask; use --non-interactive and flags or variables");
    }
    if !std::io::stdin().is_terminal() {
        println!();
    }
    let line = line.trim();
    ensure!(!(line.is_empty() && default.is_empty()), "nothing was entered");
    Ok(if line.is_empty() { default.to_owned() } else { line.to_owned() })
}
