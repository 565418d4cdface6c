//! Capabilities: pure.

use crate::error::{Error, Result};
use orch_runtime::runtime::Security;

/// All capabilities by number.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets unless told otherwise, as with containerd.
pub(super) const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities of a process, with the prefix, in the order of their numbers. `held` are the agent's own as bits;
/// what nobody here has cannot be given, which is an error only where a pod asked for it by name.
pub(super) fn compute(security: &Security, default: &[&str], held: u64) -> Result<Vec<String>> {
    let bit = |name: &str| ALL.iter().position(|c| *c == name).map(|i| 1_u64 << i);
    let every = ALL.iter().enumerate().fold(0, |set, (i, _)| set | 1 << i) & held;
    if security.privileged {
        return Ok(names(every));
    }
    let mut set = default
        .iter()
        .filter_map(|name| bit(name))
        .fold(0, |set, b| set | b)
        & held;
    for (field, list, add) in [
        ("drop_capabilities", &security.drop_capabilities, false),
        ("add_capabilities", &security.add_capabilities, true),
    ] {
        for name in list {
            let upper = name.to_ascii_uppercase();
            let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
            let invalid = |reason: String| Error::Invalid {
                field: field.into(),
                reason,
            };
            if plain == "ALL" {
                set = if add { every } else { 0 };
                continue;
            }
            let b = bit(plain).ok_or_else(|| invalid(format!("unknown capability {name:?}")))?;
            if !add {
                set &= !b;
            } else if held & b != 0 {
                set |= b;
            } else {
                return Err(invalid(format!(
                    "the node agent does not have the capability {name:?} itself"
                )));
            }
        }
    }
    Ok(names(set))
}

fn names(set: u64) -> Vec<String> {
    let named = ALL.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
    named.map(|(_, name)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], held: u64) -> Result<Vec<String>> {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let security = Security {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            ..Default::default()
        };
        compute(&security, &DEFAULT, held)
    }

    #[test]
    fn capabilities_are_dropped_then_added() {
        assert_eq!(check(&[], &[], u64::MAX).unwrap().len(), 14);
        assert_eq!(
            check(&["NET_ADMIN", "cap_chown"], &["ALL"], u64::MAX).unwrap(),
            ["CAP_CHOWN", "CAP_NET_ADMIN"]
        );
        assert_eq!(check(&["ALL"], &["CHOWN"], u64::MAX).unwrap().len(), 41);
        assert!(
            !check(&["ALL"], &[], !(1 << 24))
                .unwrap()
                .contains(&"CAP_SYS_RESOURCE".to_owned())
        );
        assert!(check(&["SYS_RESOURCE"], &[], !(1 << 24)).is_err());
        assert!(check(&["NONSENSE"], &[], u64::MAX).is_err());
        assert!(
            check(&[], &["NET_RAW"], u64::MAX)
                .unwrap()
                .iter()
                .all(|c| c != "CAP_NET_RAW")
        );
    }
}
