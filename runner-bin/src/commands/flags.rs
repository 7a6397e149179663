//! The keys of a `[[runners]]` entry as flags and environment variables, for `register` and
//! `run-single`: how they are read. Which there are stands in [`super::flag_table`].

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use crate::config::GoDuration;

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Flag,
    Duration,
    /// The flag may be repeated; the variable gives one element.
    List,
    /// The same, and the variable's value is split at commas.
    CommaList,
    /// `KEY:VALUE`, repeated.
    Map,
    /// `KEY:true`, repeated.
    FlagMap,
    /// TOML's value as JSON.
    Json,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    /// Where it goes below `[[runners]]`.
    pub(super) path: Vec<String>,
    pub(super) long: String,
    pub(super) short: Option<char>,
    pub(super) aliases: Vec<String>,
    pub(super) variables: Vec<String>,
    pub(super) kind: Kind,
}

impl Flag {
    pub(super) fn new(path: &str, long: &str, variable: &str, kind: Kind) -> Self {
        Self {
            path: path.split('.').map(str::to_owned).collect(),
            long: long.to_owned(),
            short: None,
            aliases: Vec::new(),
            variables: Some(variable)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect(),
            kind,
        }
    }
}

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(super::flag_table::all);

/// The flags of a `[[runners]]` entry, as the table they make.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunnerFlags(pub(crate) Table);

