//! From the agent's container to an OCI runtime configuration: pure, except for what must be asked of the machine,
//! which comes in as [`Machine`].
//!
//! Defaults (mounts, masked paths, capabilities) are those of containerd's Kubernetes plugin. The document is built
//! as JSON, as `config.json` of the OCI runtime specification 1.1 has it.

mod caps;
pub(crate) mod user;

use crate::error::{Error, Result};
use crate::image::ImageConfig;
use orch_runtime::runtime::{ContainerSpec, PidNamespace, Propagation, Resources};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What the machine and the sandbox add.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// Capabilities that the agent holds itself, as a bit set.
    pub(crate) held_capabilities: u64,
    /// A system call filter is installed by the last step before the program.
    pub(crate) filter_in_executor: bool,
    /// Control groups are of version 2.
    pub(crate) cgroup_v2: bool,
    /// The OCI runtime restricts devices under version 2 too.
    pub(crate) device_filter_v2: bool,
    /// The container's directory in each hierarchy of version 1, where the OCI runtime does not show them well itself.
    pub(crate) cgroup_v1_dirs: BTreeMap<String, PathBuf>,
    /// AppArmor is on.
    pub(crate) apparmor: bool,
    /// Limit of open files that the agent may pass on.
    pub(crate) open_files: Option<(u64, u64)>,
    /// Paths of namespaces to join.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) ipcns: Option<PathBuf>,
    pub(crate) utsns: Option<PathBuf>,
    pub(crate) pidns: Option<PathBuf>,
    /// Directory to show as `/dev/shm`.
    pub(crate) shm: PathBuf,
    pub(crate) hostname: String,
    /// Control group of the container.
    pub(crate) cgroup: String,
    /// Where the shim puts private binds of volumes: the n-th lies in `<dir>/<n>`.
    pub(crate) private_binds: PathBuf,
}

/// A device node of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    pub(crate) container_path: PathBuf,
    pub(crate) kind: char,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) permissions: String,
}

/// The command line: the pod's words over the image's, by Kubernetes' rules.
fn args(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>> {
    let args = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => [spec.command.as_slice(), &spec.args].concat(),
        (true, false) => [image.entrypoint.as_slice(), &spec.args].concat(),
        (true, true) => [image.entrypoint.as_slice(), &image.cmd].concat(),
    };
    if args.is_empty() {
        return Err(Error::Start {
            reason: "no command specified".into(),
        });
    }
    Ok(args)
}

/// The environment: a later entry of the same name wins, in the place of the first.
fn environment(spec: &ContainerSpec, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut all: indexed::Env = indexed::Env::default();
    all.put(DEFAULT_PATH);
    if spec.tty {
        all.put("TERM=xterm");
    }
    all.put(&format!("HOSTNAME={hostname}"));
    for entry in &image.env {
        all.put(entry);
    }
    for (name, value) in &spec.env {
        all.put(&format!("{name}={value}"));
    }
    all.0
}

mod indexed {
    /// An environment in order.
    #[derive(Default)]
    pub(super) struct Env(pub(super) Vec<String>);

    impl Env {
        pub(super) fn put(&mut self, entry: &str) {
            let name = entry.split('=').next().unwrap_or_default();
            match self.0.iter_mut().find(|e| e.split('=').next() == Some(name)) {
                Some(old) => entry.clone_into(old),
                None => self.0.push(entry.to_owned()),
            }
        }
    }
}

