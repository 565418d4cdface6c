//! Simulated sandboxes.

use super::{ContainerId, Result, RuntimeError, Sandbox, SandboxId, SandboxSpec, SandboxState, SimRuntime};
use crate::runtime::{ContainerRuntime, SandboxRuntime};
use async_trait::async_trait;
use std::time::Duration;

#[async_trait]
impl SandboxRuntime for SimRuntime {
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxState> {
        if spec.pod.uid.is_empty() {
            return Err(RuntimeError::invalid("pod.uid", "must not be empty"));
        }
        let id = SandboxId(self.new_id());
        let sandbox = SandboxState {
            id: id.clone(),
            pod: spec.pod.clone(),
            ready: true,
            created_at: self.env.clock.now(),
            netns: (!spec.host_network).then(|| format!("/run/sim/netns/{id}").into()),
            ips: Vec::new(),
            labels: spec.labels.clone(),
            annotations: spec.annotations.clone(),
        };
        let mut state = self.state.lock();
        if state.sandboxes.values().any(|s| s.spec.pod == spec.pod) {
            let p = &spec.pod;
            return Err(RuntimeError::AlreadyExists {
                what: format!("sandbox {}/{} attempt {}", p.namespace, p.name, p.attempt),
            });
        }
        state.sandboxes.insert(
            id,
            Sandbox {
                state: sandbox.clone(),
                spec: spec.clone(),
            },
        );
        Ok(sandbox)
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()> {
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.state.ready = false;
        }
        for container in self.containers_of(id) {
            self.stop(&container, Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            self.remove(&container).await?;
        }
        self.state.lock().sandboxes.remove(id);
        Ok(())
    }

    async fn list_sandboxes(&self) -> Result<Vec<SandboxState>> {
        Ok(self
            .state
            .lock()
            .sandboxes
            .values()
            .map(|s| s.state.clone())
            .collect())
    }
}

impl SimRuntime {
    fn containers_of(&self, sandbox: &SandboxId) -> Vec<ContainerId> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .filter(|c| c.state.sandbox == *sandbox)
            .map(|c| c.state.id.clone())
            .collect()
    }
}
