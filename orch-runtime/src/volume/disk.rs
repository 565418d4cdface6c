//! Volumes on the machine's disk.
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~empty-dir/<volume>
//!                   volumes/kubernetes.io~configmap/<volume>
//!                   volume-subpaths/<volume>/<container>/<n>     bind mounts
//!                   etc-hosts, resolv.conf, containers/<name>/…  files that the agent writes
//! ```

use super::{HostPathType, MountRequest, Ownership, PodFiles, VolumeError, VolumePlan, atomic, subpath};
use async_trait::async_trait;
use orch_core::Env;
use rustix::mount::{MountFlags, UnmountFlags};
use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read, Seek},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::sync::oneshot;

/// Keeps the files of pods under a directory of its own.
#[derive(Debug, Clone)]
pub struct DiskFiles {
    root: PathBuf,
    env: Env,
}

impl DiskFiles {
    /// Keeps files under `root`, which is made when needed.
    #[must_use]
    pub fn new(env: Env, root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            env,
        }
    }

    fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    fn volume(&self, uid: &str, name: &str, plan: &VolumePlan) -> PathBuf {
        let sort = match plan {
            VolumePlan::HostPath { path, .. } => return path.clone(),
            VolumePlan::EmptyDir { .. } => "kubernetes.io~empty-dir",
            VolumePlan::Files { sort, .. } => sort,
        };
        self.pod(uid).join("volumes").join(sort).join(name)
    }

    /// Runs file work on a thread meant for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let (done, outcome) = oneshot::channel();
        self.env
            .spawner
            .spawn_blocking(Box::new(move || drop(done.send(work()))));
        outcome
            .await
            .unwrap_or_else(|_| Err(VolumeError::io("file work")(io::Error::other("was dropped"))))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Mount points below `dir`, the innermost first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return Vec::new();
    };
    let unescape = |s: &str| {
        s.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\134", "\\")
    };
    let points = table
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| PathBuf::from(unescape(p)));
    let mut below: Vec<PathBuf> = points.filter(|p| p.starts_with(dir)).collect();
    below.sort();
    below.reverse();
    below
}

/// Removes a tree of the agent's, unmounting what is mounted in it first, so that nothing else is deleted.
fn remove_tree(dir: &Path) -> Result<(), VolumeError> {
    for point in mounts_below(dir) {
        rustix::mount::unmount(&point, UnmountFlags::DETACH)
            .map_err(|e| VolumeError::io(format!("unmount {}", point.display()))(e.into()))?;
    }
    absent_is_fine(fs::remove_dir_all(dir)).map_err(VolumeError::io(format!("remove {}", dir.display())))
}

