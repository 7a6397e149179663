//! Exec by SPDY/3.1, as far as exec needs it.

use std::time::Duration;

use super::error::OpenError;
use super::target::ExecTarget;

pub(super) async fn open(
    client: &kube::Client,
    target: &ExecTarget,
    within: Duration,
) -> Result<super::websocket::WebSocketWire<super::upgrade::Raw>, OpenError> {
    todo!("{client:p} {target} {within:?}")
}
