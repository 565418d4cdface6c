//! `metadata.managedFields`: reading, writing, order and the cap on their number.

use super::set::{FieldSet, union};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How a manager wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: Map<String, Value>,
}

impl Entry {
    /// Whether this is the entry of that writer. An applier has one entry whatever version it applies.
    pub(super) fn is(
        &self,
        manager: &str,
        operation: Operation,
        api_version: &str,
        subresource: &str,
    ) -> bool {
        self.manager == manager
            && self.operation == operation
            && (operation == Operation::Apply || self.api_version == api_version)
            && self.subresource == subresource
    }

    fn read(value: Value) -> Option<Self> {
        let Value::Object(mut map) = value else {
            return None;
        };
        let mut text = |name: &str| match map.remove(name) {
            Some(Value::String(s)) => Some(s),
            _ => None,
        };
        let operation = match text("operation").as_deref() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return None,
        };
        let api_version = text("apiVersion").filter(|v| !v.is_empty())?;
        if text("fieldsType").as_deref() != Some("FieldsV1") {
            return None;
        }
        Some(Self {
            operation,
            api_version,
            manager: text("manager").unwrap_or_default(),
            subresource: text("subresource").unwrap_or_default(),
            time: text("time"),
            fields: match map.remove("fieldsV1") {
                Some(fields) => FieldSet::from_fields_v1(fields)?.0,
                None => Map::new(),
            },
        })
    }

    fn write(self) -> Value {
        let mut map = Map::new();
        let mut text = |name: &str, value: String| {
            if !value.is_empty() {
                map.insert(name.into(), Value::String(value));
            }
        };
        text("apiVersion", self.api_version);
        text("fieldsType", "FieldsV1".into());
        text("manager", self.manager);
        text("operation", self.operation.name().into());
        text("subresource", self.subresource);
        text("time", self.time.unwrap_or_default());
        map.insert("fieldsV1".into(), Value::Object(self.fields));
        Value::Object(map)
    }
}

/// Reads entries; `None` if any is malformed.
pub(super) fn read(value: Value) -> Option<Vec<Entry>> {
    match value {
        Value::Array(items) => items.into_iter().map(Entry::read).collect(),
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

/// The entries of an object.
pub(super) fn of(object: &Value) -> Option<Vec<Entry>> {
    match object.pointer("/metadata/managedFields") {
        Some(value) => read(value.clone()),
        None => Some(Vec::new()),
    }
}

/// Takes the entries out of an object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object
        .get_mut("metadata")?
        .as_object_mut()?
        .remove("managedFields")
}

/// Writes entries into an object, in upstream's order; none leaves the field out.
pub(super) fn put(object: &mut Value, mut entries: Vec<Entry>) {
    if entries.is_empty() {
        take(object);
        return;
    }
    entries.sort_by(|a, b| {
        // Times are in UTC and whole seconds, so their order is that of their text.
        let key = |e: &Entry| (e.operation, e.time.clone());
        key(a)
            .cmp(&key(b))
            .then_with(|| a.manager.cmp(&b.manager))
            .then_with(|| a.api_version.cmp(&b.api_version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    if let Some(object) = object.as_object_mut() {
        let metadata = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(
                "managedFields".into(),
                entries.into_iter().map(Entry::write).collect(),
            );
        }
    }
}

/// The most entries of operation Update that are kept apart.
const UPDATERS_MAX: usize = 10;
/// The manager under which the oldest ones are merged.
const ANCIENT: &str = "ancient-changes";

/// Merges the oldest Update entries of a version into one while there are more than ten.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters: Vec<usize> = (0..entries.len())
        .filter(|i| entries[*i].operation == Operation::Update)
        .collect();
    if updaters.len() <= UPDATERS_MAX {
        return;
    }
    updaters.sort_by(|a, b| {
        let key = |i: &usize| {
            let e = &entries[*i];
            (
                e.time.clone(),
                e.manager.clone(),
                e.api_version.clone(),
                e.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let mut count = updaters.len();
    let mut buckets: BTreeMap<String, usize> = BTreeMap::new();
    let mut gone = Vec::new();
    for i in updaters {
        if count <= UPDATERS_MAX {
            break;
        }
        let version = entries[i].api_version.clone();
        let Some(&bucket) = buckets.get(&version) else {
            buckets.insert(version, i);
            continue;
        };
        let fields = std::mem::take(&mut entries[i].fields);
        let time = entries[i].time.clone();
        let target = &mut entries[bucket];
        target.manager = ANCIENT.into();
        target.subresource.clear();
        target.time = time;
        union(&mut target.fields, fields);
        gone.push(i);
        count -= 1;
    }
    gone.sort_unstable_by(|a, b| b.cmp(a));
    for i in gone {
        entries.remove(i);
    }
}
