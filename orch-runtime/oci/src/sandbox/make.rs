//! Makes and unmakes the namespaces of a sandbox.
//!
//! They are made on a thread of their own, which is thrown away: a thread that has changed namespaces is of no use for
//! anything else.

use crate::error::{Attempt, Error, Result};
use crate::sandbox::{ProcessId, Sandbox, loopback, unmount};
use crate::shim::protocol::SHIM_ARG0;
use orch_runtime::runtime::{PidNamespace, SandboxSpec};
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of `/dev/shm`, as with containerd.
const SHM_OPTIONS: &std::ffi::CStr = c"mode=1777,size=65536k";

/// Makes what `sandbox` asks for in `dir`. After a failure, [`unmake`] cleans up.
pub(crate) fn make(sandbox: &mut Sandbox, dir: &Path, shim: &Path) -> Result<()> {
    let spec = &sandbox.spec;
    let sysctls = sysctl_files(spec)?;
    let ns = dir.join("ns");
    fs::create_dir_all(&ns).at("create", &ns)?;
    let mut flags = UnshareFlags::empty();
    let mut pins: Vec<(&str, PathBuf)> = Vec::new();
    let kinds = [
        ("net", UnshareFlags::NEWNET),
        ("uts", UnshareFlags::NEWUTS),
        ("ipc", UnshareFlags::NEWIPC),
    ];
    for (kind, flag) in kinds {
        if let Some(path) = sandbox.namespace(dir, kind) {
            File::create(&path).at("create", &path)?;
            flags |= flag;
            pins.push((kind, path));
        }
    }
    if !flags.is_empty() {
        let hostname = (!spec.host_network && !spec.hostname.is_empty()).then_some(spec.hostname.as_str());
        let own_net = !spec.host_network;
        on_own_thread(|| {
            crate::sys::unshare(flags).at("make namespaces in", &ns)?;
            if let Some(name) = hostname {
                rustix::system::sethostname(name.as_bytes()).at("set the host name to", name)?;
            }
            if own_net {
                loopback::bring_up().at("bring up the loopback interface in", &ns)?;
            }
            for (file, value) in &sysctls {
                fs::write(file, value).at(&format!("write {value:?} to"), file)?;
            }
            for (kind, path) in &pins {
                let source = format!("/proc/thread-self/ns/{kind}");
                rustix::mount::mount_bind(source.as_str(), path).at("pin a namespace at", path)?;
            }
            Ok(())
        })?;
    }
    if !spec.host_ipc {
        let shm = dir.join("shm");
        fs::create_dir_all(&shm).at("create", &shm)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("shm", &shm, "tmpfs", flags, SHM_OPTIONS).at("mount a tmpfs at", &shm)?;
    }
    if spec.pid == PidNamespace::Pod {
        let pause = start_pause(shim)?;
        sandbox.pause = Some(pause);
        let path = ns.join("pid");
        File::create(&path).at("create", &path)?;
        let source = format!("/proc/{}/ns/pid", pause.pid);
        rustix::mount::mount_bind(source.as_str(), &path).at("pin a namespace at", &path)?;
    }
    Ok(())
}

/// Gives the namespaces of a sandbox up. May repeat.
pub(crate) fn unmake(sandbox: &Sandbox, dir: &Path) -> Result<()> {
    if let Some(pause) = sandbox.pause {
        pause.kill();
    }
    for kind in ["net", "uts", "ipc", "pid"] {
        unmount(&dir.join("ns").join(kind))?;
    }
    unmount(&dir.join("shm"))
}

fn on_own_thread<T: Send>(task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("orch-netns".into())
            .spawn_scoped(scope, task);
        thread
            .at("start a thread for", "namespaces")?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The files of the wanted kernel parameters. Only those that belong to a namespace of the sandbox's own: any other
/// would change the machine.
fn sysctl_files(spec: &SandboxSpec) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (name, value) in &spec.sysctls {
        let path = match name.find(['.', '/']).map(|i| name.as_bytes()[i]) {
            // With a dot first, dots separate and slashes stand for dots within a name (an interface's, say).
            Some(b'.') => name
                .chars()
                .map(|c| {
                    if c == '.' {
                        '/'
                    } else if c == '/' {
                        '.'
                    } else {
                        c
                    }
                })
                .collect(),
            _ => name.clone(),
        };
        let net = path.starts_with("net/") && !spec.host_network;
        let ipc = ["kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/"]
            .iter()
            .any(|p| path.starts_with(p))
            && !spec.host_ipc;
        if !(net || ipc) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let reason = format!("{name} is no parameter of a namespace that this pod has for itself");
            return Err(Error::Invalid {
                field: "sysctls".into(),
                reason,
            });
        }
        files.push((Path::new("/proc/sys").join(path), value.clone()));
    }
    Ok(files)
}

fn start_pause(shim: &Path) -> Result<ProcessId> {
    let mut command = Command::new(shim);
    command.arg0(SHIM_ARG0).arg("pause").env_clear().current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().at("run", shim)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out)
            .read_line(&mut line)
            .at("read from the pause process of", shim)?;
    }
    child.wait().at("wait for", shim)?;
    let pid = line.trim().parse().ok().and_then(ProcessId::of);
    pid.ok_or_else(|| Error::Start {
        reason: "the pause process did not start".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_own_namespaces_are_taken() {
        let check = |name: &str, host_network: bool, expected: Option<&str>| {
            let sysctls = [(name.to_owned(), "1".to_owned())].into();
            let spec = SandboxSpec {
                sysctls,
                host_network,
                ..Default::default()
            };
            let found = sysctl_files(&spec).ok().map(|f| f[0].0.clone());
            assert_eq!(found.as_deref(), expected.map(Path::new), "{name}");
        };
        check(
            "net.ipv4.ip_forward",
            false,
            Some("/proc/sys/net/ipv4/ip_forward"),
        );
        check(
            "net/ipv4/conf/eth0.1/forwarding",
            false,
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        );
        check(
            "net.ipv4.conf.eth0/1.forwarding",
            false,
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        );
        check(
            "kernel.shm_rmid_forced",
            true,
            Some("/proc/sys/kernel/shm_rmid_forced"),
        );
        check("net.ipv4.ip_forward", true, None);
        check("kernel.panic", false, None);
        check("vm.swappiness", false, None);
        check("net/../kernel/panic", false, None);
    }
}
