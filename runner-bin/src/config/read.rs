//! From text to a [`Config`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::secret::Secret;
use toml::value::Datetime;

use super::cache;
use super::findings::{Findings, Severity};
use super::kubernetes;
use super::lines::{line_of, parse_path};
use super::monitoring;
use super::raw::{RawBootVerify, RawConfig, RawRunner, RawSessionServer};
use super::resolved::{
    Config, LogFormat, LogLevel, OnTerminate, RunnerConfig, SessionServerConfig, TlsFiles,
    TokenLife,
};
use super::walk::walk;
use crate::logging::sentry::Dsn;

/// What the environment and the file system say; a map in tests.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// Value of an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Content of a file.
    pub(crate) file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// What it means; `None`: it cannot be used.
    pub(crate) config: Option<Config>,
    /// What there is to say about it.
    pub(crate) findings: Findings,
    /// The file with keys in their proper spelling.
    pub(crate) table: toml::Table,
}

/// Reads a configuration.
pub(crate) fn read(text: &str, surroundings: &Surroundings<'_>) -> Reading {
    let mut findings = Findings::default();
    let Some(table) = walk(text, &mut findings) else {
        // Not TOML: what the rest means cannot be said.
        return Reading { config: None, findings, table: toml::Table::new() };
    };
    let raw = match table.clone().try_into::<RawConfig>() {
        Ok(raw) => raw,
        Err(error) => {
            findings.push(Severity::Error, None, error.message().to_owned());
            RawConfig::default()
        }
    };
    let mut reader = Reader { text, surroundings, findings };
    let config = reader.config(raw);
    let mut findings = reader.findings;
    findings.sort();
    let usable = !findings.has(Severity::Error);
    Reading { config: usable.then_some(config), findings, table }
}

struct Reader<'a> {
    text: &'a str,
    surroundings: &'a Surroundings<'a>,
    findings: Findings,
}

