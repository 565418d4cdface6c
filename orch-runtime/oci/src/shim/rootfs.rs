//! The container's root file system, and what must be looked up in it before the container exists.

use crate::error::{Attempt, Error, Result};
use crate::image::unpack::overlay_options;
use crate::shim::protocol::{BINDS, ShimConfig};
use crate::spec::user;
use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// Larger files are no user lists.
const USERS_MAX: u64 = 8 << 20;

/// Mounts the overlay at `dir/rootfs`, resolves the user and writes the bundle's `config.json`.
pub(crate) fn prepare(config: &ShimConfig, dir: &Path) -> Result<()> {
    if config.private_mounts {
        crate::sys::unshare(UnshareFlags::NEWNS).at("make a mount namespace for", dir)?;
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).at("change the propagation of", "/")?;
    }
    let rootfs = dir.join("rootfs");
    mount_overlay(config, dir, &rootfs)?;
    for (number, host_path) in &config.private_binds {
        bind_privately(host_path, &dir.join(BINDS).join(number.to_string()))?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rfs::open(&rootfs, flags, Mode::empty()).at("open", &rootfs)?;
    let passwd = read_within(&root, "etc/passwd")?;
    let group = read_within(&root, "etc/group")?;
    let who = user::resolve(&config.user, &passwd, &group).map_err(|reason| Error::Start { reason })?;
    let mut spec = config.spec.clone();
    spec["process"]["user"] = serde_json::json!({
        "uid": who.uid, "gid": who.gid, "additionalGids": who.groups,
    });
    if let Some(cwd) = spec["process"]["cwd"].as_str() {
        make_dirs(&root, Path::new(cwd)).at("make the working directory", cwd)?;
    }
    let file = dir.join(crate::shim::protocol::BUNDLE_FILE);
    let bytes = serde_json::to_vec(&spec).map_err(|e| Error::Start {
        reason: e.to_string(),
    })?;
    fs::write(&file, bytes).at("write", &file)
}

/// Shows a path of the machine with what is mounted below it now, and nothing that is mounted later.
fn bind_privately(host_path: &Path, at: &Path) -> Result<()> {
    let mount = || format!("mount {}", host_path.display());
    let meta = fs::metadata(host_path).map_err(|e| Error::Start {
        reason: format!("{}: {}", mount(), crate::shim::plain(&e)),
    })?;
    if meta.is_dir() {
        fs::create_dir_all(at).at("create", at)?;
    } else {
        if let Some(above) = at.parent() {
            fs::create_dir_all(above).at("create", above)?;
        }
        File::create(at).at("create", at)?;
    }
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_bind_recursive(host_path, at)
        .and_then(|()| rustix::mount::mount_change(at, flags))
        .map_err(|e| Error::Start {
            reason: format!("{}: {}", mount(), crate::shim::plain(&e.into())),
        })
}

fn mount_overlay(config: &ShimConfig, dir: &Path, rootfs: &Path) -> Result<()> {
    let (upper, work, empty) = (dir.join("upper"), dir.join("work"), dir.join("empty"));
    for d in [rootfs, &upper, &work] {
        fs::create_dir_all(d).at("create", d)?;
    }
    let (base, layers): (&Path, Vec<&str>) = if config.layers.is_empty() {
        fs::create_dir_all(empty.join("fs")).at("create", &empty)?;
        (dir, vec!["empty"])
    } else {
        (
            &config.layers_dir,
            config.layers.iter().map(String::as_str).collect(),
        )
    };
    let options = overlay_options(base, &layers, &upper, &work)?;
    rustix::process::chdir(base).at("enter", base)?;
    // The writable layer dies with the container, so there is no reason to sync it when it is unmounted.
    let volatile =
        CString::new([options.as_bytes(), b",volatile"].concat()).unwrap_or_else(|_| options.clone());
    let flags = MountFlags::empty();
    let done = rustix::mount::mount("overlay", rootfs, "overlay", flags, volatile.as_c_str())
        .or_else(|_| rustix::mount::mount("overlay", rootfs, "overlay", flags, options.as_c_str()));
    rustix::process::chdir("/").at("enter", "/")?;
    done.at("mount an overlay at", rootfs)?;
    // What the OCI runtime mounts in it must not show up on the machine.
    rustix::mount::mount_change(rootfs, MountPropagationFlags::PRIVATE)
        .at("change the propagation of", rootfs)
}

/// A text file of the image, following links within it; empty if there is none.
fn read_within(root: &OwnedFd, path: &str) -> Result<String> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rfs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        Err(e) => return Err(Error::io("open in the image", path, e)),
    };
    let file = File::from(fd);
    if !file.metadata().at("stat in the image", path)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(USERS_MAX)
        .read_to_end(&mut bytes)
        .at("read in the image", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes a directory and those above it within the image.
fn make_dirs(root: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() || rfs::openat2(root, relative, flags, Mode::empty(), resolve).is_ok()
    {
        return Ok(());
    }
    let mut at = std::path::PathBuf::from(".");
    for part in relative
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
    {
        let above = rfs::openat2(root, &at, flags, Mode::empty(), resolve)?;
        match rfs::mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        at.push(part);
    }
    Ok(())
}
