//! Faults that are waiting to happen to requests and streams.
//!
//! Faults of pods (eviction, OOM, a lost node) are commands to the kubelet and are not here.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 409 `Conflict`.
    Conflict,
    /// 410 `Expired`.
    Gone,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// In whole seconds.
        retry_after: Duration,
    },
    /// 500 `InternalError`.
    Internal,
    /// 503 `ServiceUnavailable`.
    Unavailable,
    /// The connection is closed before the request has any effect.
    Drop,
    /// The request has its effect, but the connection is closed before it is answered.
    LoseAnswer,
    /// The request waits this long and is then served.
    Delay(Duration),
}

/// Which requests a fault is for.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    verb: Option<String>,
    resource: Option<String>,
}

impl RequestFilter {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests with this verb (`create`, `watch`, …) on this resource (`pods`, `pods/exec`, …).
    #[must_use]
    pub fn of(verb: &str, resource: &str) -> Self {
        RequestFilter { verb: Some(verb.into()), resource: Some(resource.into()) }
    }

    /// Requests on this resource.
    #[must_use]
    pub fn on(resource: &str) -> Self {
        RequestFilter { verb: None, resource: Some(resource.into()) }
    }

    fn matches(&self, verb: &str, resource: &str) -> bool {
        self.verb.as_deref().is_none_or(|v| v == verb)
            && self.resource.as_deref().is_none_or(|r| r == resource)
    }
}

/// Breaks streams at random, the same way for the same seed.
#[derive(Clone, Copy, Debug)]
pub struct RandomDrops {
    /// Where the random numbers begin.
    pub seed: u64,
    /// How many streams are broken in all.
    pub times: u32,
    /// A stream is broken after one byte to twice this many, all equally likely.
    pub mean_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    requests: Mutex<Vec<(RequestFilter, Fault, u32)>>,
    stream_budgets: Mutex<VecDeque<u64>>,
    random: Mutex<Option<(RandomDrops, u64)>>,
}

impl Faults {
    pub(super) fn add(&self, filter: RequestFilter, fault: Fault, times: u32) {
        self.requests.lock().push((filter, fault, times));
    }

    /// The fault of this request, which is thereby used up.
    pub(super) fn take(&self, verb: &str, resource: &str) -> Option<Fault> {
        let mut waiting = self.requests.lock();
        let at = waiting.iter().position(|(f, _, n)| *n > 0 && f.matches(verb, resource))?;
        let entry = &mut waiting[at];
        let fault = entry.1;
        entry.2 -= 1;
        if entry.2 == 0 {
            waiting.remove(at);
        }
        Some(fault)
    }

    pub(super) fn drop_stream_after(&self, bytes: u64) {
        self.stream_budgets.lock().push_back(bytes);
    }

    pub(super) fn drop_randomly(&self, drops: RandomDrops) {
        *self.random.lock() = Some((drops, drops.seed));
    }

    /// After how many bytes to the client the stream that begins now is broken.
    pub(super) fn stream_budget(&self) -> Option<u64> {
        if let Some(bytes) = self.stream_budgets.lock().pop_front() {
            return Some(bytes);
        }
        let mut random = self.random.lock();
        let (drops, state) = random.as_mut()?;
        drops.times = drops.times.checked_sub(1)?;
        Some(1 + splitmix(state) % (2 * drops.mean_bytes.max(1)))
    }
}

/// SplitMix64: small, and good enough to spread faults.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
