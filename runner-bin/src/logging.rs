//! The manager's own log, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging. `level` is the least severe level of our own lines; `RUST_LOG` wins over it.
pub(crate) fn start(level: &str, format: LogFormat) {
    // Libraries only when something is wrong: their info is noise to an operator.
    let ours = format!(
        "warn,podwright={level},runner_core={level},runner_k8s={level},runner_gitlab={level},runner_agent={level}"
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
        }
        // Span fields (job, project, runner) stand at the top of each line.
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).init(),
    }
}
