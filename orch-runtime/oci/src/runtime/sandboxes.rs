//! [`seam::SandboxRuntime`].

use super::container::Container;
use super::{OciRuntime, cgroup_root};
use crate::error::Attempt;
use crate::sandbox::{self, ProcessId, Sandbox};
use async_trait::async_trait;
use orch_runtime::runtime::{
    self as seam, PidNamespace, RuntimeError, RuntimeEvent, SandboxId, SandboxSpec, SandboxState,
};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl seam::SandboxRuntime for OciRuntime {
    async fn run_sandbox(&self, spec: &SandboxSpec) -> seam::Result<SandboxState> {
        let (runtime, spec) = (self.clone(), spec.clone());
        self.through(
            "orch-oci-sandbox",
            Box::pin(async move { runtime.make_sandbox(spec).await }),
        )
        .await
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> seam::Result<()> {
        let (runtime, id) = (self.clone(), id.clone());
        self.through(
            "orch-oci-sandbox",
            Box::pin(async move { runtime.halt_sandbox(&id).await }),
        )
        .await
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> seam::Result<()> {
        let (runtime, id) = (self.clone(), id.clone());
        self.through(
            "orch-oci-sandbox",
            Box::pin(async move { runtime.drop_sandbox(&id).await }),
        )
        .await
    }

    async fn list_sandboxes(&self) -> seam::Result<Vec<SandboxState>> {
        let sandboxes: Vec<Sandbox> = self.0.state.lock().sandboxes.values().cloned().collect();
        Ok(sandboxes
            .iter()
            .map(|s| s.state(&self.sandbox_dir(&s.id)))
            .collect())
    }
}

impl OciRuntime {
    async fn make_sandbox(&self, spec: SandboxSpec) -> seam::Result<SandboxState> {
        if matches!(spec.pid, PidNamespace::Target(_)) {
            return Err(RuntimeError::invalid(
                "pid",
                "a sandbox cannot target a container",
            ));
        }
        if spec.pod.uid.is_empty() || spec.pod.uid.contains(['/', '\0']) || spec.pod.uid.starts_with('.') {
            return Err(RuntimeError::invalid(
                "pod.uid",
                format!("{:?} cannot name a control group", spec.pod.uid),
            ));
        }
        let identity = spec.pod.clone();
        {
            let mut state = self.0.state.lock();
            let taken = state.sandboxes.values().any(|s| s.spec.pod == identity);
            if taken || !state.sandboxes_in_making.insert(identity.clone()) {
                let what = format!(
                    "sandbox of pod {}/{} attempt {}",
                    identity.namespace, identity.name, identity.attempt
                );
                return Err(RuntimeError::AlreadyExists { what });
            }
        }
        let own_cgroup = spec.cgroup_parent.trim_matches('/').is_empty();
        let cgroup = if own_cgroup {
            format!("{}/pod{}", cgroup_root(&self.0.config.data_dir), spec.pod.uid)
        } else {
            spec.cgroup_parent.trim_matches('/').to_owned()
        };
        let id = self.new_id();
        let created_at = self.0.env.clock.now();
        let sandbox = Sandbox {
            id,
            spec,
            created_at,
            cgroup,
            own_cgroup,
            pause: None,
            stopped: false,
        };
        let runtime = self.clone();
        let made = self.blocking(move || runtime.make_on_disk(sandbox)).await;
        let mut state = self.0.state.lock();
        state.sandboxes_in_making.remove(&identity);
        let made = made?;
        state.sandboxes.insert(made.id.clone(), made.clone());
        drop(state);
        self.watch_pause(&made);
        Ok(made.state(&self.sandbox_dir(&made.id)))
    }

    fn make_on_disk(&self, mut sandbox: Sandbox) -> super::Result<Sandbox> {
        let dir = self.sandbox_dir(&sandbox.id);
        let group = self.0.hierarchy.group(&sandbox.cgroup);
        let done = (|| {
            fs::create_dir(&dir).at("create", &dir)?;
            group.create()?;
            group.delegate();
            group.apply(&sandbox.spec.resources)?;
            sandbox::make(&mut sandbox, &dir, &self.0.config.shim)?;
            if let Some(pause) = sandbox.pause {
                group.add(pause.pid)?;
            }
            sandbox.save(&dir)
        })();
        if let Err(e) = done {
            sandbox::unmake(&sandbox, &dir)?;
            self.discard_sandbox_dir(&dir)?;
            self.release_cgroup(&sandbox);
            return Err(e);
        }
        Ok(sandbox)
    }

    /// Removes the pod's control group, and those above it that were made here, unless something else uses them.
    fn release_cgroup(&self, sandbox: &Sandbox) {
        let shared = self
            .0
            .state
            .lock()
            .sandboxes
            .values()
            .any(|s| s.id != sandbox.id && s.cgroup == sandbox.cgroup);
        if shared {
            return;
        }
        if let Err(e) = self.0.hierarchy.group(&sandbox.cgroup).remove() {
            tracing::warn!(error = %e.chain(), "control group left behind");
        }
        if sandbox.own_cgroup {
            self.0
                .hierarchy
                .group(&cgroup_root(&self.0.config.data_dir))
                .remove_if_empty();
        }
    }

    async fn halt_sandbox(&self, id: &SandboxId) -> seam::Result<()> {
        let Some(sandbox) = self.sandbox(id.as_str()) else {
            return Ok(());
        };
        let sandbox = self.end_sandbox(sandbox).await?;
        let dir = self.sandbox_dir(id.as_str());
        Ok(self
            .blocking(move || if dir.is_dir() { sandbox.save(&dir) } else { Ok(()) })
            .await?)
    }

    /// Ends what runs in a sandbox and gives its namespaces up, which is not yet on disk: without namespaces it counts
    /// as stopped anyway.
    async fn end_sandbox(&self, mut sandbox: Sandbox) -> seam::Result<Sandbox> {
        // Noted first, so that no container comes to be in it meanwhile.
        sandbox.stopped = true;
        if let Some(known) = self.0.state.lock().sandboxes.get_mut(&sandbox.id) {
            known.stopped = true;
        }
        let id = SandboxId(sandbox.id.clone());
        let ends = self
            .containers_of(&id)
            .into_iter()
            .map(|container| async move { self.stop_container(&container, Duration::ZERO).await });
        for ended in futures::future::join_all(ends).await {
            ended?;
        }
        let dir = self.sandbox_dir(&sandbox.id);
        Ok(self
            .blocking(move || sandbox::unmake(&sandbox, &dir).map(|()| sandbox))
            .await?)
    }

    async fn drop_sandbox(&self, id: &SandboxId) -> seam::Result<()> {
        let Some(sandbox) = self.sandbox(id.as_str()) else {
            return Ok(());
        };
        let sandbox = self.end_sandbox(sandbox).await?;
        let removals = self
            .containers_of(id)
            .into_iter()
            .map(|c| async move { self.remove_container(&c).await });
        for removed in futures::future::join_all(removals).await {
            removed?;
        }
        let (runtime, dir) = (self.clone(), self.sandbox_dir(id.as_str()));
        self.blocking(move || {
            runtime.discard_sandbox_dir(&dir)?;
            runtime.release_cgroup(&sandbox);
            Ok(())
        })
        .await?;
        self.0.state.lock().sandboxes.remove(id.as_str());
        Ok(())
    }

    fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        let state = self.0.state.lock();
        state
            .containers
            .values()
            .filter(|c| c.meta.lock().sandbox == sandbox.0)
            .cloned()
            .collect()
    }

    /// Watches the pause process of a sandbox, whose end is the end of the sandbox.
    pub(super) fn watch_pause(&self, sandbox: &Sandbox) {
        let Some(pause) = sandbox.pause.filter(|_| !sandbox.stopped) else {
            return;
        };
        let (runtime, id) = (self.clone(), sandbox.id.clone());
        let watch = async move {
            wait_for_end(pause).await;
            let lost = runtime.sandbox(&id).filter(|s| !s.stopped);
            if let Some(sandbox) = lost {
                let pod_uid = sandbox.spec.pod.uid;
                runtime.emit(RuntimeEvent::SandboxLost {
                    id: id.as_str().into(),
                    pod_uid,
                });
            }
        };
        self.0.env.spawner.spawn("orch-oci-pause", Box::pin(watch));
    }
}

/// Completes when a process has ended.
async fn wait_for_end(process: ProcessId) {
    let pid = i32::try_from(process.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let flags = rustix::process::PidfdFlags::NONBLOCK;
    let handle = pid.and_then(|p| rustix::process::pidfd_open(p, flags).ok());
    let handle = handle
        .filter(|_| process.lives())
        .and_then(|h| crate::sys::async_fd(h).ok());
    if let Some(handle) = handle {
        // An error of the reactor is its end, and then nobody is left to tell.
        let _ = handle.readable().await;
    }
}
