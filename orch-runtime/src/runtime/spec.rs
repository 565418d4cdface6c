//! What the agent asks of a runtime: sandboxes and containers as plain data, fully resolved (no Kubernetes objects,
//! no defaults left to guess except those that only the image knows).

use super::ContainerId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Identity of a pod sandbox. A runtime refuses a second sandbox with the same identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PodIdentity {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// How many sandboxes of this pod came before.
    pub attempt: u32,
}

/// Which processes a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Its own only.
    #[default]
    Container,
    /// Those of every container in the sandbox (`shareProcessNamespace`).
    Pod,
    /// The machine's (`hostPID`).
    Host,
    /// Those of another container of the sandbox (ephemeral containers with a target).
    Target(ContainerId),
}

/// The namespaces that the containers of a pod share, and who the pod is.
///
/// A runtime makes a network namespace unless `host_network`, pins it to a path, brings its loopback interface up and
/// reports the path in [`super::SandboxState::netns`]; addresses and routes in it are the pod network's business. It
/// makes an IPC namespace unless `host_ipc`, with a `/dev/shm` shared by the containers, and a UTS namespace with
/// `hostname` unless `host_network`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Who the pod is.
    pub pod: PodIdentity,
    /// Host name in the UTS namespace; empty with `host_network`.
    pub hostname: String,
    /// Directory under which all log files of the pod lie.
    pub log_directory: PathBuf,
    /// Labels; kept and reported as they are.
    pub labels: BTreeMap<String, String>,
    /// Annotations; kept and reported as they are.
    pub annotations: BTreeMap<String, String>,
    /// Use the machine's network and UTS namespaces.
    pub host_network: bool,
    /// Use the machine's IPC namespace.
    pub host_ipc: bool,
    /// Process namespace of the sandbox: `Container`, `Pod` (the sandbox must then hold one to share) or `Host`.
    pub pid: PidNamespace,
    /// Kernel parameters to set in the sandbox's namespaces, such as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// Control group under which the pod's groups go, relative to the hierarchy's root; empty lets the runtime choose.
    pub cgroup_parent: String,
    /// Limits of the pod as a whole.
    pub resources: Resources,
    /// Whether a container of the pod is privileged.
    pub privileged: bool,
}

/// How mounts below a mount point spread between the machine and the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all (`None`).
    #[default]
    Private,
    /// Into the container (`HostToContainer`).
    HostToContainer,
    /// Both ways (`Bidirectional`).
    Bidirectional,
}

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path on the machine: a file or a directory that exists.
    pub host_path: PathBuf,
    /// Absolute path in the container; made if missing.
    pub container_path: PathBuf,
    /// Mount read-only.
    pub read_only: bool,
    /// Make the mounts below read-only too (only with `read_only` and [`Propagation::Private`]).
    pub recursive_read_only: bool,
    /// Propagation.
    pub propagation: Propagation,
}

/// A device node of the machine to show in the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    /// Path on the machine.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Resource limits of a container. `None` and zero mean no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight as in control groups v1 (2 to 262144; 1024 is one core); 0 leaves the default.
    pub cpu_shares: u64,
    /// CPU time per period in microseconds.
    pub cpu_quota_us: Option<i64>,
    /// The period in microseconds; 0 leaves the default of 100000.
    pub cpu_period_us: u64,
    /// Memory limit in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Limit of memory and swap together in bytes.
    pub memory_swap_limit_bytes: Option<u64>,
    /// Limit on the number of processes and threads.
    pub pids_limit: Option<u64>,
    /// Adjustment of the out-of-memory killer's badness, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Cores to run on, such as `0-3`; empty is all.
    pub cpuset_cpus: String,
    /// Further control group v2 files and their values.
    pub unified: BTreeMap<String, String>,
}

/// System call filter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's own default profile.
    RuntimeDefault,
    /// An OCI seccomp profile in a file of the machine.
    Localhost(PathBuf),
}

/// Who a container runs as and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Security {
    /// User ID; `None` takes the image's user.
    pub user: Option<u32>,
    /// Primary group ID; `None` takes the image's group, or the user's group in the image's `/etc/passwd`, or 0.
    pub group: Option<u32>,
    /// Further group IDs.
    pub supplemental_groups: Vec<u32>,
    /// Add the groups that the image's `/etc/group` gives to the user (`supplementalGroupsPolicy: Merge`).
    pub merge_image_groups: bool,
    /// All capabilities, all devices, no seccomp, writable `/proc` and `/sys`.
    pub privileged: bool,
    /// Mount the root file system read-only.
    pub readonly_rootfs: bool,
    /// Set `no_new_privs`.
    pub no_new_privs: bool,
    /// Capabilities to add to the default set, without the prefix `CAP_`; `ALL` is all.
    pub add_capabilities: Vec<String>,
    /// Capabilities to take from the default set; taken before the ones above are added. `ALL` is all.
    pub drop_capabilities: Vec<String>,
    /// System call filter.
    pub seccomp: Seccomp,
    /// Name of the AppArmor profile loaded on the machine; empty is the runtime's default.
    pub apparmor_profile: String,
    /// Leave `/proc` unmasked and writable (`procMount: Unmasked`).
    pub unmasked_proc: bool,
}

/// A container to create.
///
/// What the image decides is merged by the runtime, by Kubernetes' rules: empty `command` takes the image's entry
/// point; empty `args` takes the image's command only if `command` is empty too; image environment comes first, `env`
/// overrides it; empty `working_dir` takes the image's.
/// The agent mounts `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` and the termination message file itself; the
/// runtime provides `/proc`, `/sys`, `/dev`, `/dev/pts`, `/dev/mqueue`, `/dev/shm` (of the sandbox) and
/// `/sys/fs/cgroup` (read-only) unless a mount of the list takes that place.
/// `rlimits` are the runtime's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name of the container in the pod.
    pub name: String,
    /// How many containers of this name came before in the sandbox's pod; unique with the name and pod UID.
    pub attempt: u32,
    /// Image: a reference or ID that [`super::ImageService::image`] resolves.
    pub image: String,
    /// Program and leading arguments.
    pub command: Vec<String>,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment in order; a later entry of the same name wins.
    pub env: Vec<(String, String)>,
    /// Working directory; made if missing.
    pub working_dir: String,
    /// Labels; kept and reported as they are.
    pub labels: BTreeMap<String, String>,
    /// Annotations; kept and reported as they are.
    pub annotations: BTreeMap<String, String>,
    /// Bind mounts, in order.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Limits.
    pub resources: Resources,
    /// Identity and rights.
    pub security: Security,
    /// Process namespace.
    pub pid: PidNamespace,
    /// Give the process a terminal; its standard error is then the terminal too.
    pub tty: bool,
    /// Keep standard input open for [`super::Streams::attach`]; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close standard input when the first attached client ends it.
    pub stdin_once: bool,
    /// Signal that asks the process to end, such as `SIGTERM`; `None` takes the image's, or `SIGTERM`.
    pub stop_signal: Option<String>,
    /// File that gets the output, in CRI format: `<RFC 3339 nanoseconds> stdout|stderr F|P <text>` a line, `P` for a
    /// piece of a line longer than 16 KiB. Its directory exists. It is appended to.
    pub log_path: PathBuf,
    /// Control group of the pod, as in [`SandboxSpec::cgroup_parent`].
    pub cgroup_parent: String,
}
