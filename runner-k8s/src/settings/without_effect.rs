//! Keys that are accepted because GitLab Runner has them, and that have nothing to do here. Which
//! and why stands beside each key.

use serde_json::Value;

use super::mistakes::Mistakes;
use super::raw::RawSettings;
use super::shape::{Field, Shape};

/// The keys and why they do nothing: `services[].suspend_data_path`.
#[must_use]
pub fn without_effect() -> Vec<(String, &'static str)> {
    fn collect(fields: &[Field], path: &str, out: &mut Vec<(String, &'static str)>) {
        for field in fields {
            let key = format!("{path}{}", field.key);
            match (field.ignored, (field.shape)()) {
                (Some(why), _) => out.push((key, why)),
                (None, Shape::Table(inner)) => collect(inner, &format!("{key}."), out),
                (None, Shape::List(of)) => {
                    if let Shape::Table(inner) = of() {
                        collect(inner, &format!("{key}[]."), out);
                    }
                }
                (None, _) => {}
            }
        }
    }
    let mut out = Vec::new();
    collect(RawSettings::FIELDS, "", &mut out);
    out
}

/// Warns of those that are set.
pub(super) fn warn(raw: &RawSettings, mistakes: &mut Mistakes) {
    // What is not set is not written. Tables of text and numbers: nothing that JSON could not say.
    let written = serde_json::to_value(raw).unwrap_or_default();
    walk(RawSettings::FIELDS, &written, "", mistakes);
}

fn walk(fields: &[Field], written: &Value, path: &str, mistakes: &mut Mistakes) {
    for field in fields {
        let Some(value) = written.get(field.key).filter(|value| matters(value)) else { continue };
        let key = format!("{path}{}", field.key);
        match (field.ignored, (field.shape)(), value) {
            (Some(why), _, _) => mistakes.without_effect(&key, why),
            (None, Shape::Table(inner), value) => {
                walk(inner, value, &format!("{key}."), mistakes);
            }
            (None, Shape::List(of), Value::Array(list)) => {
                if let Shape::Table(inner) = of() {
                    for (at, value) in list.iter().enumerate() {
                        walk(inner, value, &format!("{key}[{at}]."), mistakes);
                    }
                }
            }
            _ => {}
        }
    }
}

/// An empty table says nothing.
fn matters(value: &Value) -> bool {
    value.as_object().is_none_or(|fields| !fields.is_empty())
}
