//! The copy itself, with its indices, and typed access to it.

use crate::{
    Object, ObjectKey,
    client::{NamespacedOrCluster, WatchEvent, WatchEventType},
    selector::LabelSelector,
};
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    ops::Bound,
    sync::Arc,
};

/// A change of the copy.
#[derive(Debug, Clone)]
pub enum RawDelta {
    /// An object appeared.
    Added(Arc<Object>),
    /// An object changed.
    Updated {
        /// Before. Not necessarily the revision right before `new`.
        old: Arc<Object>,
        /// After.
        new: Arc<Object>,
    },
    /// An object is gone; its last known state.
    Deleted(Arc<Object>),
}

/// A typed change of the copy.
#[derive(Debug, Clone)]
pub enum Delta<K> {
    /// An object appeared.
    Added(Arc<K>),
    /// An object changed.
    Updated {
        /// Before. Not necessarily the revision right before `new`.
        old: Arc<K>,
        /// After.
        new: Arc<K>,
    },
    /// An object is gone; its last known state.
    Deleted(Arc<K>),
}

impl<K> Delta<K> {
    /// The object after the change, or its last state.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(o) | Self::Updated { new: o, .. } | Self::Deleted(o) => o,
        }
    }
    /// The object before the change, if there was one and it is not the same.
    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Self::Updated { old, .. } => Some(old),
            _ => None,
        }
    }
    /// Old and new state, as far as they differ.
    pub fn states(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old().into_iter().chain(std::iter::once(self.object()))
    }
}

pub(super) fn typed<K: NamespacedOrCluster>(object: &Arc<Object>) -> Option<Arc<K>> {
    object
        .typed::<K>()
        .inspect_err(
            |error| tracing::warn!(kind = K::KIND, key = %object.key(), %error, "object does not decode"),
        )
        .ok()
}

pub(super) fn typed_delta<K: NamespacedOrCluster>(delta: &RawDelta) -> Option<Delta<K>> {
    Some(match delta {
        RawDelta::Added(o) => Delta::Added(typed(o)?),
        RawDelta::Updated { old, new } => {
            let new = typed(new)?;
            match typed(old) {
                Some(old) => Delta::Updated { old, new },
                None => Delta::Added(new),
            }
        }
        RawDelta::Deleted(o) => Delta::Deleted(typed(o)?),
    })
}

/// Gives the values under which an object is found in an index.
pub type IndexFn = Box<dyn Fn(&Arc<Object>) -> Vec<String> + Send + Sync>;

struct Index {
    values: IndexFn,
    keys: BTreeMap<String, BTreeSet<ObjectKey>>,
}

impl Index {
    fn insert(&mut self, object: &Arc<Object>) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(object.key());
        }
    }
    fn remove(&mut self, object: &Arc<Object>) {
        let key = object.key();
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    /// Ordered by namespace first, so a namespace is a range.
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    indices: BTreeMap<String, Index>,
    resource_version: String,
}

impl Inner {
    fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        let old = self.objects.insert(object.key(), object.clone());
        for index in self.indices.values_mut() {
            if let Some(old) = &old {
                index.remove(old);
            }
            index.insert(&object);
        }
        old
    }
    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Object>> {
        let old = self.objects.remove(key)?;
        self.indices.values_mut().for_each(|i| i.remove(&old));
        Some(old)
    }
}

#[derive(Default)]
pub(super) struct Cache(RwLock<Inner>);

