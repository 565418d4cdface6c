//! The plugins that are a few lines each.

use super::{reject, taints};
use crate::{
    cache::{PodInfo, Snapshot},
    framework::{
        BindPlugin, CycleState, Feasible, FilterNodes, Plugin, PluginError, PreEnqueuePlugin, QueueSortPlugin,
    },
};
use async_trait::async_trait;
use http::Method;
use k8s_openapi::api::core::v1::Taint;
use orch_core::{ApiClient, Status, client::ApiRequest};
use serde_json::json;
use std::{cmp::Ordering, sync::Arc};

/// Higher priority first, then who came first.
#[derive(Debug, Clone, Copy)]
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }
}

impl QueueSortPlugin for PrioritySort {
    fn compare(&self, a: (&PodInfo, u64), b: (&PodInfo, u64)) -> Ordering {
        b.0.priority.cmp(&a.0.priority).then(a.1.cmp(&b.1))
    }
}

/// Keeps pods with scheduling gates out of the queue (KEP-3521).
#[derive(Debug, Clone, Copy)]
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }
}

impl PreEnqueuePlugin for SchedulingGates {
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), String> {
        let gates: Vec<&str> = pod
            .spec()
            .iter()
            .flat_map(|s| s.scheduling_gates.iter().flatten())
            .map(|g| g.name.as_str())
            .collect();
        if gates.is_empty() {
            Ok(())
        } else {
            Err(format!("waiting for scheduling gates: [{}]", gates.join(" ")))
        }
    }
}

/// `spec.nodeName`, for pods that already name one.
#[derive(Debug, Clone, Copy)]
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }
}

impl FilterNodes for NodeName {
    fn filter_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        let Some(wanted) = pod.node_name() else {
            return Ok(());
        };
        for (at, node) in nodes.nodes().iter().enumerate() {
            if node.name() != wanted {
                feasible.reject(
                    at,
                    reject(self.name(), "node(s) didn't match the requested node name", true),
                );
            }
        }
        Ok(())
    }
}

/// Cordoned nodes, unless the pod tolerates that.
#[derive(Debug, Clone, Copy)]
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }
}

impl FilterNodes for NodeUnschedulable {
    fn filter_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        let cordoned = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let tolerated = pod.spec().is_some_and(|s| {
            s.tolerations
                .iter()
                .flatten()
                .any(|t| taints::tolerates(t, &cordoned))
        });
        for (at, node) in nodes.nodes().iter().enumerate() {
            if node.is_unschedulable() && !tolerated {
                feasible.reject(at, reject(self.name(), "node(s) were unschedulable", true));
            }
        }
        Ok(())
    }
}

/// Host ports.
#[derive(Debug, Clone, Copy)]
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
}

impl FilterNodes for NodePorts {
    fn filter_nodes(
        &self,
        _: &CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
        feasible: &mut Feasible,
    ) -> Result<(), PluginError> {
        if pod.host_ports.is_empty() {
            return Ok(());
        }
        for (at, node) in nodes.nodes().iter().enumerate() {
            let taken =
                |p: &crate::cache::HostPort| node.used_ports().iter().any(|used| used.conflicts_with(p));
            if pod.host_ports.iter().any(taken) {
                let reason = "node(s) didn't have free ports for the requested pod ports";
                feasible.reject(at, reject(self.name(), reason, false));
            }
        }
        Ok(())
    }
}

/// Binds through the pod's `binding` subresource.
#[derive(Debug, Clone, Copy)]
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }
}

#[async_trait]
impl BindPlugin for DefaultBinder {
    async fn bind(
        &self,
        client: &Arc<dyn ApiClient>,
        _: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<bool, Status> {
        let (namespace, name) = (&pod.key.namespace, &pod.key.name);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        client
            .call(ApiRequest::new(Method::POST, path).value(binding))
            .await
            .map(|_| true)
    }
}
