//! Which sessions are open, and with what they are opened.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use runner_core::executor::Executor;
use runner_core::ids::JobId;
use runner_core::secret::Secret;
use runner_core::session::{Door, SessionKey, SessionPort, Sessions, Visitors};
use runner_core::source::JobSource;
use runner_gitlab::{SessionOffer, SessionOffers};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Hexadecimal digits of ids and tokens.
const DIGITS: usize = 64;
/// How many jobs of other managers are looked for at once: it costs requests to the API server, and
/// anybody who reaches the port can ask.
const LOOK_UPS: usize = 4;

/// How long somebody who comes while the manager starts waits for it to know its runners.
const START: Duration = Duration::from_secs(10);

/// Where other managers' jobs are found.
pub(crate) type House = (Arc<dyn JobSource>, Arc<dyn Executor>);

/// A job that can be looked into.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) job: JobId,
    token: Secret,
    pub(super) ports: Arc<[SessionPort]>,
    pub(super) door: Arc<dyn Door>,
    pub(super) visitors: Visitors,
    /// Somebody has its terminal.
    busy: Arc<AtomicBool>,
}

/// The one terminal of a job, until dropped.
pub(super) struct Slot(Arc<AtomicBool>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Open {
    fn new(job: JobId, key: SessionKey, door: Arc<dyn Door>, visitors: Visitors) -> Self {
        let SessionKey { token, ports, .. } = key;
        Self { job, token, ports: ports.into(), door, visitors, busy: Arc::default() }
    }

    /// Whether this is the session's token. Takes the same time whatever is wrong with it.
    pub(super) fn admits(&self, authorization: &[u8]) -> bool {
        let token = self.token.expose().as_bytes();
        let differences = token.iter().zip(authorization).fold(0, |sum, (a, b)| sum | (a ^ b));
        token.len() == authorization.len() && differences == 0 && !token.is_empty()
    }

    /// Takes the terminal; `None`: somebody else has it.
    pub(super) fn take_terminal(&self) -> Option<Slot> {
        let taken = self.busy.swap(true, Ordering::AcqRel);
        (!taken).then(|| Slot(Arc::clone(&self.busy)))
    }
}

/// Everything that the session server knows. Made by the runners' jobs, asked by the server.
pub(crate) struct Registry {
    /// `https://host:port`, without a slash at the end.
    base: String,
    certificate: String,
    /// Seconds.
    patience: AtomicU64,
    /// By id. Bounded by the running jobs.
    open: Arc<Mutex<HashMap<String, Open>>>,
    /// `None`: the manager has just started and does not know its runners yet.
    houses: watch::Sender<Option<Vec<House>>>,
    look_ups: Semaphore,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Registry").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Registry {
    pub(super) fn new(advertise: &str, certificate: String, patience: Duration) -> Self {
        Self {
            base: format!("https://{advertise}"),
            certificate,
            patience: AtomicU64::new(patience.as_secs()),
            open: Arc::default(),
            houses: watch::Sender::new(None),
            look_ups: Semaphore::new(LOOK_UPS),
        }
    }

    /// `session_timeout` is this from now on.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.patience.store(patience.as_secs(), Ordering::Relaxed);
    }

    /// Other managers' jobs are looked for there from now on.
    pub(crate) fn set_houses(&self, houses: Vec<House>) {
        self.houses.send_replace(Some(houses));
    }

    /// The job of a session, of this or another manager.
    pub(super) async fn find(&self, id: &str) -> Option<Open> {
        let known = self.open.lock().get(id).cloned();
        if known.is_some() {
            return known;
        }
        if id.len() != DIGITS || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        // More than that at once are not waited for.
        let _permit = self.look_ups.try_acquire().ok()?;
        let mut known = self.houses.subscribe();
        let known = timeout(START, known.wait_for(Option::is_some)).await;
        let houses = known.ok()?.ok()?.clone()?;
        for (source, executor) in houses {
            if let Some((ticket, door)) = executor.look_up(id).await
                && let Some(key) = source.session(&ticket).filter(|key| key.id == id)
            {
                // Its manager does not know that somebody is inside, so the job does not wait for them.
                let open = Open::new(JobId(0), key, door, Visitors::new());
                return Some(open);
            }
        }
        None
    }
}

impl SessionOffers for Registry {
    fn offer(&self) -> SessionOffer {
        let key = SessionKey { id: random(), token: Secret::new(random()), ports: Vec::new() };
        let url = format!("{}/session/{}", self.base, key.id);
        SessionOffer { url, certificate: self.certificate.clone(), key }
    }
}

impl Sessions for Registry {
    fn open(
        &self,
        job: JobId,
        key: SessionKey,
        door: Arc<dyn Door>,
        visitors: Visitors,
    ) -> Box<dyn Send + Sync> {
        let id = key.id.clone();
        self.open.lock().insert(id.clone(), Open::new(job, key, door, visitors));
        Box::new(Closing { open: Arc::clone(&self.open), id })
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience.load(Ordering::Relaxed))
    }
}

/// Forgets a session when it is dropped.
struct Closing {
    open: Arc<Mutex<HashMap<String, Open>>>,
    id: String,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
    }
}

fn random() -> String {
    let mut bytes = [0; DIGITS / 2];
    // Below 256 bytes it cannot be interrupted, and every kernel that runs containers has it.
    let count = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(count, Ok(bytes.len()), "the kernel has no random numbers");
    bytes.iter().fold(String::with_capacity(DIGITS), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}
