//! A stand-in for GitLab's side of the runner API, in the process of the test.
//!
//! It is **not** GitLab. It knows jobs, a queue, traces, artifacts and small git repositories, and
//! answers a runner as GitLab 19 does, with the same checks and quirks. Where GitLab is lenient and
//! a good client would not need that, it answers as GitLab does and notes a [`Violation`], so a test
//! ends with `assert!(gitlab.violations().is_empty())`.
//!
//! ```
//! use std::time::Duration;
//! use runner_testkit::gitlab::{GitLab, JobSpec, JobState};
//! use serde_json::{Value, json};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gitlab = GitLab::start().await?;
//! let repo = gitlab.repo("group/app").commit("first", [("README", "hello\n")]).create().await?;
//! let job = gitlab.enqueue(JobSpec::new("unit").repo(&repo).script(["cat README"]));
//!
//! // Here your runner takes the job; this is one by hand.
//! # let _ = rustls::crypto::ring::default_provider().install_default();
//! let http = reqwest::Client::builder().user_agent("example").build()?;
//! let (api, runner) = (format!("{}/api/v4", gitlab.url()), gitlab.runner_token());
//! let taken = http.post(format!("{api}/jobs/request"))
//!     .header("RUNNER-TOKEN", runner)
//!     .json(&json!({ "token": runner, "info": {} }))
//!     .send().await?;
//! let payload: Value = taken.json().await?;
//! let token = payload["token"].as_str().unwrap();
//! http.patch(format!("{api}/jobs/{}/trace", job.id()))
//!     .header("JOB-TOKEN", token)
//!     .header("Content-Type", "text/plain")
//!     .header("Content-Range", "0-5")
//!     .body("hello\n")
//!     .send().await?;
//! http.put(format!("{api}/jobs/{}", job.id()))
//!     .header("JOB-TOKEN", token)
//!     .json(&json!({
//!         "token": token, "info": {}, "state": "success",
//!         "output": { "checksum": "crc32:363a3020", "bytesize": 6 },
//!     }))
//!     .send().await?;
//!
//! let finished = job.wait_finished(Duration::from_secs(5)).await.unwrap();
//! assert_eq!(finished.state, JobState::Success);
//! assert_eq!(finished.trace, "hello\n");
//! assert_eq!(finished.checksum_ok, Some(true));
//! assert_eq!(gitlab.violations(), []);
//! # Ok(())
//! # }
//! ```
//!
//! What a runner meets here as at GitLab's:
//!
//! * A poll whose `last_update` is current is parked; when a job arrives meanwhile it is answered
//!   204, and only the *next* poll gets the job.
//! * A runner that announces `two_phase_job_commit` has a deadline to say `state=running`; after it
//!   the job goes back to the queue and the token is void.
//! * A piece of trace that is there already up to its last byte is accepted once more (202); any other
//!   offset than the stored size is 416 with `Range: 0-<stored>`.
//! * `Job-Status` comes with every answer to an authorised `PUT` and `PATCH`, also `failed` with the
//!   200 that accepts the verdict `failed`.
//! * Uploads of the same type are refused unless the bytes are the same.
//!
//! Stricter than GitLab on purpose: a verdict whose checksum or size does not fit is 412 (GitLab only
//! logs it today), and the stored trace is dropped so that it can be sent again from byte 0.
//!
//! Not here: the Job Router, the web interface, tags and protected refs, minutes and quotas.
//!
//! ```text
//!   listener ──► http ──► scripts (answer, delay, break)
//!                 │ ├───► api ──► state ──► job          the runner API; `job` is pure
//!                 │ └───► git                            upload-pack over smart HTTP
//!                 └─────► records                        requests and violations
//! ```

mod api;
mod artifacts;
mod builder;
mod git;
mod http;
mod job;
mod listener;
mod payload;
mod record;
mod repo;
mod script;
mod server;
mod spec;
mod state;
#[cfg(feature = "tls")]
mod tls;

pub use builder::GitLabBuilder;
pub use job::{JobState, SessionInfo, StoredArtifact};
pub use record::{Request, Rule, Violation};
pub use repo::{Repo, RepoBuilder};
pub use script::{Endpoint, Script};
pub use server::{Finished, GitLab, JobRef, NotYet};
pub use spec::{Artifact, Image, JobSpec, Variable};
