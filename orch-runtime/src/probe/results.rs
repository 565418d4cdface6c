//! What the probes of a pod say, by container.

use crate::runtime::ContainerId;
use std::collections::BTreeMap;

/// The three kinds of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Holds the other two back until it has succeeded once; failure restarts the container.
    Startup,
    /// Failure restarts the container.
    Liveness,
    /// Success makes the container ready.
    Readiness,
}

impl ProbeKind {
    /// As events name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Results for one container; `None` while a probe has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerProbes {
    /// Startup probe.
    pub startup: Option<bool>,
    /// Liveness probe.
    pub liveness: Option<bool>,
    /// Readiness probe.
    pub readiness: Option<bool>,
}

/// Results for the containers of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeResults(BTreeMap<ContainerId, ContainerProbes>);

impl ProbeResults {
    /// Results of a container.
    #[must_use]
    pub fn of(&self, id: &ContainerId) -> ContainerProbes {
        self.0.get(id).copied().unwrap_or_default()
    }

    /// Sets a result; returns whether it changed.
    pub fn set(&mut self, id: &ContainerId, kind: ProbeKind, result: Option<bool>) -> bool {
        let entry = self.0.entry(id.clone()).or_default();
        let slot = match kind {
            ProbeKind::Startup => &mut entry.startup,
            ProbeKind::Liveness => &mut entry.liveness,
            ProbeKind::Readiness => &mut entry.readiness,
        };
        std::mem::replace(slot, result) != result
    }

    /// Forgets a container.
    pub fn forget(&mut self, id: &ContainerId) {
        self.0.remove(id);
    }
}
