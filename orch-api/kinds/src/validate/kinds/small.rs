//! Leases, disruption budgets, classes of several sorts, CSI nodes and access reviews.

use crate::field::{FieldError, FieldErrors, Path};
use crate::json::{Json, JsonMut};
use crate::validate::check::{
    NEGATIVE, dns_label, immutable, label_selector, labels, nonnegative, one_of, qualified_name,
};
use crate::validate::meta::{self, NameRule};
use crate::validate::pod;
use crate::validate::workload::{int_or_percent, not_above_100_percent};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn lease(errors: &mut FieldErrors, spec: &Value) {
    let path = Path::new("spec");
    if let Some(seconds) = spec.int("leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.invalid(
            &path.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
    if let Some(count) = spec.int("leaseTransitions").filter(|c| *c < 0) {
        errors.invalid(&path.child("leaseTransitions"), count, NEGATIVE);
    }
    if !spec.text("preferredHolder").is_empty() && spec.text("strategy").is_empty() {
        errors.forbidden(
            &path.child("preferredHolder"),
            "may only be specified if `strategy` is defined",
        );
    }
}

pub(super) fn disruption_budget(errors: &mut FieldErrors, object: &Value) {
    let (spec, path) = (object.at("spec"), Path::new("spec"));
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        errors.invalid(
            &path,
            spec.clone(),
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if let Some(amount) = spec.at(key).some() {
            int_or_percent(errors, &path.child(key), amount);
            not_above_100_percent(errors, &path.child(key), amount);
        }
    }
    label_selector(errors, &path.child("selector"), spec.at("selector"));
    if spec.has("unhealthyPodEvictionPolicy") {
        one_of(
            errors,
            &path.child("unhealthyPodEvictionPolicy"),
            spec.text("unhealthyPodEvictionPolicy"),
            &["AlwaysAllow", "IfHealthyBudget"],
        );
    }
}

pub(super) fn disruption_budget_status(errors: &mut FieldErrors, object: &Value) {
    let (status, path) = (object.at("status"), Path::new("status"));
    for key in [
        "disruptionsAllowed",
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
    ] {
        nonnegative(errors, &path.child(key), status.int(key));
    }
}

pub(super) fn priority_class(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, false, NameRule::Subdomain);
    let (name, value) = (
        object.at("metadata").text("name"),
        object.int("value").unwrap_or(0),
    );
    let meta_path = Path::new("metadata");
    if name.starts_with("system-") {
        let known = match name {
            "system-node-critical" => Some(2_000_001_000),
            "system-cluster-critical" => Some(2_000_000_000),
            _ => None,
        };
        let why = match known {
            Some(expected) if value != expected => {
                Some(format!("value of {name} PriorityClass must be {expected}"))
            }
            Some(_) if object.flag("globalDefault") => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
            None => Some(format!("{name} is not a known system priority class")),
        };
        if let Some(why) = why {
            errors.forbidden(
                &meta_path.child("name"),
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"),
            );
        }
    } else if value > 1_000_000_000 {
        errors.forbidden(
            &Path::new("value"),
            "maximum allowed value of a user defined priority is 1000000000",
        );
    }
    if object.has("preemptionPolicy") {
        pod::preemption_policy(
            errors,
            &Path::new("preemptionPolicy"),
            object.text("preemptionPolicy"),
        );
    }
}

pub(super) fn update_priority_class(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    if new.int("value") != old.int("value") {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    let path = Path::new("preemptionPolicy");
    immutable(
        errors,
        &path,
        new.at("preemptionPolicy"),
        old.at("preemptionPolicy"),
    );
}

pub(super) fn runtime_class(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, false, NameRule::Subdomain);
    let handler = object.text("handler");
    if handler.is_empty() {
        errors.required(&Path::new("handler"), "");
    } else {
        dns_label(errors, &Path::new("handler"), handler);
    }
    if let Some(overhead) = object.at("overhead").some() {
        pod::overhead(errors, &Path::new("overhead"), overhead.at("podFixed"));
    }
    let (scheduling, path) = (object.at("scheduling"), Path::new("scheduling"));
    labels(errors, &path.child("nodeSelector"), scheduling.at("nodeSelector"));
    let tolerations = scheduling.list("tolerations");
    pod::tolerations(errors, &path.child("tolerations"), tolerations);
    let mut seen = BTreeSet::new();
    for (i, one) in tolerations.iter().enumerate() {
        if !seen.insert(["key", "operator", "value", "effect"].map(|key| one.text(key))) {
            errors.duplicate(&path.child("tolerations").index(i), one.clone());
        }
    }
}

pub(super) fn update_runtime_class(errors: &mut FieldErrors, new: &Value, old: &Value) {
    runtime_class(errors, new);
    meta::update(errors, new, old);
    immutable(
        errors,
        &Path::new("handler"),
        new.at("handler"),
        old.at("handler"),
    );
}

