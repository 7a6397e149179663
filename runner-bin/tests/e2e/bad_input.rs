//! What GitLab must not send: jobs fail with words, and the manager goes on. Agents answer at once: no
//! container runs.

use rstest::rstest;
use runner_testkit::cluster::ImageSpec;
use runner_testkit::gitlab::{JobSpec, JobState};
use serde_json::{Value, json};

use crate::hostile_agent::agent;
use crate::place::IMAGE;
use crate::world::{World, success, text};

/// Whose token the payload ends with: GitLab says id and token first.
fn head(payload: &Value) -> String {
    format!("{{\"id\":{},\"token\":{}", payload["id"], payload["token"])
}

fn cut_off(payload: &Value) -> Vec<u8> {
    let whole = payload.to_string();
    format!("{},{}", head(payload), &whole[1..whole.len() / 2]).into_bytes()
}

fn wrong_types(payload: &Value) -> Vec<u8> {
    format!("{},\"steps\":\"rm -rf /\",\"variables\":7}}", head(payload)).into_bytes()
}

fn not_json(payload: &Value) -> Vec<u8> {
    format!("{},\"steps\":<html>", head(payload)).into_bytes()
}

fn too_deep(payload: &Value) -> Vec<u8> {
    format!("{},\"steps\":{}", head(payload), "[".repeat(200_000)).into_bytes()
}

/// Of noise: what compresses well would fit.
fn variable_of_50_mb(payload: &Value) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: String = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(char::from(b"0123456789abcdef"[(state % 16) as usize]))
    })
    .take(50 << 20)
    .collect();
    let mut payload = payload.clone();
    let variables = payload["variables"].as_array_mut().unwrap();
    variables.push(json!({"key": "BIG", "value": noise, "public": true}));
    payload.to_string().into_bytes()
}

#[rstest]
#[case::cut_off(cut_off, "cannot be understood")]
#[case::wrong_types(wrong_types, "cannot be understood")]
#[case::not_json(not_json, "cannot be understood")]
#[case::too_deep(too_deep, "cannot be understood")]
#[case::variable_of_50_mb(variable_of_50_mb, "too large")]
#[tokio::test]
async fn api_22_a_payload_that_cannot_be_run_fails_with_words_and_the_next_job_runs(
    #[case] payload: fn(&Value) -> Vec<u8>,
    #[case] words: &str,
) {
    let Some(world) = World::simulated("to do without containers").await else { return };
    world.cluster().register_image(IMAGE, ImageSpec::scripted(agent(|_, _| None)));
    let bad = world.gitlab.enqueue(JobSpec::new("bad").script(["true"]).raw(payload));
    let good = world.gitlab.enqueue(JobSpec::new("good").script(["true"]));
    let ends = world.run(&[bad, good]).await;
    assert_eq!(ends[0].state, JobState::Failed, "{}", text(&ends[0]));
    assert!(ends[0].failure_reason.is_some());
    let said = text(&ends[0]);
    assert!(said.contains("ERROR") && said.contains(words), "{said}");
    success(&ends[1]);
}

#[tokio::test]
async fn a_payload_with_null_everywhere_is_a_job_with_nothing_to_do() {
    let Some(world) = World::simulated("to do without containers").await else { return };
    world.cluster().register_image(IMAGE, ImageSpec::scripted(agent(|_, _| None)));
    let spec = JobSpec::new("nulls").script(["true"]).raw(|payload| {
        let mut payload = payload.clone();
        for (key, value) in payload.as_object_mut().unwrap() {
            if !["id", "token"].contains(&key.as_str()) {
                *value = Value::Null;
            }
        }
        payload.to_string().into_bytes()
    });
    let bad = world.gitlab.enqueue(spec);
    let good = world.gitlab.enqueue(JobSpec::new("good").script(["true"]));
    let ends = world.run(&[bad, good]).await;
    success(&ends[0]);
    success(&ends[1]);
}
