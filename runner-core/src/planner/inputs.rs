//! `${{ job.inputs.KEY }}` in a job's texts.
//!
//! GitLab evaluates an expression language here (Moa). What this module reads is its property
//! access, which is what jobs' inputs are for: `job.inputs.KEY`, `job.inputs["KEY"]`, and further
//! into arrays and structs. Anything else is refused with its text, never passed on to a shell.

use serde_json::Value;

use crate::job::{Input, Job};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Why a text could not be made, for the job's author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// `${{` without its end.
    #[error("a `${{{{` is never closed")]
    Open,
    /// More than access to an input.
    #[error(
        "`{expression}` cannot be evaluated by this runner; inside of `${{{{ }}}}` it knows \
         `job.inputs.NAME` and access to what is in there"
    )]
    Unsupported {
        /// What is written.
        expression: String,
    },
    /// No such input, or nothing there in it.
    #[error("`{expression}` refers to something that the job's inputs do not have")]
    Missing {
        /// What is written.
        expression: String,
    },
    /// An input that must not be put into texts.
    #[error("the job input {key:?} is sensitive and cannot be used in an expression")]
    Sensitive {
        /// Its name.
        key: String,
    },
}

/// Replaces all expressions in the job's texts: commands, image, services, artifacts. Variables and
/// hooks stay as they are. A job without inputs stays as it is altogether.
///
/// # Errors
/// When an expression means nothing.
pub(super) fn interpolate(job: &mut Job) -> Result<(), InputError> {
    if job.inputs.is_empty() {
        return Ok(());
    }
    let inputs = std::mem::take(&mut job.inputs);
    let result = texts(job).into_iter().try_for_each(|text| {
        *text = replaced(text, &inputs)?;
        Ok(())
    });
    job.inputs = inputs;
    result
}

fn texts(job: &mut Job) -> Vec<&mut String> {
    let mut texts: Vec<&mut String> = Vec::new();
    let commands = ["script", "after_script"];
    for step in job.steps.iter_mut().filter(|step| commands.contains(&step.name.as_str())) {
        texts.extend(&mut step.script);
    }
    for image in job.image.iter_mut().chain(&mut job.services) {
        texts.push(&mut image.name);
        texts.extend(image.entrypoint.iter_mut().flatten());
        texts.extend(image.command.iter_mut().flatten());
        texts.extend(&mut image.pull_policies);
        texts.extend(&mut image.user);
    }
    for artifact in &mut job.artifacts {
        texts.extend(&mut artifact.name);
        texts.extend(&mut artifact.paths);
        texts.extend(&mut artifact.exclude);
        texts.extend(&mut artifact.expire_in);
    }
    texts
}

/// One pass: what was put in is not looked at again.
fn replaced(text: &str, inputs: &[Input]) -> Result<String, InputError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        out.push_str(&rest[..at]);
        let inside = &rest[at + OPEN.len()..];
        let end = inside.find(CLOSE).ok_or(InputError::Open)?;
        out.push_str(&shown(value(inside[..end].trim(), inputs)?));
        rest = &inside[end + CLOSE.len()..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Strings as they are, everything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn value<'i>(expression: &str, inputs: &'i [Input]) -> Result<&'i Value, InputError> {
    let shorter = || expression.chars().take(100).collect::<String>();
    let unsupported = || InputError::Unsupported { expression: shorter() };
    let missing = || InputError::Missing { expression: shorter() };
    let path = path(expression).ok_or_else(unsupported)?;
    let [Part::Name("job"), Part::Name("inputs"), key, rest @ ..] = path.as_slice() else {
        return Err(unsupported());
    };
    let Part::Name(key) = key else { return Err(unsupported()) };
    let input = inputs.iter().find(|input| input.key == *key).ok_or_else(missing)?;
    if input.sensitive {
        return Err(InputError::Sensitive { key: input.key.clone() });
    }
    let inside = rest.iter().try_fold(&input.value, |value, part| match part {
        Part::Name(name) => value.get(name),
        Part::Index(index) => value.get(index),
    });
    inside.ok_or_else(missing)
}

enum Part<'t> {
    Name(&'t str),
    Index(usize),
}

/// `a.b["c"][0]`. `None`: it is no such path.
fn path(text: &str) -> Option<Vec<Part<'_>>> {
    let (first, mut rest) = name(text)?;
    let mut parts = vec![Part::Name(first)];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let (part, left) = name(after)?;
            parts.push(Part::Name(part));
            rest = left;
        } else {
            let (inside, left) = bracketed(rest.strip_prefix('[')?)?;
            parts.push(inside);
            rest = left;
        }
    }
    Some(parts)
}

fn name(text: &str) -> Option<(&str, &str)> {
    let end =
        text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).unwrap_or(text.len());
    (end > 0 && !text.starts_with('-')).then(|| text.split_at(end))
}

