//! What supervisor and `serve` say to each other, and how.
//!
//! The supervisor (in `helper`) listens on a unix socket, takes **one** connection and unlinks the
//! socket; after a loss it listens again, and only who knows the token of the first connection is
//! let in. So a job that finds the socket can neither take part nor take over.
//!
//! ```text
//!   serve                                   supervisor
//!     Hello{token, run}            ───►
//!                                  ◄───     Welcome{token, from}
//!                                  ◄───     Run(order)
//!     Output{offset}, …            ───►
//!                                  ◄───     Ack{offset}          (it is in the journal)
//!     Exited{status, length}       ───►
//! ```

mod codec;
mod frame;
mod window;

pub use codec::{LinkCodec, LinkError, Piece};
pub use frame::{FromServe, Order, RunId, RunState, ToServe, Urge};
pub use window::Window;
