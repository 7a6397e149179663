//! What is written can be read, and says the same.

use proptest::prelude::*;
use runner_k8s::settings::shape::{Field, Shape};
use runner_k8s::settings::{KubernetesSettings, RawSettings};

use crate::generator::{fields, random};

/// The paths of all keys, as the tables describe themselves.
fn described(fields: &[Field], path: &str, out: &mut Vec<String>) {
    for field in fields {
        let key = format!("{path}{}", field.key);
        out.push(key.clone());
        match (field.shape)() {
            Shape::Table(inner) => described(inner, &format!("{key}."), out),
            Shape::List(of) => {
                if let Shape::Table(inner) = of() {
                    described(inner, &format!("{key}[]."), out);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn k8s_01_what_the_tables_say_of_their_keys_is_what_is_read() {
    let mut all = Vec::new();
    described(RawSettings::FIELDS, "", &mut all);
    assert_eq!(all, fields::<RawSettings>());
    // 113 of GitLab Runner's, and `kubeconfig`, `agent_image`, `manager_lease_duration`,
    // `max_waiting_pods`, `publish_all_pod_events`.
    assert_eq!(RawSettings::FIELDS.len(), 118);
}

#[test]
fn k8s_01_a_default_that_is_told_is_what_an_absent_key_means() {
    let empty = RawSettings { namespace: "default".into(), ..RawSettings::default() };
    let empty = KubernetesSettings::resolve(&empty).unwrap();
    for field in RawSettings::FIELDS.iter().filter(|field| !field.default.is_empty()) {
        let text = format!("{} = {}", field.key, field.default);
        let mut raw: RawSettings = toml::from_str(&text).unwrap();
        raw.namespace = "default".to_owned();
        let settings = KubernetesSettings::resolve(&raw).unwrap();
        assert_eq!(like_pods(settings), like_pods(empty.clone()), "{text}");
    }
}

/// Without what two spellings of the same may differ in: `alpine` is the flavor without a name.
fn like_pods(mut settings: KubernetesSettings) -> KubernetesSettings {
    use runner_k8s::settings::HelperImage;
    settings.helper_image = HelperImage::Named(settings.helper_image.reference(None));
    settings.cleanup_grace = settings.cleanup_grace.or(Some(1));
    settings
}

#[test]
fn k8s_01_unknown_keys_do_not_fail() {
    let raw: RawSettings = toml::from_str("later_release = 1\n[volumes]\nnew_kind = []").unwrap();
    assert_eq!(raw, RawSettings::default());
}

proptest! {
    #[test]
    fn any_settings_survive_toml(seed: u64) {
        let raw: RawSettings = random(seed);
        let text = toml::to_string(&raw).unwrap();
        prop_assert_eq!(toml::from_str::<RawSettings>(&text).unwrap(), raw, "{}", text);
    }

    /// Whatever is in the file, the answer is settings or mistakes, each with a key that exists.
    #[test]
    fn any_settings_are_resolved_or_refused_by_key(seed: u64) {
        let raw: RawSettings = random(seed);
        if let Err(errors) = KubernetesSettings::resolve(&raw) {
            prop_assert!(!errors.0.is_empty());
            for error in errors.0 {
                let top = error.key.split(['.', '[']).next().unwrap_or_default();
                prop_assert!(RawSettings::FIELDS.iter().any(|field| field.key == top), "{:?}", error);
                prop_assert!(!error.allowed.is_empty(), "{:?}", error);
            }
        }
    }
}

#[test]
fn what_is_not_set_is_not_written() {
    assert_eq!(toml::to_string(&RawSettings::default()).unwrap(), "");
}