impl Reader<'_> {
    fn say(&mut self, severity: Severity, path: &str, message: impl fmt::Display) {
        let line = line_of(self.text, &parse_path(path));
        self.findings.push(severity, line, format!("`{path}`: {message}"));
    }

    fn config(&mut self, raw: RawConfig) -> Config {
        let concurrent = raw.concurrent.unwrap_or(1);
        if concurrent < 1 {
            let message = format!("{concurrent} is not allowed; at least 1 is needed");
            self.say(Severity::Error, "concurrent", message);
        }
        if raw.runners.is_empty() {
            let message = "there is no [[runners]] entry, so there is nothing to run".to_owned();
            self.findings.push(Severity::Warning, None, message);
        }
        let shutdown = raw.shutdown_timeout.unwrap_or(0);
        let labels = &raw.labels;
        let runners: Vec<RunnerConfig> = raw
            .runners
            .into_iter()
            .enumerate()
            .map(|(index, runner)| self.runner(index, runner, labels))
            .collect();
        let wanted: usize =
            runners.iter().map(|runner| runner.request_concurrency).fold(0, usize::max);
        let concurrent = usize::try_from(concurrent).unwrap_or(1).max(1);
        if wanted > concurrent {
            let message = format!(
                "`request_concurrency` {wanted} is more than `concurrent` {concurrent}; there are \
                 never more requests than free places"
            );
            self.findings.push(Severity::Warning, None, message);
        }
        let sentry_dsn = self.sentry_dsn(raw.sentry_dsn);
        Config {
            concurrent,
            check_interval: seconds(raw.check_interval).unwrap_or(Duration::from_secs(3)),
            log_level: raw.log_level.as_deref().and_then(LogLevel::parse),
            log_format: raw.log_format.as_deref().and_then(LogFormat::parse),
            sentry_dsn,
            // A negative age closes GitLab Runner's connections before each request; nobody wants that.
            connection_max_age: match raw.connection_max_age {
                Some(age) => age.positive(),
                None => Some(Duration::from_secs(15 * 60)),
            },
            listen_address: raw.listen_address.unwrap_or_default(),
            shutdown_timeout: seconds(Some(shutdown)).unwrap_or(Duration::from_secs(30)),
            on_terminate: match raw.on_terminate.as_deref() {
                Some("stop") => OnTerminate::Stop,
                _ => OnTerminate::Leave,
            },
            unregister_on_stop: raw.unregister_on_stop.unwrap_or(false),
            session_server: session_server(raw.session_server),
            runners,
        }
    }

    /// The environment's counts where the key is not there at all; an empty one means none.
    fn sentry_dsn(&mut self, written: Option<Secret>) -> Option<Dsn> {
        let written = written.map(|dsn| dsn.expose().to_owned());
        let text = written.or_else(|| (self.surroundings.variable)("SENTRY_DSN"))?;
        if text.is_empty() {
            return None;
        }
        let dsn = Dsn::parse(&text);
        if dsn.is_none() {
            let message = "is not a DSN, https://KEY@HOST/PROJECT, so errors are only logged";
            self.say(Severity::Warning, "sentry_dsn", message);
        }
        dsn
    }

    fn runner(
        &mut self,
        index: usize,
        raw: RawRunner,
        global: &BTreeMap<String, String>,
    ) -> RunnerConfig {
        let at = format!("runners[{index}]");
        let key = |name: &str| format!("{at}.{name}");
        let before = self.findings.0.len();
        let executor = raw.executor.as_deref().unwrap_or_default();
        if executor.is_empty() {
            self.say(Severity::Fault, &key("executor"), "is missing; write \"kubernetes\"");
        }
        let url = self.expand(raw.url.as_deref().unwrap_or_default().trim());
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            let message = format!("\"{url}\" is not a URL that begins with http:// or https://");
            self.say(Severity::Fault, &key("url"), message);
        } else if url.trim_end_matches('/').ends_with("/ci") {
            self.say(Severity::Warning, &key("url"), "the ending /ci is not needed any more");
        }
        let (token, token_file) = self.token(&at, &raw);
        let labels = self.labels(&at, global, raw.labels);
        let not_negative = |value: Option<i64>| value.unwrap_or(0).max(0).unsigned_abs();
        for (name, value) in [("limit", raw.limit), ("output_limit", raw.output_limit)] {
            if let Some(value) = value.filter(|value| *value < 0) {
                let message = format!("{value} counts as 0, the default; write 0 or more");
                self.say(Severity::Warning, &key(name), message);
            }
        }
        for entry in &raw.environment {
            if !entry.contains('=') {
                let message = "an entry without `=` has no effect; write KEY=value";
                self.say(Severity::Warning, &key("environment"), message);
            }
        }
        for (name, value) in [
            ("prepare_timeout", raw.prepare_timeout),
            ("get_sources_timeout", raw.get_sources_timeout),
        ] {
            if value.is_some_and(|value| value.positive().is_none()) {
                let message = "is not positive, so the job's own timeout counts";
                self.say(Severity::Warning, &key(name), message);
            }
        }
        let tls = TlsFiles {
            ca: raw.tls_ca_file.filter(|file| !file.is_empty()).map(PathBuf::from),
            certificate: raw.tls_cert_file.filter(|file| !file.is_empty()).map(PathBuf::from),
            key: raw.tls_key_file.filter(|file| !file.is_empty()).map(PathBuf::from),
        };
        self.check_tls(&at, &tls);
        let token_life = self.token_life(&at, raw.token_obtained_at, raw.token_expires_at);
        let foreign = !executor.is_empty() && executor != "kubernetes";
        let settings = match foreign {
            true => None,
            false => kubernetes::read(
                self.text,
                &key("kubernetes"),
                raw.kubernetes.unwrap_or_default(),
                &mut self.findings,
            ),
        };
        let cache = cache::read(raw.cache.unwrap_or_default(), |name, message| {
            self.say(Severity::Warning, &key(name), message);
        });
        let queue_times = monitoring::read(raw.monitoring, |severity, name, message| {
            self.say(severity, &key(name), message);
        });
        RunnerConfig {
            name: raw.name.unwrap_or_else(|| format!("runner-{index}")),
            url,
            clone_url: raw.clone_url.filter(|url| !url.is_empty()),
            token,
            id: u64::try_from(raw.id.unwrap_or(0)).unwrap_or(0),
            token_life,
            token_file,
            tls,
            limit: usize::try_from(not_negative(raw.limit)).unwrap_or(usize::MAX),
            request_concurrency: usize::try_from(not_negative(raw.request_concurrency).max(1))
                .unwrap_or(usize::MAX),
            strict_check_interval: raw.strict_check_interval.unwrap_or(false),
            unhealthy_requests_limit: u32::try_from(not_negative(raw.unhealthy_requests_limit))
                .ok()
                .filter(|limit| *limit > 0)
                .unwrap_or(3),
            unhealthy_interval: raw
                .unhealthy_interval
                .and_then(|interval| interval.positive())
                .unwrap_or(Duration::from_secs(3600)),
            labels,
            feature_flags: raw.feature_flags,
            output_limit: match not_negative(raw.output_limit) {
                0 => 4096 * 1024,
                kib => kib.saturating_mul(1024),
            },
            environment: raw.environment.into_iter().map(Secret::new).collect(),
            builds_dir: raw.builds_dir.filter(|directory| !directory.is_empty()),
            cache_dir: raw.cache_dir.filter(|directory| !directory.is_empty()),
            custom_build_dir: raw.custom_build_dir.enabled.unwrap_or(true),
            shell: raw.shell.filter(|shell| !shell.is_empty()).unwrap_or_else(|| "bash".to_owned()),
            pre_get_sources_script: raw.pre_get_sources_script.filter(|script| !script.is_empty()),
            post_get_sources_script: raw
                .post_get_sources_script
                .filter(|script| !script.is_empty()),
            job_summary: raw.job_summary.unwrap_or(true),
            pre_build_script: raw.pre_build_script.filter(|script| !script.is_empty()),
            post_build_script: raw.post_build_script.filter(|script| !script.is_empty()),
            prepare_timeout: raw.prepare_timeout.and_then(|time| time.positive()),
            get_sources_timeout: raw.get_sources_timeout.and_then(|time| time.positive()),
            debug_trace_disabled: raw.debug_trace_disabled.unwrap_or(false),
            upload_timeout: raw
                .artifact
                .upload_timeout
                .and_then(|time| time.positive())
                .unwrap_or(Duration::from_secs(3600)),
            boot_verify: boot_verify(&raw.experimental.boot_verify),
            queue_times,
            cache,
            kubernetes: settings,
            fault: self.fault(index, before),
        }
    }

    /// The faults of this runner in one line: those of the walk, and those since `before`.
    fn fault(&self, index: usize, before: usize) -> Option<String> {
        let (walked, own) = self.findings.0.split_at(before);
        let prefix = format!("`runners[{index}]");
        let walked = walked.iter().filter(|finding| finding.message.starts_with(&prefix));
        let faults: Vec<String> = walked
            .chain(own)
            .filter(|finding| finding.severity == Severity::Fault)
            .map(ToString::to_string)
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    fn token(&mut self, at: &str, raw: &RawRunner) -> (Secret, Option<PathBuf>) {
        let key = format!("{at}.token");
        let written = raw.token.as_ref().map_or("", Secret::expose).trim();
        let token = self.expand(written);
        let token = token.trim();
        if !token.is_empty() {
            return (Secret::new(token), None);
        }
        let file = raw.token_file.as_deref().filter(|file| !file.is_empty());
        let Some(file) = file else {
            let message = match written {
                "" => "is empty; without a runner authentication token (glrt-…) there are no jobs"
                    .to_owned(),
                // Not a secret: it is only a reference to one.
                reference => format!("{reference} is not set in the environment, so it is empty"),
            };
            self.say(Severity::Fault, &key, message);
            return (Secret::default(), None);
        };
        let path = PathBuf::from(file);
        let text = (self.surroundings.file)(&path);
        match text.as_deref().map(str::trim) {
            Ok("") => {
                self.say(Severity::Fault, &format!("{at}.token_file"), format!("{file} is empty"));
                (Secret::default(), Some(path))
            }
            Ok(token) => (Secret::new(token), Some(path)),
            Err(error) => {
                let message = format!("cannot read {file}: {error}");
                self.say(Severity::Fault, &format!("{at}.token_file"), message);
                (Secret::default(), Some(path))
            }
        }
    }

    fn labels(
        &mut self,
        at: &str,
        global: &BTreeMap<String, String>,
        own: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut all = global.clone();
        all.extend(own);
        let key = format!("{at}.labels");
        let letters = |text: &str, allow: fn(char) -> bool| text.chars().all(allow);
        for (name, value) in &all {
            let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let good_name = name.starts_with(first)
                && (3..=65).contains(&name.len())
                && letters(name, |c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if !good_name {
                let message = format!(
                    "label name \"{name}\" is not allowed; 3 to 65 letters, digits, `.`, `_`, `-`, \
                     the first a letter, digit or `_`"
                );
                self.say(Severity::Error, &key, message);
            }
            let good_value = (1..=256).contains(&value.len())
                && letters(value, |c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if !good_value {
                let message = format!(
                    "value \"{value}\" of label \"{name}\" is not allowed; 1 to 256 letters, digits, \
                     `.`, `_`, `-`"
                );
                self.say(Severity::Error, &key, message);
            }
        }
        if all.len() > 32 {
            let message = format!("{} labels, with the global ones; at most 32", all.len());
            self.say(Severity::Error, &key, message);
        }
        all
    }

    fn check_tls(&mut self, at: &str, tls: &TlsFiles) {
        for (name, file) in [
            ("tls-ca-file", &tls.ca),
            ("tls-cert-file", &tls.certificate),
            ("tls-key-file", &tls.key),
        ] {
            let Some(file) = file else { continue };
            if let Err(error) = (self.surroundings.file)(file) {
                // As GitLab Runner does: the system's authorities may be enough, and the file may come.
                let message = format!("cannot read {}: {error}", file.display());
                self.say(Severity::Warning, &format!("{at}.{name}"), message);
            }
        }
        if tls.certificate.is_some() != tls.key.is_some() {
            let message = "tls-cert-file and tls-key-file only work together";
            self.say(Severity::Warning, at, message);
        }
    }

    fn token_life(
        &mut self,
        at: &str,
        obtained: Option<Datetime>,
        expires: Option<Datetime>,
    ) -> Option<TokenLife> {
        let expires = timestamp(expires?)?;
        // GitLab Runner writes year 1 for "never".
        if expires < Timestamp::UNIX_EPOCH {
            return None;
        }
        let obtained = obtained.and_then(timestamp);
        let Some(obtained) = obtained.filter(|obtained| *obtained < expires) else {
            let message = "is not before token_expires_at, so the token is not renewed by itself";
            self.say(Severity::Warning, &format!("{at}.token_obtained_at"), message);
            return None;
        };
        Some(TokenLife { obtained, expires })
    }

    /// `$VAR` and `${VAR}` from the environment, as GitLab Runner does for `url` and `token`.
    fn expand(&self, text: &str) -> String {
        let lookup = |name: &str| (self.surroundings.variable)(name).map(Cow::Owned);
        runner_core::planner::expand(text, lookup).unwrap_or_else(|_| text.to_owned())
    }
}

fn session_server(raw: RawSessionServer) -> SessionServerConfig {
    let path = |file: Option<String>| file.filter(|file| !file.is_empty()).map(PathBuf::from);
    SessionServerConfig {
        listen_address: raw.listen_address.unwrap_or_default(),
        advertise_address: raw.advertise_address.unwrap_or_default(),
        session_timeout: seconds(raw.session_timeout).unwrap_or(Duration::from_secs(1800)),
        certificate_file: path(raw.certificate_file),
        key_file: path(raw.key_file),
    }
}

fn boot_verify(raw: &RawBootVerify) -> Option<Duration> {
    let limit = raw.timeout.and_then(|time| time.positive()).unwrap_or(Duration::from_secs(300));
    (raw.enabled == Some(true)).then_some(limit)
}

fn seconds(value: Option<i64>) -> Option<Duration> {
    value.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.unsigned_abs()))
}

fn timestamp(date: Datetime) -> Option<Timestamp> {
    date.to_string().parse().ok()
}
