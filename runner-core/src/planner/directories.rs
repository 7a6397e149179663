//! Where things lie in the containers.

use super::error::PlanError;
use super::repository::slug;
use super::settings::PlanSettings;
use super::values::cut;
use crate::job::Job;
use crate::plan::{Directories, GitStrategy};

/// The directories of a job. `clone_path` is what `GIT_CLONE_PATH` says, expanded.
pub(super) fn directories(
    job: &Job,
    settings: &PlanSettings,
    clone_path: Option<&str>,
    strategy: GitStrategy,
) -> Result<Directories, PlanError> {
    let builds = clean(&settings.builds_dir);
    let slug = match &job.sources {
        Some(sources) => slug(sources.url.expose()),
        // Any URL will do to bring the path into shape.
        None => slug(&format!("https://host/{}", job.project.path)),
    };
    let slug = slug.unwrap_or_else(|| format!("project-{}", job.project.id));
    let suffix = if strategy == GitStrategy::Empty { "-empty" } else { "" };

    let project = match clone_path.filter(|path| !path.is_empty()) {
        Some(path) => chosen(path, &builds, settings)?,
        None if settings.builds_shared => {
            let slot = settings.project_slot.to_string();
            join(&[&builds, &settings.short_token, &slot, &slug])
        }
        None => join(&[&builds, &slug]),
    };
    let project = format!("{project}{suffix}");
    let cache = format!("{}{suffix}", join(&[&clean(&settings.cache_dir), &slug]));
    Ok(Directories { temp: format!("{project}.tmp"), builds, project, cache })
}

/// A directory of the author's choice, below the builds root. The root itself is refused too: the
/// temporary directory beside it would lie outside the volume.
fn chosen(path: &str, builds: &str, settings: &PlanSettings) -> Result<String, PlanError> {
    if !settings.custom_build_dir {
        return Err(PlanError::ClonePathForbidden);
    }
    let cleaned = clean(path);
    let below = cleaned
        .strip_prefix(builds.trim_end_matches('/'))
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'));
    if !path.starts_with('/') || !below || path.contains('\0') {
        return Err(PlanError::ClonePathOutside { path: cut(path), builds: builds.to_owned() });
    }
    Ok(cleaned)
}

fn join(parts: &[&str]) -> String {
    clean(&parts.join("/"))
}

/// An absolute path without `.`, `..` and doubled slashes, by its text alone.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned_by_their_text() {
        assert_eq!(clean("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(clean("/../.."), "/");
        assert_eq!(clean(""), "/");
    }
}
