//! GitLab as a source of jobs and a store of artifacts: its runner API, spoken over HTTP.
//!
//! [`GitLabSource`] implements [`JobSource`](runner_core::source::JobSource) and
//! [`ArtifactStore`](runner_core::artifact::ArtifactStore). Everything that decides is a pure
//! function in a module of its own; [`client`](crate::GitLabSource) code only moves bytes.
//!
//! ```text
//!   jobs/request ──bytes──► payload ──Job, Ticket──► Offer
//!   append, touch, finish ──► client (retry) ──Answer──► reply ──Reply, Finished──► manager
//! ```
//!
//! ```
//! use std::sync::Arc;
//!
//! use runner_core::source::JobSource;
//! use runner_gitlab::{GitLabSettings, GitLabSource};
//!
//! # fn main() -> Result<(), runner_gitlab::SettingsError> {
//! let _ = rustls::crypto::ring::default_provider().install_default();
//! // The system id tells managers with one token apart in GitLab; it may change with each start.
//! let settings = GitLabSettings::new("https://gitlab.example", "glrt-t0k3n", "s_0123456789ab");
//! let source = Arc::new(GitLabSource::new(settings)?); // nothing is sent yet
//! assert!(!source.id().to_string().contains("glrt-"), "the id holds no secret");
//! # Ok(())
//! # }
//! ```
//!
//! The same value is the runner's `artifacts` ([`Runner::artifacts`](runner_core::manager::Runner)): GitLab keeps
//! archives too.
//!
//! Not here: when to poll, how many jobs to run, when to send the next piece of trace (the manager's
//! business), and the transfer of archives itself (the agent's).
//!
//! A rustls crypto provider has to be installed before [`GitLabSource::new`], once per process:
//! `rustls::crypto::ring::default_provider().install_default()`.
//!
//! There are no features.

mod answer;
mod artifacts;
mod calls;
mod client;
mod health;
mod info;
mod message;
pub mod payload;
mod reason;
mod reply;
mod retry;
mod runner_api;
mod session;
mod settings;
mod source;
mod ticket;
mod tls;
mod token;
mod trace;
mod url;

pub use calls::{ApiCall, ApiEndpoint, CallObserver, NoCallObserver};
pub use health::Health;
pub use info::{Features, ReleaseInfo};
pub use reason::failure_reason;
pub use runner_api::{RegisteredRunner, Registration, ResetBy, RunnerApi};
pub use session::{SessionOffer, SessionOffers};
pub use settings::{
    GitLabSettings, HealthSettings, RetrySettings, SettingsError, Timeouts, TlsSettings,
};
pub use source::GitLabSource;
pub use token::{is_created_runner_token, short_token};
