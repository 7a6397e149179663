//! The answer of `jobs/request`: from bytes to a neutral [`Job`].

mod identity;
mod lenient;
mod model;
mod ports;
mod requests;
mod to_job;

use std::time::Duration;

use runner_core::job::Job;
use runner_core::session::SessionPort;
use runner_core::source::{QueueFacts, TraceContext};

pub use identity::Identity;
use model::Payload;

/// A payload that could be read.
#[derive(Debug)]
pub struct Received {
    /// Who it is.
    pub identity: Identity,
    /// What to run.
    pub job: Job,
    /// The trace will show what the shell does (`CI_DEBUG_TRACE`, `CI_DEBUG_SERVICES`).
    pub debug_trace: bool,
    /// What GitLab says about its queue.
    pub queue: QueueFacts,
    /// Ports that people may reach through a session.
    pub ports: Vec<SessionPort>,
}

/// Why a payload could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the job from GitLab cannot be understood: {reason}")]
pub struct PayloadError {
    /// Whose it is, when that much is readable: the job can be failed then instead of being lost.
    pub identity: Option<Identity>,
    /// What is wrong, without any value of the payload.
    pub reason: String,
}

/// Reads a payload. Never panics, whatever the bytes are.
///
/// # Errors
/// When it is no JSON, or a field that says what to run has the wrong type.
pub fn parse(bytes: &[u8]) -> Result<Received, PayloadError> {
    let refuse = |reason: String| PayloadError { identity: identity::find(bytes), reason };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let payload: Payload =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let inner = error.inner();
            // The parser's own text may quote a value, which may be a secret.
            let what = if inner.is_eof() {
                "it ends too early"
            } else if inner.is_data() {
                "a value has the wrong type"
            } else {
                "it is not valid JSON"
            };
            let (line, column) = (inner.line(), inner.column());
            refuse(format!("{what} (at {}, line {line}, column {column})", error.path()))
        })?;
    if payload.id == 0 || payload.token.is_empty() {
        return Err(refuse("it has no id or no token".to_owned()));
    }
    let debug_trace = payload.shows_debug();
    let identity =
        Identity { id: runner_core::ids::JobId(payload.id), token: payload.token.clone() };
    let queue = queue(&payload);
    let ports = ports::ports(&payload);
    Ok(Received { identity, job: to_job::job(payload), debug_trace, queue, ports })
}

fn queue(payload: &Payload) -> QueueFacts {
    let info = &payload.job_info;
    // Negative or not a number: nothing is known.
    let waited = info.time_in_queue_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    QueueFacts {
        waited,
        project_jobs_running: info.project_jobs_running_on_instance_runners_count.clone(),
        size: info.queue_size,
        depth: info.queue_depth,
        trace: TraceContext::parse(&payload.tracing.trace_id, &payload.tracing.span_parent_id),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::parse;

    #[test]
    fn the_trace_that_a_job_is_part_of_is_known() {
        let payload = |tracing: serde_json::Value| {
            let payload = serde_json::json!({ "id": 1, "token": "t", "tracing": tracing });
            parse(payload.to_string().as_bytes()).unwrap().queue.trace
        };
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let found = payload(serde_json::json!({ "trace_id": trace, "span_parent_id": parent }));
        assert_eq!(format!("{:x}", found.unwrap().trace), trace);
        assert_eq!(found.unwrap().parent, 0x00f0_67aa_0ba9_02b7);
        for nothing in [
            serde_json::Value::Null,
            serde_json::json!({ "trace_id": "0".repeat(32), "span_parent_id": parent }),
            serde_json::json!({ "trace_id": trace, "span_parent_id": "+0f067aa0ba902b7" }),
            serde_json::json!("nonsense"),
        ] {
            assert_eq!(payload(nothing), None);
        }
    }

    const JOB: &str = include_str!("../../fixtures/job.json");

    #[test]
    fn a_payload_becomes_a_job() {
        let received = parse(JOB.as_bytes()).unwrap();
        let job = received.job;
        assert_eq!((job.id.0, job.name.as_str(), job.timeout.as_secs()), (7, "test", 600));
        assert_eq!(job.steps[0].script, ["echo hi"]);
        assert_eq!(job.variables.len(), 2);
        assert_eq!(job.variables[1].value.expose(), "5");
        let sources = job.sources.unwrap();
        assert!(sources.allow_fetch);
        assert_eq!((sources.depth, sources.sha.as_str()), (20, "abc"));
        assert_eq!(job.services.len(), 1);
        assert_eq!(job.services[0].aliases, ["a", "b"]);
        assert_eq!(job.image.unwrap().ports, [80]);
        assert_eq!(job.registries.len(), 1);
        assert_eq!(job.dependencies.len(), 2);
        assert_eq!(job.dependencies[1].filename, "");
        assert!(job.features.trace_sections);
    }

    #[rstest]
    #[case(&JOB[..400])]
    #[case(r#"{"id":7,"token":"t","steps":"rm -rf /"}"#)]
    #[case(r#"{"id":7,"token":"t","variables":[{"key":[],"value":"v"}]}"#)]
    fn api_22_a_job_that_cannot_be_read_can_still_be_failed(#[case] text: &str) {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.identity.unwrap().id.0, 7);
    }

    #[rstest]
    #[case(r#"{"id":7,"token":"t"}"#)]
    #[case(r#"{"id":7,"token":"t","steps":null,"variables":null,"image":null,"services":null,"artifacts":null,"credentials":null,"dependencies":null,"features":null,"job_info":null,"git_info":null,"runner_info":null,"cache":null,"secrets":null,"hooks":null,"inputs":null,"run":null}"#)]
    fn null_is_as_good_as_absent(#[case] text: &str) {
        let job = parse(text.as_bytes()).unwrap().job;
        assert_eq!(job.timeout.as_secs(), 7200);
        assert!(job.sources.is_none());
    }

    #[test]
    fn what_gitlab_says_about_its_queue_is_read_and_nonsense_there_harms_no_job() {
        let info = |text: &str| {
            let text = format!(r#"{{"id":7,"token":"t","job_info":{text}}}"#);
            parse(text.as_bytes()).unwrap().queue
        };
        let queue = info(
            r#"{"time_in_queue_seconds":2.5,"project_jobs_running_on_instance_runners_count":"+Inf","queue_size":3,"queue_depth":1}"#,
        );
        assert_eq!(queue.waited, Some(std::time::Duration::from_millis(2500)));
        assert_eq!(
            (queue.project_jobs_running.as_str(), queue.size, queue.depth),
            ("+Inf", Some(3), Some(1))
        );
        let queue = info(r#"{"time_in_queue_seconds":-1,"queue_size":"many","queue_depth":null}"#);
        assert_eq!(queue, super::QueueFacts::default());
    }

    #[test]
    fn an_error_quotes_no_value() {
        let text = r#"{"id":7,"token":"t","steps":[{"name":"script","script":{"hunter2":1}}]}"#;
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("steps"), "{error}");
    }

    #[test]
    fn a_variable_of_50_mb_is_read() {
        let value = "x".repeat(50 << 20);
        let text =
            format!(r#"{{"id":7,"token":"t","variables":[{{"key":"A","value":"{value}"}}]}}"#);
        assert_eq!(parse(text.as_bytes()).unwrap().job.variables[0].value.expose().len(), 50 << 20);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_cut_and_no_changed_byte_panics(at in 0..JOB.len(), byte in any::<u8>()) {
            let _ = parse(&JOB.as_bytes()[..at]);
            let mut bytes = JOB.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse(&bytes);
        }
    }
}
