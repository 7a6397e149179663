//! A trace of each job for OpenTelemetry: from GitLab's queue to the removal of the pod.
//!
//! ```text
//!   manager ── updates ──► Recorder (spans of running jobs) ── over ──► queue ──► exporter ──► collector
//! ```
//!
//! Set up by OpenTelemetry's own environment variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, …); without
//! them there is nothing of all this. OTLP over HTTP as JSON, which every collector takes at port 4318:
//! OpenTelemetry's own crates would be a hundred more in the tree for one POST. Never in a job's way: what does
//! not fit the queue is dropped and counted.

mod exporter;
mod otlp;
mod recorder;
mod settings;
mod spans;

pub(crate) use exporter::Exporter;
pub(crate) use recorder::Recorder;
pub(crate) use settings::OtlpSettings;
