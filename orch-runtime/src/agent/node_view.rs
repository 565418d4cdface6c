//! What the agent's own API sees of the agent.

use super::{context::Context, machine::Machine, spec, view::PodView};
use crate::runtime::{Runtime, RuntimeError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use orch_core::Env;
use serde_json::json;
use std::sync::Arc;

/// A reader of a running agent.
#[derive(Clone)]
pub(crate) struct NodeView {
    ctx: Arc<Context>,
    started_at: Timestamp,
}

impl NodeView {
    pub(super) fn new(ctx: Arc<Context>) -> Self {
        Self {
            started_at: ctx.env.clock.now(),
            ctx,
        }
    }
    pub(crate) fn env(&self) -> &Env {
        &self.ctx.env
    }
    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.ctx.runtime
    }
    pub(crate) fn machine(&self) -> &Arc<dyn Machine> {
        &self.ctx.machine
    }
    pub(crate) fn name(&self) -> &str {
        &self.ctx.config.name
    }
    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The pods of the node, in order of namespace and name.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        let handles: Vec<_> = self.ctx.pods.lock().values().cloned().collect();
        let present = handles.iter().filter(|h| !h.input.borrow().removed);
        let mut pods: Vec<Arc<Pod>> = present.map(super::context::PodHandle::pod).collect();
        pods.sort_by(|a, b| (spec::namespace(a), spec::name(a)).cmp(&(spec::namespace(b), spec::name(b))));
        pods
    }

    /// The pod of this name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods()
            .into_iter()
            .find(|p| spec::namespace(p) == namespace && spec::name(p) == name)
    }

    /// Its status as the agent last computed it.
    pub(crate) fn status(&self, pod: &Pod) -> PodStatus {
        let handle = self.ctx.pods.lock().get(spec::uid(pod)).cloned();
        let computed = handle.and_then(|h| h.status.lock().clone());
        computed.unwrap_or_else(|| spec::status(pod).clone())
    }

    /// What the runtime has of a pod.
    pub(crate) async fn pod_view(&self, uid: &str) -> Result<PodView, RuntimeError> {
        let (sandboxes, containers) =
            futures::try_join!(self.runtime().list_sandboxes(), self.runtime().list())?;
        Ok(PodView::of(uid, &sandboxes, &containers))
    }

    /// All pods as a `PodList` in JSON.
    pub(crate) fn pod_list(&self) -> String {
        let items: Vec<Pod> = self
            .pods()
            .into_iter()
            .map(|pod| Pod {
                status: Some(self.status(&pod)),
                ..(*pod).clone()
            })
            .collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string()
    }
}
