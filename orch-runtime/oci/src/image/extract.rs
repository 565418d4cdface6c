//! Puts the entries of a layer's tar stream into a directory, which may be an overlay over the layers below.
//!
//! Every path is resolved by the kernel within the directory (`openat2` with `RESOLVE_IN_ROOT`), so neither `..` nor
//! a symbolic link, of this layer or one below, leads out of it. Whiteouts are carried out as deletions, which an
//! overlay turns into its own whiteouts.

use crate::error::{Attempt, Error, Result};
use rustix::fs::{
    self as rfs, AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const OTHER_META: &[u8] = b".wh..wh.";

/// Files up to this number are synced one by one, which costs less than syncing a busy file system.
pub(crate) const FEW: usize = 32;

/// Extracts `reader` into `root`. `named` is the archive's name in errors. Returns the number of files; up to [`FEW`]
/// of them are on disk, for more the caller has to sync the file system.
pub(crate) fn extract(reader: impl Read, root: &Path, named: &Path) -> Result<usize> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rfs::open(root, flags, Mode::empty()).at("open", root)?;
    let mut x = Extractor {
        root: fd,
        named,
        made: BTreeSet::new(),
        dirs: Vec::new(),
        parent: None,
        files: 0,
    };
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().map_err(|e| x.damaged(e))?;
    for entry in entries {
        let mut entry = entry.map_err(|e| x.damaged(e))?;
        let meta = Meta::of(&mut entry).map_err(|e| x.damaged(e))?;
        x.entry(&mut entry, &meta)?;
    }
    x.finish()
}

/// What the header and extensions of an entry say.
struct Meta {
    path: Vec<u8>,
    link: Option<PathBuf>,
    kind: EntryType,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timespec,
    device: (u32, u32),
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Meta {
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let header = entry.header();
        let mut meta = Self {
            path: Vec::new(),
            link: None,
            kind: header.entry_type(),
            mode: header.mode()? & 0o7777,
            uid: u32::try_from(header.uid()?).unwrap_or(0),
            gid: u32::try_from(header.gid()?).unwrap_or(0),
            mtime: Timespec {
                tv_sec: i64::try_from(header.mtime()?).unwrap_or(0),
                tv_nsec: 0,
            },
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: Vec::new(),
        };
        meta.path = entry.path_bytes().into_owned();
        meta.link = entry
            .link_name_bytes()
            .map(|b| PathBuf::from(OsString::from_vec(b.into_owned())));
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                let (key, value) = (extension.key_bytes(), extension.value_bytes());
                let number = || {
                    std::str::from_utf8(value)
                        .ok()
                        .and_then(|v| v.parse::<u32>().ok())
                };
                match key {
                    b"uid" => meta.uid = number().unwrap_or(meta.uid),
                    b"gid" => meta.gid = number().unwrap_or(meta.gid),
                    b"mtime" => meta.mtime = pax_time(value).unwrap_or(meta.mtime),
                    _ => {
                        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                            meta.xattrs
                                .push((OsStr::from_bytes(name).to_owned(), value.to_vec()));
                        }
                    }
                }
            }
        }
        Ok(meta)
    }
}

/// Seconds since the epoch with a fraction, as PAX writes times.
fn pax_time(value: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut nanos = 0;
    for (i, digit) in fraction.bytes().take(9).enumerate() {
        nanos += i64::from(digit.checked_sub(b'0').filter(|d| *d < 10)?) * 10_i64.pow(8 - i as u32);
    }
    Some(Timespec {
        tv_sec: whole.parse().ok()?,
        tv_nsec: nanos,
    })
}

struct Extractor<'a> {
    root: OwnedFd,
    named: &'a Path,
    /// Paths that this layer has put, which its opaque whiteouts spare.
    made: BTreeSet<PathBuf>,
    /// Directories whose times are set last, because filling them changes them.
    dirs: Vec<(PathBuf, Timespec)>,
    /// The directory of the entry before, open: neighbours are many.
    parent: Option<(PathBuf, OwnedFd)>,
    files: usize,
}

