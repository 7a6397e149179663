//! Where the agent finds things in a pod, and how it is called. Executors that make containers and
//! the agent itself agree on this page.
//!
//! ```text
//!   helper:  AGENT supervise      build:  AGENT serve       exec into helper:  AGENT relay
//!     reads  PLAN_DIR               connects LINK_DIR/SOCKET    stdin/stdout are frames
//!     writes STATE_DIR              (LINK_DIR is read-only)
//!     listens LINK_DIR/SOCKET
//! ```

/// Read-only: the agent's image (image volume) or what an init container copied.
pub const BIN_DIR: &str = "/podwright/bin";
/// The agent program.
pub const AGENT: &str = "/podwright/bin/podwright-agent";
/// A static shell for images that have none.
pub const SHELL: &str = "/podwright/bin/sh";
/// Plan, in `helper` only: files `plan.0`, `plan.1`, … that are joined in order and then gunzipped
/// (the gzip magic tells whether they are compressed).
pub const PLAN_DIR: &str = "/podwright/plan";
/// Spool, journal, verdict and control socket, in `helper` only.
pub const STATE_DIR: &str = "/podwright/state";
/// Holds the socket that `build` connects to; read-only in `build`, absent in services.
pub const LINK_DIR: &str = "/podwright/link";
/// Name of the socket in [`LINK_DIR`].
pub const SOCKET: &str = "agent.sock";
/// Name of the control socket in [`STATE_DIR`], for relays.
pub const CONTROL: &str = "control.sock";
/// Name of the trace file in [`STATE_DIR`].
pub const SPOOL: &str = "trace";
/// Name of the stage journal in [`STATE_DIR`].
pub const JOURNAL: &str = "journal";
/// Environment variable that puts everything below another directory, for executors whose containers have
/// no file system of their own. No job may set it for the agent.
pub const ROOT_VARIABLE: &str = "PODWRIGHT_ROOT";
