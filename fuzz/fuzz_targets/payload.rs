//! A job's payload on its way to a plan: whatever the bytes are, there is a job, or an error that still
//! says whose it is where that much can be read; and a job that was read can be planned or refused.
//!
//! The first byte says where the payload is cut off.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use runner_core::plan::{HttpBody, HttpTransfer, Plan, Transfer};
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_gitlab::payload::parse;
use serde_json::Value;

/// Whose payload this is, read the slow way: a whole JSON document with a number and a text. Keys that
/// come twice mean the last one, to this reading as to the other.
fn identity(bytes: &[u8]) -> Option<(u64, String)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let id = value.get("id")?.as_u64().filter(|id| *id > 0)?;
    let token = value.get("token")?.as_str().filter(|token| !token.is_empty())?;
    Some((id, token.to_owned()))
}

fn check(payload: &[u8]) {
    let expected = identity(payload);
    let received = match parse(payload) {
        Ok(received) => received,
        Err(error) => {
            let found = error.identity.map(|it| (it.id.0, it.token.expose().to_owned()));
            assert!(expected.is_none() || found == expected, "{found:?} is not {expected:?}");
            assert!(!error.reason.is_empty());
            return;
        }
    };
    if let Some((id, token)) = expected {
        assert_eq!((received.identity.id.0, received.identity.token.expose()), (id, &*token));
    }
    assert_eq!(received.identity.id, received.job.id);
    let transfer = |job| {
        Transfer::Http(HttpTransfer {
            method: "GET".into(),
            url: format!("https://gitlab.example/{job}").into(),
            headers: Vec::new(),
            body: HttpBody::Raw,
            tls_ca: None,
            timeout: Duration::from_secs(60),
        })
    };
    let job = received.job;
    let transfers = Transfers {
        downloads: job
            .dependencies
            .iter()
            .filter(|dependency| !dependency.filename.is_empty())
            .map(|dependency| transfer(dependency.id.0))
            .collect(),
        uploads: job.artifacts.iter().map(|_| Some(transfer(job.id.0))).collect(),
        ..Transfers::default()
    };
    if let Ok(plan) = plan(&job, &PlanSettings::default(), transfers) {
        let text = serde_json::to_vec(&plan).expect("a plan can always be written");
        let read: Plan = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&read).expect("again"), text);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, payload)) = data.split_first() else { return };
    check(payload);
    check(&payload[..payload.len() * usize::from(cut) / 256]);
});
