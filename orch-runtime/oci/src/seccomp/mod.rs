//! System call filters without libseccomp: OCI profiles compiled to the kernel's own form.
//!
//! A profile is JSON as in `linux.seccomp` of the OCI runtime specification, which is also what a `Localhost` profile
//! of a pod holds. Rules with conditions on arguments are looked at before those without; the first that fits decides.
//! Calls of another architecture's convention (32-bit programs) are refused.

mod compile;
mod profile;

pub(crate) use compile::{Instruction, compile};
pub(crate) use profile::{Profile, runtime_default};

/// Names and numbers of this architecture's system calls, a pair a line, from the kernel's tables.
#[cfg(target_arch = "x86_64")]
const TABLE: &str = include_str!("x86_64.txt");
#[cfg(target_arch = "aarch64")]
const TABLE: &str = include_str!("aarch64.txt");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const TABLE: &str = "";

/// The kernel's number for this architecture (`AUDIT_ARCH_*`).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: u32 = 0;

/// All known system calls of this architecture.
fn table() -> impl Iterator<Item = (&'static str, u32)> {
    TABLE
        .lines()
        .filter_map(|l| l.split_once(' '))
        .filter_map(|(name, n)| Some((name, n.parse().ok()?)))
}

/// Number of a system call on this architecture.
fn number(name: &str) -> Option<u32> {
    table().find(|(n, _)| *n == name).map(|(_, number)| number)
}

#[cfg(test)]
mod tests;