/// Builds the configuration. The user is left for the shim, which sees the image's files.
pub(crate) fn build(
    spec: &ContainerSpec,
    image: &ImageConfig,
    machine: &Machine,
    devices: &[DeviceNode],
) -> Result<Value> {
    let security = &spec.security;
    let cwd = match (spec.working_dir.as_str(), image.working_dir.as_str()) {
        ("", "") => "/",
        ("", dir) | (dir, _) => dir,
    };
    let mut process = json!({
        "terminal": spec.tty,
        "user": {"uid": 0, "gid": 0},
        "args": args(spec, image)?,
        "env": environment(spec, image, &machine.hostname),
        "cwd": Path::new("/").join(cwd),
        "noNewPrivileges": security.no_new_privs,
    });
    let mut default_caps = caps::DEFAULT.to_vec();
    if machine.cgroup_v2 && !machine.device_filter_v2 {
        // Nothing would keep a device node made inside from being a disk of the machine.
        default_caps.retain(|c| *c != "MKNOD");
    }
    let set = caps::compute(security, &default_caps, machine.held_capabilities)?;
    process["capabilities"] = json!({"bounding": set, "effective": set, "permitted": set});
    if machine.filter_in_executor && !security.no_new_privs {
        // Installing a filter takes this privilege. It is not in the bounding set, so that executing the program, which
        // is the next thing after installing, takes it away again, from root and others alike.
        let mut enough = set.clone();
        if !enough.iter().any(|c| c == "CAP_SYS_ADMIN") {
            enough.push("CAP_SYS_ADMIN".into());
        }
        process["capabilities"]["effective"] = json!(enough);
        process["capabilities"]["permitted"] = json!(enough);
    }
    if let Some((soft, hard)) = machine.open_files {
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]);
    }
    if !security.apparmor_profile.is_empty() && security.apparmor_profile != "unconfined" {
        if !machine.apparmor {
            let reason = "AppArmor is not enabled on this machine".to_owned();
            return Err(Error::Invalid {
                field: "apparmor_profile".into(),
                reason,
            });
        }
        process["apparmorProfile"] = json!(security.apparmor_profile);
    }
    let unmasked = security.privileged || security.unmasked_proc;
    let mut read_only: Vec<&str> = if unmasked { Vec::new() } else { READ_ONLY.to_vec() };
    if !security.privileged && !machine.cgroup_v1_dirs.is_empty() {
        read_only.push("/sys/fs/cgroup");
    }
    let mut linux = json!({
        "namespaces": namespaces(spec, machine),
        "cgroupsPath": format!("/{}", machine.cgroup),
        "resources": resources(&spec.resources, security.privileged, devices, machine),
        "maskedPaths": if unmasked { &[][..] } else { &MASKED[..] },
        "readonlyPaths": read_only,
    });
    if !devices.is_empty() {
        let nodes: Vec<Value> = devices
            .iter()
            .map(|d| {
                json!({
                    "path": d.container_path, "type": d.kind.to_string(), "major": d.major, "minor": d.minor,
                    "fileMode": d.mode, "uid": 0, "gid": 0,
                })
            })
            .collect();
        linux["devices"] = json!(nodes);
    }
    if spec
        .mounts
        .iter()
        .any(|m| m.propagation == Propagation::Bidirectional)
    {
        linux["rootfsPropagation"] = json!("shared");
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": security.readonly_rootfs},
        "mounts": mounts(spec, machine)?,
        "linux": linux,
    }))
}

fn namespaces(spec: &ContainerSpec, machine: &Machine) -> Vec<Value> {
    let mut all = vec![json!({"type": "mount"})];
    match spec.pid {
        PidNamespace::Host => {}
        PidNamespace::Container => all.push(json!({"type": "pid"})),
        PidNamespace::Pod | PidNamespace::Target(_) => {
            all.extend(machine.pidns.iter().map(|p| json!({"type": "pid", "path": p})));
        }
    }
    for (kind, path) in [
        ("network", &machine.netns),
        ("ipc", &machine.ipcns),
        ("uts", &machine.utsns),
    ] {
        all.extend(path.iter().map(|p| json!({"type": kind, "path": p})));
    }
    if machine.cgroup_v2 && !spec.security.privileged {
        all.push(json!({"type": "cgroup"}));
    }
    all
}

fn resources(r: &Resources, privileged: bool, devices: &[DeviceNode], machine: &Machine) -> Value {
    let mut rules = vec![json!({"allow": privileged, "access": "rwm"})];
    for d in devices {
        rules.push(json!({
            "allow": true, "type": d.kind.to_string(), "major": d.major, "minor": d.minor, "access": d.permissions,
        }));
    }
    let mut all = json!({"devices": rules});
    let (mut cpu, mut memory) = (json!({}), json!({}));
    if r.cpu_shares > 0 {
        cpu["shares"] = json!(r.cpu_shares);
    }
    if let Some(quota) = r.cpu_quota_us {
        cpu["quota"] = json!(if quota > 0 { quota } else { -1 });
    }
    if r.cpu_period_us > 0 {
        cpu["period"] = json!(r.cpu_period_us);
    }
    if !r.cpuset_cpus.is_empty() {
        cpu["cpus"] = json!(r.cpuset_cpus);
    }
    if let Some(limit) = r.memory_limit_bytes.filter(|l| *l > 0) {
        memory["limit"] = json!(limit);
    }
    if let Some(limit) = r.memory_swap_limit_bytes.filter(|l| *l > 0) {
        memory["swap"] = json!(limit);
    }
    for (key, value) in [("cpu", cpu), ("memory", memory)] {
        if value.as_object().is_some_and(|o| !o.is_empty()) {
            all[key] = value;
        }
    }
    if let Some(limit) = r.pids_limit.filter(|l| *l > 0) {
        all["pids"] = json!({"limit": limit});
    }
    if machine.cgroup_v2 && !r.unified.is_empty() {
        all["unified"] = json!(r.unified);
    }
    all
}