pub(super) fn storage_class(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, false, NameRule::Subdomain);
    let provisioner = object.text("provisioner");
    let path = Path::new("provisioner");
    if provisioner.is_empty() {
        errors.required(&path, "");
    } else {
        qualified_name(errors, &path, &provisioner.to_lowercase());
    }
    let path = Path::new("parameters");
    let mut size = 0;
    for (key, value) in object.entries("parameters") {
        if key.is_empty() {
            errors.invalid(&path, "", "field can not be empty.");
        }
        size += key.len() + value.string().len();
    }
    if object.entries("parameters").count() > 512 {
        errors.push(FieldError::too_long(&path, 512));
    } else if size > 256 * 1024 {
        errors.push(FieldError::too_long(&path, 256 * 1024));
    }
    if !object.text("reclaimPolicy").is_empty() {
        one_of(
            errors,
            &Path::new("reclaimPolicy"),
            object.text("reclaimPolicy"),
            &["Delete", "Retain"],
        );
    }
    let path = Path::new("volumeBindingMode");
    if object.has("volumeBindingMode") {
        one_of(
            errors,
            &path,
            object.text("volumeBindingMode"),
            &["Immediate", "WaitForFirstConsumer"],
        );
    } else {
        errors.required(&path, "");
    }
}

pub(super) fn update_storage_class(errors: &mut FieldErrors, new: &Value, old: &Value) {
    storage_class(errors, new);
    meta::update(errors, new, old);
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        immutable(errors, &Path::new(key), new.at(key), old.at(key));
    }
}

pub(super) fn csi_node(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, false, NameRule::Subdomain);
    let path = Path::new("spec");
    let path = path.child("drivers");
    let mut names = BTreeSet::new();
    for (i, driver) in object.at("spec").list("drivers").iter().enumerate() {
        let here = path.index(i);
        let (name, id) = (driver.text("name"), driver.text("nodeID"));
        pod::csi_driver_name(errors, &here.child("name"), name);
        if id.is_empty() {
            errors.required(&here.child("nodeID"), "");
        }
        if id.len() > 256 {
            errors.invalid(&here.child("nodeID"), id, "must be 256 characters or less");
        }
        nonnegative(
            errors,
            &here.child("allocatable").child("count"),
            driver.at("allocatable").int("count"),
        );
        if !names.insert(name) {
            errors.duplicate(&here.child("name"), name);
        }
        let mut keys = BTreeSet::new();
        for key in driver.list("topologyKeys").iter().map(Json::string) {
            if key.is_empty() {
                errors.required(&here, "");
            }
            if !keys.insert(key) {
                errors.duplicate(&here, key);
            }
            qualified_name(errors, &here, key);
        }
    }
}

pub(super) fn update_csi_node(errors: &mut FieldErrors, new: &Value, old: &Value) {
    csi_node(errors, new);
    let path = Path::new("spec");
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        driver.take_key("allocatable");
        driver
    };
    for held in old.at("spec").list("drivers") {
        for now in new
            .at("spec")
            .list("drivers")
            .iter()
            .filter(|d| d.at("name") == held.at("name"))
        {
            immutable(errors, &path.child("drivers"), &fixed(now), &fixed(held));
        }
    }
}

/// A review of access: what is asked must be said once, and who asks, too.
pub(super) fn access_review(errors: &mut FieldErrors, object: &Value, kind: &str) {
    let (spec, path) = (object.at("spec"), Path::new("spec"));
    let (resource, other) = (spec.at("resourceAttributes"), spec.at("nonResourceAttributes"));
    if !resource.is_null() && !other.is_null() {
        errors.invalid(
            &path.child("nonResourceAttributes"),
            other.clone(),
            "cannot be specified in combination with resourceAttributes",
        );
    }
    if resource.is_null() && other.is_null() {
        errors.invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
    }
    if kind != "SelfSubjectAccessReview" && spec.text("user").is_empty() && spec.list("groups").is_empty() {
        errors.invalid(
            &path.child("user"),
            "",
            "at least one of user or group must be specified",
        );
    }
    let mut meta = object.at("metadata").clone();
    meta.take_key("managedFields");
    let local = kind == "LocalSubjectAccessReview";
    if local {
        meta.take_key("namespace");
    }
    if meta.as_object().is_some_and(|m| m.values().any(|v| !v.is_null())) {
        let why = if local {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        errors.invalid(&Path::new("metadata"), object.at("metadata").clone(), why);
    }
    if local {
        let namespace = resource.text("namespace");
        if !resource.is_null() && namespace != object.at("metadata").text("namespace") {
            errors.invalid(
                &Path::new("spec.resourceAttributes.namespace"),
                namespace,
                "must match metadata.namespace",
            );
        }
        if !other.is_null() {
            errors.invalid(
                &Path::new("spec.nonResourceAttributes"),
                other.clone(),
                "disallowed on this kind of request",
            );
        }
    }
}

/// A request for a token of a service account.
pub(super) fn token_request(errors: &mut FieldErrors, object: &Value) {
    let seconds = object.at("spec").int("expirationSeconds").unwrap_or(3600);
    let path = Path::new("spec");
    let path = path.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
}
