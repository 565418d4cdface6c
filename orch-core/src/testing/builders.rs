//! Short ways to make objects for tests: `pod("ns", "a").label("app", "web").ready().build()`.

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Node, NodeCondition, Pod, PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference, Time},
    },
};
use std::collections::BTreeMap;

/// Builds a pod.
#[derive(Debug, Clone)]
pub struct PodBuilder(Pod);

/// A pod of one container `main` with image `localhost/demo`.
#[must_use]
pub fn pod(namespace: &str, name: &str) -> PodBuilder {
    let container = Container {
        name: "main".into(),
        image: Some("localhost/demo".into()),
        ..Container::default()
    };
    PodBuilder(Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
        status: None,
    })
}

impl PodBuilder {
    fn spec(&mut self) -> &mut PodSpec {
        self.0.spec.get_or_insert_default()
    }
    fn status(&mut self) -> &mut PodStatus {
        self.0.status.get_or_insert_default()
    }
    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.into(), value.into());
        self
    }
    /// With a finalizer.
    #[must_use]
    pub fn finalizer(mut self, name: &str) -> Self {
        self.0
            .metadata
            .finalizers
            .get_or_insert_default()
            .push(name.into());
        self
    }
    /// With an owner.
    #[must_use]
    pub fn owner(mut self, owner: OwnerReference) -> Self {
        self.0
            .metadata
            .owner_references
            .get_or_insert_default()
            .push(owner);
        self
    }
    /// Bound to a node.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        self.spec().node_name = Some(name.into());
        self
    }
    /// Requests CPU.
    #[must_use]
    pub fn cpu(mut self, quantity: &str) -> Self {
        let main = &mut self.spec().containers[0];
        let requests = main
            .resources
            .get_or_insert_default()
            .requests
            .get_or_insert_default();
        requests.insert("cpu".into(), Quantity(quantity.into()));
        self
    }
    /// With a named container port.
    #[must_use]
    pub fn port(mut self, name: &str, port: i32) -> Self {
        let port = ContainerPort {
            name: Some(name.into()),
            container_port: port,
            ..ContainerPort::default()
        };
        self.spec().containers[0].ports.get_or_insert_default().push(port);
        self
    }
    /// In a phase.
    #[must_use]
    pub fn phase(mut self, phase: &str) -> Self {
        self.status().phase = Some(phase.into());
        self
    }
    /// With an address.
    #[must_use]
    pub fn ip(mut self, ip: &str) -> Self {
        self.status().pod_ip = Some(ip.into());
        self.status().pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip: ip.into() }]);
        self
    }
    /// Running and ready since the epoch.
    #[must_use]
    pub fn ready(self) -> Self {
        self.phase("Running").condition("Ready", "True")
    }
    /// With a condition that has held since the epoch.
    #[must_use]
    pub fn condition(mut self, kind: &str, status: &str) -> Self {
        self.status()
            .conditions
            .get_or_insert_default()
            .push(PodCondition {
                type_: kind.into(),
                status: status.into(),
                last_transition_time: Some(Time(jiff::Timestamp::UNIX_EPOCH)),
                ..PodCondition::default()
            });
        self
    }
    /// The pod.
    #[must_use]
    pub fn build(self) -> Pod {
        self.0
    }
}

/// A ready node with this name.
#[must_use]
pub fn node(name: &str) -> Node {
    let ready = NodeCondition {
        type_: "Ready".into(),
        status: "True".into(),
        last_transition_time: Some(Time(jiff::Timestamp::UNIX_EPOCH)),
        ..NodeCondition::default()
    };
    let mut node = Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([("kubernetes.io/hostname".into(), name.into())])),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    node.status.get_or_insert_default().conditions = Some(vec![ready]);
    node
}
