//! Nodes and namespaces.

use crate::field::{FieldError, FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{qualified_name, strings};
use crate::validate::meta::{self, NameRule, kube_finalizer};
use crate::validate::{ip, pod};
use orch_core::validate as format;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn node(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, false, NameRule::Subdomain);
    let meta_path = Path::new("metadata");
    let spec = object.at("spec");
    // Upstream reports taints under the metadata.
    taints(errors, &meta_path.child("taints"), spec.list("taints"));
    resources(errors, object);
    features(errors, object);
    let path = Path::new("spec");
    let path = path.child("podCIDRs");
    let cidrs: Vec<&str> = strings(spec.list("podCIDRs")).collect();
    for (i, cidr) in cidrs.iter().enumerate() {
        ip::cidr(errors, &path.index(i), cidr, &[]);
    }
    if cidrs.len() > 1 {
        let addresses: Vec<&str> = cidrs.iter().map(|c| c.split('/').next().unwrap_or("")).collect();
        if cidrs.len() > 2 || !ip::is_dual_stack(&addresses) {
            errors.invalid(
                &path,
                spec.list("podCIDRs").to_vec(),
                "may specify no more than one CIDR for each IP family",
            );
        }
    }
}

fn taints(errors: &mut FieldErrors, path: &Path<'_>, taints: &[Value]) {
    let mut seen = BTreeSet::new();
    for (i, taint) in taints.iter().enumerate() {
        let here = path.index(i);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        qualified_name(errors, &here.child("key"), key);
        let wrong = format::label_value(value);
        if !wrong.is_empty() {
            errors.invalid(&here.child("value"), value, wrong.join(";"));
        }
        if effect.is_empty() {
            errors.required(&here.child("effect"), "");
        } else {
            pod::taint_effect(errors, &here.child("effect"), effect);
        }
        if !seen.insert((effect, key)) {
            let mut error = FieldError::duplicate(&here, taint.clone());
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
}

fn resources(errors: &mut FieldErrors, object: &Value) {
    let path = Path::new("status");
    for list in ["capacity", "allocatable"] {
        for (name, amount) in object.at("status").entries(list) {
            let amount = amount.string().parse().unwrap_or_default();
            pod::quantity(errors, &path.child(list).child(name), name, &amount);
        }
    }
}

fn features(errors: &mut FieldErrors, object: &Value) {
    let path = Path::new("status");
    let path = path.child("declaredFeatures");
    let list: Vec<&str> = strings(object.at("status").list("declaredFeatures")).collect();
    for (i, feature) in list.iter().enumerate() {
        let segment = |(i, s): (usize, &str)| {
            let first = s.bytes().next();
            let starts = if i == 0 {
                first.is_some_and(|b| b.is_ascii_uppercase())
            } else {
                first.is_some_and(|b| b.is_ascii_alphabetic())
            };
            starts && s.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let name = crate::field::quote(feature);
        if feature.len() > 253 {
            errors.invalid(
                &path.index(i),
                *feature,
                format!("invalid feature name {name}: must be no more than 253 characters"),
            );
        } else if !feature.split('/').enumerate().all(segment) {
            errors.invalid(
                &path.index(i),
                *feature,
                format!(
                    "invalid feature name {name}: must start with an UpperCamelCase segment, with subsequent segments \
                     separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric \
                     characters and slashes"
                ),
            );
        }
        if let Some(next) = list.get(i + 1) {
            if feature == next {
                errors.duplicate(&path.index(i + 1), *next);
            } else if feature > next {
                errors.invalid(&path.index(i + 1), *next, "list must be sorted alphabetically");
            }
        }
    }
}

pub(super) fn update_node(errors: &mut FieldErrors, new: &Value, old: &Value) {
    node(errors, new);
    update_node_status(errors, new, old);
}

/// What every update of a node must satisfy; the status subresource checks this alone.
pub(super) fn update_node_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    resources(errors, new);
    features(errors, new);
    let status = Path::new("status");
    let mut seen: Vec<&Value> = Vec::new();
    for (i, address) in new.at("status").list("addresses").iter().enumerate() {
        if seen.contains(&address) {
            errors.duplicate(&status.child("addresses").index(i), address.clone());
        }
        seen.push(address);
    }
    let path = Path::new("spec");
    let (spec, held) = (new.at("spec"), old.at("spec"));
    if !held.list("podCIDRs").is_empty() && held.list("podCIDRs") != spec.list("podCIDRs") {
        errors.forbidden(
            &path.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    let provider = held.text("providerID");
    if !provider.is_empty() && provider != spec.text("providerID") {
        errors.forbidden(
            &path.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
    let meta_path = Path::new("metadata");
    taints(errors, &meta_path.child("taints"), spec.list("taints"));
    if spec.text("externalID") != held.text("externalID") {
        errors.forbidden(&path.child("externalID"), "may not be updated");
    }
}

pub(super) fn namespace(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, false, NameRule::Label);
    let path = Path::new("spec");
    for name in strings(object.at("spec").list("finalizers")) {
        finalizer(errors, &path.child("finalizers"), name);
    }
}

fn finalizer(errors: &mut FieldErrors, path: &Path<'_>, name: &str) {
    qualified_name(errors, path, name);
    kube_finalizer(errors, path, name);
}

pub(super) fn update_namespace(errors: &mut FieldErrors, new: &Value, old: &Value) {
    namespace(errors, new);
    meta::update(errors, new, old);
}

pub(super) fn update_namespace_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    let phase = new.at("status").text("phase");
    let path = Path::new("status");
    let path = path.child("Phase");
    let dying = new.at("metadata").has("deletionTimestamp");
    if !dying && phase != "Active" {
        errors.invalid(
            &path,
            phase,
            "may only be 'Active' if `deletionTimestamp` is empty",
        );
    }
    if dying && phase != "Terminating" {
        errors.invalid(
            &path,
            phase,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        );
    }
}

pub(super) fn finalize_namespace(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    let path = Path::new("spec");
    for (i, name) in strings(new.at("spec").list("finalizers")).enumerate() {
        finalizer(errors, &path.child("finalizers").index(i), name);
    }
}
