//! Starts containers and watches them to their end.

use super::client::{self, Heard, Listener};
use super::container::{Container, Meta, Phase, exit_of, read_record, time_of, write_record};
use super::{OciRuntime, Result};
use crate::error::{Attempt, Error};
use crate::sandbox::{ProcessId, Sandbox};
use crate::shim::protocol::{
    BINDS, CONFIG_FILE, ExitRecord, LOCK_FILE, OciBackend, Reply, Request, SHIM_ARG0, ShimConfig, UserRequest,
};
use crate::spec::{self, DeviceNode, Machine};
use orch_runtime::runtime::{self as seam, PidNamespace, Propagation, RuntimeError, RuntimeEvent, Seccomp};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

impl OciRuntime {
    /// Starts a created container.
    pub(super) async fn launch(&self, container: Arc<Container>) -> seam::Result<()> {
        let _changing = container.changing.lock().await;
        let meta = container.meta.lock().clone();
        let what = format!("container {}", meta.id);
        {
            let mut phase = container.phase.lock();
            let state = match &*phase {
                Phase::Created => None,
                Phase::Starting => Some("starting"),
                Phase::Running { .. } => Some("running"),
                Phase::Exited(_) => Some("exited"),
            };
            if let Some(state) = state {
                return Err(RuntimeError::WrongState {
                    what,
                    state: state.into(),
                });
            }
            *phase = Phase::Starting;
        }
        let started = self.spawn_shim(&container, &meta).await;
        let failed = match started {
            Ok((mut listener, Ok(pid))) => {
                let record = read_record(&container.dir);
                let started_at = record
                    .and_then(|r| r.started_at)
                    .map_or_else(|| self.0.env.clock.now(), time_of);
                *container.phase.lock() = Phase::Running { pid, started_at };
                let id = meta.id.as_str().into();
                self.emit(RuntimeEvent::Started {
                    id,
                    pod_uid: meta.pod_uid.clone(),
                });
                let (runtime, watched) = (self.clone(), container.clone());
                let watch = async move { runtime.watch(&watched, &mut listener).await };
                self.0.env.spawner.spawn("orch-oci-watch", Box::pin(watch));
                return Ok(());
            }
            Ok((_, Err(reason))) => reason,
            Err(e) => e.chain(),
        };
        let record = match read_record(&container.dir) {
            Some(record) if record.exit.is_some() => record,
            _ => {
                // The shim died before it could say so itself.
                let finished_at = crate::sys::wall_ns();
                let message = failed.clone();
                let exit = ExitRecord {
                    code: 128,
                    message,
                    start_error: true,
                    finished_at,
                    oom: false,
                };
                let record = crate::shim::protocol::Record {
                    exit: Some(exit),
                    ..Default::default()
                };
                write_record(&container.dir, &record)?;
                record
            }
        };
        self.conclude(&container, &record);
        Err(RuntimeError::StartFailed { reason: failed })
    }

    /// Runs the shim and hears whether the program runs.
    async fn spawn_shim(
        &self,
        container: &Arc<Container>,
        meta: &Meta,
    ) -> Result<(Listener, std::result::Result<u32, String>)> {
        let sandbox = self.sandbox(&meta.sandbox).ok_or_else(|| Error::Start {
            reason: "the sandbox is gone".into(),
        })?;
        // Read after the phase turned to starting: a stop of the sandbox sees this container, or this sees the stop.
        if sandbox.stopped {
            return Err(Error::Start {
                reason: "the sandbox was stopped".into(),
            });
        }
        let target = match &meta.spec.pid {
            PidNamespace::Target(id) => match self.container(id.as_str()).map(|c| c.phase()) {
                Some(Phase::Running { pid, .. }) => Some(pid),
                _ => {
                    return Err(Error::Start {
                        reason: format!("target container {id} does not run"),
                    });
                }
            },
            _ => None,
        };
        let (warming, pod_cgroup) = (self.clone(), sandbox.cgroup.clone());
        self.0
            .env
            .spawner
            .spawn_blocking(Box::new(move || warming.0.hierarchy.group(&pod_cgroup).warm()));
        let (runtime, meta, dir) = (self.clone(), meta.clone(), container.dir.clone());
        let socket = self
            .blocking(move || {
                let config = runtime.shim_config(&meta, &sandbox, target, &dir)?;
                spawn(&runtime.0.config.shim, &config, &dir)
            })
            .await?;
        let (mut listener, _speaker) = client::open(socket).at("listen to the shim of", &container.dir)?;
        let answer = match listener.reply().await {
            Ok(Reply::Running { pid }) => Ok(pid),
            Ok(Reply::Failed { message }) => Err(message),
            Ok(other) => Err(format!("the shim answered {other:?}")),
            Err(_) => {
                let said = fs::read_to_string(container.dir.join("shim.log")).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing").to_owned();
                Err(format!("the container's shim died: {last}"))
            }
        };
        Ok((listener, answer))
    }

