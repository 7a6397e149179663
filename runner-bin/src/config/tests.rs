//! What a `config.toml` means, and what is said about a wrong one.

use std::io;
use std::time::Duration;

use rstest::rstest;

use super::findings::Findings;
use crate::logging::sentry::Dsn;

use super::{Config, LogFormat, LogLevel, Reading, Severity, Surroundings};

const GOOD: &str = r#"
concurrent = 4
[[runners]]
  name = "one"
  url = "https://gitlab.example/"
  token = "$RUNNER_TOKEN"
  executor = "kubernetes"
  limit = 2
  [runners.kubernetes]
    namespace = "ci"
    image = "alpine"
"#;

pub(super) fn read(text: &str) -> Reading {
    let variable = |name: &str| (name == "RUNNER_TOKEN").then(|| "glrt-secret-value".to_owned());
    let file = |path: &std::path::Path| match path.to_str() {
        Some("/there/token") => Ok(" glrt-from-file\n".to_owned()),
        Some("/there/empty") => Ok("\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    super::read(text, &Surroundings { variable: &variable, file: &file })
}

fn good(text: &str) -> (Config, Findings) {
    let reading = read(text);
    (reading.config.unwrap(), reading.findings)
}

#[test]
fn manager_06_a_file_of_gitlab_runner_is_read_and_only_token_and_url_are_expanded() {
    let text = GOOD.replace("\"one\"", "\"$RUNNER_TOKEN\"").replace("$RUNNER", "${RUNNER");
    let text = text.replace("TOKEN\"", "TOKEN}\"");
    let (config, findings) = good(&text);
    assert!(findings.0.is_empty(), "{findings:?}");
    assert_eq!((config.concurrent, config.runners[0].limit), (4, 2));
    assert_eq!(config.runners[0].token.expose(), "glrt-secret-value");
    assert_eq!(config.runners[0].name, "${RUNNER_TOKEN}");
    assert!(!format!("{config:?}").contains("glrt-secret-value"), "secrets do not print");
}

#[test]
fn manager_08_defaults_are_gitlab_runners() {
    let (config, _) = good("");
    assert_eq!(config.concurrent, 1);
    assert_eq!(config.check_interval, Duration::from_secs(3));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.connection_max_age, Some(Duration::from_secs(900)));
    assert_eq!((config.log_level, config.log_format), (None, None));
    let (config, _) = good(GOOD);
    let runner = &config.runners[0];
    assert_eq!(runner.output_limit, 4096 * 1024);
    assert_eq!(runner.request_concurrency, 1);
    assert_eq!(runner.unhealthy_requests_limit, 3);
    assert_eq!(runner.unhealthy_interval, Duration::from_secs(3600));
    assert_eq!(runner.upload_timeout, Duration::from_secs(3600));
    assert!(runner.fault.is_none() && runner.custom_build_dir);
}

#[rstest]
#[case("check_interval = -1", Duration::from_secs(3))]
#[case("check_interval = 10", Duration::from_secs(10))]
fn manager_08_a_check_interval_that_is_not_positive_is_the_default(
    #[case] line: &str,
    #[case] interval: Duration,
) {
    assert_eq!(good(&format!("{line}\n{GOOD}")).0.check_interval, interval);
}

#[test]
fn manager_08_a_connection_age_of_zero_or_less_is_no_age() {
    for age in ["0", "\"-1m\""] {
        let (config, _) = good(&format!("connection_max_age = {age}\n{GOOD}"));
        assert_eq!(config.connection_max_age, None);
    }
}

#[test]
fn manager_03_an_unknown_key_is_a_warning_with_its_line_and_the_name_that_was_meant() {
    let (_, findings) = good(&format!("concurent = 3\n{}", GOOD.replace("image", "imgae")));
    let said: Vec<String> = findings.of(Severity::Warning).map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("line 1: `concurent`"), "{said:?}");
    assert!(said[0].ends_with("did you mean `concurrent`?"), "{said:?}");
    assert!(said[1].contains("line 12") && said[1].contains("`image`"), "{said:?}");
}

#[test]
fn keys_are_found_whatever_their_case_as_gitlab_runner_does() {
    let (config, findings) = good(&GOOD.replace("concurrent", "Concurrent"));
    assert_eq!((config.concurrent, findings.0.len()), (4, 0));
}

#[test]
fn manager_04_tables_of_other_executors_are_accepted_and_such_a_runner_is_left_out() {
    let text = format!(
        "{GOOD}[[runners]]\nname = \"two\"\nurl = \"https://g\"\ntoken = \"t\"\nexecutor = \
         \"docker\"\n[runners.docker]\nimage = \"x\"\nwhatever = [1]\n[runners.machine]\nIdleCount = 1\n"
    );
    let (config, findings) = good(&text);
    assert!(config.runners[0].fault.is_none());
    let fault = config.runners[1].fault.as_deref().unwrap();
    assert!(fault.contains("\"docker\" is not allowed; one of \"kubernetes\""), "{fault}");
    assert_eq!(findings.of(Severity::Note).count(), 2, "{findings:?}");
}

