//! Makes an image from files in memory: one layer, the same bytes from the same input.

use crate::error::{Error, Result};
use crate::image::blobs::{Blobs, digest_of};
use crate::image::import::{Found, descriptor};
use crate::image::model::{
    CONFIG, ConfigFile, ImageConfig, LAYER, MANIFEST, Manifest, RootFs, native_architecture,
};
use crate::image::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// A file of an image to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Path in the image; directories above it are made (0755, root) unless listed themselves.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: FileContent,
}

/// What an [`ImageFile`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// A regular file with these bytes.
    Bytes(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(PathBuf),
}

impl ImageFile {
    /// A regular file.
    pub fn new(path: impl Into<PathBuf>, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode,
            content: FileContent::Bytes(bytes.into()),
        }
    }
    /// A directory.
    pub fn directory(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self {
            path: path.into(),
            mode,
            content: FileContent::Directory,
        }
    }
    /// A symbolic link.
    pub fn symlink(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o777,
            content: FileContent::Symlink(target.into()),
        }
    }
}

/// Puts the blobs of a built image into the store.
pub(crate) fn build(
    blobs: &Blobs,
    names: &[String],
    files: &[ImageFile],
    config: &ImageConfig,
    stored: &mut BTreeSet<String>,
) -> Result<Found> {
    let named = Path::new(names.first().map_or("image", String::as_str));
    let mut tags = Vec::new();
    for name in names {
        tags.extend(Reference::parse(name)?.tagged());
    }
    let layer = layer_tar(files)?;
    let diff_id = digest_of(&layer);
    let (layer_digest, layer_size) = blobs.put(layer.as_slice(), Some(&diff_id), named)?;
    let document = ConfigFile {
        architecture: native_architecture().into(),
        os: "linux".into(),
        config: Some(config.clone()),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![diff_id],
        },
    };
    let json = |e: serde_json::Error| Error::archive(named, e.to_string());
    let bytes = serde_json::to_vec(&document).map_err(json)?;
    let (config_digest, config_size) = blobs.put(bytes.as_slice(), None, named)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.into(),
        config: descriptor(CONFIG, &config_digest, config_size),
        layers: vec![descriptor(LAYER, &layer_digest, layer_size)],
    };
    let bytes = serde_json::to_vec(&manifest).map_err(json)?;
    let (manifest_digest, _) = blobs.put(bytes.as_slice(), None, named)?;
    stored.extend([layer_digest, config_digest, manifest_digest.clone()]);
    Ok(Found {
        manifest_digest,
        manifest,
        names: tags,
    })
}

/// The layer as a tar: entries in the order of their paths, owned by root, at time zero.
fn layer_tar(files: &[ImageFile]) -> Result<Vec<u8>> {
    let mut entries: BTreeMap<PathBuf, (u32, &FileContent)> = BTreeMap::new();
    for file in files {
        let mut clean = PathBuf::new();
        for part in file.path.components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::RootDir | Component::CurDir => {}
                _ => {
                    let reason = format!("{} must not contain '..'", file.path.display());
                    return Err(Error::Invalid {
                        field: "path".into(),
                        reason,
                    });
                }
            }
        }
        for above in clean.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()) {
            entries
                .entry(above.to_owned())
                .or_insert((0o755, &FileContent::Directory));
        }
        if !clean.as_os_str().is_empty() {
            entries.insert(clean, (file.mode, &file.content));
        }
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (path, (mode, content)) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode & 0o7777);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let done = match content {
            FileContent::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                header.set_entry_type(tar::EntryType::Regular);
                tar.append_data(&mut header, &path, bytes.as_slice())
            }
            FileContent::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, path.join(""), std::io::empty())
            }
            FileContent::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, &path, target)
            }
        };
        done.map_err(|e| Error::io("add to the image", &path, e))?;
    }
    tar.into_inner()
        .map_err(|e| Error::io("finish", "the image's layer", e))
}
