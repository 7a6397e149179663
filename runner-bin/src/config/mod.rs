//! Reading `config.toml`: from text to something that cannot be wrong.
//!
//! All mistakes are collected and reported together, each with its key and line, so that an operator
//! mends five of them in one go.

mod lines;
mod raw;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use runner_core::secret::Secret;

use lines::{line_of, parse_path};
use raw::{RawConfig, RawRunner};

/// A configuration that `run` can work with.
#[derive(Debug)]
pub(crate) struct Config {
    /// Most jobs at once over all runners.
    pub(crate) concurrent: usize,
    /// Pause between two requests for a job.
    pub(crate) check_interval: Duration,
    /// Least severe log lines that are written.
    pub(crate) log_level: Option<String>,
    /// `text` or `json`.
    pub(crate) log_format: LogFormat,
    /// At least one.
    pub(crate) runners: Vec<RunnerConfig>,
}

/// One `[[runners]]` entry.
#[derive(Debug)]
pub(crate) struct RunnerConfig {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) clone_url: Option<String>,
    pub(crate) token: Secret,
    /// PEM text of `tls-ca-file`.
    pub(crate) tls_ca: Option<String>,
    /// The file itself: it is read again when it changes.
    pub(crate) tls_ca_file: Option<String>,
    pub(crate) limit: usize,
    pub(crate) output_limit: u64,
    pub(crate) environment: Vec<String>,
    pub(crate) builds_dir: Option<String>,
    pub(crate) cache_dir: Option<String>,
    pub(crate) pre_build_script: Option<String>,
    pub(crate) post_build_script: Option<String>,
    pub(crate) debug_trace_disabled: bool,
    pub(crate) feature_flags: BTreeMap<String, bool>,
    pub(crate) kubernetes: toml::Table,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people. GitLab Runner's `runner` format counts as this.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything that is wrong with a file, or worth a warning.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What stops `run`.
    pub(crate) errors: Vec<Finding>,
    /// What has no effect.
    pub(crate) warnings: Vec<Finding>,
}

/// One of the [`Findings`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Line in the file, from 1.
    pub(crate) line: Option<usize>,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "line {line}: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

/// What the environment and the file system say; a map in tests.
pub(crate) struct Surroundings<'a> {
    /// Value of an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Content of a file.
    pub(crate) file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// Reads a configuration.
///
/// # Errors
/// All mistakes that were found; warnings come along in either case.
pub(crate) fn parse(
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<(Config, Vec<Finding>), Findings> {
    let mut findings = Findings::default();
    let raw = match deserialize(text, &mut findings) {
        Ok(raw) => raw,
        Err(finding) => {
            findings.errors.push(finding);
            return Err(findings);
        }
    };
    let mut check = Check { text, surroundings, findings };
    let config = check.config(raw);
    match config {
        Some(config) if check.findings.errors.is_empty() => Ok((config, check.findings.warnings)),
        _ => Err(check.findings),
    }
}

fn deserialize(text: &str, findings: &mut Findings) -> Result<RawConfig, Finding> {
    let plain = |error: toml::de::Error| Finding {
        line: error.span().map(|span| text[..span.start].matches('\n').count() + 1),
        message: error.message().to_owned(),
    };
    let mut unknown = Vec::new();
    let deserializer = toml::Deserializer::parse(text).map_err(plain)?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let raw: Result<RawConfig, _> =
        serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    for path in unknown {
        let steps = parse_path(&path);
        findings.warnings.push(Finding {
            line: line_of(text, &steps),
            message: format!("`{path}` is not known here and has no effect"),
        });
    }
    raw.map_err(|error| {
        let path = track.path().to_string();
        let mut finding = plain(error);
        finding.line = line_of(text, &parse_path(&path)).or(finding.line);
        finding.message = format!("`{path}`: {}", finding.message);
        finding
    })
}

struct Check<'a> {
    text: &'a str,
    surroundings: &'a Surroundings<'a>,
    findings: Findings,
}

