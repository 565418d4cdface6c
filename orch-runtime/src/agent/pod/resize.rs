//! Giving running containers other limits.

use super::PodWorker;
use crate::{
    agent::{backoff::plus, resources, spec},
    runtime::ContainerId,
};
use std::time::Duration;

const RETRY: Duration = Duration::from_secs(10);

impl PodWorker {
    pub(super) async fn resize(&mut self, id: &ContainerId, name: &str) -> bool {
        let Some((kind, container)) = self.container(name) else {
            return true;
        };
        let memory = self.ctx.machine.facts().memory_bytes;
        let wanted = resources::container_resources(&self.pod, &container, memory);
        let generation = self.pod.metadata.generation.unwrap_or(0);
        match self.ctx.runtime.update(id, &wanted).await {
            Ok(()) => {
                self.state
                    .applied
                    .insert(id.clone(), container.resources.unwrap_or_default());
                self.state.resize_retry_at = None;
                let message = format!("Pod resize completed: container {name}, generation {generation}");
                self.ctx
                    .event_at(&self.pod, Some((kind, name)), false, "ResizeCompleted", message);
            }
            Err(error) => {
                tracing::warn!(pod = %spec::describe(&self.pod), container = name, %error, "cannot resize");
                let message = format!("Pod resize error: container {name}, generation {generation}: {error}");
                self.ctx
                    .event_at(&self.pod, Some((kind, name)), true, "ResizeError", message);
                self.state.resize_retry_at = Some(plus(self.ctx.env.clock.now(), RETRY));
            }
        }
        true
    }
}