/// All mounts, those higher up in the tree first. A volume takes the place of a default mount at the same path.
fn mounts(spec: &ContainerSpec, machine: &Machine) -> Result<Vec<Value>> {
    let privileged = spec.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let mut all: Vec<(PathBuf, Value)> = Vec::new();
    let mut add = |to: &str, kind: &str, source: &Path, options: &[&str]| {
        let taken = spec
            .mounts
            .iter()
            .any(|m| clean(&m.container_path) == Path::new(to));
        if !taken {
            let value = json!({"destination": to, "type": kind, "source": source, "options": options});
            all.push((to.into(), value));
        }
    };
    let own = |name: &'static str| Path::new(name);
    add("/proc", "proc", own("proc"), &["nosuid", "noexec", "nodev"]);
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    add("/dev", "tmpfs", own("tmpfs"), &dev);
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    add("/dev/pts", "devpts", own("devpts"), &pts);
    // Of whichever IPC namespace the container is in.
    add(
        "/dev/mqueue",
        "mqueue",
        own("mqueue"),
        &["nosuid", "noexec", "nodev"],
    );
    add(
        "/sys",
        "sysfs",
        own("sysfs"),
        &["nosuid", "noexec", "nodev", access],
    );
    let cgroup = ["nosuid", "noexec", "nodev", "relatime", access];
    if machine.cgroup_v1_dirs.is_empty() {
        add("/sys/fs/cgroup", "cgroup", own("cgroup"), &cgroup);
    } else {
        add(
            "/sys/fs/cgroup",
            "tmpfs",
            own("tmpfs"),
            &["nosuid", "noexec", "nodev", "mode=755", "size=64k"],
        );
        for (controller, dir) in &machine.cgroup_v1_dirs {
            let to = format!("/sys/fs/cgroup/{controller}");
            add(&to, "bind", dir, &["bind", "nosuid", "noexec", "nodev", access]);
        }
    }
    add(
        "/dev/shm",
        "bind",
        &machine.shm,
        &["rbind", "nosuid", "nodev", "noexec"],
    );
    for (i, mount) in spec.mounts.iter().enumerate() {
        let to = clean(&mount.container_path);
        if !mount.container_path.is_absolute() || to == Path::new("/") {
            let reason = format!("{:?} must be an absolute path below /", mount.container_path);
            return Err(Error::Invalid {
                field: format!("mounts[{i}].container_path"),
                reason,
            });
        }
        let (propagation, source) = match mount.propagation {
            Propagation::Private => ("rprivate", machine.private_binds.join(i.to_string())),
            Propagation::HostToContainer => ("rslave", mount.host_path.clone()),
            Propagation::Bidirectional => ("rshared", mount.host_path.clone()),
        };
        let read = match (mount.read_only, mount.recursive_read_only) {
            (true, true) => "rro",
            (true, false) => "ro",
            (false, _) => "rw",
        };
        let options = ["rbind", propagation, read];
        all.push((
            to.clone(),
            json!({"destination": to, "type": "bind", "source": source, "options": options}),
        ));
    }
    all.sort_by_key(|(to, _)| to.components().count());
    Ok(all.into_iter().map(|(_, mount)| mount).collect())
}

/// The capabilities that a container ends up with.
pub(crate) fn capabilities(config: &Value) -> Vec<String> {
    let names = config["process"]["capabilities"]["bounding"].as_array();
    names
        .into_iter()
        .flatten()
        .filter_map(|c| c.as_str().map(str::to_owned))
        .collect()
}

/// A path without `.`, `..` and doubled slashes.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// The process of an exec: the container's own with another command.
pub(crate) fn exec_process(config: &Value, command: &[String], tty: bool) -> Value {
    let mut process = config["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    if tty && let Some(env) = process["env"].as_array_mut() {
        let has = env
            .iter()
            .any(|e| e.as_str().is_some_and(|e| e.starts_with("TERM=")));
        if !has {
            env.push(json!("TERM=xterm"));
        }
    }
    process
}

/// Number of a signal by its name (`SIGTERM`, `TERM`, `RTMIN+3`) or number.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(i) = NAMES.iter().position(|n| *n == name) {
        return i32::try_from(i + 1).ok();
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (34, rest),
        (_, Some(rest)) => (64, rest),
        _ => return None,
    };
    let offset = if offset.is_empty() {
        0
    } else {
        offset.parse::<i32>().ok()?
    };
    Some(base + offset).filter(|n| (34..=64).contains(n))
}

#[cfg(test)]
mod tests;
