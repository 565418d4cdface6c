//! Structural types of API objects, built in or custom, and what depends on them alone.
//!
//! A [`TypeRef`] names one type; it comes from [`builtin`] (a table of facts compiled into the crate, loaded on first
//! use) or from [`from_crd`] (a CustomResourceDefinition's `openAPIV3Schema`). Everything else in this crate that
//! has to know list keys, merge keys or field types — [`crate::patch`], [`crate::managed`] — takes a `TypeRef`.
//!
//! ```text
//! builtin(&gvk) -> Option<TypeRef>                 from_crd(&schema) -> Result<TypeRef, SchemaError>
//! decode(&ty, json_bytes) -> Result<Decoded, DecodeError>      one pass: parse, check types, find unknown and
//! normalize(&ty, value)   -> Result<Decoded, DecodeError>      duplicate fields, bring into canonical form
//! unknown_fields(&ty, &value) -> Vec<String>       prune(&ty, &mut value) -> Vec<String>
//! duplicate_fields(bytes) -> Vec<String>           strict_error(&[..]) -> Option<String>
//! ```
//!
//! Canonical form of a built-in kind is what upstream's typed decode followed by an encode gives: nulls and empty
//! optional values dropped, structs that are always written present (`status: {}`), quantities and times in their
//! canonical spelling, unknown fields gone. For custom resources only `metadata` is treated so; the rest keeps its
//! form, less fields that the schema does not name (unless it preserves them).

mod check;
mod crd;
mod decode;
mod load;
mod report;
mod scalar;
#[cfg(test)]
mod tests;
mod types;
mod zero;

pub use check::{prune, unknown_fields};
pub use crd::{SchemaError, from_crd};
pub use decode::{DecodeError, Decoded, decode, duplicate_fields, normalize, strict_error};
pub use types::{Field, Fields, Kind, ListKind, PatchStrategy, Scalar, Ty, TypeRef};

pub use zero::empty_object;

use orch_core::GroupVersionKind;
use types::TypeSet;

/// The type of a built-in kind; `None` if v1.36 has no such kind.
#[must_use]
pub fn builtin(gvk: &GroupVersionKind) -> Option<TypeRef> {
    let set = load::builtin_set();
    set.by_gvk(&gvk.group, &gvk.version, &gvk.kind)
        .map(TypeRef::builtin)
}

/// A built-in type by its OpenAPI definition name, such as `io.k8s.api.core.v1.PodSpec`.
#[must_use]
pub fn builtin_definition(name: &str) -> Option<TypeRef> {
    let set = load::builtin_set();
    set.by_name(name.strip_prefix("io.k8s.").unwrap_or(name))
        .map(TypeRef::builtin)
}

/// Every built-in type: OpenAPI definition name and type, in name order.
pub fn builtin_definitions() -> impl Iterator<Item = (String, TypeRef)> {
    builtin_static()
        .names()
        .map(|(name, node)| (format!("io.k8s.{name}"), TypeRef::builtin(node)))
}

/// Every built-in kind with its type, in order of group, version and kind. A type may be several kinds.
pub fn builtin_kinds() -> impl Iterator<Item = (GroupVersionKind, TypeRef)> {
    builtin_static().kinds.iter().filter_map(|(gvk, node)| {
        let mut parts = gvk.split('/');
        let (group, version, kind) = (parts.next()?, parts.next()?, parts.next()?);
        Some((
            GroupVersionKind::new(group, version, kind),
            TypeRef::builtin(*node),
        ))
    })
}

/// The type of untyped objects: maps merge key by key, lists are replaced as wholes, nothing is unknown.
#[must_use]
pub fn untyped() -> TypeRef {
    crd::untyped()
}

pub(crate) fn builtin_static() -> &'static TypeSet {
    load::builtin_set()
}
