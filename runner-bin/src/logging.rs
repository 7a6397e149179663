//! The manager's own log, on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
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
    if tracing_subscriber::registry().with(layer).try_init().is_ok() {
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