fn bracketed(text: &str) -> Option<(Part<'_>, &str)> {
    let text = text.trim_start();
    let (part, rest) = match text.chars().next()? {
        quote @ ('"' | '\'') => {
            let end = text[1..].find(quote)? + 1;
            let key = &text[1..end];
            // An escape would have to be read as the language reads it.
            if key.contains('\\') {
                return None;
            }
            (Part::Name(key), &text[end + 1..])
        }
        _ => {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            (Part::Index(text[..end].parse().ok()?), &text[end..])
        }
    };
    Some((part, rest.trim_start().strip_prefix(']')?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{InputError, interpolate, replaced};
    use crate::ids::JobId;
    use crate::job::{Artifact, Image, Input, Job, Step, Variable};

    fn input(key: &str, value: Value) -> Input {
        Input { key: key.into(), value, sensitive: false }
    }

    fn inputs() -> Vec<Input> {
        vec![
            input("tag", json!("v1 ${{ job.inputs.tag }}")),
            input("count", json!(3)),
            input("deep", json!({ "list": [true, "x"], "a b": 1.5 })),
            Input { sensitive: true, ..input("key", json!("secret")) },
        ]
    }

    #[test]
    fn stages_116_each_kind_of_value_is_put_in_once() {
        for (text, expected) in [
            ("a ${{ job.inputs.count }}${{job.inputs.count}} b", "a 33 b"),
            ("${{ job.inputs.tag }}", "v1 ${{ job.inputs.tag }}"),
            ("${{ job.inputs['count'] }}", "3"),
            ("${{ job.inputs.deep }}", r#"{"a b":1.5,"list":[true,"x"]}"#),
            ("${{ job.inputs.deep.list[1] }}", "x"),
            ("${{ job.inputs.deep[\"a b\"] }}", "1.5"),
            ("$HOME ${X} {{ y }} $${", "$HOME ${X} {{ y }} $${"),
        ] {
            assert_eq!(replaced(text, &inputs()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn stages_116_what_means_nothing_is_an_error_and_never_reaches_a_shell() {
        let unsupported = |text: &str| InputError::Unsupported { expression: text.into() };
        let missing = |text: &str| InputError::Missing { expression: text.into() };
        for (text, expected) in [
            ("${{ job.inputs.tag ", InputError::Open),
            ("${{ }}", unsupported("")),
            ("${{ env.HOME }}", unsupported("env.HOME")),
            ("${{ job.inputs }}", unsupported("job.inputs")),
            ("${{ job.inputs.count + 1 }}", unsupported("job.inputs.count + 1")),
            (
                "${{ job.inputs.${{ job.inputs.tag }} }}",
                unsupported("job.inputs.${{ job.inputs.tag"),
            ),
            ("${{ job.inputs.none }}", missing("job.inputs.none")),
            ("${{ job.inputs.deep.list[7] }}", missing("job.inputs.deep.list[7]")),
            ("${{ job.inputs.key }}", InputError::Sensitive { key: "key".into() }),
        ] {
            assert_eq!(replaced(text, &inputs()), Err(expected), "{text}");
        }
    }

    #[test]
    fn stages_116_script_image_services_and_artifacts_are_texts_and_variables_are_not() {
        let text = || "${{ job.inputs.count }}".to_owned();
        let step = |name: &str| Step { name: name.into(), script: vec![text()] };
        let image = || Image { name: text(), command: Some(vec![text()]), ..Image::default() };
        let mut job = Job {
            steps: vec![step("script"), step("after_script"), step("release")],
            image: Some(image()),
            services: vec![image()],
            artifacts: vec![Artifact {
                name: Some(text()),
                paths: vec![text()],
                ..Artifact::default()
            }],
            hooks: vec![step("pre_get_sources_script")],
            variables: vec![Variable {
                key: "A".into(),
                value: text().into(),
                ..Variable::default()
            }],
            ..Job::empty(JobId(1))
        };
        let untouched = job.clone();
        interpolate(&mut job).unwrap();
        assert_eq!(job, untouched, "a job without inputs stays as it is");
        job.inputs = inputs();
        interpolate(&mut job).unwrap();
        let scripts: Vec<_> = job.steps.iter().map(|step| step.script[0].as_str()).collect();
        assert_eq!(scripts, ["3", "3", text().as_str()]);
        for image in job.image.iter().chain(&job.services) {
            assert_eq!(
                (image.name.as_str(), image.command.as_ref().unwrap()[0].as_str()),
                ("3", "3")
            );
        }
        assert_eq!(job.artifacts[0].paths, ["3"]);
        assert_eq!(job.artifacts[0].name.as_deref(), Some("3"));
        assert_eq!(job.hooks[0].script, [text()]);
        assert_eq!(job.variables[0].value.expose(), text());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[$\\{\\}a-c.\\[\\]'\"0-9 ü]{0,40}") {
            let _ = replaced(&text, &inputs());
        }

        #[test]
        fn text_without_an_opening_stays(text in "[^$]*") {
            prop_assert_eq!(replaced(&text, &inputs()).unwrap(), text);
        }
    }
}
