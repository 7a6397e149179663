//! What has changed between two configurations, for the log line of a reload.

use std::collections::BTreeSet;
use std::fmt;

use toml::{Table, Value};

use super::raw::RawConfig;
use super::shape::{Field, Shape};

/// One key that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which, e.g. `runners.name-of-it.limit`.
    pub(crate) key: String,
    /// From what to what; secrets and tables of others are not shown.
    pub(crate) what: String,
    /// It takes effect with the next start only.
    pub(crate) restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.key, self.what)
    }
}

/// What has changed. Runners are told apart by their names, else by their places.
pub(crate) fn diff(old: &Table, new: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    tables("", old, new, RawConfig::FIELDS, &mut changes);
    changes
}

fn tables(at: &str, old: &Table, new: &Table, fields: &[Field], changes: &mut Vec<Change>) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        let field = fields.iter().find(|field| field.key == key);
        let shape = field.map_or(Shape::Foreign, |field| (field.shape)());
        let restart = field.is_some_and(|field| field.restart);
        let empty = Table::new();
        let table = |value: Option<&Value>| match value {
            Some(Value::Table(table)) => table.clone(),
            _ => empty.clone(),
        };
        match shape {
            Shape::Table(fields) => {
                tables(&path, &table(before), &table(after), fields, changes);
            }
            Shape::Foreign => keys_only(&path, &table(before), &table(after), changes),
            Shape::List(item) if matches!(item(), Shape::Table(_)) => {
                let Shape::Table(fields) = item() else { continue };
                lists(&path, before, after, fields, changes);
            }
            Shape::Secret => {
                changes.push(Change { key: path, what: "has changed".to_owned(), restart });
            }
            _ => {
                let show = |value: Option<&Value>| {
                    value.map_or_else(|| "default".to_owned(), ToString::to_string)
                };
                let what = format!("{} → {}", show(before), show(after));
                changes.push(Change { key: path, what, restart });
            }
        }
    }
}

fn keys_only(at: &str, old: &Table, new: &Table, changes: &mut Vec<Change>) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
        let key = format!("{at}.{key}");
        changes.push(Change { key, what: "has changed".to_owned(), restart: false });
    }
}

fn lists(
    at: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    fields: &[Field],
    changes: &mut Vec<Change>,
) {
    let (old, new) = (named(old), named(new));
    for (name, table) in &new {
        let path = format!("{at}.{name}");
        match old.iter().find(|(other, _)| other == name) {
            Some((_, before)) => tables(&path, before, table, fields, changes),
            None => changes.push(Change { key: path, what: "is new".to_owned(), restart: false }),
        }
    }
    for (name, _) in old.iter().filter(|(name, _)| !new.iter().any(|(other, _)| other == name)) {
        let key = format!("{at}.{name}");
        changes.push(Change { key, what: "is gone".to_owned(), restart: false });
    }
}

fn named(value: Option<&Value>) -> Vec<(String, Table)> {
    let Some(Value::Array(list)) = value else { return Vec::new() };
    let mut named: Vec<(String, Table)> = Vec::new();
    for (index, table) in list.iter().filter_map(Value::as_table).enumerate() {
        let name = table.get("name").and_then(Value::as_str).unwrap_or_default();
        let taken = name.is_empty() || named.iter().any(|(other, _)| other == name);
        let name = if taken { format!("{name}[{index}]") } else { name.to_owned() };
        named.push((name, table.clone()));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::diff;
    use crate::config::tests::read;

    #[test]
    fn manager_25_what_has_changed_is_named_and_secrets_are_not_shown() {
        let old = read(
            "concurrent = 1\nlisten_address = \":1\"\n[[runners]]\nname = \"a\"\ntoken = \"secret-1\"\n\
             [runners.kubernetes]\nbearer_token = \"secret-2\"\n[[runners]]\nname = \"b\"\n",
        );
        let new = read(
            "concurrent = 4\nlisten_address = \":2\"\n[[runners]]\nname = \"c\"\n[[runners]]\nname = \"a\"\n\
             limit = 3\ntoken = \"secret-3\"\n[runners.kubernetes]\nbearer_token = \"secret-4\"\n",
        );
        let changes = diff(&old.table, &new.table);
        let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "concurrent 1 → 4",
                "listen_address \":1\" → \":2\"",
                "runners.c is new",
                "runners.a.kubernetes.bearer_token has changed",
                "runners.a.limit default → 3",
                "runners.a.token has changed",
                "runners.b is gone",
            ]
        );
        let restart: Vec<&str> =
            changes.iter().filter(|c| c.restart).map(|c| c.key.as_str()).collect();
        assert_eq!(restart, ["listen_address"]);
        assert!(diff(&new.table, &new.table).is_empty());
    }
}
