//! Strategic merge: a merge patch that knows which lists are merged by key, with directives.
//!
//! | Directive | Where | Meaning |
//! |---|---|---|
//! | `$patch: replace` | object, or an entry of a list by key | the patch takes the place of what is there |
//! | `$patch: delete` | object, or an entry with the key | what is there goes |
//! | `$patch: merge` | object | what happens anyway |
//! | `$retainKeys: [a, b]` | object | all other fields go |
//! | `$setElementOrder/LIST` | beside a list | its order afterwards |
//! | `$deleteFromPrimitiveList/LIST` | beside a list | these values go |

use serde_json::{Map, Value};

use super::keys::{Fields, Rule, rule};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `target`.
///
/// # Errors
/// A directive that is none, an entry without its list's key, a list where an object was.
pub(super) fn merge(target: &mut Value, patch: Value, fields: Fields) -> Result<(), String> {
    let Value::Object(mut patch) = patch else {
        // Nothing at all is no change.
        if !patch.is_null() {
            *target = patch;
        }
        return Ok(());
    };
    match directive(&mut patch)? {
        Directive::Delete => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Directive::Replace => {
            *target = Value::Object(patch);
            return Ok(());
        }
        Directive::Merge => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return Ok(()) };
    object(target, patch, fields)
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &mut Map<String, Value>) -> Result<Directive, String> {
    match patch.remove(PATCH) {
        None => Ok(Directive::Merge),
        Some(word) => match word.as_str() {
            Some("merge") => Ok(Directive::Merge),
            Some("replace") => Ok(Directive::Replace),
            Some("delete") => Ok(Directive::Delete),
            _ => Err(format!("{PATCH}: {word} is not one of merge, replace, delete")),
        },
    }
}

fn object(
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    fields: Fields,
) -> Result<(), String> {
    if let Some(retain) = patch.remove(RETAIN) {
        let Value::Array(names) = retain else {
            return Err(format!("{RETAIN} is no list"));
        };
        target.retain(|field, _| names.iter().any(|name| name == field));
    }
    let mut orders = Vec::new();
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix(ORDER) {
            orders.push((list.to_owned(), value));
        } else if let Some(list) = field.strip_prefix(DELETE) {
            let Value::Array(gone) = value else { return Err(format!("{field} is no list")) };
            if let Some(Value::Array(there)) = target.get_mut(list) {
                there.retain(|entry| !gone.contains(entry));
            }
        } else if field.starts_with('$') {
            return Err(format!("{field} is no directive that is known here"));
        } else {
            self::field(target, &field, value, fields)?;
        }
    }
    // After everything is there: the map's own order would put `$…` first.
    for (list, order) in orders {
        let Value::Array(order) = order else { return Err(format!("{ORDER}{list} is no list")) };
        if let Some(Value::Array(entries)) = target.get_mut(&list) {
            let key = rule(fields, &list).map(|Rule::ListByKey(key, _)| key);
            sort(entries, &order, key);
        }
    }
    Ok(())
}

fn field(
    target: &mut Map<String, Value>,
    name: &str,
    value: Value,
    fields: Fields,
) -> Result<(), String> {
    match (rule(fields, name), value) {
        (_, Value::Null) => {
            target.remove(name);
        }
        (Some(Rule::ListByKey(key, of_entry)), Value::Array(entries)) => {
            let there = target.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if there.is_null() {
                *there = Value::Array(Vec::new());
            }
            let Value::Array(there) = there else { return Err(format!("{name} is no list")) };
            list(there, name, entries, key, of_entry)?;
        }
        (Some(Rule::ListByKey(..)), _) => return Err(format!("{name} must be a list")),
        (None, value @ Value::Object(_)) => {
            let deletes = value.get(PATCH).is_some_and(|word| word == "delete");
            let there = target.entry(name).or_insert_with(|| Value::Object(Map::new()));
            merge(there, value, &[])?;
            if deletes {
                target.remove(name);
            }
        }
        (None, value) => {
            target.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

fn list(
    there: &mut Vec<Value>,
    name: &str,
    entries: Vec<Value>,
    key: &str,
    fields: Fields,
) -> Result<(), String> {
    // An entry of nothing but `$patch: replace` says that the other entries are the whole list.
    let alone = |entry: &Value| {
        entry.as_object().is_some_and(|entry| {
            entry.len() == 1 && entry.get(PATCH).is_some_and(|word| word == "replace")
        })
    };
    if entries.iter().any(alone) {
        *there = entries.into_iter().filter(|entry| !alone(entry)).collect();
        return Ok(());
    }
    for entry in entries {
        let Value::Object(mut entry) = entry else {
            return Err(format!("an entry of {name} is no object"));
        };
        let Some(id) = entry.get(key).cloned() else {
            return Err(format!(
                "an entry of {name} has no {key:?}, by which entries are told apart"
            ));
        };
        let known = there.iter().position(|old| old[key] == id);
        match (directive(&mut entry)?, known) {
            (Directive::Delete, _) => there.retain(|old| old[key] != id),
            (Directive::Replace, Some(at)) => there[at] = Value::Object(entry),
            (Directive::Merge, Some(at)) => merge(&mut there[at], Value::Object(entry), fields)?,
            (_, None) => {
                // Merged into nothing, so that directives further down do not stay in it.
                let mut new = Value::Object(Map::new());
                merge(&mut new, Value::Object(entry), fields)?;
                there.push(new);
            }
        }
    }
    Ok(())
}

/// Entries that `order` names come in its order; the others keep their places among themselves,
/// after the one that they followed.
fn sort(entries: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let id = |entry: &Value| match key {
        Some(key) => entry[key].clone(),
        None => entry.clone(),
    };
    let wanted = |entry: &Value| match key {
        Some(key) if entry.is_object() => entry[key].clone(),
        _ => entry.clone(),
    };
    let order: Vec<Value> = order.iter().map(wanted).collect();
    let mut last = None;
    let mut ranked: Vec<(Option<usize>, Value)> = Vec::new();
    for entry in entries.drain(..) {
        let rank = order.iter().position(|wanted| *wanted == id(&entry));
        last = rank.or(last);
        ranked.push((last, entry));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    entries.extend(ranked.into_iter().map(|(_, entry)| entry));
}