impl Cache {
    pub(super) fn all(&self) -> Vec<Arc<Object>> {
        self.0.read().objects.values().cloned().collect()
    }
    pub(super) fn resource_version(&self) -> String {
        self.0.read().resource_version.clone()
    }
    fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.0.read().objects.get(key).cloned()
    }
    fn in_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let from = ObjectKey::new(namespace, "");
        let inner = self.0.read();
        let range = inner.objects.range((Bound::Included(from), Bound::Unbounded));
        range
            .take_while(|(k, _)| k.namespace == namespace)
            .map(|(_, o)| o.clone())
            .collect()
    }
    fn by_index(&self, index: &str, value: &str) -> Vec<Arc<Object>> {
        let inner = self.0.read();
        let keys = inner.indices.get(index).and_then(|i| i.keys.get(value));
        keys.into_iter()
            .flatten()
            .filter_map(|k| inner.objects.get(k).cloned())
            .collect()
    }

    /// Adds an index under `name`; one that is there already stays as it is.
    pub(super) fn add_index(&self, name: &str, values: IndexFn) {
        let mut inner = self.0.write();
        if inner.indices.contains_key(name) {
            return;
        }
        let mut index = Index {
            values,
            keys: BTreeMap::new(),
        };
        inner.objects.values().for_each(|o| index.insert(o));
        inner.indices.insert(name.into(), index);
    }

    pub(super) fn replace(&self, objects: Vec<Arc<Object>>, resource_version: String) -> Vec<RawDelta> {
        let mut inner = self.0.write();
        let mut deltas = Vec::new();
        let listed: BTreeSet<ObjectKey> = objects.iter().map(|o| o.key()).collect();
        let gone: Vec<ObjectKey> = inner
            .objects
            .keys()
            .filter(|k| !listed.contains(k))
            .cloned()
            .collect();
        deltas.extend(
            gone.iter()
                .filter_map(|key| inner.remove(key))
                .map(RawDelta::Deleted),
        );
        for new in objects {
            let old = inner.insert(new.clone());
            deltas.extend(change(old, new));
        }
        inner.resource_version = resource_version;
        deltas
    }

    pub(super) fn apply(&self, event: &WatchEvent) -> Option<RawDelta> {
        let mut inner = self.0.write();
        let object = &event.object;
        let version = object.resource_version();
        if !version.is_empty() {
            inner.resource_version = version.to_owned();
        }
        match event.kind {
            WatchEventType::Bookmark => None,
            WatchEventType::Deleted => inner
                .remove(&object.key())
                .map(|_| RawDelta::Deleted(object.clone())),
            WatchEventType::Added | WatchEventType::Modified => {
                let old = inner.insert(object.clone());
                change(old, object.clone())
            }
        }
    }
}

fn change(old: Option<Arc<Object>>, new: Arc<Object>) -> Option<RawDelta> {
    match old {
        None => Some(RawDelta::Added(new)),
        Some(old) if old.uid() != new.uid() && !old.uid().is_empty() => Some(RawDelta::Updated { old, new }),
        Some(old)
            if old.resource_version() == new.resource_version() && !new.resource_version().is_empty() =>
        {
            None
        }
        Some(old) => Some(RawDelta::Updated { old, new }),
    }
}

/// Reads objects of one kind from the local copy. Cheap to clone. What it returns is a recent state, not
/// necessarily the latest.
pub struct Lister<K> {
    cache: Arc<Cache>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Lister<K> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: NamespacedOrCluster> Lister<K> {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            kind: PhantomData,
        }
    }
    /// The object of this key.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.cache.get(key).as_ref().and_then(typed)
    }
    /// The object of this namespace (empty if cluster-scoped) and name.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.get(&ObjectKey::new(namespace, name))
    }
    /// All objects, in order of namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.cache.all().iter().filter_map(typed).collect()
    }
    /// The objects of a namespace, in order of name.
    #[must_use]
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.cache
            .in_namespace(namespace)
            .iter()
            .filter_map(typed)
            .collect()
    }
    /// The objects of a namespace whose labels `selector` matches, in order of name.
    #[must_use]
    pub fn select_in(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<K>> {
        let mut objects = self.list_in(namespace);
        objects.retain(|o| selector.matches_opt(o.metadata().labels.as_ref()));
        objects
    }
    /// The objects that an index (see [`super::Informer::add_index`]) finds under `value`, in order of namespace and
    /// name; none if there is no such index.
    #[must_use]
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.cache
            .by_index(index, value)
            .iter()
            .filter_map(typed)
            .collect()
    }
}

impl<K> std::fmt::Debug for Lister<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lister(@{})", self.cache.resource_version())
    }
}
