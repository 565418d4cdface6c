//! The descriptions of types and fields.

use serde_json::{Map, Value};
use std::io::Read;

static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// Descriptions by type and field. Unpacked for as long as a document is being made.
pub(crate) struct Descriptions(Map<String, Value>);

impl Descriptions {
    pub(crate) fn load() -> Self {
        let mut json = Vec::new();
        // The table is written by this crate's build; were it damaged, documents would only lack texts.
        let unpacked = flate2::read::ZlibDecoder::new(TABLE)
            .read_to_end(&mut json)
            .is_ok();
        let table = if unpacked {
            serde_json::from_slice(&json).unwrap_or_default()
        } else {
            Map::new()
        };
        Self(table)
    }

    /// Of a type; `name` is its definition name.
    pub(crate) fn of_type(&self, name: &str) -> Option<String> {
        if let Some(text) = self.of_field(name, "") {
            return Some(text);
        }
        let kind = name.rsplit('.').next()?;
        kind.strip_suffix("List")
            .map(|of| format!("{kind} is a list of {of} objects."))
    }

    /// Of a field.
    pub(crate) fn of_field(&self, name: &str, field: &str) -> Option<String> {
        if let Some(text) = self.0.get(name).and_then(|t| t.get(field)) {
            return text.as_str().map(str::to_owned);
        }
        // Lists are not described one by one; their common fields are those of every object.
        if !name.ends_with("List") {
            return None;
        }
        match field {
            "apiVersion" | "kind" => self.of_field("io.k8s.api.core.v1.Pod", field),
            "items" => Some("The objects of the list.".into()),
            "metadata" => Some("Standard list metadata.".into()),
            _ => None,
        }
    }
}
