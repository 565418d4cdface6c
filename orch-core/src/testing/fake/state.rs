//! What the server holds.

use crate::{Object, ObjectKey};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// One change, for watches.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) collection: String,
    pub(super) before: Option<Arc<Object>>,
    pub(super) after: Option<Arc<Object>>,
    /// For a delete: the last state at the revision of the delete.
    pub(super) tombstone: Option<Arc<Object>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) collections: BTreeMap<String, BTreeMap<ObjectKey, Arc<Object>>>,
    pub(super) history: VecDeque<Change>,
    /// Index of the first change in `history` since the beginning.
    pub(super) history_start: u64,
    /// Watches from before this revision expire.
    pub(super) compacted: u64,
}

impl State {
    pub(super) fn get(&self, collection: &str, key: &ObjectKey) -> Option<Arc<Object>> {
        self.collections.get(collection)?.get(key).cloned()
    }

    /// Writes an object at a new revision.
    pub(super) fn put(&mut self, collection: &str, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(Object::from_value(value));
        let before = self
            .collections
            .entry(collection.into())
            .or_default()
            .insert(object.key(), object.clone());
        self.history.push_back(Change {
            revision: self.revision,
            collection: collection.into(),
            before,
            after: Some(object.clone()),
            tombstone: None,
        });
        object
    }

    /// Removes an object at a new revision; answers with its last state.
    pub(super) fn remove(&mut self, collection: &str, last: Value) -> Arc<Object> {
        self.revision += 1;
        let mut value = last;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let tombstone = Arc::new(Object::from_value(value));
        let before = self
            .collections
            .get_mut(collection)
            .and_then(|c| c.remove(&tombstone.key()));
        self.history.push_back(Change {
            revision: self.revision,
            collection: collection.into(),
            before,
            after: None,
            tombstone: Some(tombstone.clone()),
        });
        tombstone
    }
}
