//! Reads image archives: an OCI layout (directory or tar) or the output of `docker save`, plain or gzipped.
//!
//! A tar is read once, front to back: what lies under `blobs/sha256/` is stored and verified as it comes, other big
//! files (layers of the old `docker save`) are stored under the digest that they turn out to have, small ones are kept
//! in memory until the end, when `index.json` or `manifest.json` tells what they mean.

use crate::error::{Attempt, Error, Result};
use crate::image::blobs::Blobs;
use crate::image::model::{
    CONFIG, ConfigFile, DOCKER_INDEX, Descriptor, DockerManifest, INDEX, Index, LAYER, LAYER_GZIP, MANIFEST,
    Manifest,
};
use crate::image::reference::{Reference, is_digest};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// Documents larger than this are not documents.
const DOCUMENT_MAX: u64 = 8 << 20;

/// An image found in an archive; its blobs are in the store.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest_digest: String,
    pub(crate) manifest: Manifest,
    /// Full names with a tag.
    pub(crate) names: Vec<String>,
}

/// The files of an archive by their paths within it.
struct Contents {
    archive: PathBuf,
    small: BTreeMap<PathBuf, Vec<u8>>,
    /// Digests of what was stored by its path.
    big: BTreeMap<PathBuf, String>,
    links: BTreeMap<PathBuf, PathBuf>,
}

/// Stores the blobs of an archive and tells which images it holds. `stored` collects the blobs that are new, for the
/// caller to remove should a later step fail.
pub(crate) fn read_archive(
    blobs: &Blobs,
    archive: &Path,
    stored: &mut BTreeSet<String>,
) -> Result<Vec<Found>> {
    let meta = fs::metadata(archive).at("open", archive)?;
    let contents = if meta.is_dir() {
        read_dir(blobs, archive, stored)?
    } else {
        let mut file = File::open(archive).at("open", archive)?;
        let mut magic = [0; 2];
        let n = file.read(&mut magic).at("read", archive)?;
        let whole =
            std::io::Cursor::new(magic[..n].to_vec()).chain(BufReader::with_capacity(128 * 1024, file));
        if magic == [0x1f, 0x8b] {
            read_tar(blobs, archive, flate2::read::MultiGzDecoder::new(whole), stored)?
        } else {
            read_tar(blobs, archive, whole, stored)?
        }
    };
    let docker = contents.small.get(Path::new("manifest.json"));
    let mut found = match contents.small.get(Path::new("index.json")) {
        Some(index) => layout_images(blobs, &contents, index)?,
        None if docker.is_some() => Vec::new(),
        None => {
            let reason =
                "is neither an OCI layout (no index.json) nor made by docker save (no manifest.json)";
            return Err(Error::archive(archive, reason));
        }
    };
    if let Some(docker) = docker {
        let entries: Vec<DockerManifest> = parse(archive, Path::new("manifest.json"), docker)?;
        for entry in entries {
            docker_image(blobs, &contents, &entry, &mut found, stored)?;
        }
    }
    if found.is_empty() {
        return Err(Error::archive(
            archive,
            "holds no image for this machine's architecture",
        ));
    }
    Ok(found)
}

fn read_tar(
    blobs: &Blobs,
    archive: &Path,
    reader: impl Read,
    stored: &mut BTreeSet<String>,
) -> Result<Contents> {
    let mut contents = Contents::new(archive);
    let damaged = |e: std::io::Error| Error::archive(archive, format!("is no complete tar archive: {e}"));
    let mut tar = tar::Archive::new(reader);
    for entry in tar.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = within(&entry.path().map_err(damaged)?);
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            if let Some(target) = entry.link_name().map_err(damaged)? {
                let base = if kind.is_symlink() {
                    path.parent().unwrap_or(Path::new(""))
                } else {
                    Path::new("")
                };
                contents.links.insert(path.clone(), within(&base.join(target)));
            }
        } else if kind.is_file() {
            let size = entry.size();
            let named = archive.join(&path);
            contents.take(blobs, path, size, &mut entry, &named, stored)?;
        }
    }
    Ok(contents)
}

