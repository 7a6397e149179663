//! What a job asks for beside its commands: hooks, inputs, secrets, functions; and what it must not
//! ask for.

use runner_core::job::{Input, SecretRequest};
use runner_core::outcome::{Infra, InfraKind};
use runner_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::lenient::{flag, forgiving, forgiving_list, text};
use super::model::{Image, Payload};

/// What GitLab Runner reports for a job that must not run.
const REFUSED: i32 = 3;

/// An entry of `inputs`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct JobInput {
    #[serde(default, deserialize_with = "text")]
    key: String,
    #[serde(default, deserialize_with = "forgiving")]
    value: InputValue,
}

#[derive(Debug, Default, Deserialize)]
struct InputValue {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: String,
    #[serde(default)]
    content: Value,
    #[serde(default, deserialize_with = "flag")]
    sensitive: bool,
}

/// `policy_options`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PolicyOptions {
    #[serde(default, deserialize_with = "flag")]
    execution_policy_job: bool,
    #[serde(default, deserialize_with = "text")]
    policy_name: String,
    #[serde(default, deserialize_with = "forgiving")]
    policy_variables_override_allowed: Option<bool>,
    #[serde(default, deserialize_with = "forgiving_list")]
    policy_variables_override_exceptions: Vec<String>,
}

impl PolicyOptions {
    /// What the log says about the policy that made the job.
    pub(super) fn notices(&self) -> Vec<String> {
        if !self.execution_policy_job {
            return Vec::new();
        }
        let exceptions = match self.policy_variables_override_exceptions.join(", ") {
            names if names.is_empty() => String::new(),
            names => format!(" (except for {names})"),
        };
        let rule = match self.policy_variables_override_allowed {
            None => "Variables defined in the policy take precedence over matching user-defined \
                     CI/CD variables for this job."
                .to_owned(),
            Some(allowed) => format!(
                "User-defined CI/CD variables are {} in this job{exceptions} according to the \
                 policy.",
                if allowed { "allowed" } else { "ignored" }
            ),
        };
        vec![format!("Job triggered by policy \"{}\".", self.policy_name), rule]
    }
}

/// Inputs whose values have the types that they say. GitLab Runner cannot read a payload with any
/// other and lets the job hang; here it fails with the reason.
pub(super) fn inputs(inputs: Vec<JobInput>) -> Result<Vec<Input>, Infra> {
    let refuse = |why: String| Infra::new(InfraKind::Configuration, why);
    inputs
        .into_iter()
        .map(|JobInput { key, value: InputValue { kind, content, sensitive } }| {
            if key.is_empty() {
                return Err(refuse("a job input has no name".to_owned()));
            }
            let fits = match kind.as_str() {
                "string" => content.is_string(),
                "number" => content.is_number(),
                "boolean" => content.is_boolean(),
                "array" => content.is_array(),
                "struct" => content.is_object(),
                _ => {
                    return Err(refuse(format!("the job input {key:?} has an unknown type")));
                }
            };
            if !fits {
                return Err(refuse(format!("the value of the job input {key:?} is no {kind}")));
            }
            Ok(Input { key, value: content, sensitive })
        })
        .collect()
}

/// `secrets`, by name. What a provider is and needs is the provider's to know.
pub(super) fn secrets(secrets: Map<String, Value>) -> Vec<SecretRequest> {
    secrets
        .into_iter()
        .filter_map(|(key, value)| {
            let Value::Object(mut fields) = value else { return None };
            // Absent means yes.
            let file = fields.remove("file").and_then(|file| file.as_bool()).unwrap_or(true);
            fields.retain(|_, value| !value.is_null());
            let provider = Secret::new(Value::Object(fields).to_string());
            Some(SecretRequest { key, file, provider })
        })
        .collect()
}

/// `run`: JSON in a string. `None`: the job has none.
pub(super) fn functions(run: &Value) -> Option<String> {
    match run {
        Value::Null => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(text.clone()),
        // Not as documented, but its meaning is plain.
        other => Some(other.to_string()),
    }
}

/// Why the job must not run, if so: GitLab Runner's checks before it says that a job runs.
pub(super) fn refusal(payload: &Payload) -> Option<Infra> {
    let images = std::iter::once(("image", &payload.image))
        .chain(payload.services.iter().map(|service| ("services", service)));
    let options: Vec<_> = images.flat_map(|(place, image)| unknown_options(place, image)).collect();
    let message = if !options.is_empty() {
        format!(
            "this runner does not know these executor options: {}; it knows kubernetes: user, and \
             ignores docker: platform, user",
            options.join(", ")
        )
    } else if payload.functions().is_none() {
        return None;
    } else if payload.steps.iter().any(|step| !step.script.is_empty()) {
        "the `run` and `script` keywords cannot be used together".to_owned()
    } else if payload.variables.iter().any(|variable| variable.key == "STEPS") {
        "the `run` keyword requires the exclusive use of the variable STEPS".to_owned()
    } else {
        return None;
    };
    Some(Infra::new(InfraKind::System, message).with_exit_code(REFUSED))
}

