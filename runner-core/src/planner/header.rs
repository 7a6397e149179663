//! What the trace begins with.

use super::flags::Flags;
use super::settings::PlanSettings;
use crate::plan::HeaderLine;

/// The program, the runner, changed flags, what was done before, warnings, the executor's lines.
pub(super) fn header(
    settings: &PlanSettings,
    flags: &Flags,
    preface: Vec<HeaderLine>,
    warnings: Vec<String>,
) -> Vec<HeaderLine> {
    let mut lines = vec![HeaderLine::plain(format!(
        "Running with {} {} ({})",
        settings.release_name, settings.release_version, settings.release_revision
    ))];
    if !settings.short_token.is_empty() {
        lines.push(HeaderLine::plain(format!(
            "  on {} {}, system ID: {}",
            settings.runner_name, settings.short_token, settings.system_id
        )));
    }
    let changed: Vec<_> = flags.changed().map(|(name, value)| format!("{name}:{value}")).collect();
    if !changed.is_empty() {
        lines.push(HeaderLine::plain(format!("  feature flags: {}", changed.join(", "))));
    }
    lines.extend(preface);
    lines.extend(warnings.into_iter().map(HeaderLine::warning));
    lines.extend(settings.executor_lines.iter().map(HeaderLine::plain));
    lines
}
