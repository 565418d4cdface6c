//! What is to happen with an object, from its live state and that of its owners; pure.

use super::graph::{FOREGROUND, Node, ORPHAN};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// How an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there and stays, or at least does not wait for the object.
    Solid,
    /// It does not exist.
    Dangling,
    /// It waits for the object to be deleted.
    Waiting,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    Nothing,
    /// Look at these objects, which the object waits for.
    Visit(Vec<String>),
    /// Nothing is left to wait for.
    RemoveFinalizer(&'static str),
    /// Take the object out of these objects' owners, then remove the finalizer.
    Orphan(Vec<Node>),
    /// Some owners are gone, some are not: forget those that are.
    DropOwners(Vec<OwnerReference>),
    /// All owners are gone or wait.
    Delete {
        policy: &'static str,
        /// First make the owners not wait for it, or two foreground deletions wait for each other.
        unblock: Option<Vec<OwnerReference>>,
    },
}

/// What an object in deletion needs of the collector; `None` if it is an ordinary object.
pub(super) fn of_deleting(node: &Node, dependents: &[Node]) -> Option<Plan> {
    if node.orphans_dependents() {
        return Some(Plan::Orphan(dependents.to_vec()));
    }
    if node.deletes_dependents() {
        let blocking: Vec<&Node> = dependents.iter().filter(|d| d.blocks(&node.uid)).collect();
        if blocking.is_empty() {
            return Some(Plan::RemoveFinalizer(FOREGROUND));
        }
        let visit = blocking
            .iter()
            .filter(|d| !d.deletes_dependents())
            .map(|d| d.uid.clone())
            .collect();
        return Some(Plan::Visit(visit));
    }
    node.deleting.then_some(Plan::Nothing)
}

/// What an object that is not being deleted needs, given how each of its owners is.
pub(super) fn of_owned(node: &Node, owners: &[Owner], dependents: &[Node]) -> Plan {
    let with = |wanted: &dyn Fn(Owner) -> bool| -> Vec<OwnerReference> {
        node.owners
            .iter()
            .zip(owners)
            .filter(|(_, o)| wanted(**o))
            .map(|(r, _)| r.clone())
            .collect()
    };
    let solid = with(&|o| o == Owner::Solid);
    if node.owners.is_empty() || solid.len() == node.owners.len() {
        return Plan::Nothing;
    }
    if !solid.is_empty() {
        return Plan::DropOwners(solid);
    }
    if owners.contains(&Owner::Waiting) && !dependents.is_empty() {
        let cycle = dependents.iter().any(Node::deletes_dependents);
        let unblock = cycle.then(|| {
            let mut references = node.owners.clone();
            references
                .iter_mut()
                .for_each(|r| r.block_owner_deletion = Some(false));
            references
        });
        return Plan::Delete {
            policy: "Foreground",
            unblock,
        };
    }
    let policy = if node.has(ORPHAN) {
        "Orphan"
    } else if node.has(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Plan::Delete {
        policy,
        unblock: None,
    }
}
