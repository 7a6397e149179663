//! The manager's own log, on standard error, in GitLab Runner's three formats.
//!
//! Level and format may change while the process runs. (The formatters of `tracing-subscriber` keep
//! what they know of a span in a form of their own, so one cannot take another's place; hence
//! [`Lines`].)

mod format;
mod jobs;
mod lines;
pub(crate) mod sentry;

pub(crate) use jobs::JobLines;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogFormat, LogLevel};
use lines::Lines;

/// The log's level, which a reload of the configuration may change.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging, or changes how. `RUST_LOG` wins over the level.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    lines::set_format(format);
    if let Some(current) = FILTER.get() {
        // It fails only when there is no log any more.
        let _ = current.reload(filter(level));
        return;
    }
    let (layer, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(layer).with(Lines).with(Counter);
    if registry.with(sentry::Reports).try_init().is_ok() {
        // Empty: this is the first call.
        let _ = FILTER.set(handle);
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = level.as_str();
    // Libraries only when something is wrong: their info is noise to an operator.
    let ours = format!(
        "warn,runner_bin={level},runner_core={level},runner_k8s={level},runner_gitlab={level},runner_agent={level}"
    );
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours))
}

static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// How many lines of these levels there were, in GitLab Runner's words.
pub(crate) fn counts() -> Vec<(&'static str, u64)> {
    let [warnings, errors] = [&WARNINGS, &ERRORS].map(|count| count.load(Ordering::Relaxed));
    // There are no lines of the other two here: what ends the process is said at its end.
    vec![("panic", 0), ("fatal", 0), ("error", errors), ("warning", warnings)]
}

/// Counts what is written.
struct Counter;

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => ERRORS.fetch_add(1, Ordering::Relaxed),
            Level::WARN => WARNINGS.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}
