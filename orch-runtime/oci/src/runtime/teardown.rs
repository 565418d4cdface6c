//! Ends everything that lives under a data directory.

use super::adopt::unmount_below;
use super::container::Meta;
use super::launch::living_shim;
use super::{Result, cgroup_root};
use crate::cgroup::Hierarchy;
use crate::error::Attempt;
use crate::sandbox::{Sandbox, unmake};
use std::fs;
use std::path::Path;

/// Kills every container of a data directory, removes containers and sandboxes with their mounts and control groups.
/// Images and log files stay. `Ok` when there is nothing. No runtime may have the directory open.
///
/// # Errors
/// The first thing that could not be removed; the rest is still tried.
pub fn teardown(data_dir: &Path) -> Result<()> {
    if !data_dir.is_dir() {
        return Ok(());
    }
    let data_dir = data_dir.canonicalize().at("resolve", data_dir)?;
    let hierarchy = Hierarchy::detect()?;
    let (containers, sandboxes) = (data_dir.join("containers"), data_dir.join("sandboxes"));
    let mut first = Ok(());
    let mut groups = Vec::new();
    for dir in subdirs(&containers) {
        // The shim first, lest it makes what is about to be removed.
        if let Some(shim) = living_shim(&dir) {
            shim.kill();
        }
        if let Ok(Some(meta)) = Meta::load(&dir) {
            hierarchy.group(&meta.cgroup).kill();
            groups.push(meta.cgroup);
        }
    }
    for dir in subdirs(&sandboxes) {
        if let Ok(Some(sandbox)) = Sandbox::load(&dir) {
            first = first.and(unmake(&sandbox, &dir));
            groups.push(sandbox.cgroup);
        }
    }
    let root = cgroup_root(&data_dir);
    hierarchy.group(&root).kill();
    groups.push(root);
    for group in groups {
        first = first.and(hierarchy.group(&group).remove());
    }
    first = first
        .and(unmount_below(&containers))
        .and(unmount_below(&sandboxes));
    for dir in [&containers, &sandboxes] {
        first = first.and(crate::sys::remove_dir_all(dir));
    }
    first.and(crate::sys::remove_dir_all(&data_dir.join("images/pins")))
}

fn subdirs(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    all.sort();
    all
}
