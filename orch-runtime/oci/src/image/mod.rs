//! The image store: a directory with blobs, unpacked layers and an index of names.
//!
//! ```text
//! blobs/sha256/<hex>     manifests, configurations and layers, each verified before it gets its name
//! layers/<hex16>/fs/     unpacked layers, see `unpack`
//! index.json             images by ID; replaced as a whole, so readers need no lock
//! pins/<container>       layers that a container is made of; they stay although the image goes
//! lock                   held by whoever changes something, in this process or another
//! tmp/                   unfinished things
//! ```
//!
//! Blobs and layers come before the index that names them; after a crash the store opens as it was before.

mod blobs;
mod build;
mod extract;
mod import;
mod model;
mod reference;
pub(crate) mod unpack;

pub use build::{FileContent, ImageFile};
pub use model::ImageConfig;
pub use reference::Reference;

use crate::error::{Attempt, Error, Result};
use blobs::Blobs;
use import::Found;
use model::{ConfigFile, ImageRecord, LayerRecord, StoreIndex};
use orch_runtime::runtime::Image;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Images on disk. Calls block; several processes may use one directory.
#[derive(Debug)]
pub struct ImageStore {
    dir: PathBuf,
    blobs: Blobs,
}

/// An image resolved for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Its ID: the digest of its configuration.
    pub id: String,
    /// What it says about the process.
    pub config: ImageConfig,
    /// Names of its unpacked layers' directories under [`ImageStore::layers_dir`], lowest first.
    pub layers: Vec<String>,
}

