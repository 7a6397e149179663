//! The explanation that GitLab puts into the body of a refusal, for operators' logs. It decides
//! nothing.

use serde_json::Value;

use crate::answer::Answer;

/// More than this is not an explanation any more.
const LONGEST: usize = 400;

/// The field `message` (or `error`) of a JSON body, flattened to one line.
pub(crate) fn explanation(answer: &Answer) -> Option<String> {
    if answer.status < 300 || !answer.is_json() {
        return None;
    }
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let message = body.get("message").or_else(|| body.get("error"))?;
    let text = match message {
        Value::Object(fields) => fields
            .iter()
            .map(|(field, value)| format!("{field}: {}", flat(value)))
            .collect::<Vec<_>>()
            .join("; "),
        other => flat(other),
    };
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    (!line.trim().is_empty()).then(|| line.trim().to_owned())
}

fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;

    use super::explanation;
    use crate::answer::Answer;
    use crate::answer::tests::answer;

    #[rstest]
    #[case(r#"{"message":"403 Forbidden"}"#, Some("403 Forbidden"))]
    #[case(
        r#"{"message":{"tags":["too long","empty"],"a":["b"]}}"#,
        Some("a: b; tags: too long, empty")
    )]
    #[case(r#"{"error":"state is missing"}"#, Some("state is missing"))]
    #[case(r#"{"message":"a\n\u001b[31mb"}"#, Some("a  [31mb"))]
    #[case(r#"{"message":""}"#, None)]
    #[case("[1]", None)]
    #[case("<html>", None)]
    fn the_explanation_is_one_plain_line(#[case] body: &str, #[case] expected: Option<&str>) {
        let answer = Answer {
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..answer(400, &[("Content-Type", "application/json")])
        };
        assert_eq!(explanation(&answer).as_deref(), expected);
    }
}
