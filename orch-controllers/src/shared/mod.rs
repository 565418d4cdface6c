//! What several controllers need: the context they are built from, reading pods, adoption, pod writing, and the
//! overlay that hides the lag of the local copies.

pub mod adopt;
pub mod discovery;
pub mod overlay;
pub mod pods;
pub mod write;

use crate::config::ControllerConfig;
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use orch_core::{
    ApiClient, Env,
    client::NamespacedOrCluster,
    controller::{EventRecorder, controller_of},
    informer::{Informer, SharedInformers},
};
use std::sync::Arc;

/// Index of pods by the UID of their controller; pods without one are under the empty string and their namespace.
pub const PODS_BY_CONTROLLER: &str = "controller";
/// Index of pods by the node they are bound to.
pub const PODS_BY_NODE: &str = "node";

/// What every controller is built from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Time, randomness, spawning.
    pub env: Env,
    /// The API server.
    pub client: ClientHandle,
    /// The shared local copies.
    pub informers: SharedInformers,
    /// Settings.
    pub config: ControllerConfig,
}

/// A client that can be printed.
#[derive(Clone)]
pub struct ClientHandle(pub Arc<dyn ApiClient>);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiClient")
    }
}

impl Context {
    /// The client.
    #[must_use]
    pub fn client(&self) -> Arc<dyn ApiClient> {
        self.client.0.clone()
    }

    /// The API of a kind in one namespace (all, if empty).
    pub fn api<K: NamespacedOrCluster>(&self, namespace: &str) -> orch_core::Api<K> {
        orch_core::Api::namespaced(self.client(), namespace)
    }

    /// A recorder of events for a controller.
    #[must_use]
    pub fn recorder(&self, component: &str) -> EventRecorder {
        EventRecorder::new(&self.env, self.client(), component, "")
    }

    /// The pods, indexed by controller and by node.
    #[must_use]
    pub fn pods(&self) -> Informer<Pod> {
        let pods = self.informers.informer::<Pod>();
        pods.add_index(PODS_BY_CONTROLLER, |p: &Pod| vec![controller_index(&p.metadata)]);
        pods.add_index(PODS_BY_NODE, |p: &Pod| {
            p.spec
                .iter()
                .filter_map(|s| s.node_name.clone())
                .filter(|n| !n.is_empty())
                .collect()
        });
        pods
    }

    /// Now, in whole seconds, as times are written into objects.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(self.env.clock.now())
    }
}

/// The value under which [`PODS_BY_CONTROLLER`] finds an object.
#[must_use]
pub fn controller_index(meta: &ObjectMeta) -> String {
    match controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => format!("/{}", meta.namespace.as_deref().unwrap_or_default()),
    }
}

/// A string field that may be absent.
pub(crate) fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// The UID of an object.
pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    text(&meta.uid)
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// Creation time with the UID, for orders that must not depend on chance.
pub(crate) fn age_key(meta: &ObjectMeta) -> (Option<jiff::Timestamp>, &str) {
    (meta.creation_timestamp.as_ref().map(|t| t.0), text(&meta.name))
}
