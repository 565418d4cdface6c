//! Objects on their way into the store: the writer and the feed share one decoded form of what is written.

use bytes::Bytes;
use orch_core::Object;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// An object whose bytes were handed to the store. Whoever learns its revision first, the writer from the answer or
/// the feed from its watch, completes it; both get the same [`Object`].
pub(crate) struct Pending {
    bytes: Bytes,
    value: Mutex<Option<Value>>,
    object: OnceLock<Arc<Object>>,
    /// The revision once it is known, 0 before.
    revision: AtomicU64,
}

impl Pending {
    /// `value` as it will be stored: its resource version is taken out, because the store's revision is it.
    pub(crate) fn new(mut value: Value) -> Self {
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("resourceVersion");
        }
        let bytes = Bytes::from(serde_json::to_vec(&value).unwrap_or_default());
        Self {
            bytes,
            value: Mutex::new(Some(value)),
            object: OnceLock::new(),
            revision: AtomicU64::new(0),
        }
    }

    /// What the store gets.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether `stored` is this very buffer.
    pub(crate) fn is(&self, stored: &Bytes) -> bool {
        self.bytes.as_ptr() == stored.as_ptr() && self.bytes.len() == stored.len()
    }

    /// Whether the write is known to have happened no later than `revision`.
    pub(crate) fn is_over(&self, revision: u64) -> bool {
        (1..=revision).contains(&self.revision.load(Ordering::Acquire))
    }

    /// The object at its revision. Only the first call's `revision` counts.
    pub(crate) fn object(&self, revision: u64) -> Arc<Object> {
        self.object
            .get_or_init(|| {
                let value = self.value.lock().take().unwrap_or_default();
                self.revision.store(revision, Ordering::Release);
                Arc::new(Object::from_value(at_revision(value, revision)))
            })
            .clone()
    }
}

/// The object that the store holds as `bytes` since `revision`; `None` if they are not a JSON object.
pub(crate) fn decode(bytes: &[u8], revision: u64) -> Option<Arc<Object>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value
        .is_object()
        .then(|| Arc::new(Object::from_value(at_revision(value, revision))))
}

/// `value` with its resource version set.
pub(crate) fn at_revision(mut value: Value, revision: u64) -> Value {
    if let Some(object) = value.as_object_mut() {
        let meta = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("resourceVersion".into(), revision.to_string().into());
        }
    }
    value
}
