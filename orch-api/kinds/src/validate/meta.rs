//! Object metadata, which every kind shares.

use super::check::{self, each, immutable, nonnegative, qualified_name};
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use orch_core::validate as format;
use serde_json::Value;

/// How names of a kind are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, up to 253 characters.
    Subdomain,
    /// RFC 1123 label, up to 63 characters.
    Label,
    /// RFC 1035 label.
    Label1035,
    /// Anything that can be a segment of a URL path.
    PathSegment,
}

impl NameRule {
    /// What is wrong with `name`; with `prefix`, more characters will follow it.
    #[must_use]
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        if self == Self::PathSegment {
            let messages = format::path_segment_name(name);
            // A prefix may be a dot: what follows makes it a name.
            return if prefix {
                messages
                    .into_iter()
                    .filter(|m| !m.starts_with("may not be"))
                    .collect()
            } else {
                messages
            };
        }
        let masked = if prefix {
            format::mask_trailing_dash(name)
        } else {
            name.to_owned()
        };
        match self {
            Self::Subdomain => format::dns1123_subdomain(&masked),
            Self::Label => format::dns1123_label(&masked),
            Self::Label1035 => format::dns1035_label(&masked),
            Self::PathSegment => Vec::new(),
        }
    }
}

/// Metadata of a new object, as a kind's own validation sees it.
pub(super) fn create(errors: &mut FieldErrors, object: &Value, namespaced: bool, rule: NameRule) {
    let meta = object.at("metadata");
    let path = Path::new("metadata");
    generic(errors, &path, meta, namespaced, rule);
    kube_finalizers(errors, &path, meta);
}

/// Unqualified finalizers must be ones that the system knows.
pub(super) fn kube_finalizers(errors: &mut FieldErrors, path: &Path<'_>, meta: &Value) {
    let path = path.child("finalizers");
    for (i, name) in meta.list("finalizers").iter().enumerate() {
        kube_finalizer(errors, &path.index(i), name.string());
    }
}

pub(super) fn kube_finalizer(errors: &mut FieldErrors, path: &Path<'_>, name: &str) {
    if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
        errors.invalid(
            path,
            name,
            "name is neither a standard finalizer name nor is it fully qualified",
        );
    }
}

/// Metadata of any object at rest.
pub(super) fn generic(
    errors: &mut FieldErrors,
    path: &Path<'_>,
    meta: &Value,
    namespaced: bool,
    rule: NameRule,
) {
    let (name, prefix) = (meta.text("name"), meta.text("generateName"));
    if !prefix.is_empty() {
        each(
            errors,
            &path.child("generateName"),
            prefix,
            rule.check(prefix, true),
        );
    }
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        each(errors, &path.child("name"), name, rule.check(name, false));
    }
    let namespace = meta.text("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&path.child("namespace"), ""),
        (true, false) => each(
            errors,
            &path.child("namespace"),
            namespace,
            format::dns1123_label(namespace),
        ),
        (false, false) => errors.forbidden(&path.child("namespace"), "not allowed on this type"),
        (false, true) => {}
    }
    nonnegative(errors, &path.child("generation"), meta.int("generation"));
    check::labels(errors, &path.child("labels"), meta.at("labels"));
    annotations(errors, &path.child("annotations"), meta.at("annotations"));
    owner_references(errors, &path.child("ownerReferences"), meta);
    finalizers(errors, &path.child("finalizers"), meta);
    managed_fields(errors, &path.child("managedFields"), meta);
}

/// Metadata of `new`, which is to replace `old`.
pub(super) fn update(errors: &mut FieldErrors, new: &Value, old: &Value) {
    update_generic(errors, new, old);
    kube_finalizers(errors, &Path::new("metadata"), new.at("metadata"));
}

