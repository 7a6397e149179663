//! Settings of the executor: [`RawSettings`] is what is written, [`KubernetesSettings`] what it
//! means. Owns the rules of GitLab Runner's `[runners.kubernetes]`; knows nothing about jobs.

mod quantity;
mod raw;
mod resolved;
mod security;

pub use quantity::is_quantity;
pub use raw::{
    OneOrMany, RawCapabilities, RawContainerSecurity, RawPodSecurity, RawProfile, RawSettings,
    RawVolume, RawVolumes,
};
pub use resolved::{
    Connection, DEFAULT_HELPER_IMAGE, DEFAULT_POLL_TIMEOUT, KubernetesSettings, PullPolicy,
    Resources, SettingsError, SettingsErrors, Toleration, Volume, VolumeSource,
};
