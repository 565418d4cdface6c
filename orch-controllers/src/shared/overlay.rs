//! The controller's own writes laid over the lagging local copy.
//!
//! An informer may show the world as it was before this controller's last writes; acting on that would create or
//! delete twice. Upstream waits ("expectations"); here the writes are remembered until the copy has caught up: what
//! was created is added, what was deleted is taken away. Resource versions are compared as numbers, as Kubernetes
//! allows since v1.35. Forgetting an overlay (a restart) only costs a possible surplus that the next pass corrects.

use super::uid;
use orch_core::{ObjectKey, client::NamespacedOrCluster};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

struct Entry<K> {
    created: BTreeMap<String, Arc<K>>,
    deleted: BTreeSet<String>,
}

/// Writes not yet seen in the local copy, by the object they were made for.
pub struct Overlay<K>(Mutex<BTreeMap<ObjectKey, Entry<K>>>);

impl<K> Default for Overlay<K> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K> std::fmt::Debug for Overlay<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Overlay({})", self.0.lock().len())
    }
}

fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

impl<K: NamespacedOrCluster> Overlay<K> {
    fn with<R>(&self, owner: &ObjectKey, f: impl FnOnce(&mut Entry<K>) -> R) -> R {
        let mut entries = self.0.lock();
        let new = || Entry {
            created: BTreeMap::new(),
            deleted: BTreeSet::new(),
        };
        f(entries.entry(owner.clone()).or_insert_with(new))
    }

    /// Remembers an object just created (or written anew) for `owner`.
    pub fn created(&self, owner: &ObjectKey, object: Arc<K>) {
        self.with(owner, |e| {
            e.created.insert(uid(object.metadata()).to_owned(), object)
        });
    }

    /// Remembers that an object of `owner` was just deleted.
    pub fn deleted(&self, owner: &ObjectKey, object_uid: &str) {
        self.with(owner, |e| e.deleted.insert(object_uid.to_owned()));
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.0.lock().remove(owner);
    }

    /// `seen`, with `owner`'s writes laid over it. `version` is the copy's resource version, read *before* `seen`.
    pub fn apply(&self, owner: &ObjectKey, mut seen: Vec<Arc<K>>, version: &str) -> Vec<Arc<K>> {
        let mut entries = self.0.lock();
        let Some(entry) = entries.get_mut(owner) else {
            return seen;
        };
        let version = number(Some(version));
        // What the copy has reached, it shows; what it shows newer, it knows better.
        entry.created.retain(|object_uid, object| {
            let own = number(object.metadata().resource_version.as_deref());
            let reached = own.is_none() || version >= own;
            let shown = seen.iter().find(|o| uid(o.metadata()) == object_uid);
            !reached && shown.is_none_or(|o| number(o.metadata().resource_version.as_deref()) < own)
        });
        entry.deleted.retain(|object_uid| {
            let shown = seen.iter().find(|o| uid(o.metadata()) == object_uid);
            shown.is_some_and(|o| o.metadata().deletion_timestamp.is_none())
                || entry.created.contains_key(object_uid)
        });
        for (object_uid, object) in &entry.created {
            seen.retain(|o| uid(o.metadata()) != object_uid);
            seen.push(object.clone());
        }
        seen.retain(|o| !entry.deleted.contains(uid(o.metadata())));
        if entry.created.is_empty() && entry.deleted.is_empty() {
            entries.remove(owner);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use orch_core::testing::builders::pod;

    fn at(name: &str, version: &str) -> Arc<Pod> {
        let mut p = pod("n", name).build();
        p.metadata.uid = Some(name.into());
        p.metadata.resource_version = Some(version.into());
        Arc::new(p)
    }
    fn names(pods: &[Arc<Pod>]) -> String {
        pods.iter()
            .map(|p| p.metadata.name.clone().unwrap_or_default())
            .collect()
    }

    #[test]
    fn own_writes_show_until_the_copy_has_them() {
        let (overlay, owner) = (Overlay::<Pod>::default(), ObjectKey::new("n", "o"));
        overlay.created(&owner, at("b", "7"));
        assert_eq!(names(&overlay.apply(&owner, vec![at("a", "5")], "5")), "ab");
        // The copy has passed it without showing it: somebody deleted it.
        assert_eq!(names(&overlay.apply(&owner, vec![at("a", "5")], "9")), "a");
        overlay.deleted(&owner, "a");
        assert_eq!(names(&overlay.apply(&owner, vec![at("a", "5")], "9")), "");
        let mut going = (*at("a", "10")).clone();
        going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert_eq!(
            names(&overlay.apply(&owner, vec![Arc::new(going)], "10")),
            "a",
            "shown as terminating"
        );
        assert!(overlay.0.lock().is_empty());
    }
}
