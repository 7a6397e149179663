//! Label and field selectors.

use serde_json::Value;

use super::refusal::Refusal;

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Refusal> {
        let mut selector = Selector::default();
        for part in split(labels) {
            selector.labels.push(term(part.trim())?);
        }
        for part in fields.split(',').filter(|p| !p.is_empty()) {
            let (path, value, equal) = if let Some((k, v)) = part.split_once("!=") {
                (k, v, false)
            } else if let Some((k, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (k, v, true)
            } else {
                return Err(Refusal::bad_request(format!("invalid field selector: {part}")));
            };
            let known = ["metadata.name", "metadata.namespace", "status.phase", "spec.nodeName"];
            let event = path.starts_with("involvedObject.") || path == "type" || path == "reason";
            if !known.contains(&path) && !event {
                let message = format!("field label not supported: {path}");
                return Err(Refusal::bad_request(message));
            }
            selector.fields.push((path.into(), value.into(), equal));
        }
        Ok(selector)
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &String| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|term| match term {
            Term::In(key, values) => label(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Term::NotIn(key, values) => label(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Term::Exists(key) => label(key).is_some(),
            Term::Missing(key) => label(key).is_none(),
        }) && self.fields.iter().all(|(path, value, equal)| {
            let found = path.split('.').try_fold(object, |at, key| at.get(key));
            (found.and_then(Value::as_str).unwrap_or_default() == value) == *equal
        })
    }
}

/// Splits at commas that are not inside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.retain(|p| !p.trim().is_empty());
    parts
}

fn term(text: &str) -> Result<Term, Refusal> {
    let key = |k: &str| -> Result<String, Refusal> {
        let k = k.trim();
        if k.is_empty() || k.contains([' ', '=', '(', ')']) {
            let message = format!("found '{text}', expected: !, identifier, or 'end of string'");
            return Err(Refusal::bad_request(message));
        }
        Ok(k.into())
    };
    let set = |v: &str| -> Vec<String> {
        v.trim().trim_matches(['(', ')']).split(',').map(|s| s.trim().into()).collect()
    };
    if let Some(rest) = text.strip_prefix('!') {
        return Ok(Term::Missing(key(rest)?));
    }
    if let Some((k, v)) = text.split_once("!=") {
        return Ok(Term::NotIn(key(k)?, vec![v.trim().into()]));
    }
    if let Some((k, v)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Term::In(key(k)?, vec![v.trim().into()]));
    }
    if let Some((k, v)) = text.split_once(" notin ") {
        return Ok(Term::NotIn(key(k)?, set(v)));
    }
    if let Some((k, v)) = text.split_once(" in ") {
        return Ok(Term::In(key(k)?, set(v)));
    }
    Ok(Term::Exists(key(text)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_terms_select_as_kubernetes_does() {
        let object = json!({"metadata": {"name": "n", "labels": {"a": "1", "b": "2"}}});
        let cases = [
            ("", true),
            ("a=1", true),
            ("a==1,b=2", true),
            ("a=2", false),
            ("a!=2,c!=1", true),
            ("a in (1, 3),b notin (3)", true),
            ("a in (2)", false),
            ("a,!c", true),
            ("c", false),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(text, "").unwrap();
            assert_eq!(selector.matches(&object), expected, "{text}");
        }
        assert!(Selector::parse("", "metadata.name=n").unwrap().matches(&object));
        assert!(!Selector::parse("", "metadata.name!=n").unwrap().matches(&object));
        assert_eq!(Selector::parse("==", "").unwrap_err().code, 400);
        assert_eq!(Selector::parse("", "spec.hostname=x").unwrap_err().code, 400);
    }
}
