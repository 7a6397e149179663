//! The domain of Podwright: what a job is, how it becomes a plan, how its log is made, and the loop
//! that takes jobs from a source and brings them to an end.
//!
//! Data flows one way:
//!
//! ```text
//!   JobSource ──Offer──► planner ──Plan──► Executor ──JobEvent──► manager ──trace, verdict──► JobSource
//! ```
//!
//! Nothing here knows GitLab, Kubernetes or HTTP.
//!
//! # What you write, what you get
//!
//! | You have | You implement | There is already |
//! |---|---|---|
//! | a queue of jobs of your own | [`JobSource`](source::JobSource): hand out a job, take log bytes at an offset, take the verdict | `runner-gitlab` |
//! | a place of your own to run them | [`Executor`](executor::Executor) and [`JobHandle`](executor::JobHandle) | `runner-k8s`: a pod for each job |
//! | a store for archives | [`ArtifactStore`](artifact::ArtifactStore) | `runner-gitlab` |
//! | a store for caches | [`CacheStore`](cache::CacheStore) | `runner-cache`: S3, Google, Azure |
//! | a vault | [`SecretStore`](secrets::SecretStore) | `runner-secrets` |
//! | dashboards | [`Observer`](manager::Observer) | the metrics of the program `podwright` |
//!
//! A [`Runner`](manager::Runner) is one source and one executor, and what belongs to them; a
//! [`Manager`](manager::Manager) runs any number of runners. The traits are asked by the manager and by
//! nobody else, so what a method is for, when it is called and what a mistake in it costs is all in the
//! traits' own documentation. `runner_testkit::conformance` looks at every promise.
//!
//! # What holds everywhere
//!
//! * **Success is never a default.** Only [`Outcome::Exited(0)`](outcome::Outcome) is one; what nobody knows is
//!   [`Outcome::Unknown`](outcome::Outcome), which is a failure.
//! * **Units.** Times are [`Duration`](std::time::Duration)s and sizes are bytes, unless a name ends in its
//!   unit (`took_ms`). A position in a log is an [`Offset`](ids::Offset): the number of bytes before it.
//! * **Errors** say what happened for the operator, and their `kind` says what the manager does about it. What
//!   the job's author reads is never an error's text, but the [`Infra`](outcome::Infra) of an outcome.
//! * **Cancel safety.** A method that is raced against something says so; the others are dropped only when the
//!   manager is. Dropping a manager's future leaves its jobs to the next one.
//! * **Secrets** are [`Secret`](secret::Secret)s, which do not print.
//! * **Runtime.** Tokio's, of any flavour, with time and I/O enabled.
//!
//! # Features
//!
//! * `mocks` (off): [`mockall`](https://docs.rs/mockall) mocks of the traits, in the module `mocks`.
//!
//! # Versions
//!
//! Until 1.0 a minor version may break. Structs that you build have `new` or `Default`: write
//! `Settings { one: 1, ..Settings::default() }`, since fields are added in any version; enums that you match and
//! that grow are `#[non_exhaustive]`. What is *stored* ([`Plan`](plan::Plan), the frames of [`wire`]) is read by
//! the versions before and after: jobs outlive the program that started them.

pub mod artifact;
pub mod cache;
pub mod causes;
pub mod executor;
pub mod glob;
pub mod ids;
pub mod job;
pub mod layout;
pub mod log;
pub mod manager;
#[cfg(any(test, feature = "mocks"))]
pub mod mocks;
pub mod outcome;
pub mod plan;
pub mod planner;
pub mod secret;
pub mod secrets;
pub mod session;
pub mod shell;
pub mod source;
pub mod wire;