impl Extractor<'_> {
    fn damaged(&self, e: impl std::fmt::Display) -> Error {
        Error::archive(self.named, format!("damaged layer archive: {e}"))
    }
    fn failed(&self, path: &Path, what: &str, e: impl std::fmt::Display) -> Error {
        Error::archive(
            self.named,
            format!("cannot {what} {:?}: {e}", Path::new("/").join(path)),
        )
    }

    /// The path below the root, without `.` and leading `/`.
    fn clean(&self, raw: &[u8]) -> Result<PathBuf> {
        let mut clean = PathBuf::new();
        for part in Path::new(OsStr::from_bytes(raw)).components() {
            match part {
                Component::Normal(name) => clean.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    let path = String::from_utf8_lossy(raw);
                    return Err(Error::archive(
                        self.named,
                        format!("entry {path:?} points outside the image"),
                    ));
                }
            }
        }
        Ok(clean)
    }

    /// Opens a directory below the root, following links within it.
    fn open_dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rfs::openat2(
            &self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Opens the directory that an entry goes into, making what is missing.
    fn open_parent(&mut self, path: &Path) -> Result<OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((cached, fd)) = &self.parent
            && cached == parent
        {
            return fd.try_clone().at("duplicate descriptor of", parent);
        }
        let fd = match self.open_dir(parent) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                let mut at = PathBuf::new();
                for part in parent.components() {
                    let above = self
                        .open_dir(&at)
                        .map_err(|e| self.failed(&at, "open directory", e))?;
                    at.push(part);
                    match rfs::mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(self.failed(&at, "make directory", e)),
                    }
                }
                self.open_dir(parent)
                    .map_err(|e| self.failed(parent, "open directory", e))?
            }
            Err(e) => return Err(self.failed(parent, "open directory", e)),
        };
        let copy = fd.try_clone().at("duplicate descriptor of", parent)?;
        self.parent = Some((parent.to_owned(), copy));
        Ok(fd)
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, meta: &Meta) -> Result<()> {
        let path = self.clean(&meta.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // The root itself.
            let root = self.root.as_fd();
            set_owner_and_mode(root, meta).map_err(|e| self.failed(&path, "set the rights of", e))?;
            self.dirs.push((path, meta.mtime));
            return Ok(());
        };
        let parent = self.open_parent(&path)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(&parent, &path, &name);
        }
        self.clear_the_way(&parent, &name, &path, meta.kind)?;
        let fail = |x: &Self, what: &str, e: io::Error| x.failed(&path, what, e);
        match meta.kind {
            EntryType::Directory => {
                match rfs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(fail(self, "make directory", e.into())),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = rfs::openat(&parent, &name, flags, Mode::empty())
                    .map_err(|e| fail(self, "open directory", e.into()))?;
                set_owner_and_mode(dir.as_fd(), meta)
                    .map_err(|e| fail(self, "set the rights of", e.into()))?;
                set_xattrs(dir.as_fd(), meta).map_err(|e| fail(self, "set attributes of", e.into()))?;
                self.dirs.push((path.clone(), meta.mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rfs::openat(&parent, &name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|e| fail(self, "create", e.into()))?;
                let mut file = File::from(file);
                io::copy(entry, &mut file).map_err(|e| fail(self, "write", e))?;
                set_owner_and_mode(file.as_fd(), meta)
                    .map_err(|e| fail(self, "set the rights of", e.into()))?;
                set_xattrs(file.as_fd(), meta).map_err(|e| fail(self, "set attributes of", e.into()))?;
                let times = Timestamps {
                    last_access: meta.mtime,
                    last_modification: meta.mtime,
                };
                rfs::futimens(&file, &times).map_err(|e| fail(self, "set the times of", e.into()))?;
                self.files += 1;
                if self.files <= FEW {
                    file.sync_all().map_err(|e| fail(self, "sync", e))?;
                }
            }
            EntryType::Symlink => {
                let to = meta.link.as_deref().unwrap_or(Path::new(""));
                rfs::symlinkat(to, &parent, &name).map_err(|e| fail(self, "link", e.into()))?;
                self.own_name(&parent, &name, &path, meta)?;
            }
            EntryType::Link => self.hard_link(&parent, &name, &path, meta)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let kind = match meta.kind {
                    EntryType::Char => rfs::FileType::CharacterDevice,
                    EntryType::Block => rfs::FileType::BlockDevice,
                    _ => rfs::FileType::Fifo,
                };
                let mode = Mode::from_raw_mode(meta.mode);
                rfs::mknodat(
                    &parent,
                    &name,
                    kind,
                    mode,
                    rfs::makedev(meta.device.0, meta.device.1),
                )
                .map_err(|e| fail(self, "make device", e.into()))?;
                self.own_name(&parent, &name, &path, meta)?;
                rfs::chmodat(&parent, &name, mode, AtFlags::empty())
                    .map_err(|e| fail(self, "set the rights of", e.into()))?;
            }
            // Global headers and the like say nothing about a file.
            _ => return Ok(()),
        }
        self.made.insert(path);
        Ok(())
    }

    fn own_name(&self, parent: &OwnedFd, name: &OsStr, path: &Path, meta: &Meta) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        rfs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.failed(path, "set the owner of", e))?;
        let times = Timestamps {
            last_access: meta.mtime,
            last_modification: meta.mtime,
        };
        rfs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.failed(path, "set the times of", e))
    }

    fn hard_link(&self, parent: &OwnedFd, name: &OsStr, path: &Path, meta: &Meta) -> Result<()> {
        let target = meta
            .link
            .as_ref()
            .map(|l| self.clean(l.as_os_str().as_bytes()))
            .transpose()?
            .unwrap_or_default();
        let Some(target_name) = target.file_name() else {
            return Err(self.failed(path, "link", "it links to nothing"));
        };
        let dir = self
            .open_dir(target.parent().unwrap_or(Path::new("")))
            .map_err(|e| self.failed(&target, "find the link target", e))?;
        rfs::linkat(&dir, target_name, parent, name, AtFlags::empty())
            .map_err(|e| self.failed(path, &format!("link {:?} to", Path::new("/").join(&target)), e))
    }

    /// Removes what stands where an entry goes, unless both are directories.
    fn clear_the_way(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, kind: EntryType) -> Result<()> {
        let stat = match rfs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(self.failed(path, "look at", e)),
        };
        let is_dir = rfs::FileType::from_raw_mode(stat.st_mode) == rfs::FileType::Directory;
        if is_dir && kind == EntryType::Directory {
            return Ok(());
        }
        self.parent = None;
        remove_tree(parent, name).map_err(|e| self.failed(path, "replace", e))
    }

    fn whiteout(&mut self, parent: &OwnedFd, path: &Path, name: &OsStr) -> Result<()> {
        let bytes = name.as_bytes();
        let dir_path = path.parent().unwrap_or(Path::new(""));
        if bytes == OPAQUE {
            let dir = rfs::Dir::read_from(parent).map_err(|e| self.failed(dir_path, "list", e))?;
            for child in dir {
                let child = child.map_err(|e| self.failed(dir_path, "list", e))?;
                let child_name = OsStr::from_bytes(child.file_name().to_bytes());
                if child_name == "." || child_name == ".." || self.made.contains(&dir_path.join(child_name)) {
                    continue;
                }
                remove_tree(parent, child_name)
                    .map_err(|e| self.failed(&dir_path.join(child_name), "remove", e))?;
            }
            self.parent = None;
        } else if !bytes.starts_with(OTHER_META) {
            let hidden = OsStr::from_bytes(&bytes[WHITEOUT.len()..]);
            if hidden.is_empty() || hidden == "." || hidden == ".." {
                return Err(self.failed(path, "carry out whiteout", "it names nothing"));
            }
            match remove_tree(parent, hidden) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(self.failed(&dir_path.join(hidden), "remove", e)),
            }
            self.parent = None;
        }
        Ok(())
    }

    /// Sets the times of directories, deepest first.
    fn finish(self) -> Result<usize> {
        for (path, mtime) in self.dirs.iter().rev() {
            let times = Timestamps {
                last_access: *mtime,
                last_modification: *mtime,
            };
            match self.open_dir(path) {
                Ok(dir) => {
                    rfs::futimens(&dir, &times).map_err(|e| self.failed(path, "set the times of", e))?;
                }
                // A later entry of the same layer took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(self.failed(path, "open directory", e)),
            }
        }
        Ok(self.files)
    }
}

fn set_owner_and_mode(fd: impl AsFd, meta: &Meta) -> rustix::io::Result<()> {
    rfs::fchown(&fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
    // After the owner, because changing that takes setuid bits away.
    rfs::fchmod(&fd, Mode::from_raw_mode(meta.mode))
}

fn set_xattrs(fd: impl AsFd, meta: &Meta) -> rustix::io::Result<()> {
    for (name, value) in &meta.xattrs {
        // An image must not speak overlay's own language.
        if name.as_bytes().starts_with(b"trusted.") || name.as_bytes().starts_with(b"user.overlay.") {
            continue;
        }
        match rfs::fsetxattr(&fd, name.as_os_str(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) => {
                tracing::debug!(?name, "extended attribute not taken by the file system");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Removes a name and everything below it, following no link.
pub(crate) fn remove_tree(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
    match rfs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rfs::openat(&parent, name, flags, Mode::empty())?;
    let children: Vec<OsString> = rfs::Dir::read_from(&dir)?
        .filter_map(|child| child.ok())
        .map(|child| OsStr::from_bytes(child.file_name().to_bytes()).to_owned())
        .filter(|child| child != "." && child != "..")
        .collect();
    for child in children {
        remove_tree(&dir, &child)?;
    }
    rfs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
}
