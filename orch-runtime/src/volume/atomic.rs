//! Sets of files that change as one.
//!
//! ```text
//! volume/..2026_01_01_00_00_00.a1b2/dir/file    the set
//! volume/..data -> ..2026_01_01_00_00_00.a1b2   swapped by one rename
//! volume/dir    -> ..data/dir                   what a reader opens
//! ```

use super::{FileData, Ownership, Payload};
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `volume` hold exactly `files`; `stamp` names the new set and must be new. Returns whether anything changed.
pub(super) fn write(volume: &Path, files: &Payload, stamp: &str, owner: Ownership) -> io::Result<bool> {
    let current = fs::read_link(volume.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&volume.join(current), files, owner)?
        && links(volume)? == wanted_links(files)
    {
        return Ok(false);
    }
    let name = format!("..{stamp}");
    let set = volume.join(&name);
    fs::create_dir(&set)?;
    set_directory(&set, owner)?;
    for (path, file) in files {
        let target = set.join(path);
        let mut parent = set.clone();
        for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            if !parent.exists() {
                fs::create_dir(&parent)?;
                set_directory(&parent, owner)?;
            }
        }
        fs::write(&target, &file.bytes)?;
        set_file(&target, file, owner)?;
    }
    let new = volume.join(DATA_NEW);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(&name, &new)?;
    fs::rename(&new, volume.join(DATA))?;
    let wanted = wanted_links(files);
    for link in wanted.difference(&links(volume)?) {
        symlink(Path::new(DATA).join(link), volume.join(link))?;
    }
    for stale in links(volume)?.difference(&wanted) {
        fs::remove_file(volume.join(stale))?;
    }
    // Older sets, also such as a crash left behind.
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let old = entry.file_name().to_string_lossy().into_owned();
        if old.starts_with("..") && old != name && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(true)
}

fn wanted_links(files: &Payload) -> BTreeSet<String> {
    files
        .keys()
        .filter_map(|p| p.split('/').next())
        .map(str::to_owned)
        .collect()
}

fn links(volume: &Path) -> io::Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    for entry in fs::read_dir(volume)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            out.insert(name);
        }
    }
    Ok(out)
}

fn holds(set: &Path, files: &Payload, owner: Ownership) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    let mut pending: Vec<PathBuf> = vec![set.to_owned()];
    while let Some(dir) = pending.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if let Ok(relative) = path.strip_prefix(set) {
                let relative = relative.to_string_lossy().into_owned();
                let Some(file) = files.get(&relative) else {
                    return Ok(false);
                };
                let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
                if fs::read(&path)? != file.bytes || mode != file_mode(file, owner) {
                    return Ok(false);
                }
                found.insert(relative);
            }
        }
    }
    Ok(found.len() == files.len())
}

fn file_mode(file: &FileData, owner: Ownership) -> u32 {
    let base = if file.private && (owner.user.is_some() || owner.group.is_some()) {
        0o600
    } else {
        file.mode
    };
    if owner.group.is_some() { base | 0o440 } else { base }
}

fn set_file(path: &Path, file: &FileData, owner: Ownership) -> io::Result<()> {
    let user = owner.user.filter(|_| file.private);
    if user.is_some() || owner.group.is_some() {
        std::os::unix::fs::chown(path, user, owner.group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(file_mode(file, owner)))
}

fn set_directory(path: &Path, owner: Ownership) -> io::Result<()> {
    let mut mode = 0o755;
    if let Some(group) = owner.group {
        std::os::unix::fs::chown(path, None, Some(group))?;
        mode = 0o2755;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Payload {
        let one = |(p, c): &(&str, &str)| {
            (
                (*p).to_owned(),
                FileData {
                    bytes: c.as_bytes().to_vec(),
                    mode: 0o640,
                    private: false,
                },
            )
        };
        list.iter().map(one).collect()
    }

    fn read(volume: &Path) -> Vec<String> {
        let mut out: Vec<String> = fs::read_dir(volume)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|n| !n.starts_with(".."))
            .map(|n| {
                format!(
                    "{n}={}",
                    fs::read_to_string(volume.join(&n)).unwrap_or("dir".into())
                )
            })
            .collect();
        out.sort();
        out
    }

    #[test]
    fn sets_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let v = dir.path();
        let owner = Ownership::default();
        assert!(write(v, &files(&[("a", "1"), ("d/e/f", "2")]), "one", owner).unwrap());
        assert_eq!(read(v), ["a=1", "d=dir"]);
        assert_eq!(fs::read_to_string(v.join("d/e/f")).unwrap(), "2");
        assert_eq!(
            fs::metadata(v.join("a")).unwrap().permissions().mode() & 0o777,
            0o640
        );
        // Nothing changed: the set stays.
        assert!(!write(v, &files(&[("a", "1"), ("d/e/f", "2")]), "two", owner).unwrap());
        assert_eq!(fs::read_link(v.join("..data")).unwrap(), Path::new("..one"));
        assert!(write(v, &files(&[("a", "3"), ("b", "4")]), "three", owner).unwrap());
        assert_eq!(read(v), ["a=3", "b=4"]);
        assert!(!v.join("..one").exists());
        assert!(write(v, &files(&[]), "four", owner).unwrap());
        assert!(read(v).is_empty());
    }

    #[test]
    fn what_a_crash_left_is_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let v = dir.path();
        fs::create_dir(v.join("..half")).unwrap();
        symlink("..half", v.join("..data_tmp")).unwrap();
        write(v, &files(&[("a", "1")]), "one", Ownership::default()).unwrap();
        fs::remove_file(v.join("a")).unwrap();
        write(v, &files(&[("a", "1")]), "two", Ownership::default()).unwrap();
        assert_eq!(read(v), ["a=1"]);
        assert!(!v.join("..half").exists());
    }
}
