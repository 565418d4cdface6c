//! One revision of one API object, encoded and parsed at most once and shared by everyone who reads it.

use crate::status::Status;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock};

/// An immutable revision of an API object: its canonical JSON, its parsed form and its typed form, each made
/// lazily and at most once. In-process readers share it by `Arc`; nothing is serialized on that path.
///
/// The first type asked for through [`Object::typed`] is remembered; another type is decoded anew each time.
pub struct Object {
    json: OnceLock<Bytes>,
    value: OnceLock<Value>,
    typed: OnceLock<(TypeId, Arc<dyn Any + Send + Sync>)>,
    encodings: parking_lot::Mutex<Vec<(&'static str, Bytes)>>,
}

impl Object {
    fn empty() -> Self {
        Self {
            json: OnceLock::new(),
            value: OnceLock::new(),
            typed: OnceLock::new(),
            encodings: parking_lot::Mutex::new(Vec::new()),
        }
    }

    /// From a parsed object.
    #[must_use]
    pub fn from_value(value: Value) -> Self {
        let object = Self::empty();
        drop(object.value.set(value));
        object
    }

    /// From JSON text.
    ///
    /// # Errors
    /// `BadRequest` if `json` is not one JSON value.
    pub fn from_json(json: impl Into<Bytes>) -> Result<Self, Status> {
        let json = json.into();
        let value = serde_json::from_slice(&json).map_err(|e| Status::bad_request(e.to_string()))?;
        Ok(Self::from_parts(json, value))
    }

    /// From JSON text and the value it parses to. The caller vouches that they agree.
    #[must_use]
    pub fn from_parts(json: Bytes, value: Value) -> Self {
        let object = Self::empty();
        drop(object.json.set(json));
        drop(object.value.set(value));
        object
    }

    /// From a typed object (k8s-openapi's types write their own `apiVersion` and `kind`).
    ///
    /// # Errors
    /// `InternalError` if the type does not serialize to JSON.
    pub fn from_typed<K: Serialize + Send + Sync + 'static>(typed: Arc<K>) -> Result<Self, Status> {
        let value = serde_json::to_value(&*typed).map_err(|e| Status::internal(e.to_string()))?;
        let object = Self::from_value(value);
        drop(object.typed.set((TypeId::of::<K>(), typed)));
        Ok(object)
    }

    /// The parsed form.
    pub fn value(&self) -> &Value {
        self.value.get_or_init(|| Value::Null)
    }

    /// The canonical JSON text.
    pub fn json(&self) -> &Bytes {
        self.json
            .get_or_init(|| Bytes::from(serde_json::to_vec(self.value()).unwrap_or_default()))
    }

    /// The typed form, decoded at most once for the first type asked for.
    ///
    /// # Errors
    /// `InternalError` naming the field if the object does not decode as `K`.
    pub fn typed<K: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<K>, Status> {
        if let Some((id, any)) = self.typed.get()
            && *id == TypeId::of::<K>()
            && let Ok(typed) = Arc::clone(any).downcast::<K>()
        {
            return Ok(typed);
        }
        let typed: Arc<K> = Arc::new(
            K::deserialize(self.value()).map_err(|e| Status::internal(format!("decoding object: {e}")))?,
        );
        drop(self.typed.set((TypeId::of::<K>(), typed.clone())));
        Ok(typed)
    }

    /// The bytes of another encoding, made by `encode` at most once per `media_type`.
    pub fn encoded(&self, media_type: &'static str, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        if let Some((_, bytes)) = self.encodings.lock().iter().find(|(m, _)| *m == media_type) {
            return bytes.clone();
        }
        let bytes = encode(self);
        let mut held = self.encodings.lock();
        if !held.iter().any(|(m, _)| *m == media_type) {
            held.push((media_type, bytes.clone()));
        }
        bytes
    }

    fn meta(&self, field: &str) -> &str {
        self.value()
            .pointer("/metadata")
            .and_then(|m| m.get(field))
            .and_then(Value::as_str)
            .unwrap_or("")
    }
    /// `metadata.name`, empty if absent.
    pub fn name(&self) -> &str {
        self.meta("name")
    }
    /// `metadata.namespace`, empty if absent.
    pub fn namespace(&self) -> &str {
        self.meta("namespace")
    }
    /// `metadata.uid`, empty if absent.
    pub fn uid(&self) -> &str {
        self.meta("uid")
    }
    /// `metadata.resourceVersion`, empty if absent.
    pub fn resource_version(&self) -> &str {
        self.meta("resourceVersion")
    }
    /// The namespace and name.
    pub fn key(&self) -> crate::ObjectKey {
        crate::ObjectKey::new(self.namespace(), self.name())
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: an object may be a Secret.
        write!(f, "Object({} @{})", self.key(), self.resource_version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn typed_form_is_shared() {
        let o = Object::from_json(&br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#[..])
            .unwrap();
        let (a, b) = (o.typed::<ConfigMap>().unwrap(), o.typed::<ConfigMap>().unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(o.name(), "a");
        assert!(o.typed::<k8s_openapi::api::core::v1::Secret>().is_err());
    }
}