    fn shim_config(
        &self,
        meta: &Meta,
        sandbox: &Sandbox,
        target: Option<u32>,
        dir: &Path,
    ) -> Result<ShimConfig> {
        let (inner, asked) = (&self.0, &meta.spec);
        let sandbox_dir = self.sandbox_dir(&sandbox.id);
        let shared = matches!(asked.pid, PidNamespace::Pod | PidNamespace::Target(_));
        let pidns = match target {
            Some(pid) => Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))),
            None if asked.pid == PidNamespace::Pod => match sandbox.namespace(&sandbox_dir, "pid") {
                Some(path) => Some(path),
                None => {
                    let reason = "the sandbox has no process namespace to share".to_owned();
                    return Err(Error::Invalid {
                        field: "pid".into(),
                        reason,
                    });
                }
            },
            None => None,
        };
        let private_binds = asked
            .mounts
            .iter()
            .enumerate()
            .filter(|(_, m)| m.propagation == Propagation::Private);
        let cgroup_v2 = matches!(inner.hierarchy, crate::cgroup::Hierarchy::V2(_));
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let hard = open_files.maximum.unwrap_or(1 << 20);
        let machine = Machine {
            held_capabilities: rustix::thread::capabilities(None).map_or(0, |c| c.permitted.bits()),
            cgroup_v2,
            filter_in_executor: inner.config.backend == OciBackend::Libcontainer
                && asked.security.seccomp != Seccomp::Unconfined
                && !asked.security.privileged,
            device_filter_v2: matches!(inner.config.backend, OciBackend::Binary(_)),
            // libcontainer looks its parent up in /proc by a number of another process namespace.
            cgroup_v1_dirs: match inner.config.backend {
                OciBackend::Libcontainer => inner.hierarchy.group(&meta.cgroup).v1_dirs(),
                OciBackend::Binary(_) => std::collections::BTreeMap::new(),
            },
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|t| t.starts_with('Y')),
            open_files: Some((hard.min(1 << 20), hard)),
            netns: sandbox.namespace(&sandbox_dir, "net"),
            ipcns: sandbox.namespace(&sandbox_dir, "ipc"),
            utsns: sandbox.namespace(&sandbox_dir, "uts"),
            pidns,
            shm: if sandbox.spec.host_ipc {
                "/dev/shm".into()
            } else {
                sandbox_dir.join("shm")
            },
            hostname: if sandbox.spec.host_network || sandbox.spec.hostname.is_empty() {
                rustix::system::uname().nodename().to_string_lossy().into_owned()
            } else {
                sandbox.spec.hostname.clone()
            },
            cgroup: meta.cgroup.clone(),
            private_binds: dir.join(BINDS),
        };
        let devices = devices(asked)?;
        let mut oci = spec::build(asked, &meta.image_config, &machine, &devices)?;
        let mut seccomp = match &asked.security.seccomp {
            _ if asked.security.privileged => None,
            Seccomp::Unconfined => None,
            Seccomp::RuntimeDefault => Some(crate::seccomp::runtime_default(&spec::capabilities(&oci))),
            Seccomp::Localhost(path) => {
                let bytes = fs::read(path).at("read", path)?;
                let bad = |reason: String| Error::Invalid {
                    field: path.display().to_string(),
                    reason,
                };
                let profile = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
                crate::seccomp::compile(&profile).map_err(bad)?;
                Some(profile)
            }
        };
        if matches!(inner.config.backend, OciBackend::Binary(_)) && seccomp.is_some() {
            oci["linux"]["seccomp"] = serde_json::json!(seccomp.take());
        }
        Ok(ShimConfig {
            id: meta.id.clone(),
            backend: inner.config.backend.clone(),
            layers_dir: inner.images.layers_dir(),
            layers: meta.layers.clone(),
            private_mounts: !asked
                .mounts
                .iter()
                .any(|m| m.propagation == Propagation::Bidirectional),
            private_binds: private_binds.map(|(i, m)| (i, m.host_path.clone())).collect(),
            user: UserRequest {
                image_user: meta.image_config.user.clone(),
                uid: asked.security.user,
                gid: asked.security.group,
                supplemental: asked.security.supplemental_groups.clone(),
                merge_image_groups: asked.security.merge_image_groups,
            },
            spec: oci,
            seccomp,
            oom_score_adj: asked.resources.oom_score_adj,
            log_path: asked.log_path.clone(),
            tty: asked.tty,
            stdin: asked.stdin,
            stdin_once: asked.stdin_once,
            cgroup: meta.cgroup.clone(),
            kill_all: shared || asked.pid == PidNamespace::Host,
        })
    }

    /// Listens to a running container's shim until the container has ended.
    pub(super) async fn watch(&self, container: &Arc<Container>, listener: &mut Listener) {
        loop {
            match listener.next().await {
                Ok(Some(Heard::Reply(Reply::Ended)) | None) | Err(_) => break,
                Ok(Some(_)) => {}
            }
        }
        let record = match read_record(&container.dir) {
            Some(record) if record.exit.is_some() => record,
            found => self.lost(container, found.unwrap_or_default()).await,
        };
        self.conclude(container, &record);
    }

    /// The shim of a container is gone without having recorded its end: ends what is left of the container.
    pub(super) async fn lost(
        &self,
        container: &Arc<Container>,
        mut record: crate::shim::protocol::Record,
    ) -> crate::shim::protocol::Record {
        let (runtime, meta, dir) = (self.clone(), container.meta.lock().clone(), container.dir.clone());
        let message = "the container's shim ended without a trace, as in a restart of the machine".to_owned();
        let finished_at = crate::sys::wall_ns();
        record.exit = Some(ExitRecord {
            code: 137,
            message,
            start_error: false,
            finished_at,
            oom: false,
        });
        let written = record.clone();
        let done = self
            .blocking(move || {
                runtime.0.hierarchy.group(&meta.cgroup).kill();
                // A container that was removed by hand has no place for a record.
                if dir.is_dir() {
                    write_record(&dir, &written)
                } else {
                    Ok(())
                }
            })
            .await;
        if let Err(e) = done {
            tracing::warn!(error = %e.chain(), "the end of a container could not be recorded");
        }
        record
    }

    /// Makes an end known.
    fn conclude(&self, container: &Container, record: &crate::shim::protocol::Record) {
        let Some(exit) = &record.exit else { return };
        if container.end(exit_of(record, exit)) {
            let (id, pod_uid) = {
                let meta = container.meta.lock();
                (meta.id.as_str().into(), meta.pod_uid.clone())
            };
            self.emit(RuntimeEvent::Exited { id, pod_uid });
        }
    }

    /// Asks a container's shim one thing.
    pub(super) async fn ask(&self, container: &Container, request: &Request) -> seam::Result<()> {
        match client::ask(&container.dir, request).await {
            Ok(Reply::Failed { message }) => Err(RuntimeError::Unavailable {
                reason: message,
                source: None,
            }),
            Ok(_) => Ok(()),
            Err(e) => Err(RuntimeError::io("talk to the container's shim", e)),
        }
    }
}

