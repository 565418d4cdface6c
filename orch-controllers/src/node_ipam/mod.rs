//! Gives each node a range of pod addresses (`spec.podCIDR`) out of the cluster's range. Behaviour of upstream's
//! range allocator, one address family.

mod ranges;

use crate::{
    config::PodCidr,
    shared::{Context, is_deleting, text, uid},
};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use orch_core::{
    ObjectKey,
    client::Patch,
    controller::{Action, Controller, Error, EventRecorder, Reconciler, events::EventType::Normal},
    informer::{Delta, Lister},
};
use parking_lot::Mutex;
use ranges::Ranges;
use serde_json::json;
use std::sync::Arc;

struct NodeIpam {
    ctx: Context,
    nodes: Lister<Node>,
    ranges: Arc<Mutex<Ranges>>,
    recorder: EventRecorder,
}

/// The node range allocator over `range`.
#[must_use]
pub fn controller(ctx: &Context, range: PodCidr) -> Controller {
    let nodes = ctx.informers.informer::<Node>();
    let ranges = Arc::new(Mutex::new(Ranges::new(range)));
    // What nodes have is taken note of before anything is given out.
    let taken = ranges.clone();
    nodes.on_change(move |delta: &Delta<Node>| {
        let mut ranges = taken.lock();
        match delta {
            Delta::Deleted(node) => ranges.release(text(&node.metadata.name)),
            Delta::Added(node) | Delta::Updated { new: node, .. } => {
                let cidr = node.spec.as_ref().map_or("", |s| text(&s.pod_cidr));
                if !cidr.is_empty() {
                    ranges.occupy(text(&node.metadata.name), cidr);
                }
            }
        }
    });
    let reconciler = Arc::new(NodeIpam {
        ctx: ctx.clone(),
        nodes: nodes.lister(),
        ranges,
        recorder: ctx.recorder("cidrAllocator"),
    });
    Controller::new("node-ipam", &ctx.env, reconciler).watch(&nodes)
}

#[async_trait]
impl Reconciler for NodeIpam {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(node) = self.nodes.get(key) else {
            return Ok(Action::AwaitChange);
        };
        let has = node
            .spec
            .as_ref()
            .is_some_and(|s| s.pod_cidr.as_ref().is_some_and(|c| !c.is_empty()));
        if has || is_deleting(&node.metadata) {
            return Ok(Action::AwaitChange);
        }
        let Some(cidr) = self.ranges.lock().allocate(&key.name) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            self.recorder.record(&*node, Normal, "CIDRNotAvailable", message);
            return Err(Error::NotYet(format!("no range is left for node {}", key.name)));
        };
        let patch = json!({
            "metadata": {"uid": uid(&node.metadata)},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        });
        match self
            .ctx
            .api::<Node>("")
            .patch(&key.name, Patch::merge(patch))
            .await
        {
            Ok(_) => Ok(Action::AwaitChange),
            Err(error) => {
                // An answer may be lost while the write happened: then the node's next state occupies it again.
                self.ranges.lock().release(&key.name);
                Err(error.into())
            }
        }
    }
}
