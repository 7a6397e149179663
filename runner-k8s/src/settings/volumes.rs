//! Volumes that all containers mount.

use std::collections::{BTreeMap, BTreeSet};

use super::connection::text;
use super::mistakes::Mistakes;
use super::raw::{RawFiles, RawVolumes};
use super::resolved::KubernetesSettings;

/// A volume that all containers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name in the pod; for claims `$VAR` allowed.
    pub name: String,
    /// Where it is mounted; `$VAR` allowed.
    pub mount_path: String,
    /// Part of the volume; `$VAR` allowed.
    pub sub_path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// `mountPropagation`, or empty.
    pub mount_propagation: String,
    /// What it is.
    pub source: VolumeSource,
}

/// Kinds of [`Volume`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A directory of the node.
    HostPath(String),
    /// A claim by name; `$VAR` allowed.
    Claim,
    /// Keys of a config map to paths; empty: all.
    ConfigMap(BTreeMap<String, String>),
    /// Keys of a Secret to paths; empty: all.
    Secret(BTreeMap<String, String>),
    /// Scratch space.
    EmptyDir {
        /// `Memory`, or empty for disk.
        medium: String,
        /// Quantity, or empty.
        size_limit: String,
    },
    /// What a CSI driver provides in line.
    Csi {
        /// Name of the driver.
        driver: String,
        /// Type of file system, or empty.
        fs_type: String,
        /// For the driver.
        attributes: BTreeMap<String, String>,
    },
    /// An export of an NFS server.
    Nfs {
        /// Host.
        server: String,
        /// Path there.
        path: String,
    },
}

/// GitLab Runner's order, which decides which mount lies over which.
pub(super) fn volumes(raw: &RawVolumes, mistakes: &mut Mistakes) -> Vec<Volume> {
    let mut out = List { all: Vec::new(), mistakes };
    for (at, raw) in raw.host_path.iter().enumerate() {
        let path = text(&raw.host_path).unwrap_or_else(|| raw.mount_path.clone());
        let volume = Volume {
            read_only: raw.read_only,
            mount_propagation: raw.mount_propagation.clone(),
            ..volume(&raw.name, &raw.mount_path, &raw.sub_path, VolumeSource::HostPath(path))
        };
        out.add(&format!("volumes.host_path[{at}]"), volume);
    }
    out.files("secret", &raw.secret, VolumeSource::Secret);
    for (at, raw) in raw.pvc.iter().enumerate() {
        let volume = Volume {
            read_only: raw.read_only,
            mount_propagation: raw.mount_propagation.clone(),
            ..volume(&raw.name, &raw.mount_path, &raw.sub_path, VolumeSource::Claim)
        };
        out.add(&format!("volumes.pvc[{at}]"), volume);
    }
    out.files("config_map", &raw.config_map, VolumeSource::ConfigMap);
    for (at, raw) in raw.empty_dir.iter().enumerate() {
        let key = format!("volumes.empty_dir[{at}]");
        // GitLab Runner goes on without the limit that somebody wanted.
        out.mistakes.quantity(&format!("{key}.size_limit"), &raw.size_limit);
        if !(matches!(raw.medium.as_str(), "" | "Memory") || raw.medium.starts_with("HugePages")) {
            // The API server takes it, and then no pod ever starts.
            let message = format!("is {:?}; kubelets know Memory and HugePages", raw.medium);
            out.mistakes.warn(&format!("{key}.medium"), message);
        }
        let source = VolumeSource::EmptyDir {
            medium: raw.medium.clone(),
            size_limit: raw.size_limit.clone(),
        };
        let volume = Volume {
            mount_propagation: raw.mount_propagation.clone(),
            ..volume(&raw.name, &raw.mount_path, &raw.sub_path, source)
        };
        out.add(&key, volume);
    }
    for (at, raw) in raw.csi.iter().enumerate() {
        let key = format!("volumes.csi[{at}]");
        out.mistakes.required(&format!("{key}.driver"), &raw.driver);
        let source = VolumeSource::Csi {
            driver: raw.driver.clone(),
            fs_type: raw.fs_type.clone(),
            attributes: raw.volume_attributes.clone(),
        };
        let volume = Volume {
            read_only: raw.read_only,
            ..volume(&raw.name, &raw.mount_path, &raw.sub_path, source)
        };
        out.add(&key, volume);
    }
    for (at, raw) in raw.nfs.iter().enumerate() {
        let key = format!("volumes.nfs[{at}]");
        out.mistakes.required(&format!("{key}.server"), &raw.server);
        out.mistakes.required(&format!("{key}.path"), &raw.path);
        let source = VolumeSource::Nfs { server: raw.server.clone(), path: raw.path.clone() };
        let volume = Volume {
            read_only: raw.read_only,
            ..volume(&raw.name, &raw.mount_path, &raw.sub_path, source)
        };
        out.add(&key, volume);
    }
    out.names();
    out.all.into_iter().map(|(_, volume)| volume).collect()
}

fn volume(name: &str, mount_path: &str, sub_path: &str, source: VolumeSource) -> Volume {
    Volume {
        name: name.to_owned(),
        mount_path: mount_path.to_owned(),
        sub_path: sub_path.to_owned(),
        read_only: false,
        mount_propagation: String::new(),
        source,
    }
}

impl KubernetesSettings {
    /// Whether other jobs may use the builds root at the same time: a volume is mounted there that
    /// does not belong to one pod. Compared as it is written, as GitLab Runner does.
    #[must_use]
    pub fn shares_builds(&self, builds_dir: &str) -> bool {
        let is_shared = |volume: &Volume| {
            volume.mount_path == builds_dir
                && !matches!(volume.source, VolumeSource::EmptyDir { .. })
        };
        self.volumes.iter().any(is_shared)
    }
}

struct List<'m> {
    all: Vec<(String, Volume)>,
    mistakes: &'m mut Mistakes,
}

impl List<'_> {
    fn files(
        &mut self,
        kind: &str,
        raw: &[RawFiles],
        source: fn(BTreeMap<String, String>) -> VolumeSource,
    ) {
        for (at, raw) in raw.iter().enumerate() {
            let source = source(raw.items.clone());
            let volume = Volume {
                read_only: raw.read_only,
                ..volume(&raw.name, &raw.mount_path, &raw.sub_path, source)
            };
            self.add(&format!("volumes.{kind}[{at}]"), volume);
        }
    }

    fn add(&mut self, key: &str, volume: Volume) {
        self.mistakes.required(&format!("{key}.name"), &volume.name);
        self.mistakes.required(&format!("{key}.mount_path"), &volume.mount_path);
        let known = ["None", "HostToContainer", "Bidirectional"];
        let propagation = &volume.mount_propagation;
        self.mistakes.word(&format!("{key}.mount_propagation"), propagation, &known);
        self.all.push((key.to_owned(), volume));
    }

    /// Two volumes of one name are refused by the API server, unless they are the same one: that is
    /// declared once and mounted twice. GitLab Runner does so for claims only.
    fn names(&mut self) {
        let mut seen: BTreeMap<&str, &VolumeSource> = BTreeMap::new();
        let mut clashes = BTreeSet::new();
        for (key, volume) in &self.all {
            let known = seen.entry(&volume.name).or_insert(&volume.source);
            if !volume.name.is_empty() && **known != volume.source {
                clashes.insert((key.clone(), volume.name.clone()));
            }
        }
        for (key, name) in clashes {
            let allowed = "a name that no other volume has";
            self.mistakes.value(&format!("{key}.name"), name, allowed);
        }
    }
}