/// Runs the shim for the container in `dir`; returns the socket on which it tells how that went.
fn spawn(shim: &Path, config: &ShimConfig, dir: &Path) -> Result<StdUnixStream> {
    let file = dir.join(CONFIG_FILE);
    let bytes = serde_json::to_vec(config).map_err(|e| Error::Invalid {
        field: "container".into(),
        reason: e.to_string(),
    })?;
    fs::write(&file, bytes).at("write", &file)?;
    let lock_path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let lock = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&lock_path)
        .at("open", &lock_path)?;
    // The lock belongs to the open file, which the shim inherits: it is held without a gap for as long as the shim lives.
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).at("lock", &lock_path)?;
    let log_path = dir.join("shim.log");
    let log = File::create(&log_path).at("create", &log_path)?;
    let (ours, theirs) = StdUnixStream::pair().at("make a socket for", dir)?;
    let mut command = Command::new(shim);
    command
        .arg0(SHIM_ARG0)
        .arg("container")
        .arg(dir)
        .env_clear()
        .current_dir("/");
    command
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(lock)
        .stderr(log);
    let mut child = command.spawn().at("run", shim)?;
    // Our copies of the shim's descriptors, gone before anything is waited for.
    drop(command);
    child.wait().at("wait for", shim)?;
    Ok(ours)
}

