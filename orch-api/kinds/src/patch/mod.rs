//! The patch formats of the API, as pure functions from a current object and a patch to the patched object.
//!
//! ```text
//! parse(bytes)                    -> Result<Parsed, PatchError>     the patch document and its strict errors
//! json(&original, &patch)         -> Result<Value, PatchError>      RFC 6902 (json_strict: its strict errors)
//! merge(&original, &patch)        -> Result<Value, PatchError>      RFC 7386
//! strategic(&original, &patch, &ty) -> Result<Value, PatchError>    Kubernetes' strategic merge patch
//! ```
//!
//! Server-side apply is in [`crate::managed`]. The result is not checked against the type: decode it with
//! [`crate::schema::normalize`], then default and validate it as after an update.

mod json;
mod strategic;
#[cfg(test)]
mod tests;

pub use json::{json, json_strict};
pub use strategic::strategic;

use serde_json::Value;

/// Why a patch does not apply; the variants are the HTTP codes that upstream answers with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the patch is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// 413: more operations than allowed.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {got}")]
    TooManyOperations {
        /// The limit.
        max: usize,
        /// How many there are.
        got: usize,
    },
    /// 422: the patch does not fit the object. Upstream's message to the client is only
    /// `the server rejected our request due to an error in our request`; this text is for logs.
    #[error("{0}")]
    Unprocessable(String),
    /// 500 in upstream: the patch cannot be merged.
    #[error("{0}")]
    Unmergeable(String),
}

/// A patch document.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The patch.
    pub patch: Value,
    /// What strict validation refuses: duplicate fields.
    pub strict: Vec<String>,
}

/// Reads a patch document from JSON.
///
/// # Errors
/// [`PatchError::BadRequest`] if it is not JSON.
pub fn parse(bytes: &[u8]) -> Result<Parsed, PatchError> {
    match crate::schema::decode(&crate::schema::untyped(), bytes) {
        Ok(decoded) => Ok(Parsed {
            patch: decoded.value,
            strict: decoded.strict,
        }),
        Err(error) => Err(PatchError::BadRequest(format!("error decoding patch: {error}"))),
    }
}

/// Applies a JSON merge patch (RFC 7386).
///
/// # Errors
/// [`PatchError::BadRequest`] if the patch is not an object.
pub fn merge(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::BadRequest("Invalid JSON Patch".into()));
    }
    let mut patched = original.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}
