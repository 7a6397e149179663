//! The mistakes: what somebody wrote instead of what, where it is, and what has to be said about it.

/// A configuration that is right. `URL` and `TOKEN` stand for GitLab's.
pub(crate) const GOOD: &str = r#"concurrent = 4
check_interval = 3
[[runners]]
  name = "one"
  url = "URL"
  token = "TOKEN"
  executor = "kubernetes"
  limit = 2
  [runners.kubernetes]
    namespace = "ci"
    image = "alpine"
"#;

/// One mistake.
pub(crate) struct Mistake {
    /// The line of [`GOOD`] that is written wrongly.
    instead_of: &'static str,
    write: &'static str,
    /// Where it is found, from 1; 0: nowhere in particular.
    pub(crate) line: usize,
    /// The key, what is wrong, and what is allowed.
    pub(crate) says: &'static [&'static str],
}

impl Mistake {
    /// The whole file with the mistake in it.
    pub(crate) fn file(&self) -> String {
        assert!(GOOD.contains(self.instead_of), "{}", self.instead_of);
        GOOD.replacen(self.instead_of, self.write, 1)
    }

    /// Whether this line of output names it.
    pub(crate) fn is_named_in(&self, output: &str) -> bool {
        let line = format!("line {}: ", self.line);
        let here = |text: &str| self.says.iter().all(|word| text.contains(word));
        output.lines().any(|text| (self.line == 0 || text.contains(&line)) && here(text))
    }
}

const fn wrong(
    instead_of: &'static str,
    write: &'static str,
    line: usize,
    says: &'static [&'static str],
) -> Mistake {
    Mistake { instead_of, write, line, says }
}

const CONCURRENT: &str = "concurrent = 4";
const LIMIT: &str = "limit = 2";
const IMAGE: &str = "image = \"alpine\"";

/// The file cannot be used.
pub(crate) const ERRORS: &[Mistake] = &[
    // Not TOML.
    wrong(CONCURRENT, "concurrent = ", 1, &[]),
    wrong(CONCURRENT, "concurrent 4", 1, &[]),
    wrong(CONCURRENT, "concurrent = 4\nconcurrent = 5", 2, &["duplicate"]),
    wrong("[[runners]]", "[[runners]", 3, &[]),
    wrong("\"one\"", "\"one", 4, &[]),
    // Found where the next line begins.
    wrong(LIMIT, "environment = [\"A=b\"", 9, &["`,`"]),
    wrong("\"alpine\"", "alpine", 11, &[]),
    wrong("[[runners]]", "[runners]", 3, &["runners", "a list"]),
    // Values that are not possible.
    wrong(CONCURRENT, "concurrent = 0", 1, &["`concurrent`", "at least 1"]),
    wrong(CONCURRENT, "concurrent = -3", 1, &["`concurrent`", "at least 1"]),
    wrong(CONCURRENT, "log_level = \"loud\"", 1, &["`log_level`", "\"loud\"", "\"debug\""]),
    wrong(CONCURRENT, "log_format = \"xml\"", 1, &["`log_format`", "\"json\"", "\"runner\""]),
    wrong(
        CONCURRENT,
        "on_terminate = \"wait\"",
        1,
        &["`on_terminate`", "one of \"leave\", \"stop\""],
    ),
    // Other kinds of values.
    wrong(CONCURRENT, "concurrent = \"4\"", 1, &["`concurrent`", "a string is not an integer"]),
    wrong(CONCURRENT, "concurrent = 1.5", 1, &["`concurrent`", "a float is not an integer"]),
    wrong("check_interval = 3", "check_interval = \"3s\"", 2, &["`check_interval`", "an integer"]),
    wrong(CONCURRENT, "listen_address = 9252", 1, &["`listen_address`", "a string in quotes"]),
    wrong(CONCURRENT, "connection_max_age = \"15 m\"", 1, &["`connection_max_age`", "1h30m"]),
    wrong(CONCURRENT, "session_server = true", 1, &["`session_server`", "a table"]),
    wrong(CONCURRENT, "labels = [\"a\"]", 1, &["`labels`", "an array is not a table"]),
    wrong(LIMIT, "limit = \"two\"", 8, &["`runners[0].limit`", "an integer"]),
    wrong(LIMIT, "limit = true", 8, &["`runners[0].limit`", "an integer"]),
    wrong(LIMIT, "output_limit = \"4M\"", 8, &["`runners[0].output_limit`", "an integer"]),
    wrong(LIMIT, "environment = \"A=b\"", 8, &["`runners[0].environment`", "a list"]),
    wrong(LIMIT, "environment = [\"A=b\", 3]", 8, &["environment[1]", "a string in quotes"]),
    wrong(LIMIT, "unhealthy_interval = \"60 min\"", 8, &["`runners[0].unhealthy_interval`", "1h"]),
    wrong(LIMIT, "strict_check_interval = 1", 8, &["strict_check_interval", "true or false"]),
    wrong(LIMIT, "feature_flags = { FF_X = \"on\" }", 8, &["feature_flags.FF_X", "true or false"]),
    wrong(LIMIT, "token_expires_at = \"soon\"", 8, &["token_expires_at", "2026-11-20T00:00:00Z"]),
    wrong(LIMIT, "id = \"7\"", 8, &["`runners[0].id`", "an integer"]),
    wrong(LIMIT, "tls-ca-file = [\"a\"]", 8, &["tls-ca-file", "a string in quotes"]),
    wrong(LIMIT, "cache = \"s3\"", 8, &["`runners[0].cache`", "a table"]),
    wrong(IMAGE, "image = 3", 11, &["`runners[0].kubernetes.image`", "a string in quotes"]),
    wrong(IMAGE, "privileged = \"yes\"", 11, &["kubernetes.privileged", "true or false"]),
    wrong(IMAGE, "cpu_limit = 2", 11, &["kubernetes.cpu_limit", "a string in quotes"]),
    wrong(IMAGE, "poll_timeout = \"3m\"", 11, &["kubernetes.poll_timeout", "an integer"]),
    wrong(IMAGE, "pull_policy = 3", 11, &["kubernetes.pull_policy", "a list of strings"]),
    wrong(IMAGE, "node_selector = \"a=b\"", 11, &["kubernetes.node_selector", "a table"]),
    // Labels, which GitLab would refuse.
    wrong(LIMIT, "labels = { ab = \"x\" }", 8, &["runners[0].labels", "\"ab\"", "3 to 65"]),
    wrong(LIMIT, "labels = { abc = \"a b\" }", 8, &["runners[0].labels", "\"a b\"", "1 to 256"]),
    wrong(LIMIT, "labels = { abc = 3 }", 8, &["labels.abc", "a string in quotes"]),
];

