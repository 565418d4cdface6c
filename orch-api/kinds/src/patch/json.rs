//! JSON patch: the `json-patch` crate applies the operations, one by one; the texts of failures are upstream's.

use super::PatchError;
use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

/// The most operations in one JSON patch.
const OPERATIONS_MAX: usize = 10_000;

/// Applies a JSON patch (RFC 6902); all operations or none.
///
/// # Errors
/// `BadRequest` if it is not a list of operations, `Unprocessable` if one does not apply.
pub fn json(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = patch.as_array().ok_or_else(|| {
        let kind = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "null",
        };
        PatchError::BadRequest(format!(
            "json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch"
        ))
    })?;
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations {
            max: OPERATIONS_MAX,
            got: operations.len(),
        });
    }
    let mut patched = original.clone();
    for operation in operations {
        let operation = read(operation)?;
        json_patch::patch(&mut patched, std::slice::from_ref(&operation))
            .map_err(|e| PatchError::Unprocessable(explain(&patched, &operation, &e.kind)))?;
    }
    Ok(patched)
}

/// What strict validation finds in a JSON patch besides duplicate fields: members that no operation has.
#[must_use]
pub fn json_strict(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().into_iter().flatten().enumerate();
    operations
        .flat_map(|(i, operation)| {
            let names = operation.as_object().into_iter().flat_map(serde_json::Map::keys);
            names
                .filter(|n| !matches!(n.as_str(), "op" | "path" | "from" | "value"))
                .map(move |n| format!("json patch unknown field \"[{i}].{n}\""))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn read(operation: &Value) -> Result<PatchOperation, PatchError> {
    let name = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    if !matches!(name, "add" | "remove" | "replace" | "move" | "copy" | "test") {
        return Err(PatchError::Unprocessable(format!("Unexpected kind: {name}")));
    }
    serde_json::from_value(operation.clone()).map_err(|_| {
        let missing = if operation.get("path").and_then(Value::as_str).is_none() {
            "path"
        } else {
            "value"
        };
        PatchError::Unprocessable(format!(
            "{name} operation failed to decode {missing}: missing value"
        ))
    })
}

fn explain(doc: &Value, operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path().to_string();
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", &path));
    let parent_value = doc.pointer(parent);
    let has_parent = parent_value.is_some_and(|p| p.is_object() || p.is_array());
    let bad_index = || match key.parse::<i64>() {
        Ok(i) => format!("Unable to access invalid index: {i}: invalid index referenced"),
        Err(_) => format!("strconv.Atoi: parsing {key:?}: invalid syntax"),
    };
    let in_list = parent_value.is_some_and(Value::is_array);
    match operation {
        PatchOperation::Test(_) if matches!(kind, PatchErrorKind::TestFailed) => {
            format!("testing value {path} failed: test failed")
        }
        PatchOperation::Test(_) if !has_parent => {
            format!("test operation does not apply: is missing path: {path}: missing value")
        }
        PatchOperation::Test(_) => format!("testing value {path} failed: test failed"),
        PatchOperation::Add(_) if !has_parent => {
            format!("add operation does not apply: doc is missing path: {path:?}: missing value")
        }
        PatchOperation::Add(_) => format!("error in add for path: '{path}': {}", bad_index()),
        PatchOperation::Remove(_) if !has_parent => {
            format!("remove operation does not apply: doc is missing path: {path:?}: missing value")
        }
        PatchOperation::Remove(_) if in_list => {
            format!("error in remove for path: '{path}': {}", bad_index())
        }
        PatchOperation::Remove(_) => {
            format!(
                "error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
            )
        }
        PatchOperation::Replace(_) if !has_parent => {
            format!("replace operation does not apply: doc is missing path: {path}: missing value")
        }
        PatchOperation::Replace(_) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        PatchOperation::Move(m) => {
            format!(
                "move operation does not apply: doc is missing from path: {}: missing value",
                m.from
            )
        }
        PatchOperation::Copy(c) => {
            format!(
                "copy operation does not apply: doc is missing from path: {}: missing value",
                c.from
            )
        }
    }
}
