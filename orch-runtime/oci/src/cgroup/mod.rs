//! Control groups by their files: version 1 (a directory in each controller's hierarchy) and version 2 (one directory).
//!
//! A group is named by its path relative to the hierarchies' roots, such as `orch-ab12/pod<uid>/<container>`.

mod limits;

pub(crate) use limits::{v1_files, v2_files};

use crate::error::{Attempt, Result};
use orch_runtime::runtime::Resources;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How control groups are mounted on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// Version 1: mount point of each controller, and hierarchies without one (systemd's, version 2 beside them), in
    /// which an OCI runtime may leave groups.
    V1 {
        mounts: BTreeMap<String, PathBuf>,
        others: BTreeSet<PathBuf>,
    },
    /// Version 2, at this mount point.
    V2(PathBuf),
}

/// Controllers that are used when they are there.
const CONTROLLERS: [&str; 8] = [
    "cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer",
];

/// What a group has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) working_set_bytes: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    pub(crate) pids: u64,
}

impl Hierarchy {
    /// Finds the mounted hierarchies.
    pub(crate) fn detect() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        Ok(Self::from_mountinfo(&fs::read_to_string(path).at("read", path)?))
    }

    fn from_mountinfo(text: &str) -> Self {
        let (mut v1, mut v2, mut named) = (BTreeMap::new(), None, BTreeSet::new());
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let (Some(at), mut right) = (left.split(' ').nth(4), right.split(' ')) else {
                continue;
            };
            match right.next() {
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    if options.contains("name=") {
                        named.insert(PathBuf::from(at));
                    }
                    for controller in options.split(',').filter(|o| CONTROLLERS.contains(o)) {
                        v1.entry(controller.to_owned())
                            .or_insert_with(|| PathBuf::from(at));
                    }
                }
                Some("cgroup2") => v2 = v2.or(Some(PathBuf::from(at))),
                _ => {}
            }
        }
        match v2 {
            // With controllers in version 1 the other is only for systemd's bookkeeping.
            Some(at) if v1.is_empty() => Self::V2(at),
            at => {
                named.extend(at);
                Self::V1 {
                    mounts: v1,
                    others: named,
                }
            }
        }
    }

    /// A group by its path.
    pub(crate) fn group(&self, path: &str) -> Group<'_> {
        Group {
            hierarchy: self,
            path: path.trim_matches('/').to_owned(),
        }
    }
}

/// A group, which need not exist.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    hierarchy: &'a Hierarchy,
    path: String,
}

