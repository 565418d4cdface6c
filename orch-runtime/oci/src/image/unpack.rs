//! Unpacks layers into directories that serve as the lower directories of an overlay.
//!
//! ```text
//! layers/<16 digits of the chain ID>/digest     the whole chain ID
//! layers/<16 digits of the chain ID>/fs/        the layer's own files, whiteouts in overlay's form
//! ```
//!
//! A layer on top of others is extracted through an overlay of them, mounted in a mount namespace of the thread that
//! does it: hard links to files below, directories that the archive leaves out, and links in paths then come out right,
//! and nothing stays mounted whatever happens.

use crate::error::{Attempt, Error, Result};
use crate::image::blobs::{Blobs, Hashing};
use crate::image::extract::{FEW, extract};
use crate::image::model::LayerRecord;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::ffi::CString;
use std::fs;
use std::io::{BufReader, Read};
use std::path::Path;

/// Name of a layer's directory. Short, because all lower directories must fit into one page of mount options.
pub(crate) fn layer_dir_name(chain_id: &str) -> &str {
    let hex = chain_id.strip_prefix("sha256:").unwrap_or(chain_id);
    hex.get(..16).unwrap_or(hex)
}

/// Makes sure that the layers of an image, lowest first, are unpacked under `layers`.
pub(crate) fn unpack_all(blobs: &Blobs, layers: &Path, image: &[LayerRecord], named: &Path) -> Result<()> {
    for (i, layer) in image.iter().enumerate() {
        if is_unpacked(layers, &layer.chain_id)? {
            continue;
        }
        let below: Vec<&str> = image[..i].iter().map(|l| layer_dir_name(&l.chain_id)).collect();
        let tmp = blobs.temporary();
        let done = unpack_one(blobs, layers, layer, &below, &tmp, named);
        if done.is_err() {
            // What stays behind is removed when the store opens next.
            let _ = fs::remove_dir_all(&tmp);
        }
        done?;
    }
    Ok(())
}

fn is_unpacked(layers: &Path, chain_id: &str) -> Result<bool> {
    let file = layers.join(layer_dir_name(chain_id)).join("digest");
    match fs::read_to_string(&file) {
        Ok(found) if found == chain_id => Ok(true),
        Ok(found) => Err(Error::archive(
            file,
            format!("holds layer {found}, not {chain_id}"),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("read", file, e)),
    }
}

fn unpack_one(
    blobs: &Blobs,
    layers: &Path,
    layer: &LayerRecord,
    below: &[&str],
    tmp: &Path,
    named: &Path,
) -> Result<()> {
    let content = tmp.join("layer");
    let upper = content.join("fs");
    fs::create_dir_all(&upper).at("create", &upper)?;
    let blob_name = named.join(&layer.blob);
    let blob = BufReader::with_capacity(128 * 1024, blobs.open_blob(&layer.blob)?);
    let files = if below.is_empty() {
        read_layer(blob, &upper, layer, &blob_name)?
    } else {
        let (merged, work) = (tmp.join("merged"), tmp.join("work"));
        for dir in [&merged, &work] {
            fs::create_dir(dir).at("create", dir)?;
        }
        let files = in_own_mount_namespace(|| {
            let options = overlay_options(layers, below, &upper, &work)?;
            rustix::process::chdir(layers).at("enter", layers)?;
            rustix::mount::mount(
                "overlay",
                &merged,
                "overlay",
                MountFlags::NODEV,
                options.as_c_str(),
            )
            .at("mount an overlay at", &merged)?;
            // The working directory back out of the layers lets the namespace go.
            rustix::process::chdir("/").at("enter", "/")?;
            read_layer(blob, &merged, layer, &blob_name)
        })?;
        fs::remove_dir_all(&work).at("remove", &work)?;
        files
    };
    let digest = content.join("digest");
    fs::write(&digest, &layer.chain_id).at("write", &digest)?;
    let opened = |path: &Path| fs::File::open(path).at("open", path);
    if files > FEW {
        rustix::fs::syncfs(&opened(&content)?).at("sync", &content)?;
    } else {
        for path in [&upper, &digest, &content] {
            opened(path)?.sync_all().at("sync", path)?;
        }
    }
    let to = layers.join(layer_dir_name(&layer.chain_id));
    fs::rename(&content, &to).at("rename to", &to)?;
    fs::remove_dir_all(tmp).at("remove", tmp)
}

/// Mount options for an overlay whose lower directories are named relative to `layers`, topmost first in the string.
pub(crate) fn overlay_options(layers: &Path, below: &[&str], upper: &Path, work: &Path) -> Result<CString> {
    let lower: Vec<String> = below.iter().rev().map(|name| format!("{name}/fs")).collect();
    let mut options = format!("lowerdir={}", lower.join(":"));
    for (key, path) in [("upperdir", upper), ("workdir", work)] {
        let text = path.to_str().filter(|p| !p.contains([',', ':', '\\']));
        let Some(text) = text else {
            return Err(Error::Invalid {
                field: "data directory".into(),
                reason: format!("{} must not contain ',', ':' or '\\'", path.display()),
            });
        };
        options.push_str(&format!(",{key}={text}"));
    }
    // Layers must stand on their own, so no metadata that refers to others.
    options.push_str(",index=off,metacopy=off,redirect_dir=off");
    if options.len() >= 4096 {
        return Err(Error::archive(
            layers,
            format!("{} layers are more than one overlay takes", below.len()),
        ));
    }
    CString::new(options).map_err(|_| Error::Invalid {
        field: "path".into(),
        reason: "contains a NUL".into(),
    })
}

fn read_layer(mut blob: impl Read, into: &Path, layer: &LayerRecord, named: &Path) -> Result<usize> {
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match blob.read(&mut magic[have..]).at("read", named)? {
            0 => break,
            n => have += n,
        }
    }
    let whole = std::io::Cursor::new(magic[..have].to_vec()).chain(blob);
    let files;
    let digest = if magic.starts_with(&[0x1f, 0x8b]) {
        let mut stream = Hashing::new(BufReader::with_capacity(
            64 * 1024,
            flate2::read::MultiGzDecoder::new(whole),
        ));
        files = extract(&mut stream, into, named)?;
        stream.finish()
    } else if magic == [0x28, 0xb5, 0x2f, 0xfd] {
        return Err(Error::archive(
            named,
            "the layer is compressed with zstd, which is not supported; use gzip",
        ));
    } else {
        let mut stream = Hashing::new(whole);
        files = extract(&mut stream, into, named)?;
        stream.finish()
    };
    let digest = digest.map_err(|e| Error::archive(named, format!("cannot be read: {e}")))?;
    if digest != layer.diff_id {
        return Err(Error::archive(
            named,
            format!("its content has digest {digest}, expected {}", layer.diff_id),
        ));
    }
    Ok(files)
}

/// Runs `task` on a thread of its own in a mount namespace of its own, from which nothing spreads back.
pub(crate) fn in_own_mount_namespace<T: Send>(task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("orch-mount".into())
            .spawn_scoped(scope, || {
                crate::sys::unshare(rustix::thread::UnshareFlags::NEWNS).map_err(|e| Error::Unsupported {
                    reason: format!(
                        "cannot make a mount namespace, which needs the capability CAP_SYS_ADMIN: {e}"
                    ),
                })?;
                let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", flags).at("change the propagation of", "/")?;
                task()
            });
        let thread = thread.at("start a thread for", "mounting")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
