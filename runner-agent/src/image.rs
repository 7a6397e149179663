//! The agent's image: an OCI layout in a tar file, made without Docker and without a registry.
//!
//! Its root holds the agent and, if given, a static `sh`, so that it serves both as an image volume
//! (mounted whole) and as an init container that copies itself.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What goes into an image.
#[derive(Clone, Copy, Debug)]
pub struct AgentImage<'a> {
    /// The static agent program.
    pub agent: &'a Path,
    /// A static shell (busybox) for images that have none.
    pub shell: Option<&'a Path>,
    /// The shell's licence and notice, which go with it (`docs/licences.md`). Becomes `/licences/sh`.
    pub shell_licence: Option<&'a Path>,
    /// Full name with tag, e.g. `registry.example/podwright-agent:0.1.0`.
    pub name: &'a str,
    /// `amd64`, `arm64`, ….
    pub architecture: &'a str,
}

impl AgentImage<'_> {
    /// Writes the layout as a tar file. The same input gives the same bytes.
    ///
    /// # Errors
    /// When a file cannot be read or the output not be written.
    pub fn write(&self, output: impl Write) -> io::Result<()> {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, "podwright-agent", &fs::read(self.agent)?, 0o755)?;
        if let Some(shell) = self.shell {
            append(&mut layer, "sh", &fs::read(shell)?, 0o755)?;
        }
        if let Some(licence) = self.shell_licence {
            append(&mut layer, "licences/sh", &fs::read(licence)?, 0o644)?;
        }
        let layer = layer.into_inner()?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&layer)?;
        let packed = packed.finish()?;

        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Entrypoint": ["/podwright-agent"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = serde_json::to_vec(&config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
        });
        let manifest = serde_json::to_vec(&manifest)?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

        let mut layout = tar::Builder::new(output);
        append(&mut layout, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        append(&mut layout, "index.json", &index, 0o644)?;
        for blob in [&config, &manifest, &packed] {
            append(&mut layout, &format!("blobs/sha256/{}", hex(blob)), blob, 0o644)?;
        }
        layout.finish()
    }
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    // No owner and no date: the same content is the same image.
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Read;

    use super::{AgentImage, digest};

    #[test]
    fn an_image_holds_the_agent_and_its_digests_fit() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        std::fs::write(&agent, b"program").unwrap();
        let image = AgentImage {
            agent: &agent,
            shell: Some(&agent),
            shell_licence: Some(&agent),
            name: "registry.example/agent:1",
            architecture: "amd64",
        };
        let mut bytes = Vec::new();
        image.write(&mut bytes).unwrap();
        let mut files = HashMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let blob = |descriptor: &serde_json::Value| {
            let name = descriptor["digest"].as_str().unwrap();
            let content = &files[&format!("blobs/{}", name.replace(':', "/"))];
            assert_eq!(digest(content), name);
            content.clone()
        };
        let manifest: serde_json::Value =
            serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let layer = blob(&manifest["layers"][0]);
        let layer = flate2::read::GzDecoder::new(&layer[..]);
        let names: Vec<_> = tar::Archive::new(layer)
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["podwright-agent", "sh", "licences/sh"]);
    }
}