/// The process of the shim that holds the lock of a container's directory, if one does.
pub(super) fn living_shim(dir: &Path) -> Option<ProcessId> {
    let path = dir.join(LOCK_FILE);
    let file = File::open(&path).ok()?;
    // A shim that has just been started takes a moment to write its number.
    for _ in 0..200 {
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        if let Some(id) = text.trim().parse().ok().and_then(ProcessId::of) {
            return Some(id);
        }
        crate::sys::pause(std::time::Duration::from_millis(10));
    }
    None
}

/// The device nodes that a container asks for; a directory stands for those in it.
fn devices(asked: &seam::ContainerSpec) -> Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    for device in &asked.devices {
        if device.permissions.chars().any(|c| !"rwm".contains(c)) {
            let reason = format!("{:?} must be made of r, w and m", device.permissions);
            return Err(Error::Invalid {
                field: "devices.permissions".into(),
                reason,
            });
        }
        let found = collect_devices(
            &device.host_path,
            &device.container_path,
            &device.permissions,
            &mut nodes,
        );
        found.map_err(|e| Error::Start {
            reason: format!(
                "device {}: {}",
                device.host_path.display(),
                crate::shim::plain(&e)
            ),
        })?;
    }
    if asked.security.privileged {
        let mut all = Vec::new();
        // What vanishes while it is looked at is no device of the machine any more.
        let _ = collect_devices(Path::new("/dev"), Path::new("/dev"), "rwm", &mut all);
        let special = |path: &Path| {
            ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx"]
                .iter()
                .any(|p| path.starts_with(p))
        };
        let taken: Vec<PathBuf> = nodes
            .iter()
            .map(|n: &DeviceNode| n.container_path.clone())
            .collect();
        nodes.extend(
            all.into_iter()
                .filter(|n| !special(&n.container_path) && !taken.contains(&n.container_path)),
        );
    }
    Ok(nodes)
}

fn collect_devices(
    host: &Path,
    inside: &Path,
    permissions: &str,
    nodes: &mut Vec<DeviceNode>,
) -> std::io::Result<()> {
    let meta = fs::metadata(host)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(host)?.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let below = entry.file_type()?;
            if below.is_dir() || below.is_char_device() || below.is_block_device() {
                collect_devices(&entry.path(), &inside.join(entry.file_name()), permissions, nodes)?;
            }
        }
        return Ok(());
    }
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(std::io::Error::other("not a device"));
    }
    nodes.push(DeviceNode {
        container_path: inside.to_owned(),
        kind: if kind.is_char_device() { 'c' } else { 'b' },
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o777,
        permissions: permissions.to_owned(),
    });
    Ok(())
}
