//! The seven kinds of volumes.

use serde_json::{Value, json};

use super::{Case, pod};

const MOUNT: &str = "spec/containers/build/volumeMounts/v";
const SOURCE: &str = "spec/volumes/v";

/// A kind, what must be set beside name and path, and the other keys: value, path and value in the
/// pod.
type Kind = (&'static str, &'static str, Vec<(&'static str, &'static str, String, Value)>);

pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for (kind, needed, keys) in kinds() {
        let base = format!("[[volumes.{kind}]]\nname = \"v\"\nmount_path = \"/m/$TEAM\"\n{needed}");
        let key = |name: &str| format!("volumes.{kind}[].{name}");
        out.push(pod(&key("name"), &base, &format!("{SOURCE}/name"), json!("v")));
        out.push(pod(&key("mount_path"), &base, &format!("{MOUNT}/mountPath"), json!("/m/blue")));
        let sub = format!("{base}sub_path = \"s/$TAG\"");
        out.push(pod(&key("sub_path"), &sub, &format!("{MOUNT}/subPath"), json!("s/12")));
        for (name, toml, path, value) in keys {
            // What must be set is in the base already.
            let toml = match toml {
                "" => base.clone(),
                toml => format!("{base}{name} = {toml}"),
            };
            out.push(pod(&key(name), &toml, &path, value));
        }
    }
    out
}

fn kinds() -> Vec<Kind> {
    let read_only = || ("read_only", "true", format!("{MOUNT}/readOnly"), json!(true));
    let propagation = || {
        let (toml, path) = ("\"HostToContainer\"", format!("{MOUNT}/mountPropagation"));
        ("mount_propagation", toml, path, json!("HostToContainer"))
    };
    let files = |kind: &str| {
        let items = json!([{ "key": "a", "path": "b/c" }, { "key": "d", "path": "e" }]);
        let toml = "{ d = \"e\", a = \"b/c\" }";
        vec![read_only(), ("items", toml, format!("{SOURCE}/{kind}/items"), items)]
    };
    vec![
        (
            "host_path",
            "",
            vec![
                read_only(),
                propagation(),
                ("host_path", "\"/srv\"", format!("{SOURCE}/hostPath/path"), json!("/srv")),
            ],
        ),
        ("pvc", "", vec![read_only(), propagation()]),
        ("config_map", "", files("configMap")),
        ("secret", "", files("secret")),
        (
            "empty_dir",
            "",
            vec![
                propagation(),
                ("medium", "\"Memory\"", format!("{SOURCE}/emptyDir/medium"), json!("Memory")),
                ("size_limit", "\"64Mi\"", format!("{SOURCE}/emptyDir/sizeLimit"), json!("64Mi")),
            ],
        ),
        (
            "csi",
            "driver = \"d\"\n",
            vec![
                read_only(),
                ("driver", "", format!("{SOURCE}/csi/driver"), json!("d")),
                ("fs_type", "\"ext4\"", format!("{SOURCE}/csi/fsType"), json!("ext4")),
                (
                    "volume_attributes",
                    "{ \"size\" = \"2Gi\" }",
                    format!("{SOURCE}/csi/volumeAttributes"),
                    json!({ "size": "2Gi" }),
                ),
            ],
        ),
        (
            "nfs",
            "server = \"nas\"\npath = \"/e\"\n",
            vec![
                read_only(),
                ("server", "", format!("{SOURCE}/nfs/server"), json!("nas")),
                ("path", "", format!("{SOURCE}/nfs/path"), json!("/e")),
            ],
        ),
    ]
}