impl Check<'_> {
    fn error(&mut self, path: &str, message: impl fmt::Display) {
        let line = line_of(self.text, &parse_path(path));
        self.findings.errors.push(Finding { line, message: format!("`{path}`: {message}") });
    }

    fn config(&mut self, raw: RawConfig) -> Option<Config> {
        let concurrent = raw.concurrent.unwrap_or(1);
        if concurrent < 1 {
            self.error(
                "concurrent",
                format_args!("{concurrent} is not allowed; at least 1 is needed"),
            );
        }
        let log_format = match raw.log_format.as_deref() {
            None | Some("runner" | "text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                self.error(
                    "log_format",
                    format_args!(
                        "\"{other}\" is not allowed; one of \"runner\", \"text\", \"json\""
                    ),
                );
                LogFormat::Text
            }
        };
        let log_level = match raw.log_level.as_deref() {
            None => None,
            Some("panic" | "fatal" | "error") => Some("error"),
            Some("warn" | "warning") => Some("warn"),
            Some("info") => Some("info"),
            Some("debug") => Some("debug"),
            Some("trace") => Some("trace"),
            Some(other) => {
                self.error(
                    "log_level",
                    format_args!(
                        "\"{other}\" is not allowed; one of \"panic\", \"fatal\", \"error\", \"warn\", \"warning\", \"info\", \"debug\", \"trace\""
                    ),
                );
                None
            }
        };
        if raw.runners.is_empty() {
            self.findings.errors.push(Finding {
                line: None,
                message: "there is no [[runners]] entry, so there is nothing to run".to_owned(),
            });
        }
        let count = raw.runners.len();
        let runners: Vec<_> = raw
            .runners
            .into_iter()
            .enumerate()
            .filter_map(|(index, runner)| self.runner(index, runner))
            .collect();
        (runners.len() == count).then(|| Config {
            concurrent: usize::try_from(concurrent).unwrap_or(1),
            check_interval: match raw.check_interval {
                Some(seconds) if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
                _ => Duration::from_secs(3),
            },
            log_level: log_level.map(str::to_owned),
            log_format,
            runners,
        })
    }

    fn runner(&mut self, index: usize, raw: RawRunner) -> Option<RunnerConfig> {
        let key = |name: &str| format!("runners[{index}].{name}");
        let name = raw.name.unwrap_or_else(|| format!("runner-{index}"));
        match raw.executor.as_deref() {
            Some("kubernetes") => {}
            Some(other) => self.error(
                &key("executor"),
                format_args!(
                    "\"{other}\" is not supported; Podwright runs jobs with \"kubernetes\" only"
                ),
            ),
            None => self
                .error(&key("executor"), "is missing; \"kubernetes\" is the one that is supported"),
        }
        let url = self.expand(raw.url.as_deref().unwrap_or_default());
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            self.error(
                &key("url"),
                format_args!("\"{url}\" is not a URL that begins with http:// or https://"),
            );
        }
        let token = self.expand(raw.token.as_ref().map_or("", Secret::expose).trim());
        if token.is_empty() {
            self.error(
                &key("token"),
                "is empty; without a runner authentication token (glrt-…) GitLab gives no job",
            );
        }
        let tls_ca = raw.tls_ca_file.as_ref().and_then(|file| {
            match (self.surroundings.file)(Path::new(file)) {
                Ok(pem) => Some(pem),
                Err(error) => {
                    self.error(&key("tls-ca-file"), format_args!("cannot read {file}: {error}"));
                    None
                }
            }
        });
        let limit = self.not_negative(&key("limit"), raw.limit);
        let output_limit = match self.not_negative(&key("output_limit"), raw.output_limit) {
            0 => 4096,
            kib => kib,
        };
        Some(RunnerConfig {
            name,
            url,
            clone_url: raw.clone_url,
            token: Secret::new(token),
            tls_ca,
            tls_ca_file: raw.tls_ca_file,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            output_limit: output_limit.saturating_mul(1024),
            environment: raw.environment,
            builds_dir: raw.builds_dir,
            cache_dir: raw.cache_dir,
            pre_build_script: raw.pre_build_script,
            post_build_script: raw.post_build_script,
            debug_trace_disabled: raw.debug_trace_disabled.unwrap_or(false),
            feature_flags: raw.feature_flags,
            kubernetes: raw.kubernetes.unwrap_or_default(),
        })
    }

    fn not_negative(&mut self, key: &str, value: Option<i64>) -> u64 {
        let value = value.unwrap_or(0);
        if value < 0 {
            self.error(key, format_args!("{value} is not allowed; 0 (the default) or more"));
        }
        value.max(0).unsigned_abs()
    }

    /// `$VAR` and `${VAR}` from the environment, as GitLab Runner does for `url` and `token`.
    fn expand(&self, text: &str) -> String {
        let lookup = |name: &str| (self.surroundings.variable)(name).map(Cow::Owned);
        runner_core::planner::expand(text, lookup).unwrap_or_else(|_| text.to_owned())
    }
}

