//! The manager's own log, on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel};

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// The log's settings, which a reload of the configuration may change.
static CURRENT: OnceLock<reload::Handle<Lines, Registry>> = OnceLock::new();

/// Starts logging, or changes how. `RUST_LOG` wins over the level.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    if let Some(current) = CURRENT.get() {
        // It fails only when there is no log any more.
        let _ = current.reload(lines(level, format));
        return;
    }
    let (layer, handle) = reload::Layer::new(lines(level, format));
    if tracing_subscriber::registry().with(layer).with(Counter).try_init().is_ok() {
        // Empty: this is the first call.
        let _ = CURRENT.set(handle);
    }
}

fn lines(level: LogLevel, format: LogFormat) -> Lines {
    let level = level.as_str();
    // Libraries only when something is wrong: their info is noise to an operator.
    let ours = format!(
        "warn,podwright={level},runner_core={level},runner_k8s={level},runner_gitlab={level},runner_agent={level}"
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Runner | LogFormat::Text => {
            let layer = layer.with_ansi(std::io::stderr().is_terminal()).with_target(false);
            layer.with_filter(filter).boxed()
        }
        // Span fields (job, project, runner) stand at the top of each line.
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(true).with_filter(filter).boxed()
        }
    }
}

static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// How many lines of these levels there were, in GitLab Runner's words.
pub(crate) fn counts() -> Vec<(&'static str, u64)> {
    let [warnings, errors] = [&WARNINGS, &ERRORS].map(|count| count.load(Ordering::Relaxed));
    // There are no lines of the other two here: what ends the process is said at its end.
    vec![("panic", 0), ("fatal", 0), ("error", errors), ("warning", warnings)]
}

/// Counts our own lines, whatever the level that is written.
struct Counter;

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let ours = ["podwright", "runner_"].iter().any(|name| metadata.target().starts_with(name));
        match *metadata.level() {
            Level::ERROR if ours => ERRORS.fetch_add(1, Ordering::Relaxed),
            Level::WARN if ours => WARNINGS.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}
