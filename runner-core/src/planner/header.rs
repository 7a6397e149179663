//! What the trace begins with.

use super::flags::Flags;
use super::settings::PlanSettings;
use crate::plan::{HeaderLine, LineLevel};

/// The program, the runner, changed flags, what was done before, warnings, the executor's lines.
pub(super) fn header(
    settings: &PlanSettings,
    flags: &Flags,
    image: &str,
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
    lines.extend(executor(settings, image));
    lines
}

/// What the executor says before it starts. GitLab Runner says it while it starts; here that is
/// before there is a pod that could say anything.
fn executor(settings: &PlanSettings, image: &str) -> Vec<HeaderLine> {
    let image = if image.is_empty() { &settings.default_image } else { image };
    let line = |text: &String| HeaderLine::plain(text.replace("{image}", image));
    let mut lines: Vec<_> = settings.executor_lines.iter().map(line).collect();
    if !settings.executor.is_empty() {
        let of = |level, text: &str| HeaderLine { level, ..HeaderLine::plain(text) };
        let title = format!("Preparing the \"{}\" executor", settings.executor);
        lines.insert(0, of(LineLevel::Heading, &title));
        lines.insert(0, of(LineLevel::SectionStart, SECTION));
        lines.push(of(LineLevel::SectionEnd, SECTION));
    }
    lines
}

const SECTION: &str = "prepare_executor";