impl Config {
    /// What the file means, in a few lines without secrets.
    pub(crate) fn summary(&self) -> String {
        use std::fmt::Write;
        let Self { concurrent, check_interval, log_level, log_format, runners } = self;
        let mut text = format!(
            "{} runner(s), {concurrent} job(s) at once, a request for a job every {} s, log: {} as {log_format:?}",
            runners.len(),
            check_interval.as_secs(),
            log_level.as_deref().unwrap_or("info"),
        );
        for runner in runners {
            let RunnerConfig {
                name,
                url,
                clone_url,
                token,
                tls_ca,
                tls_ca_file: _,
                limit,
                output_limit,
                environment,
                builds_dir,
                cache_dir,
                pre_build_script,
                post_build_script,
                debug_trace_disabled,
                feature_flags,
                kubernetes,
            } = runner;
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n  {name}: {url} (token {}), clone from {}, {}, limit {limit}, log up to {} KiB, \
                 {} variable(s), builds in {}, cache in {}, {} before and {} after each script, \
                 debug traces {}, {} feature flag(s), {} key(s) of [runners.kubernetes]",
                runner_gitlab::short_token(token.expose()),
                clone_url.as_deref().unwrap_or("there"),
                if tls_ca.is_some() { "own CA" } else { "system CAs" },
                output_limit / 1024,
                environment.len(),
                builds_dir.as_deref().unwrap_or("/builds"),
                cache_dir.as_deref().unwrap_or("/cache"),
                if pre_build_script.is_some() { "a script" } else { "nothing" },
                if post_build_script.is_some() { "a script" } else { "nothing" },
                if *debug_trace_disabled { "forbidden" } else { "allowed" },
                feature_flags.len(),
                kubernetes.len(),
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rstest::rstest;

    use super::{Config, Finding, Findings, Surroundings, parse};

    const GOOD: &str = r#"
concurrent = 4
[[runners]]
  name = "one"
  url = "https://gitlab.example/"
  token = "$RUNNER_TOKEN"
  executor = "kubernetes"
  limit = 2
  [runners.kubernetes]
    image = "alpine"
"#;

    fn read(text: &str) -> Result<(Config, Vec<Finding>), Findings> {
        let variable =
            |name: &str| (name == "RUNNER_TOKEN").then(|| "glrt-secret-value".to_owned());
        let file = |_: &std::path::Path| Err(io::Error::from(io::ErrorKind::NotFound));
        parse(text, &Surroundings { variable: &variable, file: &file })
    }

    #[test]
    fn manager_a_file_of_gitlab_runner_is_read() {
        let (config, warnings) = read(GOOD).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((config.concurrent, config.runners[0].limit), (4, 2));
        assert_eq!(config.runners[0].token.expose(), "glrt-secret-value");
        assert_eq!(config.runners[0].output_limit, 4 << 20);
        assert!(!config.summary().contains("glrt-secret-value"));
    }

    #[test]
    fn an_unknown_key_is_a_warning_with_its_line() {
        let (_, warnings) = read(&format!("concurent = 3\n{GOOD}")).unwrap();
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].line, Some(1));
        assert!(warnings[0].message.contains("concurent"), "{:?}", warnings[0]);
    }

    #[rstest]
    #[case("concurrent = 4", "concurrent = 0", 2, "concurrent")]
    #[case("concurrent = 4", "concurrent = \"many\"", 2, "concurrent")]
    #[case("limit = 2", "limit = -1", 8, "limit")]
    #[case("executor = \"kubernetes\"", "executor = \"docker\"", 7, "kubernetes")]
    #[case("https://gitlab.example/", "gitlab.example", 5, "http")]
    #[case("$RUNNER_TOKEN", "$NOT_SET", 6, "token")]
    #[case("limit = 2", "tls-ca-file = \"/no/such\"", 8, "/no/such")]
    #[case("concurrent = 4", "log_format = \"xml\"", 2, "json")]
    #[case("concurrent = 4", "log_level = \"loud\"", 2, "debug")]
    #[case("concurrent = 4", "concurrent = ", 2, "")]
    fn a_mistake_is_named_with_its_line(
        #[case] good: &str,
        #[case] bad: &str,
        #[case] line: usize,
        #[case] word: &str,
    ) {
        let findings = read(&GOOD.replace(good, bad)).unwrap_err();
        assert_eq!(findings.errors.len(), 1, "{findings:?}");
        assert_eq!(findings.errors[0].line, Some(line), "{findings:?}");
        assert!(findings.errors[0].message.contains(word), "{findings:?}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text =
            GOOD.replace("concurrent = 4", "concurrent = 0").replace("limit = 2", "limit = -3");
        assert_eq!(read(&text).unwrap_err().errors.len(), 2);
        assert_eq!(read("").unwrap_err().errors.len(), 1);
    }
}