fn read_dir(blobs: &Blobs, archive: &Path, stored: &mut BTreeSet<String>) -> Result<Contents> {
    let mut contents = Contents::new(archive);
    for name in ["index.json", "manifest.json"] {
        let path = archive.join(name);
        if path.is_file() {
            contents
                .small
                .insert(name.into(), fs::read(&path).at("read", &path)?);
        }
    }
    let dir = archive.join("blobs/sha256");
    if dir.is_dir() {
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let (path, inner) = (entry.path(), Path::new("blobs/sha256").join(entry.file_name()));
            let file = File::open(&path).at("open", &path)?;
            let size = file.metadata().at("stat", &path)?.len();
            contents.take(blobs, inner, size, file, &path, stored)?;
        }
    }
    Ok(contents)
}

/// A path without `.`, and with `..` carried out, as a path within the archive.
fn within(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

fn parse<T: serde::de::DeserializeOwned>(archive: &Path, path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::archive(archive.join(path), format!("is damaged: {e}")))
}

impl Contents {
    fn new(archive: &Path) -> Self {
        Self {
            archive: archive.to_owned(),
            small: BTreeMap::new(),
            big: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    fn take(
        &mut self,
        blobs: &Blobs,
        path: PathBuf,
        size: u64,
        mut reader: impl Read,
        named: &Path,
        stored: &mut BTreeSet<String>,
    ) -> Result<()> {
        let expected = path
            .strip_prefix("blobs/sha256")
            .ok()
            .and_then(|p| p.to_str())
            .map(|p| format!("sha256:{p}"));
        if expected.is_none() && size <= DOCUMENT_MAX && path.extension().is_none_or(|e| e != "tar") {
            let mut bytes = Vec::new();
            reader
                .read_to_end(&mut bytes)
                .map_err(|e| Error::archive(named, format!("cannot be read: {e}")))?;
            self.small.insert(path, bytes);
            return Ok(());
        }
        if let Some(expected) = &expected
            && !is_digest(expected)
        {
            return Ok(());
        }
        if let Some(expected) = &expected
            && blobs.has(expected)
        {
            self.big.insert(path, expected.clone());
            return Ok(());
        }
        let known_before = |digest: &str, stored: &BTreeSet<String>| stored.contains(digest);
        let (digest, _) = blobs.put(reader, expected.as_deref(), named)?;
        if !known_before(&digest, stored) {
            stored.insert(digest.clone());
        }
        self.big.insert(path, digest);
        Ok(())
    }

    /// Digest of a stored file of the archive, through links.
    fn stored(&self, path: &Path) -> Option<&String> {
        let mut path = within(path);
        for _ in 0..8 {
            if let Some(digest) = self.big.get(&path) {
                return Some(digest);
            }
            path = self.links.get(&path)?.clone();
        }
        None
    }
}

/// The images of an OCI layout.
fn layout_images(blobs: &Blobs, contents: &Contents, index: &[u8]) -> Result<Vec<Found>> {
    let index: Index = parse(&contents.archive, Path::new("index.json"), index)?;
    let mut found: Vec<Found> = Vec::new();
    for descriptor in &index.manifests {
        let names = descriptor_names(&contents.archive, descriptor)?;
        let Some(manifest_digest) = resolve(blobs, &contents.archive, descriptor, 0)? else {
            continue;
        };
        let blob = Path::new("blobs/sha256").join(manifest_digest.trim_start_matches("sha256:"));
        let manifest: Manifest = parse(&contents.archive, &blob, &blobs.read(&manifest_digest)?)?;
        match found.iter_mut().find(|f| f.manifest_digest == manifest_digest) {
            Some(same) => same.names.extend(names),
            None => found.push(Found {
                manifest_digest,
                manifest,
                names,
            }),
        }
    }
    Ok(found)
}

/// The manifest for this machine that a descriptor leads to; `None` if there is none for it, or if the layout leaves
/// that part out.
fn resolve(blobs: &Blobs, archive: &Path, descriptor: &Descriptor, depth: u8) -> Result<Option<String>> {
    if !blobs.has(&descriptor.digest) {
        if depth == 0
            && descriptor
                .platform
                .as_ref()
                .is_none_or(super::model::Platform::is_native)
        {
            let name = archive
                .join("blobs/sha256")
                .join(descriptor.digest.trim_start_matches("sha256:"));
            return Err(Error::archive(name, "is missing, but index.json names it"));
        }
        return Ok(None);
    }
    if descriptor.media_type != INDEX && descriptor.media_type != DOCKER_INDEX {
        return Ok(Some(descriptor.digest.clone()));
    }
    if depth >= 4 {
        return Err(Error::archive(archive, "image indexes are nested too deep"));
    }
    let path = Path::new("blobs/sha256").join(descriptor.digest.trim_start_matches("sha256:"));
    let index: Index = parse(archive, &path, &blobs.read(&descriptor.digest)?)?;
    for child in &index.manifests {
        if child.platform.as_ref().is_some_and(|p| !p.is_native()) {
            continue;
        }
        if let Some(digest) = resolve(blobs, archive, child, depth + 1)? {
            return Ok(Some(digest));
        }
    }
    Ok(None)
}

/// The names that a layout's index gives to an image. A bare tag is put on the archive's own name.
fn descriptor_names(archive: &Path, descriptor: &Descriptor) -> Result<Vec<String>> {
    let full = descriptor.annotations.get("io.containerd.image.name");
    let name = full.or_else(|| descriptor.annotations.get("org.opencontainers.image.ref.name"));
    let Some(name) = name else { return Ok(Vec::new()) };
    let name = if name.contains(['/', ':']) {
        name.clone()
    } else {
        let stem = archive
            .file_stem()
            .map_or(String::new(), |s| s.to_string_lossy().to_lowercase());
        let stem = stem.trim_end_matches(".tar").to_owned();
        match Reference::parse(&stem) {
            Ok(reference) => format!("{}:{name}", reference.repository),
            Err(_) => return Ok(Vec::new()),
        }
    };
    let reference = Reference::parse(&name)
        .map_err(|e| Error::archive(archive.join("index.json"), format!("names an image: {e}")))?;
    Ok(reference.tagged().into_iter().collect())
}

/// An image of `docker save`: finds it among the layout's, or makes a manifest for it.
fn docker_image(
    blobs: &Blobs,
    contents: &Contents,
    entry: &DockerManifest,
    found: &mut Vec<Found>,
    stored: &mut BTreeSet<String>,
) -> Result<()> {
    let mut names = Vec::new();
    for tag in entry.repo_tags.iter().flatten() {
        let reference = Reference::parse(tag).map_err(|e| {
            Error::archive(
                contents.archive.join("manifest.json"),
                format!("names an image: {e}"),
            )
        })?;
        names.extend(reference.tagged());
    }
    let config_path = Path::new(&entry.config);
    let missing = |path: &str| {
        Error::archive(
            contents.archive.join(path),
            "is missing, but manifest.json names it",
        )
    };
    let (config_digest, config_bytes) = match contents.stored(config_path) {
        Some(digest) => (digest.clone(), blobs.read(digest)?),
        None => {
            let bytes = contents
                .small
                .get(&within(config_path))
                .ok_or_else(|| missing(&entry.config))?;
            let (digest, _) = blobs.put(bytes.as_slice(), None, &contents.archive.join(config_path))?;
            stored.insert(digest.clone());
            (digest, bytes.clone())
        }
    };
    if let Some(same) = found
        .iter_mut()
        .find(|f| f.manifest.config.digest == config_digest)
    {
        same.names.extend(names);
        return Ok(());
    }
    let config: ConfigFile = parse(&contents.archive, config_path, &config_bytes)?;
    if config.os == "windows" {
        return Ok(());
    }
    let mut layers = Vec::new();
    for path in &entry.layers {
        let digest = contents.stored(Path::new(path)).ok_or_else(|| missing(path))?;
        let mut magic = [0; 2];
        let gzip = blobs.open_blob(digest)?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        layers.push(descriptor(
            if gzip { LAYER_GZIP } else { LAYER },
            digest,
            blobs.size(digest)?,
        ));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.into(),
        config: descriptor(CONFIG, &config_digest, config_bytes.len() as u64),
        layers,
    };
    let bytes =
        serde_json::to_vec(&manifest).map_err(|e| Error::archive(&contents.archive, e.to_string()))?;
    let (manifest_digest, _) = blobs.put(bytes.as_slice(), None, &contents.archive)?;
    stored.insert(manifest_digest.clone());
    found.push(Found {
        manifest_digest,
        manifest,
        names,
    });
    Ok(())
}

/// A descriptor without decoration.
pub(crate) fn descriptor(media_type: &str, digest: &str, size: u64) -> Descriptor {
    let (media_type, digest) = (media_type.to_owned(), digest.to_owned());
    Descriptor {
        media_type,
        digest,
        size,
        annotations: BTreeMap::new(),
        platform: None,
    }
}