fn unknown_options(place: &'static str, image: &Image) -> Vec<String> {
    let Value::Object(options) = &image.executor_opts else { return Vec::new() };
    let mut unknown = Vec::new();
    for (executor, fields) in options {
        let known: &[&str] = match executor.as_str() {
            "docker" => &["platform", "user"],
            "kubernetes" => &["user"],
            other => {
                unknown.push(format!("{place}:{other}"));
                continue;
            }
        };
        for field in fields.as_object().into_iter().flat_map(Map::keys) {
            if !known.contains(&field.as_str()) {
                unknown.push(format!("{place}:{executor}:{field}"));
            }
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use runner_core::job::Job;
    use runner_core::outcome::InfraKind;

    fn job(fields: &str) -> Job {
        let text = format!(r#"{{"id":7,"token":"t",{fields}}}"#);
        super::super::parse(text.as_bytes()).unwrap().job
    }

    #[rstest]
    #[case(
        r#""image":{"name":"a","executor_opts":{"kubernetes":{"user":"1","x":2}}}"#,
        "image:kubernetes:x"
    )]
    #[case(
        r#""services":[{"name":"a","executor_opts":{"docker":{"priv":true}}}]"#,
        "services:docker:priv"
    )]
    #[case(r#""image":{"name":"a","executor_opts":{"podman":{}}}"#, "image:podman")]
    fn stages_26_executor_options_that_nobody_knows_end_the_job_with_3(
        #[case] fields: &str,
        #[case] named: &str,
    ) {
        let infra = job(fields).refusal.unwrap();
        assert_eq!((infra.kind, infra.exit_code), (InfraKind::System, Some(3)));
        assert!(infra.message.contains(named), "{}", infra.message);
    }

    #[rstest]
    #[case(r#""image":{"name":"a","executor_opts":{"kubernetes":{"user":1000},"docker":{"platform":"p","user":"u"}}}"#)]
    #[case(r#""image":{"name":"a","executor_opts":null}"#)]
    #[case(r#""image":{"name":"a","executor_opts":{"kubernetes":null}}"#)]
    #[case(r#""run":"""#)]
    #[case(r#""run":null,"steps":[{"name":"script","script":["true"]}]"#)]
    fn what_is_known_is_not_refused(#[case] fields: &str) {
        assert_eq!(job(fields).refusal, None);
    }

    #[test]
    fn a_user_may_be_a_number() {
        let job = job(r#""image":{"name":"a","executor_opts":{"kubernetes":{"user":1000}}}"#);
        assert_eq!(job.image.unwrap().user.as_deref(), Some("1000"));
    }

    #[rstest]
    #[case(
        r#""run":"[{}]","steps":[{"name":"script","script":["true"]}]"#,
        "cannot be used together"
    )]
    #[case(
        r#""run":"[{}]","variables":[{"key":"STEPS","value":"x"}]"#,
        "exclusive use of the variable STEPS"
    )]
    fn stages_114_run_beside_script_or_steps_ends_the_job_with_3(
        #[case] fields: &str,
        #[case] said: &str,
    ) {
        let infra = job(fields).refusal.unwrap();
        assert_eq!((infra.kind, infra.exit_code), (InfraKind::System, Some(3)));
        assert!(infra.message.contains(said), "{}", infra.message);
    }

    #[rstest]
    #[case("", "\"A\".|take precedence")]
    #[case(
        r#","policy_variables_override_allowed":true"#,
        "\"A\".|are allowed in this job according"
    )]
    #[case(
        r#","policy_variables_override_allowed":false,"policy_variables_override_exceptions":["X","Y"]"#,
        "\"A\".|are ignored in this job (except for X, Y) according"
    )]
    fn stages_118_the_log_says_which_policy_made_the_job(#[case] more: &str, #[case] said: &str) {
        let fields =
            format!(r#""policy_options":{{"execution_policy_job":true,"policy_name":"A"{more}}}"#);
        let notices = job(&fields).notices;
        for (notice, said) in notices.iter().zip(said.split('|')) {
            assert!(notice.contains(said), "{notice}");
        }
        assert_eq!(notices.len(), 2);
        assert!(job(r#""policy_options":{"policy_name":"A"}"#).notices.is_empty());
    }

    #[rstest]
    #[case(r#"{"key":"a","value":{"type":"string","content":"x"}}"#, None)]
    #[case(r#"{"key":"a","value":{"type":"struct","content":{"b":[1]}}}"#, None)]
    #[case(r#"{"key":"","value":{"type":"string","content":"x"}}"#, Some("no name"))]
    #[case(r#"{"key":"a","value":{"type":"number","content":"1"}}"#, Some("is no number"))]
    #[case(r#"{"key":"a","value":{"type":"string","content":null}}"#, Some("is no string"))]
    #[case(r#"{"key":"a","value":{"type":"date","content":"x"}}"#, Some("unknown type"))]
    fn inputs_have_the_type_that_they_say(#[case] input: &str, #[case] refused: Option<&str>) {
        let job = job(&format!(r#""inputs":[{input}]"#));
        match refused {
            None => assert_eq!((job.inputs.len(), job.refusal), (1, None)),
            Some(said) => {
                let infra = job.refusal.unwrap();
                assert_eq!(infra.kind, InfraKind::Configuration);
                assert!(infra.message.contains(said), "{}", infra.message);
            }
        }
    }

    #[test]
    fn a_secret_is_a_file_unless_it_says_otherwise() {
        let job = job(
            r#""secrets":{"A":{"vault":{"path":"p"},"gcp":null},"B":{"akeyless":{},"file":false}}"#,
        );
        let of = |at: usize| {
            let secret = &job.secrets[at];
            (secret.key.as_str(), secret.file, secret.provider.expose())
        };
        assert_eq!(of(0), ("A", true, r#"{"vault":{"path":"p"}}"#));
        assert_eq!(of(1), ("B", false, r#"{"akeyless":{}}"#));
    }
}
