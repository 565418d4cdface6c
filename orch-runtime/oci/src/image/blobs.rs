//! Content-addressed files: `blobs/sha256/<hex>`. A blob is complete and verified as soon as it has its name.

use crate::error::{Attempt, Error, Result};
use crate::image::reference::is_digest;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The blobs under a directory.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
    serial: AtomicU64,
}

impl Blobs {
    /// Opens (and makes) the blob directory of a store.
    pub(crate) fn open(store: &Path) -> Result<Self> {
        let (dir, tmp) = (store.join("blobs/sha256"), store.join("tmp"));
        for d in [&dir, &tmp] {
            fs::create_dir_all(d).at("create", d)?;
        }
        Ok(Self {
            dir,
            tmp,
            serial: AtomicU64::new(0),
        })
    }

    /// Where a blob lies.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest.strip_prefix("sha256:").unwrap_or(digest))
    }

    /// Whether a blob is there.
    pub(crate) fn has(&self, digest: &str) -> bool {
        is_digest(digest) && self.path(digest).is_file()
    }

    /// A fresh path for something unfinished. What a crash leaves there is removed when the store opens.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.tmp.join(format!(
            "{}-{}",
            std::process::id(),
            self.serial.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// Stores what `reader` gives and returns its digest and size. `expected` is the digest that it must have;
    /// `named` names the source in errors.
    pub(crate) fn put(
        &self,
        mut reader: impl Read,
        expected: Option<&str>,
        named: &Path,
    ) -> Result<(String, u64)> {
        let tmp = self.temporary();
        let done = (|| {
            let mut file = File::create(&tmp).at("create", &tmp)?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 256 * 1024];
            let mut size = 0;
            loop {
                let n = match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(Error::archive(named, format!("cannot be read: {e}"))),
                };
                hash.update(&buffer[..n]);
                file.write_all(&buffer[..n]).at("write", &tmp)?;
                size += n as u64;
            }
            let digest = digest_text(hash);
            if let Some(expected) = expected
                && expected != digest
            {
                return Err(Error::archive(
                    named,
                    format!("its digest is {digest}, expected {expected}"),
                ));
            }
            file.sync_data().at("sync", &tmp)?;
            let to = self.path(&digest);
            fs::rename(&tmp, &to).at("rename to", &to)?;
            Ok((digest, size))
        })();
        if done.is_err() {
            // Nothing to do about a failure to clean up; opening the store tries again.
            let _ = fs::remove_file(&tmp);
        }
        done
    }

    /// Reads a small blob whole.
    pub(crate) fn read(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.path(digest);
        fs::read(&path).at("read", &path)
    }

    /// Opens a blob.
    pub(crate) fn open_blob(&self, digest: &str) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).at("open", &path)
    }

    /// Size of a blob.
    pub(crate) fn size(&self, digest: &str) -> Result<u64> {
        let path = self.path(digest);
        Ok(fs::metadata(&path).at("stat", &path)?.len())
    }

    /// Digests of all blobs.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)? {
            let name = entry.at("list", &self.dir)?.file_name();
            all.push(format!("sha256:{}", name.to_string_lossy()));
        }
        all.sort();
        Ok(all)
    }

    /// Removes a blob if it is there.
    pub(crate) fn remove(&self, digest: &str) -> Result<()> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => Ok(()),
        }
    }
}

/// `sha256:` and the hexadecimal digits of a finished hash.
pub(crate) fn digest_text(hash: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::new_with_prefix(bytes))
}

/// Hashes what passes through.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    /// Starts a hash over `inner`.
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }
    /// Reads to the end and returns the digest of everything.
    pub(crate) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(digest_text(self.hash))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}
