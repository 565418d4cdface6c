//! Server-side apply and field ownership: who set which field of an object, as `metadata.managedFields` records it.
//!
//! ```text
//! track_update(old: Option<&Value>, new: &mut Value, &Write)              after a create, update or patch was made,
//!                                                                          before it is stored
//! apply(live: Option<&Value>, intent: &Value, force, &Write) -> Result<Applied, ApplyError>
//! reset_fields(&ty, subresource) -> FieldSet                               what a write to that endpoint cannot own
//! scale::to_scale(..), scale::to_parent(..)                                entries of the scale subresource
//! ```
//!
//! Behaviour is that of upstream's `managedfields` and `structured-merge-diff`: KEP-555. Both functions are pure;
//! `old` and `live` are objects as stored, with their `managedFields`; results carry the new `managedFields`.
//! The object that [`apply`] returns is merged but neither normalized nor defaulted: pass it through
//! [`crate::schema::normalize`] and defaulting like any other write.
//!
//! A field set is kept in its wire form (`fieldsV1`: `f:` fields, `k:` list-map items, `v:` set items, `.` the
//! element itself), so reading and writing it costs nothing and an update costs as much as it changes.

mod apply;
mod check;
mod compare;
mod element;
mod entries;
mod extract;
mod merge;
mod remove;
pub mod scale;
mod set;
#[cfg(test)]
mod tests;
mod update;

pub use apply::{Applied, ApplyError, Conflict, apply};
pub use set::FieldSet;
pub use update::track_update;

use crate::schema::{Kind, TypeRef};
use jiff::Timestamp;

/// Who writes, where and when.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The object's type.
    pub ty: &'a TypeRef,
    /// The field manager; `unknown` if empty.
    pub manager: &'a str,
    /// The subresource written to, such as `status`; empty for the main resource.
    pub subresource: &'a str,
    /// The `apiVersion` of the request.
    pub api_version: &'a str,
    /// The time of the write; recorded in whole seconds.
    pub now: Timestamp,
    /// Fields that this endpoint ignores, and that a write through it therefore cannot own.
    pub reset: &'a FieldSet,
}

/// The fields that writes to an endpoint leave as they are: `status` for a resource that has one, the rest of the
/// object for its `status` subresource. Kinds without that split get an empty set.
#[must_use]
pub fn reset_fields(ty: &TypeRef, subresource: &str) -> FieldSet {
    let Kind::Struct(fields) = ty.ty().kind() else {
        return FieldSet::default();
    };
    if fields.get("status").is_none() {
        return FieldSet::default();
    }
    match subresource {
        "" => FieldSet::of(&[&["status"]]),
        "status" => FieldSet::of(&[&["spec"]]),
        _ => FieldSet::default(),
    }
}
