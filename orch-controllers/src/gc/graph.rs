//! Who owns whom; pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use orch_core::{GroupVersionResource, Object};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Finalizer of an owner that waits for its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents are to stay.
pub(super) const ORPHAN: &str = "orphan";

/// An object, as far as ownership goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) gvr: GroupVersionResource,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
}

impl Node {
    pub(super) fn of(gvr: &GroupVersionResource, object: &Object) -> Self {
        let meta = object.value().get("metadata").cloned().unwrap_or_default();
        let owners = meta.get("ownerReferences").cloned().unwrap_or_default();
        let finalizers = meta
            .get("finalizers")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        Self {
            gvr: gvr.clone(),
            namespace: object.namespace().into(),
            name: object.name().into(),
            uid: object.uid().into(),
            owners: serde_json::from_value(owners).unwrap_or_default(),
            deleting: meta.get("deletionTimestamp").is_some_and(|t| !t.is_null()),
            finalizers: finalizers
                .iter()
                .filter_map(|f| f.as_str().map(str::to_owned))
                .collect(),
        }
    }
    pub(super) fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|f| f == finalizer)
    }
    /// Waits for its dependents to be deleted.
    pub(super) fn deletes_dependents(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }
    /// Waits for its dependents to be let go.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.deleting && self.has(ORPHAN)
    }
    /// Whether the owner's foreground deletion waits for this object.
    pub(super) fn blocks(&self, owner_uid: &str) -> bool {
        self.owners
            .iter()
            .any(|o| o.uid == owner_uid && o.block_owner_deletion == Some(true))
    }
}

/// All objects by UID, and who refers to whom, also to owners that are not known.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name `uid` as an owner, in order of UID.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Node> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|d| self.nodes.get(d).cloned())
            .collect()
    }

    /// Takes an object's state in. Answers with the UIDs to look at.
    pub(super) fn upsert(&mut self, gvr: &GroupVersionResource, object: &Object) -> BTreeSet<String> {
        let node = Node::of(gvr, object);
        let uid = node.uid.clone();
        let mut work = BTreeSet::new();
        let old = self.nodes.insert(uid.clone(), node.clone());
        let old_owners = old.map(|o| o.owners).unwrap_or_default();
        for owner in old_owners
            .iter()
            .filter(|o| !node.owners.iter().any(|n| n.uid == o.uid))
        {
            self.unlink(&owner.uid, &uid);
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        // An owner that waits may have one dependent less to wait for.
        for owner in old_owners.iter().chain(&node.owners) {
            if self.nodes.get(&owner.uid).is_some_and(Node::deletes_dependents) {
                work.insert(owner.uid.clone());
            }
        }
        let new_owner = node
            .owners
            .iter()
            .any(|n| !old_owners.iter().any(|o| o.uid == n.uid));
        if new_owner && node.owners.iter().any(|o| !self.nodes.contains_key(&o.uid)) {
            work.insert(uid.clone());
        }
        if node.deletes_dependents() || node.orphans_dependents() {
            work.insert(uid.clone());
        }
        if node.deletes_dependents() {
            work.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        work
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// Takes note that an object is gone. Answers with the UIDs to look at: its dependents, and owners that waited.
    pub(super) fn remove(&mut self, uid: &str) -> BTreeSet<String> {
        let mut work: BTreeSet<String> = self.dependents.get(uid).cloned().unwrap_or_default();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in &node.owners {
                self.unlink(&owner.uid, uid);
                if self.nodes.get(&owner.uid).is_some_and(Node::deletes_dependents) {
                    work.insert(owner.uid.clone());
                }
            }
        }
        work
    }
}
