//! The files below the embedded store, as a seam: the real directory, or one that loses, tears and fails on purpose.

use crate::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory of files. All calls block.
///
/// What is not synced may be lost, in any part and in any order: bytes until [`DiskFile::sync`], names until
/// [`Disk::sync_names`].
pub trait Disk: Send + Sync + 'static {
    /// Takes the directory for this process until the result is dropped, making it if need be.
    ///
    /// # Errors
    /// [`Error::Locked`] when another holder has it, else [`Error::Io`].
    fn lock(&self) -> Result<Box<dyn Send + Sync>, Error>;
    /// The names of all files.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;
    /// An empty file of this name, for reading and writing; an old one is emptied.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, for reading, and for writing if asked.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it, atomically.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renamings and removals durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_names(&self) -> io::Result<()>;
    /// Where a file is, for messages.
    fn path(&self, name: &str) -> PathBuf;
    /// Names the machine's present run: while it stays the same, nothing handed to the system was lost. None when
    /// that cannot be told.
    fn boot_id(&self) -> Option<[u8; 16]>;
}

/// One open file. All calls block and take `&self`; the store never writes one file from two threads.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `data` at `offset`. After an error any part of it may have been written.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file.
    ///
    /// # Errors
    /// What the system says.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Makes everything written durable. After an error nothing since the last success can be relied on.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;
}

/// A real directory.
#[derive(Debug, Clone)]
pub struct DirDisk {
    dir: PathBuf,
}

/// Holds the directory's lock; its content is the owner's process id.
const LOCK_FILE: &str = "LOCK";

impl DirDisk {
    /// The directory `dir`. It is made by [`Disk::lock`] if need be.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn file(&self, name: &str, options: &mut OpenOptions) -> io::Result<Box<dyn DiskFile>> {
        // The store may hold secrets: nobody but the owner reads its files.
        Ok(Box::new(options.mode(0o600).open(self.dir.join(name))?))
    }
}

impl Disk for DirDisk {
    fn lock(&self) -> Result<Box<dyn Send + Sync>, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |error| Error::io(action, path, error)
        };
        let mut make = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
        make.recursive(true)
            .create(&self.dir)
            .map_err(failed("create", &self.dir))?;
        let path = self.dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(&path).map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only to name the owner: it may be gone by now, or not have written yet.
                let _unread = file.read_to_string(&mut owner);
                return Err(Error::Locked {
                    path: self.dir.clone(),
                    owner: owner.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
        }
        file.set_len(0).map_err(failed("write", &path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write", &path))?;
        Ok(Box::new(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(
            name,
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true),
        )
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Box<dyn DiskFile>> {
        self.file(name, OpenOptions::new().read(true).write(write))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&hex, 16).ok().map(u128::to_be_bytes)
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, data, offset)
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A disk with names for the errors of its calls.
#[derive(Clone)]
pub(crate) struct Files(pub(crate) Arc<dyn Disk>);

impl Files {
    pub(crate) fn fail<'a>(
        &'a self,
        action: &'static str,
        name: &'a str,
    ) -> impl Fn(io::Error) -> Error + 'a {
        move |error| Error::io(action, self.0.path(name), error)
    }

    pub(crate) fn corrupt(
        &self,
        name: &str,
        offset: u64,
        key: Option<String>,
        reason: impl Into<String>,
    ) -> Error {
        Error::Corrupt {
            file: self.0.path(name),
            offset,
            key,
            reason: reason.into(),
        }
    }

    /// Makes `name` appear with the content that `fill` writes, whole or not at all.
    pub(crate) fn publish(
        &self,
        name: &str,
        fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> Result<Box<dyn DiskFile>, Error> {
        let draft = format!("{name}.tmp");
        let write = || {
            let file = self.0.create(&draft)?;
            fill(&*file)?;
            file.sync()?;
            self.0.rename(&draft, name)?;
            self.0.sync_names()?;
            Ok(file)
        };
        write().map_err(|error| {
            // Best effort: what is left is removed at the next opening.
            let _left_over = self.0.remove(&draft);
            self.fail("create", name)(error)
        })
    }
}
