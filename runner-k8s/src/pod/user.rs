//! The user that a job asks for, `image: kubernetes: user`.

use runner_core::job::Job;
use runner_core::plan::HeaderLine;
use serde_json::{Map, Value, json};

use super::PodError;
use crate::settings::KubernetesSettings;

/// A container's security context, with the user that the job asks for where the settings leave it
/// open.
///
/// `allowed_users` and `allowed_groups` say who it may be; without them anybody but root. GitLab
/// Runner only warns about others and then runs whatever user the image names, which can be root
/// (better).
pub(super) fn security(
    context: &Map<String, Value>,
    user: Option<&str>,
    settings: &KubernetesSettings,
) -> Result<Map<String, Value>, PodError> {
    let mut context = context.clone();
    let Some(user) = user.filter(|user| !user.is_empty()) else { return Ok(context) };
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (user, None),
    };
    let parts = [
        ("runAsUser", Some(uid), "allowed_users", &settings.allowed_users),
        ("runAsGroup", gid, "allowed_groups", &settings.allowed_groups),
    ];
    for (key, text, setting, allowed) in parts {
        let Some(text) = text else { continue };
        // The settings win, so what the job says does not matter.
        if context.contains_key(key) {
            continue;
        }
        let number: u32 = text.parse().map_err(|_| {
            PodError(format!(
                "the user {user:?} of the job's image must be numbers: uid or uid:gid"
            ))
        })?;
        let may = if allowed.is_empty() { number != 0 } else { allowed.contains(&number) };
        if !may {
            let list = match allowed.as_slice() {
                [] => "all but 0".to_owned(),
                some => some.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
            };
            return Err(PodError(format!(
                "the job's image asks for user {user:?}; {setting} of this runner does not allow \
                 {number}; allowed: {list}"
            )));
        }
        context.insert(key.to_owned(), json!(number));
    }
    Ok(context)
}

/// What the job is told when the settings' user wins over its own.
fn loses(context: &Map<String, Value>, user: Option<&str>) -> Option<String> {
    let user = user.filter(|user| !user.is_empty())?;
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (user, None),
    };
    let other = |key: &str, wanted: Option<&str>| {
        let own = context.get(key)?.to_string();
        wanted.filter(|wanted| *wanted != own).map(|_| own)
    };
    let own = other("runAsUser", Some(uid)).or_else(|| other("runAsGroup", gid))?;
    Some(format!(
        "user {user:?} of the job has no effect: the runner's security context says {own}"
    ))
}

/// What is said in the job's log about its users.
pub(crate) fn remarks(settings: &KubernetesSettings, job: &Job) -> Vec<HeaderLine> {
    let build = job.image.iter().map(|image| (&settings.build_security, image));
    let services = job.services.iter().map(|image| (&settings.service_security, image));
    let all = build.chain(services);
    let told = all.filter_map(|(context, image)| loses(context, image.user.as_deref()));
    told.map(HeaderLine::warning).collect()
}
