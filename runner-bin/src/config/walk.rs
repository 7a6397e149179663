//! Compares a document with the tables it should consist of: unknown keys, wrong types, values that
//! are not among those allowed, keys that do nothing here. Everything that is wrong is found in one
//! go, with its line.

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::duration::GoDuration;
use super::findings::{Findings, Severity, listed, nearest};
use super::raw::RawConfig;
use super::shape::{Field, Shape};

/// The document with keys in their proper spelling and without what is unknown or mistyped.
pub(super) fn walk(text: &str, findings: &mut Findings) -> Option<Table> {
    let refuse = |error: &toml::de::Error, findings: &mut Findings| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        findings.push(Severity::Error, line, error.message().trim_end().to_owned());
    };
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            refuse(&error, findings);
            return None;
        }
    };
    let values: Table = match toml::from_str(text) {
        Ok(values) => values,
        Err(error) => {
            refuse(&error, findings);
            return None;
        }
    };
    let mut walker = Walker { text, findings };
    let here = Place { path: String::new(), runner: false, idle: false };
    Some(walker.table(document.get_ref(), values, RawConfig::FIELDS, &here))
}

struct Walker<'a> {
    text: &'a str,
    findings: &'a mut Findings,
}

/// Where in the document.
#[derive(Clone, Debug)]
struct Place {
    path: String,
    /// Inside a `[[runners]]` entry, where a bad value costs only that runner.
    runner: bool,
    /// Inside something that has no effect: a bad value there does no harm.
    idle: bool,
}

impl Place {
    fn key(&self, key: &str) -> Self {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, ..self.clone() }
    }

    fn index(&self, index: usize) -> Self {
        let runner = self.runner || self.path == "runners";
        Self { path: format!("{}[{index}]", self.path), runner, ..self.clone() }
    }

    fn bad_value(&self) -> Severity {
        match (self.idle, self.runner) {
            (true, _) => Severity::Warning,
            (false, true) => Severity::Fault,
            (false, false) => Severity::Error,
        }
    }
}

impl Walker<'_> {
    fn line(&self, at: usize) -> Option<usize> {
        Some(self.text[..at.min(self.text.len())].matches('\n').count() + 1)
    }

    fn table(
        &mut self,
        document: &DeTable<'_>,
        mut values: Table,
        fields: &'static [Field],
        here: &Place,
    ) -> Table {
        let mut proper = Table::new();
        for (key, inner) in document {
            let (at, key) = (self.line(key.span().start), key.get_ref().as_ref());
            let Some(value) = values.remove(key) else { continue };
            let place = here.key(key);
            let Some(field) = Shape::Table(fields).field(key) else {
                let names = fields.iter().map(|field| field.key);
                let meant = nearest(key, names)
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                self.findings.push(
                    Severity::Warning,
                    at,
                    format!("`{}` is not known and has no effect{meant}", place.path),
                );
                continue;
            };
            let mut place = Place { idle: here.idle || field.ignored.is_some(), ..place };
            if let Some(why) = field.ignored.filter(|_| !here.idle && matters(&value)) {
                let text = format!("`{}` has no effect: {why}", place.path);
                self.findings.push(Severity::Note, at, text);
            }
            place.runner = here.runner;
            if let Some(value) = self.value(inner.get_ref(), value, (field.shape)(), &place, at) {
                self.check_allowed(field, &value, &place, at);
                proper.insert(field.key.to_owned(), value);
            }
        }
        proper
    }

    fn check_allowed(&mut self, field: &Field, value: &Value, place: &Place, at: Option<usize>) {
        let Value::String(text) = value else { return };
        if field.allowed.is_empty() || text.is_empty() || field.allowed.contains(&text.as_str()) {
            return;
        }
        let message = format!(
            "`{}`: \"{text}\" is not allowed; one of {}",
            place.path,
            listed(field.allowed)
        );
        self.findings.push(place.bad_value(), at, message);
    }

    /// The value, if it is of this shape.
    fn value(
        &mut self,
        document: &DeValue<'_>,
        value: Value,
        shape: Shape,
        place: &Place,
        at: Option<usize>,
    ) -> Option<Value> {
        match (shape, document, value) {
            (Shape::Table(fields), DeValue::Table(inner), Value::Table(values)) => {
                Some(Value::Table(self.table(inner, values, fields, place)))
            }
            (Shape::Map(of), DeValue::Table(inner), Value::Table(mut values)) => {
                let mut proper = Table::new();
                for (key, item) in inner {
                    let (at, key) = (self.line(key.span().start), key.get_ref().as_ref());
                    let Some(value) = values.remove(key) else { continue };
                    if let Some(value) =
                        self.value(item.get_ref(), value, of(), &place.key(key), at)
                    {
                        proper.insert(key.to_owned(), value);
                    }
                }
                Some(Value::Table(proper))
            }
            (Shape::List(of), DeValue::Array(inner), Value::Array(values)) => {
                let items = inner.iter().zip(values).enumerate();
                let items = items.filter_map(|(index, (item, value))| {
                    let at = self.line(item.span().start);
                    self.value(item.get_ref(), value, of(), &place.index(index), at)
                });
                Some(Value::Array(items.collect()))
            }
            (Shape::Duration, _, Value::String(text)) if GoDuration::parse(&text).is_some() => {
                Some(Value::String(text))
            }
            (Shape::OneOrMany, DeValue::Array(_), value) => {
                self.value(document, value, Shape::List(|| Shape::Text), place, at)
            }
            (Shape::Foreign, _, value @ Value::Table(_))
            | (Shape::Text | Shape::Secret | Shape::OneOrMany, _, value @ Value::String(_))
            | (Shape::Integer | Shape::Number | Shape::Duration, _, value @ Value::Integer(_))
            | (Shape::Number, _, value @ Value::Float(_))
            | (Shape::Flag, _, value @ Value::Boolean(_))
            | (Shape::Date, _, value @ Value::Datetime(_)) => Some(value),
            (shape, _, value) => {
                let found = match &value {
                    Value::String(text) if matches!(shape, Shape::Duration) => {
                        format!("\"{text}\"")
                    }
                    other => format!("{} {}", article(other), other.type_str()),
                };
                let message = format!("`{}`: {found} is not {}", place.path, shape.words());
                self.findings.push(Severity::Error, at, message);
                None
            }
        }
    }
}

fn article(value: &Value) -> &'static str {
    if matches!(value, Value::Integer(_) | Value::Array(_)) { "an" } else { "a" }
}

/// An empty value says nothing, and GitLab Runner writes plenty of them when it saves a file.
fn matters(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Integer(number) => *number != 0,
        Value::Boolean(flag) => *flag,
        Value::Array(list) => !list.is_empty(),
        Value::Table(table) => table.values().any(matters),
        Value::Float(_) | Value::Datetime(_) => true,
    }
}
