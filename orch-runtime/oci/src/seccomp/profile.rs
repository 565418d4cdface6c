//! Profiles as data: parsing, and the one that goes by the name of `RuntimeDefault`.

use serde::{Deserialize, Serialize};

/// `linux.seccomp` of an OCI configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    pub(crate) default_action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_errno_ret: Option<u16>,
    #[serde(default)]
    pub(crate) syscalls: Vec<Rule>,
}

/// What happens on a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
}

/// An action for some system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rule {
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) errno_ret: Option<u16>,
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) args: Vec<Condition>,
}

/// A condition on an argument; all of a rule must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Condition {
    pub(crate) index: u32,
    pub(crate) value: u64,
    /// For [`Operator::MaskedEqual`]: what the masked argument equals; `value` is the mask.
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: Operator,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<Condition>, D::Error> {
    Ok(Option::<Vec<Condition>>::deserialize(d)?.unwrap_or_default())
}

/// System calls that a container has no business with, unless it holds the capability named before them.
const GUARDED: [(&str, &[&str]); 11] = [
    (
        "",
        &[
            "add_key",
            "keyctl",
            "request_key",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "kexec_load",
            "kexec_file_load",
            "nfsservctl",
            "pivot_root",
            "swapon",
            "swapoff",
            "sysfs",
            "_sysctl",
            "uselib",
            "userfaultfd",
            "ustat",
            "create_module",
            "get_kernel_syms",
            "query_module",
        ],
    ),
    (
        "CAP_SYS_ADMIN",
        &[
            "mount",
            "umount2",
            "unshare",
            "setns",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "bpf",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "lookup_dcookie",
            "sethostname",
            "setdomainname",
            "fanotify_init",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    (
        "CAP_SYS_MODULE",
        &["init_module", "finit_module", "delete_module"],
    ),
    (
        "CAP_SYS_TIME",
        &[
            "settimeofday",
            "clock_settime",
            "clock_adjtime",
            "adjtimex",
            "stime",
        ],
    ),
    (
        "CAP_SYS_PTRACE",
        &[
            "kcmp",
            "process_vm_readv",
            "process_vm_writev",
            "process_madvise",
            "pidfd_getfd",
        ],
    ),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_NICE",
        &[
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
            "get_mempolicy",
            "move_pages",
            "migrate_pages",
        ],
    ),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYSLOG", &["syslog"]),
];

/// The flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: [u64; 7] = [
    0x0002_0000,
    0x0200_0000,
    0x0400_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
];

/// What `RuntimeDefault` means here: everything is allowed except what needs privilege or has a history of holes in the
/// kernel, by what the container is allowed to do.
pub(crate) fn runtime_default(capabilities: &[String]) -> Profile {
    let has = |capability: &str| capabilities.iter().any(|c| c == capability);
    let mut syscalls = Vec::new();
    let mut refuse = |names: &[&str], errno: u16, args: Vec<Condition>| {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        syscalls.push(Rule {
            names,
            action: Action::Errno,
            errno_ret: Some(errno),
            args,
        });
    };
    for (capability, names) in GUARDED {
        if capability.is_empty() || !has(capability) {
            refuse(names, 1, Vec::new());
        }
    }
    if !has("CAP_SYS_ADMIN") {
        for flag in NAMESPACE_FLAGS {
            let condition = Condition {
                index: 0,
                value: flag,
                value_two: flag,
                op: Operator::MaskedEqual,
            };
            refuse(&["clone"], 1, vec![condition]);
        }
        // Its flags lie in memory, out of a filter's sight; libc falls back to clone when it is not there.
        refuse(&["clone3"], 38, Vec::new());
    }
    Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        syscalls,
    }
}
