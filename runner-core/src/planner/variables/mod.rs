//! Variables: which there are, in which order, and what references in them become.
//!
//! Owns: the order of assembly, expansion, masks. Does not own: what single variables mean to the
//! runner (`job_settings`), and exporting them (`shell`, and the agent for files).

mod assemble;
mod expand;
mod masks;
mod set;

pub(super) use assemble::{Assembly, assemble, environment, expand_all, plan_variables};
pub use expand::{MAX_EXPANDED, TooLong, expand};
pub(super) use masks::{masks, token_prefixes};
pub use set::{PlanLookup, VariableSet};

/// The one variable of the runner's own that is not for everyone's eyes.
const TLS_KEY: &str = "CI_SERVER_TLS_KEY_FILE";
