//! Random bytes, from the same source as TLS.

use std::sync::LazyLock;

use rustls::crypto::{GetRandomFailed, SecureRandom};

static RANDOM: LazyLock<&'static dyn SecureRandom> =
    LazyLock::new(|| rustls::crypto::ring::default_provider().secure_random);

/// The operating system has no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no random bytes")]
pub(super) struct NoRandom;

impl From<GetRandomFailed> for NoRandom {
    fn from(_: GetRandomFailed) -> Self {
        Self
    }
}

/// Bytes that nobody can predict.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    RANDOM.fill(&mut bytes)?;
    Ok(bytes)
}
