//! Expansion of variables, and of a job's inputs, whose texts come from whoever wrote the pipeline.
//!
//! Input: lines `NAME=value`, then `--`, the rest is the text that refers to them. Whatever it is,
//! the expansion ends, is no longer than its references allow, agrees with a plain reading of the
//! rules, and never looks at what it has put in.

#![no_main]

use std::borrow::Cow;
use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use runner_core::ids::JobId;
use runner_core::job::{Input, Job, Step, Variable};
use runner_core::planner::{PlanSettings, Transfers, expand, interpolate, plan};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((head, text)) = text.split_once("--\n") else { return };
    let list: Vec<_> = head.lines().filter_map(|line| line.split_once('=')).collect();
    let values: HashMap<_, _> = list.iter().copied().collect();

    let expanded = expand(text, |name| values.get(name).map(|value| Cow::from(*value)))
        .expect("so short a text cannot be too long");
    assert_eq!(expanded, naive(text, &values));
    let longest = values.values().map(|value| value.len()).max().unwrap_or(0);
    assert!(expanded.len() <= text.len() + text.matches('$').count() * longest);

    whole(&list, text);
});

/// The rules once more, letter by letter.
fn naive(text: &str, values: &HashMap<&str, &str>) -> String {
    const SPECIAL: &str = "*#$@!?-0123456789";
    let letters: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < letters.len() {
        let letter = letters[at];
        at += 1;
        if letter != '$' {
            out.push(letter);
            continue;
        }
        let name: String = match letters.get(at) {
            Some('{') => match letters[at..].iter().position(|c| *c == '}') {
                None => {
                    at += 1;
                    continue;
                }
                Some(end) => {
                    let name = letters[at + 1..at + end].iter().collect();
                    at += end + 1;
                    name
                }
            },
            Some(c) if SPECIAL.contains(*c) => {
                at += 1;
                c.to_string()
            }
            Some(c) if c.is_ascii_alphanumeric() || *c == '_' => {
                let word = |c: &&char| c.is_ascii_alphanumeric() || **c == '_';
                let name: String = letters[at..].iter().take_while(word).collect();
                at += name.len();
                name
            }
            _ => {
                out.push('$');
                continue;
            }
        };
        match name.as_str() {
            "$" => out.push('$'),
            // `${}` is eaten, even if somebody has a variable without a name.
            "" => {}
            name if name.len() == 1 && name != "-" && SPECIAL.contains(name) => {}
            name => out.push_str(values.get(name).copied().unwrap_or_default()),
        }
    }
    out
}

/// A whole job of this: a plan or an error, and no panic.
fn whole(list: &[(&str, &str)], text: &str) {
    let variable = |(key, value): &(&str, &str)| Variable {
        key: (*key).to_owned(),
        value: (*value).into(),
        ..Variable::default()
    };
    let input = |(key, value): &(&str, &str)| Input {
        key: (*key).to_owned(),
        value: serde_json::from_str(value).unwrap_or_else(|_| (*value).into()),
        sensitive: key.starts_with("SENSITIVE"),
    };
    let step = |name: &str| Step { name: name.to_owned(), script: vec![text.to_owned()] };
    let mut job = Job {
        variables: list.iter().map(variable).collect(),
        inputs: list.iter().map(input).collect(),
        steps: vec![step("script"), step("release")],
        ..Job::empty(JobId(1))
    };
    let settings = PlanSettings::default();
    if interpolate(&mut job, &settings).is_ok()
        && !job.inputs.is_empty()
        && job.steps[0].script[0].contains("${{")
    {
        // Only a value can have brought it in. (A job without inputs stays as it is.)
        assert!(list.iter().any(|(_, value)| value.contains("${{") || value.contains('$')));
    }
    if let Ok(plan) = plan(&job, &settings, Transfers::default()) {
        let again =
            runner_core::plan::Plan::from_json(&plan.to_json()).expect("a plan is readable");
        assert_eq!(again, plan);
    }
}