impl clap::Args for RunnerFlags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for RunnerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let variable = |name: &str| std::env::var(name).ok();
        collect(matches, &variable).map(Self).map_err(|message| {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{message}\n"))
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(flag: &'static Flag) -> Arg {
    let mut arg = Arg::new(flag.long.as_str()).long(flag.long.as_str());
    if let Some(short) = flag.short {
        arg = arg.short(short);
    }
    for alias in &flag.aliases {
        arg = arg.visible_alias(alias.as_str());
    }
    let names: Vec<String> = flag.variables.iter().map(|name| format!("[env: {name}]")).collect();
    let help = format!("{} {}", flag.path.join("."), names.join(" "));
    arg = arg.help(help.trim().to_owned());
    match flag.kind {
        // `--flag`, `--flag=true`, `--flag=false`; a word behind it belongs to something else.
        Kind::Flag => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::List | Kind::CommaList | Kind::Map | Kind::FlagMap => arg.action(ArgAction::Append),
        _ => arg.allow_hyphen_values(true),
    }
}

/// Flags first, then variables. An empty variable counts as not set: GitLab Runner takes an empty
/// `KUBERNETES_PRIVILEGED` for true.
fn collect(
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Table, String> {
    let mut table = Table::new();
    for flag in FLAGS.iter() {
        let given: Option<Vec<String>> = matches
            .try_get_many::<String>(&flag.long)
            .ok()
            .flatten()
            .map(|values| values.cloned().collect());
        let from_flag = given.is_some();
        let given = given.or_else(|| {
            let mut names = flag.variables.iter();
            names
                .find_map(|name| variable(name).filter(|text| !text.is_empty()))
                .map(|text| vec![text])
        });
        let Some(given) = given else { continue };
        let source = match from_flag {
            true => format!("--{}", flag.long),
            false => flag.variables.join(" or "),
        };
        let value = value(flag.kind, given).map_err(|problem| format!("{source}: {problem}"))?;
        insert(&mut table, &flag.path, value);
    }
    Ok(table)
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn value(kind: Kind, given: Vec<String>) -> Result<Value, String> {
    let last = || given.last().cloned().unwrap_or_default();
    let flag = |text: &str| match text {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        other => Err(format!("\"{other}\" is not true or false")),
    };
    Ok(match kind {
        Kind::Text => last().into(),
        Kind::Integer => {
            let text = last();
            let number: i64 =
                text.trim().parse().map_err(|_| format!("\"{text}\" is not an integer"))?;
            number.into()
        }
        Kind::Flag => flag(&last())?.into(),
        Kind::Duration => {
            let text = last();
            GoDuration::parse(&text).ok_or_else(|| {
                format!("\"{text}\" is not a duration such as \"90s\" or \"1h30m\"")
            })?;
            text.into()
        }
        Kind::List => given.into(),
        Kind::CommaList => {
            let parts = given.iter().flat_map(|text| text.split(','));
            parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>().into()
        }
        Kind::Map | Kind::FlagMap => {
            let mut map = Table::new();
            for pair in &given {
                let (key, text) = pair
                    .split_once(':')
                    .ok_or_else(|| format!("\"{pair}\" is not of the form KEY:VALUE"))?;
                let value = if kind == Kind::FlagMap { flag(text)?.into() } else { text.into() };
                map.insert(key.to_owned(), value);
            }
            map.into()
        }
        Kind::Json => {
            let json: serde_json::Value =
                serde_json::from_str(&last()).map_err(|error| format!("is not JSON: {error}"))?;
            Value::try_from(json).map_err(|error| error.to_string())?
        }
    })
}

/// Puts into `table` what `template` has and it has not. Empty values count as not there.
pub(crate) fn fill(table: &mut Table, template: &Table) {
    for (key, from) in template {
        match (table.get_mut(key), from) {
            (Some(Value::Table(inner)), Value::Table(from)) => fill(inner, from),
            (Some(known), _) if !is_empty(known) => {}
            _ => {
                table.insert(key.clone(), from.clone());
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Integer(number) => *number == 0,
        Value::Array(list) => list.is_empty(),
        Value::Table(table) => table.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args as _;
    use rstest::rstest;
    use toml::Table;

    use super::{FLAGS, Kind, RunnerFlags, collect, fill};

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Table, String> {
        let command = RunnerFlags::augment_args(clap::Command::new("test"));
        let arguments = std::iter::once("test").chain(arguments.iter().copied());
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        collect(&matches, &|name| {
            variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn manager_43_every_variable_lands_in_its_key() {
        let mut seen = BTreeSet::new();
        for flag in FLAGS.iter() {
            let (text, shown) = match flag.kind {
                Kind::Text => ("x", "\"x\""),
                Kind::Integer => ("7", "7"),
                Kind::Flag => ("true", "true"),
                Kind::Duration => ("5m", "\"5m\""),
                Kind::List | Kind::CommaList => ("x", "[\"x\"]"),
                Kind::Map => ("a:b", "{ a = \"b\" }"),
                Kind::FlagMap => ("a:true", "{ a = true }"),
                Kind::Json => ("[1]", "[1]"),
            };
            let lands = |table: Table| {
                let mut value = toml::Value::Table(table);
                for key in &flag.path {
                    value = value.get(key).unwrap_or_else(|| panic!("{flag:?}")).clone();
                }
                assert_eq!(value.to_string(), shown, "{flag:?}");
            };
            for name in &flag.variables {
                assert!(seen.insert(name.clone()), "{name} is read twice");
                lands(read(&[], &[(name, text)]).unwrap());
                // Empty counts as not set, for every kind.
                assert!(read(&[], &[(name, "")]).unwrap().is_empty(), "{name}");
            }
            lands(read(&[&format!("--{}={text}", flag.long)], &[]).unwrap());
        }
        assert!(seen.len() > 150, "{}", seen.len());
    }

    #[rstest]
    #[case("KUBECTL_CONTEXT", "context")]
    #[case("KUBERNETES_REQUEST_RETRY_LIMIT", "retry_limit")]
    #[case("KUBERNETES_BEARER_TOKEN", "bearer_token")]
    #[case("KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST", "helper_ephemeral_storage_request")]
    #[case("KUBERNETES_POD_CPU_LIMIT_OVERWRITE_MAX_ALLOWED", "pod_cpu_limit_overwrite_max_allowed")]
    fn manager_43_exceptions_of_variables(#[case] name: &str, #[case] key: &str) {
        let table = read(&[], &[(name, "1")]).unwrap();
        assert!(table["kubernetes"].get(key).is_some(), "{table}");
    }

    #[rstest]
    #[case("--kubernetes-namespace_overwrite_allowed=x", "namespace_overwrite_allowed")]
    #[case("--kubernetes-service-ephemeral_storage-limit=1Gi", "service_ephemeral_storage_limit")]
    #[case("--kubernetes-ephemeral-storage-limit=1Gi", "ephemeral_storage_limit")]
    #[case(
        "--kubernetes-build_container_security_context-run-as-user=5",
        "build_container_security_context"
    )]
    fn manager_43_exceptions_of_flags(#[case] flag: &str, #[case] key: &str) {
        let table = read(&[flag], &[]).unwrap();
        assert!(table["kubernetes"].get(key).is_some(), "{table}");
    }

    #[test]
    fn manager_43_what_a_cluster_puts_into_the_environment_is_not_read() {
        let variables = [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_PORT_443_TCP", "x"),
        ];
        assert!(read(&[], &variables).unwrap().is_empty());
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_a_flag_of_a_bool_needs_no_value() {
        let table = read(
            &["--limit", "3", "--kubernetes-privileged", "--env=A=1", "--env=B=2"],
            &[("RUNNER_LIMIT", "9"), ("RUNNER_ENV", "C=3")],
        )
        .unwrap();
        assert_eq!(table["limit"].as_integer(), Some(3));
        assert_eq!(table["kubernetes"]["privileged"].as_bool(), Some(true));
        assert_eq!(table["environment"].as_array().unwrap().len(), 2);
        let table = read(&["--kubernetes-privileged=false"], &[]).unwrap();
        assert_eq!(table["kubernetes"]["privileged"].as_bool(), Some(false));
    }

    #[rstest]
    #[case("RUNNER_LIMIT", "many", "not an integer")]
    #[case("RUNNER_PREPARE_TIMEOUT", "5 min", "not a duration")]
    #[case("KUBERNETES_PRIVILEGED", "yes", "not true or false")]
    #[case("KUBERNETES_NODE_SELECTOR", "a=b", "KEY:VALUE")]
    fn a_value_of_the_wrong_kind_is_named_with_its_variable(
        #[case] name: &str,
        #[case] text: &str,
        #[case] word: &str,
    ) {
        let message = read(&[], &[(name, text)]).unwrap_err();
        assert!(message.contains(name) && message.contains(word), "{message}");
    }

    #[test]
    fn manager_42_a_template_fills_what_is_not_there() {
        let table = |text: &str| toml::from_str::<Table>(text).unwrap();
        let mut own = table(
            "limit = 5\nurl = \"\"\nenvironment = [\"A=1\"]\n[kubernetes]\nimage = \"own\"\nprivileged = false\n",
        );
        fill(
            &mut own,
            &table(
                "limit = 9\nurl = \"https://t\"\nenvironment = [\"B=2\"]\noutput_limit = 7\n[kubernetes]\n\
             image = \"theirs\"\nnamespace = \"ci\"\nprivileged = true\n[kubernetes.pod_labels]\na = \"b\"\n",
            ),
        );
        let expected = table(
            "limit = 5\nurl = \"https://t\"\nenvironment = [\"A=1\"]\noutput_limit = 7\n[kubernetes]\n\
             image = \"own\"\nnamespace = \"ci\"\nprivileged = false\n[kubernetes.pod_labels]\na = \"b\"\n",
        );
        assert_eq!(own, expected);
    }
}