impl Group<'_> {
    /// The group's directories, one a mount.
    fn dirs(&self) -> BTreeSet<PathBuf> {
        match self.hierarchy {
            Hierarchy::V1 { mounts, .. } => mounts.values().map(|m| m.join(&self.path)).collect(),
            Hierarchy::V2(mount) => [mount.join(&self.path)].into(),
        }
    }

    /// All directories that bear the group's name, with those of hierarchies that are not used here.
    fn all_dirs(&self) -> BTreeSet<PathBuf> {
        let mut dirs = self.dirs();
        if let Hierarchy::V1 { others, .. } = self.hierarchy {
            dirs.extend(others.iter().map(|m| m.join(&self.path)));
        }
        dirs
    }

    /// The group's directory in each hierarchy of version 1.
    pub(crate) fn v1_dirs(&self) -> BTreeMap<String, PathBuf> {
        match self.hierarchy {
            Hierarchy::V1 { mounts, .. } => mounts
                .iter()
                .map(|(c, m)| (c.clone(), m.join(&self.path)))
                .collect(),
            Hierarchy::V2(_) => BTreeMap::new(),
        }
    }

    fn dir_of(&self, controller: &str) -> Option<PathBuf> {
        match self.hierarchy {
            Hierarchy::V1 { mounts, .. } => Some(mounts.get(controller)?.join(&self.path)),
            Hierarchy::V2(mount) => Some(mount.join(&self.path)),
        }
    }

    /// Makes the group and those above it. `Ok` when it exists.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in self.dirs() {
            fs::create_dir_all(&dir).at("create the control group", &dir)?;
        }
        match self.hierarchy {
            Hierarchy::V1 { mounts, .. } => {
                if let Some(mount) = mounts.get("cpuset") {
                    inherit_cpuset(mount, Path::new(&self.path));
                }
            }
            Hierarchy::V2(mount) => {
                let mut at = mount.clone();
                for part in Path::new(&self.path).components() {
                    delegate(&at);
                    at.push(part);
                }
            }
        }
        Ok(())
    }

    /// Lets groups below this one have limits of their own.
    pub(crate) fn delegate(&self) {
        if let Hierarchy::V2(mount) = self.hierarchy {
            delegate(&mount.join(&self.path));
        }
    }

    /// Sets limits. A limit whose controller is missing is skipped.
    pub(crate) fn apply(&self, resources: &Resources) -> Result<()> {
        match self.hierarchy {
            Hierarchy::V1 { .. } => {
                let mut refused = Vec::new();
                for (controller, file, value) in v1_files(resources) {
                    let Some(path) = self.dir_of(controller).map(|d| d.join(file)) else {
                        continue;
                    };
                    // Without accounting of swap there is no such file.
                    let optional = file == "memory.memsw.limit_in_bytes" && !path.exists();
                    if !optional && fs::write(&path, &value).is_err() {
                        refused.push((path, value));
                    }
                }
                // A limit of memory must not pass that of memory and swap, so it depends which of the two may go first.
                for (path, value) in refused {
                    fs::write(&path, &value).at(&format!("write {value} to"), &path)?;
                }
            }
            Hierarchy::V2(mount) => {
                for (file, value) in v2_files(resources) {
                    let path = mount.join(&self.path).join(&file);
                    match fs::write(&path, &value) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {
                            tracing::debug!(path = %path.display(), "controller missing, limit skipped");
                        }
                        done => done.at(&format!("write {value} to"), &path)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Gets the kernel ready for a process to be moved soon.
    ///
    /// The first move in a while waits for a grace period of the kernel's (10 ms and more), those right after do not. A
    /// move of a process that cannot exist makes the kernel wait now, on a thread that nobody waits for.
    pub(crate) fn warm(&self) {
        if let Some(dir) = self.dir_of("memory") {
            // Refused, as it must be.
            let _ = fs::write(dir.join("cgroup.procs"), "2147483647");
        }
    }

    /// Moves a process into the group.
    pub(crate) fn add(&self, pid: u32) -> Result<()> {
        for dir in self.dirs() {
            let file = dir.join("cgroup.procs");
            fs::write(&file, pid.to_string()).at("write to", &file)?;
        }
        Ok(())
    }

    /// Processes of the group and of those below it.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for dir in self.dirs() {
            collect_processes(&dir, &mut found);
        }
        found
    }

    /// Sends the kill signal to everything in the group.
    pub(crate) fn kill(&self) {
        if let Hierarchy::V2(mount) = self.hierarchy
            && fs::write(mount.join(&self.path).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // Processes may fork while they are being killed, hence until there are none; a bound, should they be stuck.
        for _ in 0..64 {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for pid in processes.into_iter().filter_map(rustix::process::Pid::from_raw) {
                // Gone in the meantime is as good.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            crate::sys::pause(std::time::Duration::from_millis(2));
        }
    }

    /// How often the out-of-memory killer struck in the group.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = match self.hierarchy {
            Hierarchy::V1 { .. } => "memory.oom_control",
            Hierarchy::V2(_) => "memory.events",
        };
        let text = self
            .dir_of("memory")
            .and_then(|d| fs::read_to_string(d.join(file)).ok())
            .unwrap_or_default();
        field(&text, "oom_kill")
    }

    /// What the group has used; `None` if it does not exist.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let read =
            |controller: &str, file: &str| fs::read_to_string(self.dir_of(controller)?.join(file)).ok();
        let number = |text: Option<String>| text.and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0);
        if !self.dirs().iter().any(|d| d.is_dir()) {
            return None;
        }
        let pids = number(read("pids", "pids.current"));
        let stat = read("memory", "memory.stat").unwrap_or_default();
        let mut usage = match self.hierarchy {
            Hierarchy::V1 { .. } => Usage {
                cpu_ns: number(read("cpuacct", "cpuacct.usage")),
                memory_bytes: number(read("memory", "memory.usage_in_bytes")),
                working_set_bytes: field(&stat, "total_inactive_file"),
                rss_bytes: field(&stat, "total_rss"),
                page_faults: field(&stat, "total_pgfault"),
                major_page_faults: field(&stat, "total_pgmajfault"),
                pids,
            },
            Hierarchy::V2(_) => Usage {
                cpu_ns: field(&read("cpu", "cpu.stat").unwrap_or_default(), "usage_usec")
                    .saturating_mul(1000),
                memory_bytes: number(read("memory", "memory.current")),
                working_set_bytes: field(&stat, "inactive_file"),
                rss_bytes: field(&stat, "anon"),
                page_faults: field(&stat, "pgfault"),
                major_page_faults: field(&stat, "pgmajfault"),
                pids,
            },
        };
        usage.working_set_bytes = usage.memory_bytes.saturating_sub(usage.working_set_bytes);
        Some(usage)
    }

    /// Removes the group unless it has processes or groups below it.
    pub(crate) fn remove_if_empty(&self) {
        for dir in self.all_dirs() {
            // In use, which is what was asked.
            let _ = rustix::fs::rmdir(&dir);
        }
    }

    /// Removes the group and those below it. `Ok` when absent; processes in it must have ended.
    pub(crate) fn remove(&self) -> Result<()> {
        for dir in self.all_dirs() {
            remove_below(&dir).at("remove the control group", &dir)?;
        }
        Ok(())
    }
}

/// A number by its key in a flat keyed file.
fn field(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|l| l.split_once(' '));
    lines
        .find(|(k, _)| *k == key)
        .and_then(|(_, v)| v.trim().parse().ok())
        .unwrap_or(0)
}

/// A new version 1 cpuset has neither cores nor memory nodes and takes no process until it gets those of its parent.
fn inherit_cpuset(mount: &Path, path: &Path) {
    let (mut above, mut at) = (mount.to_owned(), mount.to_owned());
    for part in path.components() {
        at.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let empty = fs::read_to_string(at.join(file)).is_ok_and(|v| v.trim().is_empty());
            if empty && let Ok(value) = fs::read_to_string(above.join(file)) {
                // A machine without cpusets in this place has nothing to inherit.
                let _ = fs::write(at.join(file), value.trim());
            }
        }
        above.clone_from(&at);
    }
}

/// Turns on the controllers for the groups below a version 2 directory, as far as they are available.
fn delegate(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in ["cpu", "cpuset", "memory", "pids", "io"] {
        if available.split_whitespace().any(|c| c == controller) {
            // Refused while the group holds processes, which then has no limits below it.
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn collect_processes(dir: &Path, found: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(
        text.lines()
            .filter_map(|l| l.trim().parse::<i32>().ok())
            .filter(|p| *p > 0),
    );
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

/// Removes a group's directory and those below. The kernel takes a moment to let go of ended processes.
fn remove_below(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_below(&entry.path())?;
        }
    }
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 0] {
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if wait > 0 => {
                crate::sys::pause(std::time::Duration::from_millis(wait));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