#[test]
fn what_has_no_effect_is_named_with_its_reason_and_empty_values_are_not() {
    let (_, findings) =
        good(&GOOD.replace("limit = 2", "proxy_exec = true\nuse_slot_cgroups = false"));
    let notes: Vec<String> = findings.of(Severity::Note).map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("`runners[0].proxy_exec` has no effect: the agent"), "{notes:?}");
}

#[test]
fn manager_09_labels_of_the_runner_win_over_the_global_ones() {
    let text = GOOD.replace("  limit = 2", "  labels = { zone = \"b\" }");
    let (config, _) = good(&format!("labels = {{ zone = \"a\", team = \"x\" }}\n{text}"));
    let labels = &config.runners[0].labels;
    assert_eq!((labels["zone"].as_str(), labels["team"].as_str()), ("b", "x"));
}

#[test]
fn a_token_may_come_from_a_file() {
    let text = GOOD.replace("token = \"$RUNNER_TOKEN\"", "token_file = \"/there/token\"");
    assert_eq!(good(&text).0.runners[0].token.expose(), "glrt-from-file");
}

#[test]
fn a_token_that_expires_is_renewed_after_three_quarters_of_its_life() {
    let dates = "token_obtained_at = 2026-01-01T00:00:00Z\ntoken_expires_at = 2026-01-05T00:00:00Z";
    let (config, _) = good(&GOOD.replace("limit = 2", dates));
    let life = config.runners[0].token_life.unwrap();
    assert_eq!(life.renew_at().to_string(), "2026-01-04T00:00:00Z");
    let never = "token_obtained_at = 2026-01-01T00:00:00Z\ntoken_expires_at = 0001-01-01T00:00:00Z";
    assert_eq!(good(&GOOD.replace("limit = 2", never)).0.runners[0].token_life, None);
}

#[test]
fn manager_10_a_dsn_that_is_written_wins_over_the_environments_even_an_empty_one() {
    let of = |text: &str| {
        let variable = |name: &str| (name == "SENTRY_DSN").then(|| "https://a@b/1".to_owned());
        let file = |_: &std::path::Path| Err(io::Error::from(io::ErrorKind::NotFound));
        super::read(text, &Surroundings { variable: &variable, file: &file })
    };
    let dsn = |text: &str| of(text).config.unwrap().sentry_dsn;
    assert_eq!(dsn(""), Dsn::parse("https://a@b/1"));
    assert_eq!(dsn("sentry_dsn = \"\""), None);
    assert_eq!(dsn("sentry_dsn = \"https://c@d/2\""), Dsn::parse("https://c@d/2"));
    let reading = of("sentry_dsn = \"sentry.example\"");
    assert!(reading.findings.0[0].to_string().contains("line 1: `sentry_dsn`: is not a DSN"));
    assert_eq!(reading.config.unwrap().sentry_dsn, None);
}

#[test]
fn log_settings_are_read() {
    let (config, _) = good(&format!("log_level = \"warning\"\nlog_format = \"json\"\n{GOOD}"));
    assert_eq!(config.log_level, Some(LogLevel::Warn));
    assert_eq!(config.log_format, Some(LogFormat::Json));
}

