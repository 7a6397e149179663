//! `[[runners.kubernetes.volumes.KIND]]`. Every volume is mounted into all containers.

use std::collections::BTreeMap;

use super::tables::table;

const PROPAGATION: &[&str] = &["None", "HostToContainer", "Bidirectional"];

table! {
    /// `volumes`.
    RawVolumes {
        /// Directories of the node.
        host_path: Vec<RawHostPath>,
        /// Claims that exist.
        pvc: Vec<RawClaim>,
        /// Config maps that exist.
        config_map: Vec<RawFiles>,
        /// Secrets that exist.
        secret: Vec<RawFiles>,
        /// Scratch space.
        empty_dir: Vec<RawEmptyDir>,
        /// What a CSI driver provides in line.
        csi: Vec<RawCsi>,
        /// Exports of an NFS server.
        nfs: Vec<RawNfs>,
    }
}

table! {
    /// `volumes.host_path`.
    RawHostPath {
        /// Name in the pod; must be set.
        name: String,
        /// Where it is mounted; must be set; `$VAR` allowed.
        mount_path: String,
        /// Part of the volume; `$VAR` allowed. Default: all of it.
        sub_path: String,
        /// Mounted read-only. Default: false.
        read_only: bool [default("false")],
        /// Directory of the node. Default: `mount_path` as it is written.
        host_path: String,
        /// `None`, `HostToContainer` or `Bidirectional`. Default: not set.
        mount_propagation: String [known(PROPAGATION)],
    }
}

table! {
    /// `volumes.pvc`. The same claim may be listed more than once, with different mounts.
    RawClaim {
        /// Name of the claim; must be set; `$VAR` allowed.
        name: String,
        /// Where it is mounted; must be set; `$VAR` allowed.
        mount_path: String,
        /// Part of the volume; `$VAR` allowed. Default: all of it.
        sub_path: String,
        /// Mounted read-only. Default: false.
        read_only: bool [default("false")],
        /// `None`, `HostToContainer` or `Bidirectional`. Default: not set.
        mount_propagation: String [known(PROPAGATION)],
    }
}

table! {
    /// `volumes.config_map` and `volumes.secret`.
    RawFiles {
        /// Name of the config map or Secret; must be set.
        name: String,
        /// Where it is mounted; must be set; `$VAR` allowed.
        mount_path: String,
        /// Part of the volume; `$VAR` allowed. Default: all of it.
        sub_path: String,
        /// Mounted read-only. Default: false.
        read_only: bool [default("false")],
        /// Key to file name. Default: all keys under their own names.
        items: BTreeMap<String, String>,
    }
}

table! {
    /// `volumes.empty_dir`.
    RawEmptyDir {
        /// Name in the pod; must be set.
        name: String,
        /// Where it is mounted; must be set; `$VAR` allowed.
        mount_path: String,
        /// Part of the volume; `$VAR` allowed. Default: all of it.
        sub_path: String,
        /// `Memory`, or empty for disk.
        medium: String [known(&["Memory"])],
        /// Largest size, a quantity. Default: no limit.
        size_limit: String,
        /// `None`, `HostToContainer` or `Bidirectional`. Default: not set.
        mount_propagation: String [known(PROPAGATION)],
    }
}

table! {
    /// `volumes.csi`.
    RawCsi {
        /// Name in the pod; must be set.
        name: String,
        /// Where it is mounted; must be set; `$VAR` allowed.
        mount_path: String,
        /// Part of the volume; `$VAR` allowed. Default: all of it.
        sub_path: String,
        /// Name of the driver; must be set.
        driver: String,
        /// Type of file system. Default: the driver's.
        fs_type: String,
        /// Read-only, volume and mount. Default: false.
        read_only: bool [default("false")],
        /// What the driver wants to know.
        volume_attributes: BTreeMap<String, String>,
    }
}

table! {
    /// `volumes.nfs`.
    RawNfs {
        /// Name in the pod; must be set.
        name: String,
        /// Where it is mounted; must be set; `$VAR` allowed.
        mount_path: String,
        /// Part of the volume; `$VAR` allowed. Default: all of it.
        sub_path: String,
        /// Host of the server; must be set.
        server: String,
        /// Exported path; must be set.
        path: String,
        /// Read-only, volume and mount. Default: false.
        read_only: bool [default("false")],
    }
}
