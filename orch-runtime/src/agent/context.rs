//! What the parts of an agent share.

use super::{
    config::NodeConfig,
    machine::Machine,
    objects::Objects,
    spec::{self, ContainerKind},
    tokens::Tokens,
};
use crate::{
    env::{DnsConfig, NodeFacts},
    image::Images,
    probe::ProbeTransport,
    runtime::Runtime,
    volume::PodFiles,
};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus, Service};
use orch_core::{
    Env,
    client::ApiClient,
    controller::events::{EventRecorder, EventType, object_reference},
    informer::Informer,
    node::NetworkBackend,
    spawn::Shutdown,
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, watch};

/// The handles and state of one agent.
pub(crate) struct Context {
    pub env: Env,
    pub config: NodeConfig,
    pub client: Arc<dyn ApiClient>,
    pub runtime: Arc<dyn Runtime>,
    pub runtime_name: String,
    pub network: Arc<dyn NetworkBackend>,
    pub files: Arc<dyn PodFiles>,
    pub transport: Arc<dyn ProbeTransport>,
    pub machine: Arc<dyn Machine>,
    pub recorder: EventRecorder,
    pub objects: Arc<Objects>,
    pub tokens: Tokens,
    pub images: Images,
    pub services: Informer<Service>,
    pub dns: DnsConfig,
    pub node: RwLock<Node>,
    pub pods: Arc<Mutex<BTreeMap<String, PodHandle>>>,
    pub shutdown: Shutdown,
}

/// The newest that is known of a pod from the API.
#[derive(Debug, Clone)]
pub(crate) struct PodInput {
    pub pod: Arc<Pod>,
    /// The object is gone.
    pub removed: bool,
}

/// How the rest of the agent reaches the worker of a pod.
#[derive(Clone)]
pub(crate) struct PodHandle {
    pub input: watch::Sender<PodInput>,
    /// Something of the pod may have changed.
    pub wake: Arc<Notify>,
    /// An object that the pod refers to has changed.
    pub dirty: Arc<AtomicBool>,
    /// It runs no more, or never will: it takes no resources.
    pub over: Arc<AtomicBool>,
    /// The status computed last.
    pub status: Arc<Mutex<Option<PodStatus>>>,
}

impl PodHandle {
    pub(crate) fn pod(&self) -> Arc<Pod> {
        self.input.borrow().pod.clone()
    }
}

impl Context {
    pub(crate) fn event(&self, pod: &Pod, warning: bool, reason: &str, message: impl Into<String>) {
        self.event_at(pod, None, warning, reason, message);
    }

    /// Records an event about a pod or one of its containers.
    pub(crate) fn event_at(
        &self,
        pod: &Pod,
        container: Option<(ContainerKind, &str)>,
        warning: bool,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut about = object_reference(pod);
        about.field_path = container.map(|(kind, name)| spec::field_path(kind, name));
        let kind = if warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        self.recorder.record_reference(about, kind, reason, message);
    }

    pub(crate) fn wake(&self, uid: &str) {
        if let Some(handle) = self.pods.lock().get(uid) {
            handle.wake.notify_one();
        }
    }

    pub(crate) fn facts(&self, pod: &Pod, ips: &[IpAddr]) -> NodeFacts {
        let node = self.node.read();
        let allocatable = node
            .status
            .as_ref()
            .and_then(|s| s.allocatable.clone())
            .unwrap_or_default();
        let pod_ips = if spec::host_network(pod) {
            self.config.addresses.clone()
        } else {
            ips.to_vec()
        };
        NodeFacts {
            node_ips: self.config.addresses.clone(),
            pod_ips,
            allocatable,
        }
    }
}

/// Wakes the pod of `uid` because an object that it refers to has changed.
pub(crate) fn object_changed(pods: &Mutex<BTreeMap<String, PodHandle>>, uid: &str) {
    if let Some(handle) = pods.lock().get(uid) {
        handle.dirty.store(true, Ordering::Relaxed);
        handle.wake.notify_one();
    }
}
