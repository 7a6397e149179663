//! The user that a job asks for, `image: kubernetes: user`.

use std::borrow::Cow;

use runner_core::job::Job;
use runner_core::plan::{BuildUser, HeaderLine};
use serde_json::{Map, Value, json};

use super::PodError;
use crate::settings::KubernetesSettings;

/// A container's security context, with the user that the job asks for where the settings leave it
/// open.
///
/// `allowed_users` and `allowed_groups` say who it may be; without them anybody but root. GitLab
/// Runner only warns about others and then runs whatever user the image names, which can be root
/// (better).
pub(super) fn security<'s>(
    context: &'s Map<String, Value>,
    user: Option<&str>,
    settings: &KubernetesSettings,
) -> Result<Cow<'s, Map<String, Value>>, PodError> {
    let mut context = Cow::Borrowed(context);
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
        context.to_mut().insert(key.to_owned(), json!(number));
    }
    Ok(context)
}

/// Who the job's commands run as, as far as the settings and the job say it; the image decides
/// otherwise. The group of a user without one is that of the pod's volumes.
pub(crate) fn build_user(settings: &KubernetesSettings, job: &Job) -> Option<BuildUser> {
    // A patch may name anybody.
    if !settings.pod_spec.is_empty() {
        return None;
    }
    let user = job.image.as_ref().and_then(|image| image.user.as_deref());
    let context = security(&settings.build_security, user, settings).ok()?;
    let number = |map: &Map<String, Value>, key| u32::try_from(map.get(key)?.as_u64()?).ok();
    let pod = &settings.pod_security;
    let uid = number(&context, "runAsUser").or_else(|| number(pod, "runAsUser"))?;
    let gid = number(&context, "runAsGroup")
        .or_else(|| number(pod, "runAsGroup"))
        .or_else(|| number(pod, "fsGroup"));
    Some(BuildUser { uid, gid: gid.unwrap_or(0) })
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

#[cfg(test)]
mod tests {
    use runner_core::job::{Image, Job};
    use runner_core::plan::BuildUser;
    use serde_json::{Value, json};

    use super::build_user;
    use crate::settings::{KubernetesSettings, RawSettings};

    fn known(settings: Value, user: Option<&str>) -> Option<(u32, u32)> {
        let raw: RawSettings = serde_json::from_value(settings).unwrap();
        let settings = KubernetesSettings::resolve(&raw).unwrap();
        let image = Image { user: user.map(str::to_owned), ..Image::default() };
        let job = Job { image: Some(image), ..job() };
        build_user(&settings, &job).map(|BuildUser { uid, gid }| (uid, gid))
    }

    fn job() -> Job {
        serde_json::from_value(json!({
            "id": 1, "name": "test",
            "project": { "id": 1, "name": "p", "path": "g/p", "reference": "main", "sha": "" },
            "sources": null, "variables": [], "steps": [], "image": null, "services": [],
            "artifacts": [], "dependencies": [], "registries": [],
            "timeout": { "secs": 60, "nanos": 0 },
            "features": { "trace_sections": true, "failure_reasons": [], "token_mask_prefixes": [] },
            "url": null,
        }))
        .unwrap()
    }

    #[test]
    fn stages_61_the_user_of_the_build_container_where_it_is_known() {
        let pod = json!({ "pod_security_context": { "run_as_user": 7, "fs_group": 9 } });
        let build = json!({
            "pod_security_context": { "run_as_user": 7, "run_as_group": 9 },
            "build_container_security_context": { "run_as_user": 5 },
        });
        assert_eq!(known(json!({}), None), None);
        assert_eq!(known(json!({}), Some("12:34")), Some((12, 34)));
        assert_eq!(known(json!({}), Some("12")), Some((12, 0)));
        assert_eq!(known(pod.clone(), None), Some((7, 9)));
        assert_eq!(known(build, None), Some((5, 9)));
        // The settings win over the job.
        assert_eq!(known(pod, Some("12")), Some((7, 9)));
        let patched = json!({
            "pod_security_context": { "run_as_user": 7 },
            "pod_spec": [{ "name": "x", "patch": "{}", "patch_type": "merge" }],
        });
        assert_eq!(known(patched, None), None);
    }
}
