//! All nodes at one moment: cheap to clone, cheap to change.

use super::{NodeInfo, PodInfo};
use k8s_openapi::api::core::v1::Node;
use orch_core::selector::LabelSelector;
use std::{collections::BTreeMap, sync::Arc};

/// Nodes in order of name, with the pods on them, and the labels of namespaces.
///
/// Cloning copies a pointer per node; changing a node of a clone copies that node only.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Selectors of Services and workloads by namespace, kind and name.
    selectors: BTreeMap<(String, &'static str, String), LabelSelector>,
    /// Where each known pod is, by UID. Its node may not be known yet.
    places: BTreeMap<String, (String, Arc<PodInfo>)>,
}

impl Snapshot {
    /// The nodes; plugins name them by their place in this list.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The labels of a namespace.
    #[must_use]
    pub fn namespace_labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(namespace)
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.position(name).ok().and_then(|at| self.nodes.get(at))
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.nodes.binary_search_by(|n| n.name().cmp(name))
    }

    /// Adds or updates a node. Pods that were placed on it before it was known are put on it.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        match self.position(&name) {
            Ok(at) => Arc::make_mut(&mut self.nodes[at]).set_node(node),
            Err(at) => {
                let mut info = NodeInfo::new(node);
                for (on, pod) in self.places.values() {
                    if *on == name {
                        info.add_pod(pod.clone());
                    }
                }
                self.nodes.insert(at, Arc::new(info));
            }
        }
    }

    /// Removes a node. Its pods are remembered, should it come back.
    pub fn remove_node(&mut self, name: &str) {
        if let Ok(at) = self.position(name) {
            self.nodes.remove(at);
        }
    }

    /// Places a pod on a node, moving it if it was elsewhere.
    pub fn place_pod(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.uid);
        if let Ok(at) = self.position(node) {
            Arc::make_mut(&mut self.nodes[at]).add_pod(pod.clone());
        }
        self.places.insert(pod.uid.clone(), (node.to_owned(), pod));
    }

    /// Takes a pod off its node; the node's name if it was on one.
    pub fn remove_pod(&mut self, uid: &str) -> Option<String> {
        let (node, _) = self.places.remove(uid)?;
        if let Ok(at) = self.position(&node) {
            Arc::make_mut(&mut self.nodes[at]).remove_pod(uid);
        }
        Some(node)
    }

    /// The node that a pod is on.
    #[must_use]
    pub fn place_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(|(node, _)| node.as_str())
    }

    /// Sets the selector of a `Service`, `ReplicaSet`, `StatefulSet` or `ReplicationController`, or forgets it.
    pub fn set_selector(
        &mut self,
        kind: &'static str,
        namespace: &str,
        name: &str,
        selector: Option<LabelSelector>,
    ) {
        let key = (namespace.to_owned(), kind, name.to_owned());
        match selector {
            Some(selector) => drop(self.selectors.insert(key, selector)),
            None => drop(self.selectors.remove(&key)),
        }
    }

    /// The pods that a pod belongs together with: those of every Service that selects it and of its controller.
    /// `None` when there is neither.
    #[must_use]
    pub fn workload_selector(&self, pod: &PodInfo) -> Option<LabelSelector> {
        let namespace = &pod.key.namespace;
        let mut requirements = Vec::new();
        let first = (namespace.clone(), "", String::new());
        for ((_, kind, _), selector) in self
            .selectors
            .range(first..)
            .take_while(|((ns, ..), _)| ns == namespace)
        {
            if *kind == "Service" && !selector.is_everything() && selector.matches_opt(pod.labels()) {
                requirements.extend(selector.requirements().iter().cloned());
            }
        }
        let owner = pod
            .pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .find(|o| o.controller == Some(true));
        if let Some(owner) = owner {
            let own = ["ReplicaSet", "ReplicationController", "StatefulSet"]
                .into_iter()
                .find(|k| *k == owner.kind);
            let selector =
                own.and_then(|kind| self.selectors.get(&(namespace.clone(), kind, owner.name.clone())));
            requirements.extend(
                selector
                    .into_iter()
                    .flat_map(|s| s.requirements().iter().cloned()),
            );
        }
        (!requirements.is_empty()).then(|| LabelSelector::new(requirements))
    }

    /// Sets the labels of a namespace, or forgets it.
    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.to_owned(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_core::testing;

    #[test]
    fn clones_do_not_see_later_changes_and_pods_wait_for_their_node() {
        let mut snapshot = Snapshot::default();
        let mut pod = testing::builders::pod("default", "a").cpu("500m").build();
        pod.metadata.uid = Some("u1".into());
        let pod = Arc::new(PodInfo::new(Arc::new(pod)));
        snapshot.place_pod(pod.clone(), "n1");
        snapshot.set_node(Arc::new(testing::builders::node("n1")));
        snapshot.set_node(Arc::new(testing::builders::node("n0")));
        let before = snapshot.clone();
        assert_eq!(snapshot.node("n1").unwrap().requested().cpu_millis, 500);
        snapshot.place_pod(pod, "n0");
        assert_eq!(
            snapshot.node("n1").unwrap().requested(),
            &crate::cache::Resources::default()
        );
        assert_eq!(before.node("n1").unwrap().pods().count(), 1);
        assert_eq!(snapshot.remove_pod("u1").as_deref(), Some("n0"));
        assert_eq!(snapshot.place_of("u1"), None);
    }
}
