//! What the runtime has of one pod.

use crate::runtime::{ContainerState, SandboxState};

/// Label of sandboxes and containers: name of the pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label of sandboxes and containers: namespace of the pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label of sandboxes and containers: UID of the pod.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label of containers: their name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation of containers: how often they were restarted.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation of containers: file of the machine that takes the termination message.
pub const TERMINATION_FILE: &str = "orch.dev/termination-file";
/// Annotation of containers: where the message comes from (`File`, `FallbackToLogsOnError`).
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation of containers: name of the image, for the status.
pub const IMAGE_NAME: &str = "orch.dev/image-name";
/// Annotation of containers: reference with digest of the image, for the status.
pub const IMAGE_REF: &str = "orch.dev/image-ref";
/// Annotation of containers: image as the pod names it, to see when the pod names another.
pub const IMAGE_ASKED: &str = "orch.dev/image-asked";
/// Annotation of containers: resources that they were made with, in JSON.
pub const APPLIED: &str = "orch.dev/resources";
/// Label of sandboxes: node that made them, since several may share a machine.
pub const NODE: &str = "orch.dev/node";

/// Sandboxes and containers of a pod, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Sandboxes, the newest first.
    pub sandboxes: Vec<SandboxState>,
    /// Containers, the newest first.
    pub containers: Vec<ContainerState>,
}

impl PodView {
    /// Picks those of the pod with `uid` out of all.
    #[must_use]
    pub fn of(uid: &str, sandboxes: &[SandboxState], containers: &[ContainerState]) -> Self {
        let mut sandboxes: Vec<_> = sandboxes.iter().filter(|s| s.pod.uid == uid).cloned().collect();
        sandboxes.sort_by_key(|s| std::cmp::Reverse((s.pod.attempt, s.created_at)));
        let ours = |c: &&ContainerState| sandboxes.iter().any(|s| s.id == c.sandbox);
        let mut containers: Vec<_> = containers.iter().filter(ours).cloned().collect();
        containers.sort_by(|a, b| (b.created_at, b.attempt, &b.id).cmp(&(a.created_at, a.attempt, &a.id)));
        Self {
            sandboxes,
            containers,
        }
    }

    /// The newest sandbox.
    #[must_use]
    pub fn sandbox(&self) -> Option<&SandboxState> {
        self.sandboxes.first()
    }

    /// The sandbox to start containers in.
    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&SandboxState> {
        self.sandbox().filter(|s| s.ready)
    }

    /// The newest container of a name.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&ContainerState> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// Whether a new sandbox is needed, and its attempt: there is none, the newest is not ready or has another network
    /// than the pod wants, or more than one is ready.
    #[must_use]
    pub fn needs_sandbox(&self, host_network: bool) -> Option<u32> {
        let newest = match self.sandbox() {
            None => return Some(0),
            Some(newest) => newest,
        };
        let ready = self.sandboxes.iter().filter(|s| s.ready).count();
        let other_network = newest.netns.is_none() != host_network && newest.ips.is_empty();
        (ready > 1 || !newest.ready || other_network).then_some(newest.pod.attempt + 1)
    }

    /// Containers that run, are being made, or may run.
    pub fn alive(&self) -> impl Iterator<Item = &ContainerState> {
        self.containers.iter().filter(|c| c.phase.exit().is_none())
    }
}
