//! Container images as an OCI archive (opencontainers/image-spec), without a container engine.
//!
//! ```text
//! programs + what ldd names -> layer tar -> blobs/sha256/<digest> <- config <- manifest <- index
//! ```
//!
//! 1. An image is one layer: `bin/` with its programs, `lib/` with their libraries.
//! 2. Blobs are named by their SHA-256, so images that share a layer hold it once.
//! 3. Nothing is pulled and nothing is compressed: `ctr images import` reads the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::tar::Archive;
use crate::packages::{output, run};

/// An image to be.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Its name with a tag.
    pub name: &'a str,
    /// The program in it, by its file name.
    pub program: &'a Path,
    /// What runs when a pod says nothing else.
    pub entrypoint: &'a [&'a str],
}

/// Writes all `images` into one archive at `path`.
pub(super) fn write(path: &Path, images: &[Image<'_>]) -> Result<()> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for image in images {
        manifests.push(add(&mut blobs, image)?);
    }
    let mut archive = Archive::new(Vec::new());
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    archive.file("index.json", index.to_string().as_bytes())?;
    for (digest, bytes) in &blobs.0 {
        archive.file(&format!("blobs/sha256/{digest}"), bytes)?;
    }
    fs::write(path, archive.finish()?).with_context(|| format!("write {}", path.display()))
}

#[derive(Debug, Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Keeps a blob and gives its descriptor.
    fn put(&mut self, media: &str, bytes: Vec<u8>) -> Value {
        let hex: String = digest(&SHA256, &bytes)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let descriptor = json!({
            "mediaType": format!("application/vnd.oci.image.{media}"),
            "digest": format!("sha256:{hex}"),
            "size": bytes.len(),
        });
        self.0.insert(hex, bytes);
        descriptor
    }
}

fn add(blobs: &mut Blobs, image: &Image<'_>) -> Result<Value> {
    let layer = blobs.put("layer.v1.tar", layer(image.program)?);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": image.entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blobs.put("config.v1+json", config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = blobs.put("manifest.v1+json", manifest.to_string().into_bytes());
    manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
    manifest["annotations"] = json!({"io.containerd.image.name": image.name});
    Ok(manifest)
}

fn layer(program: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    archive.folder("bin")?;
    archive.folder("lib")?;
    archive.link("lib64", "lib")?;
    let bare = program.with_extension("bare");
    run(Command::new("strip").arg("-o").arg(&bare).arg(program))?;
    archive.program(&format!("bin/{}", name(program)?), &fs::read(&bare)?)?;
    fs::remove_file(&bare)?;
    for library in libraries(program)? {
        archive.program(&format!("lib/{}", name(&library)?), &fs::read(&library)?)?;
    }
    Ok(archive.finish()?)
}

fn name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .context("a program's name")
}

/// What the dynamic loader would open.
pub(crate) fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let said = output(Command::new("ldd").arg(program))?;
    let path = |line: &str| {
        let word = line.split_whitespace().find(|word| word.starts_with('/'));
        word.map(PathBuf::from)
    };
    Ok(said.lines().filter_map(path).collect())
}

const FOLDERS: [&str; 5] = ["dev", "proc", "sys", "etc", "tmp"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_named_by_its_digest_and_kept_once() {
        let mut blobs = Blobs::default();
        let first = blobs.put("layer.v1.tar", b"abc".to_vec());
        let again = blobs.put("layer.v1.tar", b"abc".to_vec());
        assert_eq!(first, again);
        assert_eq!(blobs.0.len(), 1);
        // FIPS 180-4, the one-block example.
        let want = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(first["digest"], want);
    }
}
