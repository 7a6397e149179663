//! The configuration as a JSON Schema (draft 2020-12), which editors use for completion, and with
//! all defaults filled in.

use serde_json::{Map, Value, json};
use toml::Table;

use super::raw::RawConfig;
use super::shape::{Field, Shape};

/// The schema of the whole file.
pub(crate) fn schema() -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.toml of Podwright and GitLab Runner",
    });
    merge(&mut schema, of(Shape::Table(RawConfig::FIELDS)));
    schema
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn of(shape: Shape) -> Value {
    match shape {
        Shape::Text | Shape::Secret => json!({ "type": "string" }),
        Shape::Integer => json!({ "type": "integer" }),
        Shape::Number => json!({ "type": "number" }),
        Shape::OneOrMany => json!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Duration => json!({
            "anyOf": [
                { "type": "string", "pattern": r"^[-+]?(0|([0-9.]+(ns|us|µs|ms|s|m|h))+)$" },
                { "type": "integer" },
            ]
        }),
        // Editors hand over TOML's dates as text.
        Shape::Date => json!({ "type": "string", "format": "date-time" }),
        Shape::List(item) => json!({ "type": "array", "items": of(item()) }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": of(item()) }),
        Shape::Table(fields) => {
            let fields = fields.iter().map(|field| (field.key.to_owned(), property(field)));
            json!({ "type": "object", "properties": fields.collect::<Map<_, _>>() })
        }
        Shape::Foreign => json!({ "type": "object" }),
    }
}

fn property(field: &Field) -> Value {
    let mut property = of((field.shape)());
    let Value::Object(parts) = &mut property else { return property };
    let mut about = field.about.trim().to_owned();
    if let Some(why) = field.ignored {
        about.push_str(&format!(" Accepted and without effect: {why}."));
        parts.insert("deprecated".into(), true.into());
    }
    if field.restart {
        about.push_str(" A change takes effect with the next start.");
    }
    parts.insert("description".into(), about.into());
    if let Some(default) = default(field).and_then(|value| serde_json::to_value(value).ok()) {
        parts.insert("default".into(), default);
    }
    if !field.allowed.is_empty() {
        parts.insert("enum".into(), json!(field.allowed));
    }
    // Not an `enum`: what is not known is a warning only, or may come in a list.
    if !field.known.is_empty() {
        parts.insert("examples".into(), json!(field.known));
    }
    property
}

fn default(field: &Field) -> Option<toml::Value> {
    let text = format!("value = {}", field.default);
    toml::from_str::<Table>(&text).ok()?.remove("value")
}

/// The file with defaults filled in and without secrets; what has no effect is left out.
pub(crate) fn effective(table: &Table) -> String {
    let filled = fill(table, RawConfig::FIELDS);
    // A table that came from TOML can become TOML.
    toml::to_string_pretty(&filled).unwrap_or_default()
}

fn fill(table: &Table, fields: &[Field]) -> Table {
    let mut filled = Table::new();
    for field in fields.iter().filter(|field| field.ignored.is_none()) {
        let written = table.get(field.key);
        let value = match ((field.shape)(), written) {
            (Shape::Secret, Some(toml::Value::String(text))) if !text.contains('$') => {
                Some("***".into())
            }
            (Shape::Table(fields), written) => {
                let empty = Table::new();
                let inner = written.and_then(toml::Value::as_table).unwrap_or(&empty);
                let inner = fill(inner, fields);
                (!inner.is_empty()).then_some(toml::Value::Table(inner))
            }
            (Shape::List(item), Some(toml::Value::Array(list))) => match item() {
                Shape::Table(fields) => {
                    let tables = list.iter().filter_map(toml::Value::as_table);
                    let tables = tables.map(|table| toml::Value::Table(fill(table, fields)));
                    Some(toml::Value::Array(tables.collect()))
                }
                _ => written.cloned(),
            },
            (_, Some(written)) => Some(written.clone()),
            (_, None) => default(field),
        };
        if let Some(value) = value {
            filled.insert(field.key.to_owned(), value);
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::{effective, schema};
    use crate::config::tests::read;

    #[test]
    fn the_schema_knows_every_key_with_its_meaning() {
        let schema = schema();
        let top = &schema["properties"];
        assert_eq!(top["concurrent"]["type"], "integer");
        assert_eq!(top["concurrent"]["default"], 1);
        assert_eq!(top["log_format"]["enum"][2], "json");
        let runner = &top["runners"]["items"]["properties"];
        assert!(runner["limit"]["description"].as_str().unwrap().contains("Most jobs"));
        assert_eq!(
            runner["cache"]["properties"]["s3"]["properties"]["BucketName"]["type"],
            "string"
        );
        assert!(runner["kubernetes"]["properties"]["helper_image"].is_object());
        assert_eq!(runner["docker"]["deprecated"], true);
    }

    #[test]
    fn manager_11_the_effective_settings_show_defaults_and_no_secret() {
        let reading = read(
            "log_level = \"debug\"\n[[runners]]\nname = \"a\"\ntoken = \"glrt-secret\"\n\
             [runners.kubernetes]\nbearer_token = \"hidden\"\nimage = \"x\"\n",
        );
        let text = effective(&reading.table);
        assert!(
            text.contains("concurrent = 1\n") && text.contains("log_level = \"debug\""),
            "{text}"
        );
        assert!(text.contains("output_limit = 4096") && text.contains("image = \"x\""), "{text}");
        assert!(!text.contains("glrt-secret") && !text.contains("hidden"), "{text}");
        let again = read(&text.replace("***", "t"));
        assert_eq!(again.findings.of(super::super::Severity::Error).count(), 0);
    }
}
