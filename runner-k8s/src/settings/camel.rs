//! From the snake case of TOML keys to the camel case of the Kubernetes API.

use serde::Serialize;
use serde_json::{Map, Value};

/// A raw table as the object of the Kubernetes API that it mirrors. What is not set is left out.
pub(super) fn object(raw: &impl Serialize) -> Value {
    // Tables of strings and numbers with string keys: nothing that JSON could not say.
    camel(serde_json::to_value(raw).unwrap_or_default())
}

fn camel(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| match key.as_str() {
                // The keys in it are labels.
                "match_labels" => ("matchLabels".to_owned(), value),
                _ => (name(&key), camel(value)),
            };
            Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(camel).collect()),
        other => other,
    }
}

fn name(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut upper = false;
    for c in key.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}