pub(super) fn update_generic(errors: &mut FieldErrors, new: &Value, old: &Value) {
    let (new, old) = (new.at("metadata"), old.at("metadata"));
    let path = Path::new("metadata");
    if old.has("deletionTimestamp") {
        let held = old.list("finalizers");
        let mut extra: Vec<String> = new
            .list("finalizers")
            .iter()
            .filter(|f| !held.contains(f))
            .map(|f| format!("{f}"))
            .collect();
        extra.sort();
        extra.dedup();
        if !extra.is_empty() {
            errors.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers \
                     []string{{{}}}",
                    extra.join(", ")
                ),
            );
        }
    }
    if new.text("resourceVersion").is_empty() {
        errors.invalid(
            &path.child("resourceVersion"),
            "",
            "must be specified for an update",
        );
    }
    let (generation, held) = (
        new.int("generation").unwrap_or(0),
        old.int("generation").unwrap_or(0),
    );
    if generation < held {
        errors.invalid(&path.child("generation"), generation, "must not be decremented");
    }
    for key in ["name", "namespace", "uid"] {
        let (new, old) = (Value::from(new.text(key)), Value::from(old.text(key)));
        immutable(errors, &path.child(key), &new, &old);
    }
    for key in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        immutable(errors, &path.child(key), new.at(key), old.at(key));
    }
    check::labels(errors, &path.child("labels"), new.at("labels"));
    annotations(errors, &path.child("annotations"), new.at("annotations"));
    owner_references(errors, &path.child("ownerReferences"), new);
    managed_fields(errors, &path.child("managedFields"), new);
}

/// Total size of keys and values that annotations may have.
const ANNOTATIONS_MAX: usize = 256 * 1024;

pub(super) fn annotations(errors: &mut FieldErrors, path: &Path<'_>, annotations: &Value) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        // Upper case is allowed in annotations' keys for old times' sake.
        qualified_name_folded(errors, path, key);
        size += key.len() + value.string().len();
    }
    if size > ANNOTATIONS_MAX {
        errors.push(crate::field::FieldError::too_long(path, ANNOTATIONS_MAX));
    }
}

fn qualified_name_folded(errors: &mut FieldErrors, path: &Path<'_>, key: &str) {
    for message in format::qualified_name(&key.to_lowercase()) {
        errors.invalid(path, key, message);
    }
}

fn owner_references(errors: &mut FieldErrors, path: &Path<'_>, meta: &Value) {
    let references = meta.list("ownerReferences");
    let mut controller: Option<String> = None;
    for reference in references {
        let (version, kind) = (reference.text("apiVersion"), reference.text("kind"));
        let version_part = version.split_once('/').map_or(version, |(_, v)| v);
        if version_part.is_empty() || version.matches('/').count() > 1 {
            errors.invalid(&path.child("apiVersion"), version, "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if reference.text(key).is_empty() {
                errors.invalid(&path.child(key), "", "must not be empty");
            }
        }
        if (version, kind) == ("v1", "Event") {
            errors.invalid(
                path,
                reference.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if reference.flag("controller") {
            let this = format!("{kind}/{}", reference.text("name"));
            match &controller {
                Some(first) => errors.invalid(
                    path,
                    references.to_vec(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for \
                         {first} and {this}"
                    ),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(errors: &mut FieldErrors, path: &Path<'_>, meta: &Value) {
    let list = meta.list("finalizers");
    for name in list {
        qualified_name(errors, path, name.string());
    }
    let has = |name: &str| list.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(
            path,
            list.to_vec(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

fn managed_fields(errors: &mut FieldErrors, path: &Path<'_>, meta: &Value) {
    for (i, entry) in meta.list("managedFields").iter().enumerate() {
        let path = path.index(i);
        let operation = entry.text("operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.invalid(&path.child("operation"), operation, "must be `Apply` or `Update`");
        }
        let kind = entry.text("fieldsType");
        if !kind.is_empty() && kind != "FieldsV1" {
            errors.invalid(&path.child("fieldsType"), kind, "must be `FieldsV1`");
        }
        field_manager(errors, &path.child("manager"), entry.text("manager"));
        if entry.text("subresource").len() > 256 {
            errors.push(crate::field::FieldError::too_long(
                &path.child("subresource"),
                256,
            ));
        }
    }
}

/// A field manager's name: at most 128 bytes, all printable.
pub fn field_manager(errors: &mut FieldErrors, path: &Path<'_>, manager: &str) {
    if manager.len() > 128 {
        errors.push(crate::field::FieldError::too_long(path, 128));
    }
    for (i, c) in manager.char_indices() {
        if c.is_control() || (c.is_whitespace() && c != ' ') {
            errors.invalid(
                path,
                manager,
                format!("invalid character U+{:04X} (at position {i})", c as u32),
            );
        }
    }
}