/// The runner cannot be used; others could.
pub(crate) const FAULTS: &[Mistake] = &[
    wrong("\"kubernetes\"", "\"docker\"", 7, &["runners[0].executor", "\"docker\"", "kubernetes"]),
    wrong("\"kubernetes\"", "\"kubernets\"", 7, &["runners[0].executor", "one of \"kubernetes\""]),
    wrong("  executor = \"kubernetes\"\n", "", 0, &["runners[0].executor", "write \"kubernetes\""]),
    wrong("\"URL\"", "\"gitlab.example\"", 5, &["runners[0].url", "http:// or https://"]),
    wrong("\"URL\"", "\"$NOT_SET_ANYWHERE\"", 5, &["runners[0].url", "http:// or https://"]),
    wrong("\"TOKEN\"", "\"$NOT_SET_ANYWHERE\"", 6, &["runners[0].token", "$NOT_SET_ANYWHERE"]),
    wrong("\"TOKEN\"", "\"\"", 6, &["runners[0].token", "is empty", "glrt-"]),
    wrong("token = \"TOKEN\"", "token_file = \"/no/such\"", 6, &["token_file", "/no/such"]),
    wrong(LIMIT, "shell = \"powershell\"", 8, &["runners[0].shell", "\"bash\", \"sh\", \"pwsh\""]),
    wrong(IMAGE, "cpu_limit = \"lots\"", 11, &["kubernetes.cpu_limit", "\"lots\"", "quantity"]),
    wrong(IMAGE, "memory_limit = \"1GB\"", 11, &["kubernetes.memory_limit", "\"1GB\"", "quantity"]),
    wrong(
        IMAGE,
        "pull_policy = \"often\"",
        11,
        &["kubernetes.pull_policy", "always, if-not-present, never"],
    ),
    wrong(IMAGE, "namespace_overwrite_allowed = \"ci-(\"", 11, &["overwrite_allowed", "unclosed"]),
    wrong(
        IMAGE,
        "cpu_limit = \"1\"\n    cpu_request = \"2\"",
        12,
        &["kubernetes.cpu_request", "at most cpu_limit, 1"],
    ),
    wrong(
        IMAGE,
        "pod_termination_grace_period_seconds = -1",
        11,
        &["pod_termination_grace_period_seconds", "0 or more"],
    ),
];
