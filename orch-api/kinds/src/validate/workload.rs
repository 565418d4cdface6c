//! Deployments, ReplicaSets and ControllerRevisions.

use super::check::{each, immutable, label_selector, nonnegative, ordered};
use super::meta::{self, NameRule};
use super::pod;
use crate::field::{BadValue, FieldErrors, Path, quote};
use crate::json::Json;
use orch_core::selector::LabelSelector;
use orch_core::validate as format;
use serde_json::Value;

pub(super) fn deployment(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    deployment_spec(errors, object.at("spec"));
}

pub(super) fn update_deployment(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    deployment_spec(errors, new.at("spec"));
    same_selector(errors, new, old);
}

pub(super) fn replica_set(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    replica_set_spec(errors, object.at("spec"));
}

pub(super) fn update_replica_set(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    replica_set_spec(errors, new.at("spec"));
    same_selector(errors, new, old);
}

fn same_selector(errors: &mut FieldErrors, new: &Value, old: &Value) {
    let path = Path::new("spec");
    immutable(
        errors,
        &path.child("selector"),
        new.at("spec").at("selector"),
        old.at("spec").at("selector"),
    );
}

fn selector_and_template(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    let selector = spec.at("selector");
    let selector_path = path.child("selector");
    if selector.is_null() {
        errors.required(&selector_path, "");
    } else {
        label_selector(errors, &selector_path, selector);
        let empty = selector
            .at("matchLabels")
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
            && selector.list("matchExpressions").is_empty();
        if empty {
            errors.invalid(
                &selector_path,
                ordered(selector),
                "empty selector is invalid for deployment",
            );
        }
    }
    let Ok(parsed) = LabelSelector::from_value(selector.some()) else {
        errors.invalid(&selector_path, ordered(selector), "invalid label selector");
        return;
    };
    let (template, template_path) = (spec.at("template"), path.child("template"));
    let labels = template.dig(&["metadata", "labels"]);
    // A selector that selects everything was reported above; one that selects nothing matches no template.
    if !parsed.is_everything() && !parsed.matches_with(|key| labels.at(key).as_str()) {
        errors.invalid(
            &template_path.child("metadata").child("labels"),
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    pod::template(errors, &template_path, template);
    let body = template.at("spec");
    let spec_path = template_path.child("spec");
    if body.text("restartPolicy") != "Always" {
        errors.not_supported(
            &spec_path.child("restartPolicy"),
            body.text("restartPolicy"),
            &["Always"],
        );
    }
    if body.has("activeDeadlineSeconds") {
        errors.forbidden(
            &spec_path.child("activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

fn deployment_spec(errors: &mut FieldErrors, spec: &Value) {
    let path = Path::new("spec");
    nonnegative(errors, &path.child("replicas"), spec.int("replicas"));
    selector_and_template(errors, &path, spec);
    strategy(errors, &path.child("strategy"), spec.at("strategy"));
    nonnegative(
        errors,
        &path.child("minReadySeconds"),
        spec.int("minReadySeconds"),
    );
    nonnegative(
        errors,
        &path.child("revisionHistoryLimit"),
        spec.int("revisionHistoryLimit"),
    );
    let deadline = spec.int("progressDeadlineSeconds");
    nonnegative(errors, &path.child("progressDeadlineSeconds"), deadline);
    if let Some(deadline) = deadline.filter(|d| *d <= spec.int("minReadySeconds").unwrap_or(0)) {
        errors.invalid(
            &path.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
}

fn replica_set_spec(errors: &mut FieldErrors, spec: &Value) {
    let path = Path::new("spec");
    nonnegative(errors, &path.child("replicas"), spec.int("replicas"));
    nonnegative(
        errors,
        &path.child("minReadySeconds"),
        spec.int("minReadySeconds"),
    );
    selector_and_template(errors, &path, spec);
}

fn strategy(errors: &mut FieldErrors, path: &Path<'_>, strategy: &Value) {
    let rolling = strategy.at("rollingUpdate");
    let rolling_path = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if !rolling.is_null() {
                errors.forbidden(
                    &rolling_path,
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" if rolling.is_null() => {
            errors.required(&rolling_path, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            int_or_percent(errors, &rolling_path.child("maxUnavailable"), unavailable);
            int_or_percent(errors, &rolling_path.child("maxSurge"), surge);
            if amount(unavailable) == 0 && amount(surge) == 0 {
                errors.invalid(
                    &rolling_path.child("maxUnavailable"),
                    unavailable.clone(),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            not_above_100_percent(errors, &rolling_path.child("maxUnavailable"), unavailable);
        }
        other => {
            // Shown as upstream's internal form of the strategy shows it.
            let rolling = if rolling.is_null() {
                "null".to_owned()
            } else {
                rolling_shown(rolling)
            };
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", quote(other));
            errors.not_supported(path, BadValue::Raw(shown), &["Recreate", "RollingUpdate"]);
        }
    }
}

fn rolling_shown(rolling: &Value) -> String {
    format!(
        "{{\"MaxUnavailable\":{},\"MaxSurge\":{}}}",
        rolling.at("maxUnavailable"),
        rolling.at("maxSurge")
    )
}

/// A whole number, not negative, or a percentage.
pub(super) fn int_or_percent(errors: &mut FieldErrors, path: &Path<'_>, value: &Value) {
    match value.as_str() {
        Some(text) => each(errors, path, text, format::percent(text)),
        None => nonnegative(errors, path, crate::json::number(value)),
    }
}

fn percentage(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    if format::percent(text).is_empty() {
        text.strip_suffix('%')?.parse().ok()
    } else {
        None
    }
}

fn amount(value: &Value) -> i64 {
    percentage(value)
        .or_else(|| crate::json::number(value))
        .or_else(|| value.as_str().and_then(|s| s.parse().ok()))
        .unwrap_or(0)
}

pub(super) fn not_above_100_percent(errors: &mut FieldErrors, path: &Path<'_>, value: &Value) {
    if percentage(value).is_some_and(|p| p > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// Counts of a status: none negative, and none above the number of replicas.
fn counts(errors: &mut FieldErrors, status: &Value, all: &[&str], bounded: &[&str]) {
    let path = Path::new("status");
    for key in all {
        nonnegative(errors, &path.child(key), status.int(key));
    }
    let count = |key: &str| status.int(key).unwrap_or(0);
    for key in bounded {
        if count(key) > count("replicas") {
            errors.invalid(
                &path.child(key),
                count(key),
                "cannot be greater than status.replicas",
            );
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.invalid(
            &path.child("availableReplicas"),
            count("availableReplicas"),
            "cannot be greater than readyReplicas",
        );
    }
}

pub(super) fn update_deployment_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    let status = new.at("status");
    counts(
        errors,
        status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
    );
    let held = old.at("status").int("collisionCount");
    if let Some(held) = held
        && status.int("collisionCount").is_none_or(|now| now < held)
    {
        let path = Path::new("status");
        errors.invalid(
            &path.child("collisionCount"),
            status.int("collisionCount").unwrap_or(0),
            "cannot be decremented",
        );
    }
}

pub(super) fn update_replica_set_status(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    counts(
        errors,
        new.at("status"),
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    );
}

pub(super) fn controller_revision(errors: &mut FieldErrors, object: &Value) {
    meta::create(errors, object, true, NameRule::Subdomain);
    nonnegative(errors, &Path::new("revision"), object.int("revision"));
    let data = object.at("data");
    if data.is_null() {
        errors.required(&Path::new("data"), "data is mandatory");
    } else if !data.is_object() {
        errors.required(&Path::new("data"), "data must be a valid JSON object");
    }
}

pub(super) fn update_controller_revision(errors: &mut FieldErrors, new: &Value, old: &Value) {
    meta::update(errors, new, old);
    meta::create(errors, new, true, NameRule::Subdomain);
    nonnegative(errors, &Path::new("revision"), new.int("revision"));
    immutable(errors, &Path::new("data"), new.at("data"), old.at("data"));
}
