//! The session server: how people look into running jobs from GitLab's web page.
//!
//! ```text
//!   browser ─► GitLab ── TLS, token ──► server ─► Registry ─► Door (the job's pod)
//!                 ▲                                  ▲  └── other managers' jobs: Executor::look_up
//!                 └── offer: URL, certificate, token ┘
//! ```
//!
//! GitLab gets an address, a certificate and a token with every request for a job, and keeps them
//! with the job. So that they stay right when another manager takes the job over, the token is part
//! of the job's ticket, and the certificate is kept in the cluster for all managers of an address
//! (or comes from files). Any manager answers for any job: one behind a common address is asked for
//! jobs of the others.

mod address;
mod certificate;
mod proxy;
mod registry;
mod server;
mod terminal;

pub(crate) use address::Addresses;
pub(crate) use registry::Registry;
pub(crate) use server::SessionServer;
