//! Volumes: what is behind each one on the host, and where containers see it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;

use super::super::kinds::{CONFIG_MAPS, SECRETS};
use super::super::shared::Shared;
use super::process::Mount;

/// Where each volume of a pod is on the host.
pub(super) type Volumes = HashMap<String, PathBuf>;

/// A volume cannot be set up (yet); a kubelet tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {kind} {name:?} not found")]
    Missing { volume: String, kind: &'static str, name: String },
    #[error("image {0:?} cannot be mounted: it is not known or shows no directory")]
    Image(String),
    #[error("volume {0:?} is of a kind that the simulation does not have")]
    Unknown(String),
    #[error("set up volume: {0}")]
    Io(#[from] io::Error),
}

/// Sets up all volumes of a pod below `dir`.
pub(super) fn set_up(shared: &Shared, pod: &Value, dir: &Path) -> Result<Volumes, VolumeError> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
    let mut volumes = Volumes::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default().to_owned();
        let own = dir.join("volumes").join(&name);
        fs::create_dir_all(&own)?;
        let at = if volume["emptyDir"].is_object() {
            open_to_all(&own)?;
            own
        } else if let Some(path) = volume["hostPath"]["path"].as_str() {
            let path = PathBuf::from(path);
            match volume["hostPath"]["type"].as_str() {
                Some("DirectoryOrCreate") => fs::create_dir_all(&path)?,
                Some("FileOrCreate") if !path.exists() => fs::write(&path, "")?,
                _ => {}
            }
            path
        } else if let Some(image) = volume["image"]["reference"].as_str() {
            let known = shared.images.lock().spec(image).and_then(|spec| spec.volume.clone());
            known.ok_or_else(|| VolumeError::Image(image.into()))?
        } else if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            let path = shared.dir.join("claims").join(namespace).join(claim);
            fs::create_dir_all(&path)?;
            open_to_all(&path)?;
            path
        } else if volume["secret"].is_object() || volume["configMap"].is_object() {
            write_source(shared, namespace, &name, volume, &own)?;
            own
        } else if let Some(sources) = volume["projected"]["sources"].as_array() {
            for source in sources {
                if source["secret"].is_object() || source["configMap"].is_object() {
                    write_source(shared, namespace, &name, source, &own)?;
                } else if let Some(path) = source["serviceAccountToken"]["path"].as_str() {
                    fs::write(own.join(path), "a token of a simulated cluster")?;
                } else {
                    write_downward(pod, &source["downwardAPI"], &own)?;
                }
            }
            own
        } else if volume["downwardAPI"].is_object() {
            write_downward(pod, &volume["downwardAPI"], &own)?;
            own
        } else if volume.as_object().is_some_and(|v| v.len() == 1) {
            open_to_all(&own)?;
            own
        } else {
            return Err(VolumeError::Unknown(name));
        };
        volumes.insert(name, at);
    }
    Ok(volumes)
}

/// A container of any uid may write here, as into a real `emptyDir`.
fn open_to_all(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))
}

fn write_source(
    shared: &Shared,
    namespace: &str,
    volume: &str,
    source: &Value,
    dir: &Path,
) -> Result<(), VolumeError> {
    let (kind, source, name) = if source["secret"].is_object() {
        let source = &source["secret"];
        (&SECRETS, source, source["secretName"].as_str().or(source["name"].as_str()))
    } else {
        (&CONFIG_MAPS, &source["configMap"], source["configMap"]["name"].as_str())
    };
    let name = name.unwrap_or_default();
    let Some(object) = shared.store.get(kind, namespace, name) else {
        if source["optional"] == true {
            return Ok(());
        }
        let kind = if kind == &SECRETS { "secret" } else { "configmap" };
        return Err(VolumeError::Missing { volume: volume.into(), kind, name: name.into() });
    };
    let files = contents(&object);
    let mode = source["defaultMode"].as_u64().unwrap_or(0o644);
    let write = |path: &str, bytes: &[u8], mode: u64| -> io::Result<()> {
        let file = dir.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, bytes)?;
        let mode = u32::try_from(mode).unwrap_or(0o644);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    match source["items"].as_array().filter(|i| !i.is_empty()) {
        Some(items) => {
            for item in items {
                let key = item["key"].as_str().unwrap_or_default();
                let Some(bytes) = files.get(key) else {
                    let name = format!("{name}, key {key}");
                    return Err(VolumeError::Missing {
                        volume: volume.into(),
                        kind: "key of",
                        name,
                    });
                };
                let path = item["path"].as_str().unwrap_or(key);
                write(path, bytes, item["mode"].as_u64().unwrap_or(mode))?;
            }
        }
        None => {
            for (key, bytes) in &files {
                write(key, bytes, mode)?;
            }
        }
    }
    Ok(())
}

/// The data of a Secret or a ConfigMap.
pub(super) fn contents(object: &Value) -> HashMap<String, Vec<u8>> {
    let secret = object["kind"] == "Secret";
    let decode =
        |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let mut files = HashMap::new();
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        files.insert(key.clone(), if secret { decode(text) } else { text.into() });
    }
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        files.insert(key.clone(), decode(value.as_str().unwrap_or_default()));
    }
    files
}

fn write_downward(pod: &Value, source: &Value, dir: &Path) -> io::Result<()> {
    for item in source["items"].as_array().into_iter().flatten() {
        if let Some(path) = item["path"].as_str() {
            let field = item["fieldRef"]["fieldPath"].as_str().unwrap_or_default();
            fs::write(dir.join(path), super::spec::field(pod, field))?;
        }
    }
    Ok(())
}

/// The mounts of one container, outermost first.
pub(super) fn mounts(container: &Value, volumes: &Volumes, pod: &Value) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let (name, path) = (mount["name"].as_str(), mount["mountPath"].as_str());
        let Some(host) = name.and_then(|n| volumes.get(n)) else { continue };
        let volume = pod["spec"]["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|v| v["name"].as_str() == name);
        let always = ["secret", "configMap", "image", "projected", "downwardAPI"];
        let host = match mount["subPath"].as_str().filter(|s| !s.is_empty()) {
            Some(sub) => {
                let host = host.join(sub);
                if !host.exists() {
                    fs::create_dir_all(&host)?;
                }
                host
            }
            None => host.clone(),
        };
        mounts.push(Mount {
            // Links would be followed from the wrong root later.
            host: host.canonicalize()?,
            path: path.unwrap_or("/").into(),
            read_only: mount["readOnly"] == true
                || volume.is_some_and(|v| always.iter().any(|k| v[k].is_object())),
        });
    }
    mounts.sort_by_key(|m| m.path.components().count());
    Ok(mounts)
}
