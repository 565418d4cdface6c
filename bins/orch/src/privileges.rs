//! What this process may do, told before it is tried.

use rustix::thread::CapabilitySet;

/// What running real containers and their network needs, by what each is for.
const NEEDED: [(CapabilitySet, &str); 5] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN (namespaces and mounts)"),
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN (pod network and Service rules)",
    ),
    (CapabilitySet::CHOWN, "CAP_CHOWN (files of images)"),
    (CapabilitySet::SETUID, "CAP_SETUID (users of containers)"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE (control groups)"),
];

/// The privileges that real containers need and this process lacks; empty when it has them all.
#[must_use]
pub fn missing_for_containers() -> Vec<&'static str> {
    let effective = rustix::thread::capabilities(None)
        .map(|sets| sets.effective)
        .unwrap_or(CapabilitySet::empty());
    NEEDED
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, name)| *name)
        .collect()
}