/// Holds the store's lock until dropped.
struct Locked(#[expect(dead_code, reason = "dropping it releases the lock")] File);

impl ImageStore {
    /// Opens the store in `dir`, making it if needed, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let blobs = Blobs::open(&dir)?;
        for sub in ["layers", "pins"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).at("create", &sub)?;
        }
        let store = Self { dir, blobs };
        if let Some(_locked) = store.try_lock()? {
            let tmp = store.dir.join("tmp");
            for entry in fs::read_dir(&tmp).at("list", &tmp)? {
                let path = entry.at("list", &tmp)?.path();
                let done = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                done.at("remove", &path)?;
            }
        }
        Ok(store)
    }

    /// Where the unpacked layers lie.
    #[must_use]
    pub fn layers_dir(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// All images, by ID.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::InvalidArchive`] if the index is damaged.
    pub fn list(&self) -> Result<Vec<Image>> {
        Ok(self
            .index()?
            .images
            .iter()
            .map(|(id, record)| describe(id, record))
            .collect())
    }

    /// The image that a reference or ID names.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], and as [`ImageStore::list`].
    pub fn get(&self, reference: &str) -> Result<Option<Image>> {
        let index = self.index()?;
        Ok(lookup(&index, reference)?.map(|(id, record)| describe(id, record)))
    }

    /// Imports the images of an archive: an OCI layout (directory, tar, tar.gz) or the output of `docker save`.
    ///
    /// # Errors
    /// [`Error::InvalidArchive`] naming the file at fault; [`Error::Io`].
    pub fn import(&self, archive: &Path) -> Result<Vec<Image>> {
        let _locked = self.lock()?;
        let mut stored = BTreeSet::new();
        let done = import::read_archive(&self.blobs, archive, &mut stored)
            .and_then(|found| found.into_iter().map(|f| self.adopt(f, archive)).collect());
        self.collect_garbage(&stored)?;
        done
    }

    /// Makes an image of one layer from `files` and gives it `names`. The same input gives the same image.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::Invalid`], [`Error::Io`].
    pub fn build(&self, names: &[String], files: &[ImageFile], config: &ImageConfig) -> Result<Image> {
        let _locked = self.lock()?;
        let mut stored = BTreeSet::new();
        let named = PathBuf::from(names.first().map_or("image", String::as_str));
        let done =
            build::build(&self.blobs, names, files, config, &mut stored).and_then(|f| self.adopt(f, &named));
        self.collect_garbage(&stored)?;
        done
    }

    /// Gives an image one more name.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::InvalidReference`], [`Error::Io`].
    pub fn tag(&self, reference: &str, name: &str) -> Result<Image> {
        let _locked = self.lock()?;
        let mut index = self.index()?;
        let id = lookup(&index, reference)?.map(|(id, _)| id.clone());
        let id = id.ok_or_else(|| Error::NoImage {
            reference: reference.to_owned(),
        })?;
        name_image(
            &mut index,
            &id,
            &Reference::parse(name)?.tagged().into_iter().collect::<Vec<_>>(),
        );
        self.write_index(&index)?;
        let record = index.images.get(&id).cloned().unwrap_or_default();
        Ok(describe(&id, &record))
    }

    /// Removes a name, or by ID the image with all its names. `Ok` when absent. What containers are made of stays.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::Io`].
    pub fn remove(&self, reference: &str) -> Result<()> {
        let _locked = self.lock()?;
        let mut index = self.index()?;
        let Some((id, _)) = lookup(&index, reference)? else {
            return Ok(());
        };
        let id = id.clone();
        if reference::as_image_id(reference).is_some() {
            index.images.remove(&id);
        } else if let Some(record) = index.images.get_mut(&id) {
            let reference = Reference::parse(reference)?;
            match reference.digested() {
                Some(digested) => record.digests.retain(|d| *d != digested),
                None => record.tags.retain(|t| Some(t) != reference.tagged().as_ref()),
            }
            let repositories: BTreeSet<&str> = record
                .tags
                .iter()
                .filter_map(|t| Some(t.rsplit_once(':')?.0))
                .collect();
            record
                .digests
                .retain(|d| d.split_once('@').is_some_and(|(r, _)| repositories.contains(r)));
            if record.tags.is_empty() && record.digests.is_empty() {
                index.images.remove(&id);
            }
        }
        self.write_index(&index)?;
        self.collect_garbage(&self.blobs.list()?.into_iter().collect())
    }

    /// Resolves an image for a container and keeps its layers until [`ImageStore::unpin`].
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::InvalidReference`], [`Error::Io`].
    pub fn pin(&self, container: &str, reference: &str) -> Result<ResolvedImage> {
        let _locked = self.lock()?;
        let index = self.index()?;
        let found = lookup(&index, reference)?;
        let (id, record) = found.ok_or_else(|| Error::NoImage {
            reference: reference.to_owned(),
        })?;
        let layers: Vec<String> = record
            .layers
            .iter()
            .map(|l| unpack::layer_dir_name(&l.chain_id).to_owned())
            .collect();
        let pin = self.dir.join("pins").join(container);
        fs::write(&pin, layers.join("\n")).at("write", &pin)?;
        Ok(ResolvedImage {
            id: id.clone(),
            config: record.config.clone(),
            layers,
        })
    }

    /// Gives up what [`ImageStore::pin`] kept. `Ok` when absent.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn unpin(&self, container: &str) -> Result<()> {
        let pin = self.dir.join("pins").join(container);
        let layers = match fs::read_to_string(&pin) {
            Ok(layers) => layers,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("read", pin, e)),
        };
        fs::remove_file(&pin).at("remove", &pin)?;
        let index = self.index()?;
        let used = used_layers(&index);
        if layers.lines().all(|l| used.contains(l)) {
            return Ok(());
        }
        let _locked = self.lock()?;
        self.collect_garbage(&BTreeSet::new())
    }

    /// Takes an image whose blobs are stored into the index, its layers unpacked.
    fn adopt(&self, found: Found, archive: &Path) -> Result<Image> {
        let Found {
            manifest_digest,
            manifest,
            names,
        } = found;
        let blob = |digest: &str| archive.join("blobs").join(digest.replace(':', "/"));
        let missing =
            |digest: &str| Error::archive(blob(digest), "is missing, but the image's manifest names it");
        for descriptor in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if !self.blobs.has(&descriptor.digest) {
                return Err(missing(&descriptor.digest));
            }
        }
        let id = manifest.config.digest.clone();
        let config: ConfigFile = serde_json::from_slice(&self.blobs.read(&id)?)
            .map_err(|e| Error::archive(blob(&id), format!("is no image configuration: {e}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let reason = format!(
                "lists {} layers, the manifest {}",
                diff_ids.len(),
                manifest.layers.len()
            );
            return Err(Error::archive(blob(&id), reason));
        }
        let mut layers: Vec<LayerRecord> = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let chain_id = match layers.last() {
                Some(below) => {
                    let mut hash = Sha256::new();
                    hash.update(format!("{} {diff_id}", below.chain_id));
                    blobs::digest_text(hash)
                }
                None => diff_id.clone(),
            };
            if !reference::is_digest(&chain_id) {
                return Err(Error::archive(
                    blob(&id),
                    format!("lists a layer {diff_id:?} that is no digest"),
                ));
            }
            layers.push(LayerRecord {
                blob: descriptor.digest.clone(),
                diff_id: diff_id.clone(),
                chain_id,
            });
        }
        unpack::unpack_all(&self.blobs, &self.layers_dir(), &layers, archive)?;
        let mut size_bytes = 0;
        for descriptor in std::iter::once(&manifest.config).chain(&manifest.layers) {
            size_bytes += self.blobs.size(&descriptor.digest)?;
        }
        let mut index = self.index()?;
        let record = index.images.entry(id.clone()).or_default();
        record.manifest = manifest_digest;
        record.size_bytes = size_bytes;
        record.layers = layers;
        record.config = config.config.unwrap_or_default();
        name_image(&mut index, &id, &names);
        self.write_index(&index)?;
        let record = index.images.get(&id).cloned().unwrap_or_default();
        Ok(describe(&id, &record))
    }

    fn index(&self) -> Result<StoreIndex> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| Error::archive(path, format!("is damaged: {e}")))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(StoreIndex::default()),
            Err(e) => Err(Error::io("read", path, e)),
        }
    }

    fn write_index(&self, index: &StoreIndex) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(index).map_err(|e| Error::archive(&self.dir, e.to_string()))?;
        crate::sys::replace_file(&self.dir.join("index.json"), &bytes)
    }

    fn lock(&self) -> Result<Locked> {
        let path = self.dir.join("lock");
        let file = File::create(&path).at("open", &path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive))
            .at("lock", &path)?;
        Ok(Locked(file))
    }

    fn try_lock(&self) -> Result<Option<Locked>> {
        let path = self.dir.join("lock");
        let file = File::create(&path).at("open", &path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Locked(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::io("lock", path, e)),
        }
    }

    /// Removes those of `candidates` that no image refers to, and every layer that no image and no container uses.
    fn collect_garbage(&self, candidates: &BTreeSet<String>) -> Result<()> {
        let index = self.index()?;
        let mut blobs = BTreeSet::new();
        for (id, record) in &index.images {
            blobs.insert(id.as_str());
            blobs.insert(record.manifest.as_str());
            blobs.extend(record.layers.iter().map(|l| l.blob.as_str()));
        }
        for candidate in candidates.iter().filter(|c| !blobs.contains(c.as_str())) {
            self.blobs.remove(candidate)?;
        }
        let mut used = used_layers(&index);
        let pins = self.dir.join("pins");
        for entry in fs::read_dir(&pins).at("list", &pins)? {
            let path = entry.at("list", &pins)?.path();
            match fs::read_to_string(&path) {
                Ok(layers) => used.extend(layers.lines().map(str::to_owned)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("read", path, e)),
            }
        }
        let layers = self.layers_dir();
        for entry in fs::read_dir(&layers).at("list", &layers)? {
            let entry = entry.at("list", &layers)?;
            if !used.contains(&*entry.file_name().to_string_lossy()) {
                // Renamed first, so that a crash in the middle leaves no half of a layer that looks whole.
                let tmp = self.blobs.temporary();
                fs::rename(entry.path(), &tmp).at("rename", entry.path())?;
                fs::remove_dir_all(&tmp).at("remove", &tmp)?;
            }
        }
        Ok(())
    }
}

fn used_layers(index: &StoreIndex) -> BTreeSet<String> {
    let layers = index.images.values().flat_map(|r| &r.layers);
    layers
        .map(|l| unpack::layer_dir_name(&l.chain_id).to_owned())
        .collect()
}

/// Gives `names` to the image `id` and takes them from any other.
fn name_image(index: &mut StoreIndex, id: &str, names: &[String]) {
    for (other, record) in &mut index.images {
        if other != id {
            record.tags.retain(|t| !names.contains(t));
        }
    }
    if let Some(record) = index.images.get_mut(id) {
        record.tags.extend(names.iter().cloned());
        record.tags.sort();
        record.tags.dedup();
        for tag in &record.tags {
            if let Some((repository, _)) = tag.rsplit_once(':') {
                record.digests.push(format!("{repository}@{}", record.manifest));
            }
        }
        record.digests.sort();
        record.digests.dedup();
    }
}

fn lookup<'a>(index: &'a StoreIndex, reference: &str) -> Result<Option<(&'a String, &'a ImageRecord)>> {
    if let Some(id) = reference::as_image_id(reference) {
        return Ok(index.images.get_key_value(&id));
    }
    let reference = Reference::parse(reference)?;
    let (tagged, digested) = (reference.tagged(), reference.digested());
    Ok(index
        .images
        .iter()
        .find(|(_, record)| match (&digested, &tagged) {
            (Some(digested), _) => record.digests.contains(digested),
            (None, Some(tagged)) => record.tags.contains(tagged),
            (None, None) => false,
        }))
}

fn describe(id: &str, record: &ImageRecord) -> Image {
    let user = record.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok();
    Image {
        id: id.to_owned(),
        tags: record.tags.clone(),
        digests: record.digests.clone(),
        size_bytes: record.size_bytes,
        uid: if user.is_empty() { Some(0) } else { uid },
        username: if uid.is_none() {
            user.to_owned()
        } else {
            String::new()
        },
    }
}

#[cfg(test)]
mod tests;