/// A mistake: what to write instead of what, how bad that is, on which line, and what is said.
#[rstest]
// The file cannot be used.
#[case("concurrent = 4", "concurrent = 0", Severity::Error, 2, "at least 1")]
#[case("concurrent = 4", "concurrent = -5", Severity::Error, 2, "at least 1")]
#[case("concurrent = 4", "concurrent = \"many\"", Severity::Error, 2, "an integer")]
#[case("concurrent = 4", "concurrent = 1.5", Severity::Error, 2, "a float is not an integer")]
#[case("concurrent = 4", "concurrent = ", Severity::Error, 2, "")]
#[case("concurrent = 4", "concurrent = 1\nconcurrent = 2", Severity::Error, 3, "duplicate")]
#[case("concurrent = 4", "log_format = \"xml\"", Severity::Error, 2, "\"json\"")]
#[case("concurrent = 4", "log_level = \"loud\"", Severity::Error, 2, "\"debug\"")]
#[case("concurrent = 4", "check_interval = \"3s\"", Severity::Error, 2, "an integer")]
#[case("concurrent = 4", "connection_max_age = \"15 m\"", Severity::Error, 2, "1h30m")]
#[case("concurrent = 4", "connection_max_age = true", Severity::Error, 2, "1h30m")]
#[case("concurrent = 4", "listen_address = 9252", Severity::Error, 2, "a string in quotes")]
#[case("concurrent = 4", "on_terminate = \"wait\"", Severity::Error, 2, "\"leave\", \"stop\"")]
#[case("concurrent = 4", "session_server = true", Severity::Error, 2, "a table")]
#[case("concurrent = 4", "labels = [\"a\"]", Severity::Error, 2, "an array is not a table")]
#[case("concurrent = 4", "[runners", Severity::Error, 2, "")]
#[case("limit = 2", "limit = \"two\"", Severity::Error, 8, "`runners[0].limit`")]
#[case("limit = 2", "environment = \"A=b\"", Severity::Error, 8, "a list")]
#[case("limit = 2", "environment = [\"A=b\", 3]", Severity::Error, 8, "environment[1]")]
#[case("limit = 2", "labels = { ab = \"x\" }", Severity::Error, 8, "\"ab\" is not allowed; 3 to")]
#[case("limit = 2", "labels = { abc = \"a b\" }", Severity::Error, 8, "\"a b\"")]
#[case("limit = 2", "labels = { abc = \"\" }", Severity::Error, 8, "1 to 256")]
#[case("limit = 2", "labels = { abc = 3 }", Severity::Error, 8, "labels.abc")]
#[case("limit = 2", "feature_flags = { FF_X = \"yes\" }", Severity::Error, 8, "true or false")]
#[case("limit = 2", "token_expires_at = \"soon\"", Severity::Error, 8, "2026-11-20T00:00:00Z")]
#[case("limit = 2", "unhealthy_interval = \"60 min\"", Severity::Error, 8, "\"60 min\" is not a")]
#[case("limit = 2", "strict_check_interval = 1", Severity::Error, 8, "true or false")]
#[case("image = \"alpine\"", "image = 3", Severity::Error, 11, "kubernetes.image")]
#[case("image = \"alpine\"", "privileged = \"yes\"", Severity::Error, 11, "kubernetes.privileged")]
// The runner cannot be used.
#[case("executor = \"kubernetes\"", "executor = \"docker\"", Severity::Fault, 7, "\"kubernetes\"")]
#[case("executor = \"kubernetes\"", "", Severity::Fault, 0, "kubernetes")]
#[case("https://gitlab.example/", "gitlab.example", Severity::Fault, 5, "http://")]
#[case("https://gitlab.example/", "$NOT_SET", Severity::Fault, 5, "http://")]
#[case("$RUNNER_TOKEN", "$NOT_SET", Severity::Fault, 6, "$NOT_SET is not set")]
#[case("$RUNNER_TOKEN", " ", Severity::Fault, 6, "glrt-")]
#[case("token = \"$RUNNER_TOKEN\"", "token_file = \"/no/such\"", Severity::Fault, 6, "/no/such")]
#[case(
    "token = \"$RUNNER_TOKEN\"",
    "token_file = \"/there/empty\"",
    Severity::Fault,
    6,
    "is empty"
)]
#[case("limit = 2", "shell = \"powershell\"", Severity::Fault, 8, "\"bash\", \"sh\", \"pwsh\"")]
#[case("image = \"alpine\"", "cpu_limit = \"lots\"", Severity::Fault, 11, "quantity")]
#[case("image = \"alpine\"", "pull_policy = \"often\"", Severity::Fault, 11, "often")]
// Probably not what was meant.
#[case("limit = 2", "limit = -1", Severity::Warning, 8, "counts as 0")]
#[case("limit = 2", "output_limit = -1", Severity::Warning, 8, "counts as 0")]
#[case("limit = 2", "request_concurrency = 9", Severity::Warning, 0, "`concurrent` 4")]
#[case("limit = 2", "environment = [\"A\"]", Severity::Warning, 8, "KEY=value")]
#[case("limit = 2", "prepare_timeout = \"-1s\"", Severity::Warning, 8, "timeout")]
#[case("limit = 2", "tls-ca-file = \"/no/such\"", Severity::Warning, 8, "/no/such")]
#[case("limit = 2", "tls_ca_file = \"/no/such\"", Severity::Warning, 8, "`tls-ca-file`")]
#[case("https://gitlab.example/", "https://gitlab.example/ci", Severity::Warning, 5, "/ci")]
fn manager_05_a_mistake_is_named_with_key_line_and_what_is_allowed(
    #[case] good: &str,
    #[case] bad: &str,
    #[case] severity: Severity,
    #[case] line: usize,
    #[case] word: &str,
) {
    assert!(GOOD.contains(good));
    let reading = read(&GOOD.replace(good, bad));
    let found: Vec<_> = reading.findings.of(severity).collect();
    let fits = found
        .iter()
        .any(|finding| finding.message.contains(word) && (line == 0 || finding.line == Some(line)));
    assert!(fits, "{:?}", reading.findings);
    assert!(reading.findings.0.iter().all(|finding| finding.severity <= severity));
    assert_eq!(reading.config.is_none(), severity == Severity::Error);
    if let Some(config) = reading.config {
        assert_eq!(config.runners[0].fault.is_some(), severity == Severity::Fault);
    }
}

#[test]
fn manager_09_more_than_32_labels_are_refused() {
    let labels: Vec<String> = (0..33).map(|number| format!("label{number} = \"x\"")).collect();
    let reading =
        read(&GOOD.replace("limit = 2", &format!("labels = {{ {} }}", labels.join(", "))));
    assert!(reading.config.is_none());
    assert!(reading.findings.0[0].message.contains("33 labels"), "{:?}", reading.findings);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = GOOD
        .replace("concurrent = 4", "concurrent = 0\nlog_level = \"x\"")
        .replace("limit = 2", "limit = \"x\"");
    assert_eq!(read(&text).findings.of(Severity::Error).count(), 3);
}
