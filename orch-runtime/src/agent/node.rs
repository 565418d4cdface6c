//! Keeping the Node object and its Lease.

use super::{
    context::Context,
    machine::MachineFacts,
    node_status::{self, NodeInputs, initial_node},
};
use crate::runtime::RuntimeInfo;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Node, NodeStatus},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use orch_core::{
    Api, Status,
    client::Patch,
    controller::events::{EventType, object_reference},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

const LEASES: &str = "kube-node-lease";

/// Longest wait between two tries against an API server that does not answer.
const RETRY_MAX: Duration = Duration::from_secs(7);

impl Context {
    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    pub(super) fn node_event(&self, warning: bool, reason: &str, message: impl Into<String>) {
        let mut about = object_reference(&*self.node.read());
        about.name = Some(self.config.name.clone());
        // Events of nodes are found by this, as upstream's are.
        about.uid = Some(self.config.name.clone());
        let kind = if warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        self.recorder.record_reference(about, kind, reason, message);
    }

    /// Computes the status from what the machine, the runtime and the network say now.
    async fn observe(&self, old: &NodeStatus) -> (MachineFacts, NodeStatus) {
        let facts = self.machine.facts();
        let runtime: Result<RuntimeInfo, String> = self.runtime.info().await.map_err(|e| e.to_string());
        let network = match self.network.list().await {
            Err(orch_core::node::NetworkError::NotReady { reason }) => Some(reason),
            Err(error) => Some(error.to_string()),
            Ok(_) => None,
        };
        let images = self.runtime.images().await.unwrap_or_default();
        let inputs = NodeInputs {
            config: &self.config,
            facts: &facts,
            pressure: self.machine.pressure(),
            runtime: &runtime,
            network_not_ready: network.as_deref(),
            images: &images,
            shutting_down: false,
            now: self.env.clock.now(),
        };
        let status = node_status::node_status(&inputs, old);
        (facts, status)
    }

    /// Makes the Node object that the agent thinks with before the API has answered.
    pub(super) async fn provisional_node(&self) {
        let (facts, status) = self.observe(&NodeStatus::default()).await;
        let inputs = NodeInputs {
            config: &self.config,
            facts: &facts,
            pressure: self.machine.pressure(),
            runtime: &Ok(RuntimeInfo::default()),
            network_not_ready: None,
            images: &[],
            shutting_down: false,
            now: self.env.clock.now(),
        };
        let mut node = initial_node(&inputs);
        node.status = Some(status);
        *self.node.write() = node;
    }

    /// Creates the Node object, or takes the existing one over: labels and resources are brought up to date.
    async fn register(&self) -> Result<(), Status> {
        let wanted = self.node.read().clone();
        match self.nodes().create(&wanted).await {
            Ok(created) => {
                tracing::info!(node = self.config.name, "registered the node");
                *self.node.write() = (*created).clone();
                Ok(())
            }
            Err(e) if e.is_already_exists() => {
                let existing = self.nodes().get(&self.config.name).await?;
                let labels = wanted.metadata.labels.unwrap_or_default();
                let have = existing.metadata.labels.clone().unwrap_or_default();
                let missing: serde_json::Map<String, serde_json::Value> = labels
                    .into_iter()
                    .filter(|(k, v)| have.get(k) != Some(v))
                    .map(|(k, v)| (k, v.into()))
                    .collect();
                let node = if missing.is_empty() {
                    existing
                } else {
                    let patch = Patch::merge(json!({"metadata": {"labels": missing}}));
                    self.nodes().patch(&self.config.name, patch).await?
                };
                *self.node.write() = (*node).clone();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Registers the node and keeps its status until the agent shuts down.
    pub(super) async fn keep_node(self: Arc<Self>) {
        let clock = self.env.clock.clone();
        let mut delay = Duration::from_millis(50);
        while let Err(error) = self.register().await {
            tracing::warn!(node = self.config.name, %error, "cannot register the node");
            clock.sleep(delay).await;
            delay = (delay * 2).min(RETRY_MAX);
        }
        self.node_event(false, "Starting", "Starting kubelet.");
        let mut eager = Duration::from_millis(50);
        loop {
            let failed = match self.report_status().await {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(node = self.config.name, %error, "cannot report the node's status");
                    // Deleted behind our back: it comes again.
                    if error.is_not_found() {
                        let provisional = {
                            let mut node = self.node.read().clone();
                            node.metadata.resource_version = None;
                            node.metadata.uid = None;
                            node.metadata.creation_timestamp = None;
                            node
                        };
                        *self.node.write() = provisional;
                        drop(self.register().await);
                    }
                    true
                }
            };
            // A node that is not ready yet looks more often.
            let pause = if self.is_ready() && !failed {
                self.config.status_check
            } else {
                eager
            };
            eager = if self.is_ready() {
                Duration::from_millis(50)
            } else {
                (eager * 2).min(self.config.status_check)
            };
            clock.sleep(pause).await;
        }
    }

    fn is_ready(&self) -> bool {
        let node = self.node.read();
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    }

    async fn report_status(&self) -> Result<(), Status> {
        let old = self.node.read().status.clone().unwrap_or_default();
        let was_ready = self.is_ready();
        let (_, new) = self.observe(&old).await;
        let now = self.env.clock.now();
        let Some(patch) = node_status::status_patch(&old, &new, &self.config, now) else {
            return Ok(());
        };
        // Somebody else may have written conditions meanwhile (a node that was thought dead): what we write is the
        // whole truth about ours, and what the answer holds is what we compare with next.
        let node = self
            .nodes()
            .patch_subresource(&self.config.name, "status", Patch::strategic(patch))
            .await?;
        *self.node.write() = (*node).clone();
        let ready = self.is_ready();
        if ready != was_ready {
            let (reason, word) = if ready {
                ("NodeReady", "NodeReady")
            } else {
                ("NodeNotReady", "NodeNotReady")
            };
            self.node_event(
                false,
                reason,
                format!("Node {} status is now: {word}", self.config.name),
            );
        }
        Ok(())
    }

    /// The node object as others have written it: taints, labels, conditions that the control plane set.
    pub(super) fn node_changed(&self, node: &Node) {
        let mut held = self.node.write();
        let newer = |n: &Node| {
            n.metadata
                .resource_version
                .as_deref()
                .and_then(|v| v.parse::<u64>().ok())
                .unwrap_or(0)
        };
        if newer(node) >= newer(&held) {
            *held = node.clone();
        }
    }

    /// Renews the node's Lease until the agent shuts down.
    pub(super) async fn keep_lease(self: Arc<Self>) {
        let leases = Api::<Lease>::namespaced(self.client.clone(), LEASES);
        let clock = self.env.clock.clone();
        let mut held: Option<Arc<Lease>> = None;
        let mut delay = Duration::from_millis(200);
        loop {
            match self.renew(&leases, held.take()).await {
                Ok(lease) => {
                    held = Some(lease);
                    delay = Duration::from_millis(200);
                    clock.sleep(self.config.lease_interval).await;
                }
                Err(error) => {
                    tracing::debug!(node = self.config.name, %error, "cannot renew the node's lease");
                    clock.sleep(delay).await;
                    delay = (delay * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn renew(&self, leases: &Api<Lease>, held: Option<Arc<Lease>>) -> Result<Arc<Lease>, Status> {
        let name = &self.config.name;
        let now = MicroTime(self.env.clock.now());
        let current = match held {
            Some(lease) => Some(lease),
            None => leases.get_opt(name).await?,
        };
        let owner = self.node.read().metadata.uid.clone().map(|uid| OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid,
            ..OwnerReference::default()
        });
        let seconds = i32::try_from(self.config.lease_duration.as_secs()).unwrap_or(i32::MAX);
        let Some(current) = current else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(LEASES.into()),
                    owner_references: owner.map(|o| vec![o]),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(name.clone()),
                    lease_duration_seconds: Some(seconds),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
            };
            return leases.create(&lease).await;
        };
        let mut lease = (*current).clone();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(name.clone());
        spec.lease_duration_seconds = Some(seconds);
        spec.renew_time = Some(now);
        if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
            lease.metadata.owner_references = owner.map(|o| vec![o]);
        }
        leases.replace(&lease).await
    }
}
