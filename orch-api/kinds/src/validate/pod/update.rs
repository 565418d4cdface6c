//! What an update of a pod may change.

use super::{annotations, container, metadata_and_spec, scheduling};
use crate::field::{FieldErrors, Path};
use crate::json::{Json, JsonMut};
use crate::strategy::semantic_eq;
use crate::validate::meta;
use orch_core::validate as format;
use serde_json::Value;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(in crate::validate) fn update(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    metadata_and_spec(errors, new);
    let meta_path = Path::new("metadata");
    annotations::update(errors, &meta_path.child("annotations"), new, old);
    let path = Path::new("spec");
    let (spec, held) = (new.at("spec"), old.at("spec"));
    for list in ["containers", "initContainers"] {
        let path = path.child(list);
        if spec.list(list).len() != held.list(list).len() {
            errors.forbidden(&path, "pod updates may not add or remove containers");
            return;
        }
        for (i, one) in spec.list(list).iter().enumerate() {
            let here = path.index(i);
            if one.text("image").is_empty() {
                errors.required(&here.child("image"), "");
            }
            container::image_whitespace(errors, &here, one);
        }
    }
    if !deadline(errors, &path.child("activeDeadlineSeconds"), spec, held) {
        return;
    }
    let tolerations = path.child("tolerations");
    if only_added_tolerations(spec.list("tolerations"), held.list("tolerations")) {
        scheduling::tolerations(errors, &tolerations, spec.list("tolerations"));
    } else {
        errors.forbidden(
            &tolerations,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    for (i, gate) in spec.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !held
            .list("schedulingGates")
            .iter()
            .any(|g| g.text("name") == name)
        {
            errors.forbidden(
                &path.child("schedulingGates").index(i).child("name"),
                format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            );
        }
    }
    if !semantic_eq(spec, held) {
        immutable_rest(errors, &path, spec, held);
    }
}

/// Whether validation can go on.
fn deadline(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value, held: &Value) -> bool {
    let old = held.int("activeDeadlineSeconds");
    match spec.int("activeDeadlineSeconds") {
        Some(new) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(path, new, format::inclusive_range_error(0, i64::from(i32::MAX)));
            false
        }
        Some(new) if old.is_some_and(|old| old < new) => {
            errors.invalid(path, new, "must be less than or equal to previous value");
            false
        }
        None if old.is_some() => {
            errors.invalid(
                path,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
            true
        }
        _ => true,
    }
}

fn only_added_tolerations(new: &[Value], old: &[Value]) -> bool {
    let without_seconds = |t: &Value| {
        let mut t = t.clone();
        t.take_key("tolerationSeconds");
        t
    };
    old.iter()
        .all(|old| new.iter().any(|new| without_seconds(old) == without_seconds(new)))
}

/// Compares the specs with everything that may change set to the old values.
fn immutable_rest(errors: &mut FieldErrors, path: &Path<'_>, new: &Value, held: &Value) {
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        for (one, old) in munged.list_mut(list).iter_mut().zip(held.list(list)) {
            take_from(one, old, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        take_from(&mut munged, held, key);
    }
    let grace = "terminationGracePeriodSeconds";
    if held.int(grace).is_some_and(|g| g < 0) && munged.int(grace) == Some(1) {
        take_from(&mut munged, held, grace);
    }
    if !held.list("schedulingGates").is_empty() {
        gated(errors, path, &mut munged, held);
    }
    if !semantic_eq(&munged, held) {
        errors.forbidden(path, format!("{UPDATABLE}\n{}", difference(held, &munged)));
    }
}

fn take_from(to: &mut Value, from: &Value, key: &str) {
    match from.at(key).some() {
        Some(value) => to.set(key, value.clone()),
        None => drop(to.take_key(key)),
    }
}

/// A gated pod may still narrow where it can go.
fn gated(errors: &mut FieldErrors, path: &Path<'_>, munged: &mut Value, held: &Value) {
    if !semantic_eq(munged.at("nodeSelector"), held.at("nodeSelector")) {
        let kept = held
            .entries("nodeSelector")
            .all(|(k, v)| munged.at("nodeSelector").at(k) == v);
        if !kept {
            errors.invalid(
                &path.child("nodeSelector"),
                munged.at("nodeSelector").clone(),
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            );
        }
        take_from(munged, held, "nodeSelector");
    }
    let keys = ["affinity", "nodeAffinity"];
    if semantic_eq(munged.dig(&keys), held.dig(&keys)) {
        return;
    }
    node_affinity(
        errors,
        &path.child("affinity").child("nodeAffinity"),
        munged.dig(&keys),
        held.dig(&keys),
    );
    if held.has("affinity") {
        if let Some(affinity) = munged.ensure("affinity") {
            take_from(affinity, held.at("affinity"), "nodeAffinity");
        }
    } else if let Some(affinity) = munged.at_mut("affinity") {
        affinity.take_key("nodeAffinity");
        if affinity.as_object().is_some_and(serde_json::Map::is_empty) {
            munged.take_key("affinity");
        }
    }
}

fn node_affinity(errors: &mut FieldErrors, path: &Path<'_>, new: &Value, old: &Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let path = path.child(REQUIRED);
    let path = path.child("nodeSelectorTerms");
    let (new, old) = (
        new.at(REQUIRED).list("nodeSelectorTerms"),
        old.at(REQUIRED).list("nodeSelectorTerms"),
    );
    if old.is_empty() {
        return;
    }
    if old.len() != new.len() {
        errors.invalid(
            &path,
            new.to_vec(),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
        return;
    }
    for (i, (new, old)) in new.iter().zip(old).enumerate() {
        let was_empty = old.list("matchExpressions").is_empty() && old.list("matchFields").is_empty();
        let is_empty = new.list("matchExpressions").is_empty() && new.list("matchFields").is_empty();
        let extends = |key: &str| {
            let (new, old) = (new.list(key), old.list(key));
            new.len() >= old.len() && new.iter().zip(old).all(|(n, o)| semantic_eq(n, o))
        };
        let added = (!was_empty || is_empty) && extends("matchExpressions") && extends("matchFields");
        if !added {
            errors.invalid(
                &path.index(i),
                new.clone(),
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}

/// What differs, a line each: `-` the old and `+` the new value of every changed member.
pub(super) fn difference(old: &Value, new: &Value) -> String {
    fn walk(path: &str, old: &Value, new: &Value, out: &mut String) {
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let here = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    walk(&here, old.at(key), new.at(key), out);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (i, (x, y)) in a.iter().zip(b).enumerate() {
                    walk(&format!("{path}[{i}]"), x, y, out);
                }
            }
            _ if semantic_eq(old, new) => {}
            _ => {
                if !old.is_null() {
                    out.push_str(&format!("- {path}: {old}\n"));
                }
                if !new.is_null() {
                    out.push_str(&format!("+ {path}: {new}\n"));
                }
            }
        }
    }
    let mut out = String::new();
    walk("", old, new, &mut out);
    out
}

/// The `ephemeralcontainers` subresource: containers may be added, none changed or removed.
pub(in crate::validate) fn update_ephemeral_containers(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    metadata_and_spec(errors, new);
    let meta_path = Path::new("metadata");
    annotations::update(errors, &meta_path.child("annotations"), new, old);
    if old
        .dig(&["metadata", "annotations"])
        .has("kubernetes.io/config.mirror")
    {
        *errors = FieldErrors::new();
        errors.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
        return;
    }
    let path = Path::new("spec");
    let path = path.child("ephemeralContainers");
    for held in old.at("spec").list("ephemeralContainers") {
        let name = held.text("name");
        let quoted = crate::field::quote(name);
        match new
            .at("spec")
            .list("ephemeralContainers")
            .iter()
            .rfind(|c| c.text("name") == name)
        {
            None => {
                errors.forbidden(
                    &path,
                    format!("existing ephemeral containers {quoted} may not be removed\n"),
                );
            }
            Some(now) if !semantic_eq(now, held) => errors.forbidden(
                &path,
                format!(
                    "existing ephemeral containers {quoted} may not be changed\n{}",
                    difference(held, now)
                ),
            ),
            Some(_) => {}
        }
    }
}

/// A `Binding`: the node that a pod is to run on.
pub(in crate::validate) fn binding(errors: &mut FieldErrors, binding: &Value) {
    let path = Path::new("target");
    let target = binding.at("target");
    let kind = target.text("kind");
    if !kind.is_empty() && kind != "Node" {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if target.text("name").is_empty() {
        errors.required(&path.child("name"), "");
    }
}
