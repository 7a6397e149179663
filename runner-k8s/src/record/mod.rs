//! The job record: what any manager needs to bring a job to its end, in Secrets that do not belong
//! to the pod.
//!
//! ```text
//!   podwright-<source>-<job>          record · pod (gz) · plan.0 (gz) · env.*    the claim is here
//!   podwright-<source>-<job>-plan-N   plan.N                                      large plans only
//!   podwright-<source>-<job>-pull     .dockerconfigjson                           with logins only
//! ```
//!
//! Everything stands in one Secret where it fits, so that reserving a job is one request. The pod
//! mounts the `plan.*` items only. The other Secrets are owned by the first, as a safety net.

mod body;
mod claim;
mod content;
mod place;
mod store;

pub(crate) use body::POD_PULLS;
pub use body::{Claim, Listens, RecordBody, RecordPhase, StoredRemarks};
pub use claim::{ClaimError, Claimed, Found};
pub use content::{Content, ContentError, MAX_ITEM};
pub use place::Place;
pub(crate) use place::delete_namespace;
pub use store::RecordStore;
