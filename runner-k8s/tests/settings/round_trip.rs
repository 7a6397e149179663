//! What is written can be read, and says the same.

use proptest::prelude::*;
use runner_k8s::settings::{KubernetesSettings, RawSettings};

use crate::generator::{fields, random};

#[test]
fn k8s_01_there_are_116_keys_and_all_of_them_are_known_by_name() {
    let top: Vec<_> =
        fields::<RawSettings>().into_iter().filter(|path| !path.contains(['.', '['])).collect();
    assert_eq!(top, RawSettings::KEYS);
    // 113 of GitLab Runner's, and `kubeconfig`, `agent_image`, `manager_lease_duration`.
    assert_eq!(top.len(), 116);
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
                prop_assert!(RawSettings::KEYS.contains(&top), "{:?}", error);
                prop_assert!(!error.allowed.is_empty(), "{:?}", error);
            }
        }
    }
}

#[test]
fn what_is_not_set_is_not_written() {
    assert_eq!(toml::to_string(&RawSettings::default()).unwrap(), "");
}
