//! Node health: a silent node's conditions become Unknown, its pods not ready, it is tainted, and pods that do not
//! tolerate the taint are evicted. Behaviour of upstream's `pkg/controller/nodelifecycle` and `tainteviction`.
//!
//! ```text
//! lease or status renewed ──▶ healthy
//!        │ silent for the grace period
//!        ▼
//! Ready=Unknown, pods not ready, NoSchedule taint at once, NoExecute taint as the zone's rate allows ──▶ evictions
//! ```
//! When all nodes seem to be down, it is rather this controller that is cut off: then nothing is evicted.

pub mod eviction;
mod health;
mod monitor;
mod taints;

use crate::shared::{Context, text, uid};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Taint};
use orch_core::{
    ObjectKey,
    client::Patch,
    controller::{Action, Controller, Error, Reconciler},
    informer::Lister,
};
use serde_json::json;
use std::sync::Arc;

pub use monitor::run as run_monitor;

/// Taint of a node whose Ready condition is False.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node whose Ready condition is Unknown.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

struct NoSchedule {
    ctx: Context,
    nodes: Lister<Node>,
}

/// Keeps each node's NoSchedule taints equal to its conditions.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let nodes = ctx.informers.informer::<Node>();
    let reconciler = Arc::new(NoSchedule {
        ctx: ctx.clone(),
        nodes: nodes.lister(),
    });
    Controller::new("node-lifecycle", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch(&nodes)
}

#[async_trait]
impl Reconciler for NoSchedule {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        if let Some(node) = self.nodes.get(key)
            && let Some(taints) = taints::no_schedule(&node)
        {
            write_taints(&self.ctx, &node, taints).await?;
        }
        Ok(Action::AwaitChange)
    }
}

/// Replaces a node's taints, if it has not changed meanwhile.
async fn write_taints(ctx: &Context, node: &Node, taints: Vec<Taint>) -> Result<Arc<Node>, Error> {
    let patch = json!({
        "metadata": {"uid": uid(&node.metadata), "resourceVersion": node.metadata.resource_version},
        "spec": {"taints": taints},
    });
    Ok(ctx
        .api::<Node>("")
        .patch(text(&node.metadata.name), Patch::merge(patch))
        .await?)
}

#[cfg(test)]
mod tests;