fn empty_dir(path: &Path, memory: bool, limit: Option<u64>, owner: Ownership) -> io::Result<()> {
    let is_new = !path.exists();
    fs::create_dir_all(path)?;
    if memory && !mounts_below(path).iter().any(|p| p == path) {
        let options = limit.map(|l| format!("size={l}")).unwrap_or_default();
        let data = std::ffi::CString::new(options).unwrap_or_default();
        match rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(data.as_c_str())) {
            Ok(()) => {}
            Err(rustix::io::Errno::PERM) => {
                tracing::warn!(path = %path.display(), "may not mount; a volume in memory is on disk instead");
            }
            Err(e) => return Err(e.into()),
        }
    } else if !is_new {
        return Ok(());
    }
    let mut mode = 0o777;
    if let Some(group) = owner.group {
        std::os::unix::fs::chown(path, None, Some(group))?;
        mode = 0o2777;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn host_path(path: &Path, check: HostPathType) -> Result<(), String> {
    let wrong = |what: &str| {
        Err(format!(
            "hostPath type check failed: {} is not {what}",
            path.display()
        ))
    };
    let text = |e: io::Error| format!("{}: {e}", path.display());
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(text(e)),
    };
    match (check, found) {
        (HostPathType::Unset, Some(_)) => Ok(()),
        // Without a type a missing path becomes a directory, as container runtimes do.
        (HostPathType::Unset | HostPathType::DirectoryOrCreate, None) => {
            fs::create_dir_all(path).map_err(text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(text)
        }
        (HostPathType::FileOrCreate, None) => {
            fs::write(path, b"").map_err(text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(text)
        }
        (HostPathType::Directory | HostPathType::DirectoryOrCreate, Some(t)) if t.is_dir() => Ok(()),
        (HostPathType::File | HostPathType::FileOrCreate, Some(t)) if t.is_file() => Ok(()),
        (HostPathType::Socket, Some(t)) if t.is_socket() => Ok(()),
        (HostPathType::CharDevice, Some(t)) if t.is_char_device() => Ok(()),
        (HostPathType::BlockDevice, Some(t)) if t.is_block_device() => Ok(()),
        (HostPathType::Directory | HostPathType::DirectoryOrCreate, _) => wrong("a directory"),
        (HostPathType::File | HostPathType::FileOrCreate, _) => wrong("a file"),
        (HostPathType::Socket, _) => wrong("a socket file"),
        (HostPathType::CharDevice, _) => wrong("a character device"),
        (HostPathType::BlockDevice, _) => wrong("a block device"),
    }
}

#[async_trait]
impl PodFiles for DiskFiles {
    async fn mount(
        &self,
        pod_uid: &str,
        owner: Ownership,
        volumes: &BTreeMap<String, VolumePlan>,
    ) -> Result<(), VolumeError> {
        let work: Vec<(String, PathBuf, VolumePlan)> = volumes
            .iter()
            .map(|(name, plan)| (name.clone(), self.volume(pod_uid, name, plan), plan.clone()))
            .collect();
        let now = self.env.clock.now();
        let stamp = format!("{}_{:08x}", now.as_nanosecond(), self.env.rng.next_u64() as u32);
        let pod = self.pod(pod_uid);
        self.blocking(move || {
            // Also a pod without volumes has its directory, so that a restarted agent finds it.
            fs::create_dir_all(pod.join("volumes"))
                .map_err(VolumeError::io(format!("make {}", pod.display())))?;
            for (volume, path, plan) in work {
                let failed = |reason: String| VolumeError::SetUp {
                    volume: volume.clone(),
                    reason,
                };
                match plan {
                    VolumePlan::EmptyDir { memory, limit_bytes } => {
                        empty_dir(&path, memory, limit_bytes, owner).map_err(|e| failed(e.to_string()))?;
                    }
                    VolumePlan::HostPath { path, check } => host_path(&path, check).map_err(failed)?,
                    VolumePlan::Files { files, .. } => {
                        fs::create_dir_all(&path).map_err(|e| failed(e.to_string()))?;
                        atomic::write(&path, &files, &stamp, owner).map_err(|e| failed(e.to_string()))?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    async fn unmount(&self, pod_uid: &str) -> Result<(), VolumeError> {
        let pod = self.pod(pod_uid);
        self.blocking(move || {
            remove_tree(&pod.join("volume-subpaths"))?;
            remove_tree(&pod.join("volumes"))
        })
        .await
    }

    async fn mount_path(&self, request: MountRequest<'_>) -> Result<PathBuf, VolumeError> {
        let volume = self.volume(request.pod_uid, request.volume, request.plan);
        if request.sub_path.is_empty() {
            return Ok(volume);
        }
        let (name, container) = (request.volume.to_owned(), request.container.to_owned());
        let sub_path = request.sub_path.to_owned();
        let target = self
            .pod(request.pod_uid)
            .join("volume-subpaths")
            .join(&name)
            .join(&container)
            .join(request.index.to_string());
        self.blocking(move || {
            let failed = |reason: String| VolumeError::SubPath {
                volume: name.clone(),
                container: container.clone(),
                reason,
            };
            let mode = fs::metadata(&volume).map_or(0o750, |m| m.mode() & 0o777);
            let file = subpath::open(&volume, &sub_path, mode).map_err(|e| failed(e.to_string()))?;
            // A restarted container gets a fresh look.
            for point in mounts_below(&target) {
                let _ = rustix::mount::unmount(&point, UnmountFlags::DETACH);
            }
            match subpath::bind(&file, &target) {
                Ok(true) => Ok(target),
                Ok(false) => subpath::path_of(&file).map_err(|e| failed(e.to_string())),
                Err(e) => Err(failed(e.to_string())),
            }
        })
        .await
    }

    async fn write(
        &self,
        pod_uid: &str,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<PathBuf, VolumeError> {
        let (path, content) = (self.pod(pod_uid).join(name), content.to_vec());
        self.blocking(move || {
            let write = || {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                // In place: a running container has this very file mounted.
                fs::write(&path, &content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            };
            write().map_err(VolumeError::io(format!("write {}", path.display())))?;
            Ok(path)
        })
        .await
    }

    async fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        let path = path.to_owned();
        self.blocking(move || {
            let mut bytes = Vec::new();
            let read = fs::File::open(&path).and_then(|f| f.take(limit as u64).read_to_end(&mut bytes));
            match read {
                Ok(_) => Ok(Some(bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(VolumeError::io(format!("read {}", path.display()))(e)),
            }
        })
        .await
    }

    async fn tail(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        let path = path.to_owned();
        self.blocking(move || {
            let read = || {
                let mut file = fs::File::open(&path)?;
                let length = file.metadata()?.len();
                file.seek(io::SeekFrom::Start(length.saturating_sub(limit as u64)))?;
                let mut bytes = Vec::new();
                file.take(limit as u64).read_to_end(&mut bytes)?;
                Ok(bytes)
            };
            match read() {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(VolumeError::io(format!("read {}", path.display()))(e)),
            }
        })
        .await
    }

    async fn make_log_dir(&self, path: &Path) -> Result<(), VolumeError> {
        let path = path.to_owned();
        self.blocking(move || {
            fs::create_dir_all(&path).map_err(VolumeError::io(format!("make {}", path.display())))
        })
        .await
    }

    async fn rotate_log(
        &self,
        path: &Path,
        max_bytes: u64,
        keep: usize,
        stamp: &str,
    ) -> Result<Option<PathBuf>, VolumeError> {
        let (path, stamp) = (path.to_owned(), stamp.to_owned());
        self.blocking(move || {
            let rotate = || {
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.len() >= max_bytes => {}
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => return Ok(None),
                }
                let mut older = crate::logs::rotated(&path);
                // The one made now and the one that is begun count too.
                let excess = (older.len() + 2).saturating_sub(keep.max(2));
                for file in older.drain(..excess.min(older.len())) {
                    absent_is_fine(fs::remove_file(file))?;
                }
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".{stamp}"));
                let aside = PathBuf::from(name);
                fs::rename(&path, &aside)?;
                Ok(Some(aside))
            };
            rotate().map_err(VolumeError::io(format!("rotate {}", path.display())))
        })
        .await
    }

    async fn remove_logs(&self, path: &Path) -> Result<(), VolumeError> {
        let path = path.to_owned();
        self.blocking(move || {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            absent_is_fine(removed).map_err(VolumeError::io(format!("remove {}", path.display())))
        })
        .await
    }

    async fn remove_pod(&self, pod_uid: &str) -> Result<(), VolumeError> {
        let pod = self.pod(pod_uid);
        self.blocking(move || remove_tree(&pod)).await
    }

    async fn pods(&self) -> Result<Vec<String>, VolumeError> {
        let dir = self.root.join("pods");
        self.blocking(move || {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(VolumeError::io(format!("read {}", dir.display()))(e)),
            };
            let mut uids: Vec<String> = entries
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect();
            uids.sort();
            Ok(uids)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::FileData;

    #[tokio::test]
    async fn volumes_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let files = DiskFiles::new(Env::system(), dir.path());
        let file = FileData {
            bytes: b"v".to_vec(),
            mode: 0o644,
            private: false,
        };
        let config = VolumePlan::Files {
            sort: "kubernetes.io~configmap",
            files: [("k".to_owned(), file)].into(),
        };
        let empty = VolumePlan::EmptyDir {
            memory: false,
            limit_bytes: None,
        };
        let volumes: BTreeMap<String, VolumePlan> =
            [("c".to_owned(), config.clone()), ("e".to_owned(), empty.clone())].into();
        files.mount("u", Ownership::default(), &volumes).await.unwrap();
        let request = |volume, plan, sub_path| MountRequest {
            pod_uid: "u",
            container: "a",
            volume,
            plan,
            sub_path,
            index: 0,
        };
        let path = files.mount_path(request("c", &config, "")).await.unwrap();
        assert_eq!(fs::read_to_string(path.join("k")).unwrap(), "v");
        let key = files.mount_path(request("c", &config, "k")).await.unwrap();
        assert_eq!(fs::read_to_string(key).unwrap(), "v");
        let path = files.mount_path(request("e", &empty, "")).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o777);
        fs::write(path.join("kept"), "x").unwrap();
        files.mount("u", Ownership::default(), &volumes).await.unwrap();
        assert!(path.join("kept").exists());
        assert_eq!(files.pods().await.unwrap(), ["u"]);
        let hosts = files.write("u", "etc-hosts", b"127.0.0.1", 0o644).await.unwrap();
        assert_eq!(files.read(&hosts, 3).await.unwrap().unwrap(), b"127");
        assert_eq!(files.tail(&hosts, 3).await.unwrap().unwrap(), b"0.1");
        files.unmount("u").await.unwrap();
        assert!(!path.exists() && hosts.exists());
        files.remove_pod("u").await.unwrap();
        assert!(files.pods().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn logs_rotate() {
        let dir = tempfile::tempdir().unwrap();
        let files = DiskFiles::new(Env::system(), dir.path());
        let log = dir.path().join("0.log");
        for stamp in ["1", "2", "3", "4"] {
            fs::write(&log, "12345").unwrap();
            assert_eq!(files.rotate_log(&log, 6, 3, stamp).await.unwrap(), None);
            let aside = files.rotate_log(&log, 5, 3, stamp).await.unwrap().unwrap();
            assert!(aside.exists() && !log.exists());
        }
        let names: Vec<String> = crate::logs::rotated(&log)
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["0.log.3", "0.log.4"]);
    }

    #[test]
    fn host_paths_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        assert!(host_path(&file, HostPathType::File).is_ok());
        assert!(host_path(&file, HostPathType::Directory).is_err());
        assert!(host_path(dir.path(), HostPathType::Socket).is_err());
        assert!(host_path(&dir.path().join("none"), HostPathType::Directory).is_err());
        assert!(host_path(&dir.path().join("new/dir"), HostPathType::DirectoryOrCreate).is_ok());
        assert!(dir.path().join("new/dir").is_dir());
    }
}
