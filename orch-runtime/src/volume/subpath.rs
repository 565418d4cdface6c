//! Paths below a volume that never lead out of it.
//!
//! A container may write links into its volume, so a path is resolved by the kernel below the open volume directory
//! (`openat2` with `RESOLVE_BENEATH`), and what is mounted is what was opened: a bind mount of the open file where the
//! agent may make one, its resolved path otherwise.

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2},
    io::Errno,
};
use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

fn open_beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    // The kernel answers EAGAIN when a rename raced with the resolution.
    for _ in 0..8 {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens `sub_path` below `volume`, making the directories that are missing with `mode`.
pub(super) fn open(volume: &Path, sub_path: &str, mode: u32) -> io::Result<OwnedFd> {
    let parts: Vec<&str> = sub_path
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    if sub_path.starts_with('/') || parts.contains(&"..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "must be a relative path without '..'",
        ));
    }
    let root = openat(
        CWD,
        volume,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut path = PathBuf::from(".");
    let mut here = open_beneath(&root, &path)?;
    for part in parts {
        path.push(part);
        here = match open_beneath(&root, &path) {
            Err(Errno::NOENT) => {
                match mkdirat(&here, part, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                open_beneath(&root, &path)?
            }
            Err(Errno::XDEV) => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "leads out of the volume",
                ));
            }
            other => other?,
        };
    }
    Ok(here)
}

/// The path that an open file has now.
pub(super) fn path_of(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Binds an open file or directory to `target`, which is made. `false` if the agent may not mount.
pub(super) fn bind(file: &OwnedFd, target: &Path) -> io::Result<bool> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(target)?;
    } else if !target.exists() {
        fs::write(target, b"")?;
    }
    match rustix::mount::mount_bind(source.as_str(), target) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_below_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::create_dir(volume.join("real")).unwrap();
        symlink("real", volume.join("inside")).unwrap();
        symlink("../secret", volume.join("out")).unwrap();
        symlink("/etc", volume.join("abs")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        let resolved = |p: &str| open(&volume, p, 0o750).and_then(|f| path_of(&f));
        assert_eq!(resolved("real").unwrap(), volume.join("real"));
        assert_eq!(resolved("inside").unwrap(), volume.join("real"));
        assert_eq!(resolved("new/dir").unwrap(), volume.join("new/dir"));
        assert_eq!(resolved("").unwrap(), volume);
        for bad in [
            "out",
            "abs",
            "abs/passwd",
            "up",
            "up/x",
            "../v",
            "/etc",
            "a/../../x",
        ] {
            assert!(resolved(bad).is_err(), "{bad}");
        }
    }
}
