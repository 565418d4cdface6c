//! What steers a pod's place: affinity, tolerations, topology spread, gates.

use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::{each, label_selector, one_of, positive, qualified_name};
use orch_core::validate as format;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(errors: &mut FieldErrors, path: &Path<'_>, affinity: &Value) {
    if let Some(node) = affinity.at("nodeAffinity").some() {
        let path = path.child("nodeAffinity");
        if let Some(selector) = node.at(REQUIRED).some() {
            node_selector(errors, &path.child(REQUIRED), selector);
        }
        for (i, term) in node.list(PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED);
            let here = path.index(i);
            weight(errors, &here, term);
            node_selector_term(errors, &here.child("preference"), term.at("preference"), true);
        }
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let (terms, path) = (affinity.at(side), path.child(side));
        for (i, term) in terms.list(REQUIRED).iter().enumerate() {
            pod_term(errors, &path.child(REQUIRED).index(i), term);
        }
        for (i, weighted) in terms.list(PREFERRED).iter().enumerate() {
            let path = path.child(PREFERRED);
            let here = path.index(i);
            weight(errors, &here, weighted);
            pod_term(
                errors,
                &here.child("podAffinityTerm"),
                weighted.at("podAffinityTerm"),
            );
        }
    }
}

fn weight(errors: &mut FieldErrors, path: &Path<'_>, term: &Value) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A `NodeSelector`: at least one term.
pub(in crate::validate) fn node_selector(errors: &mut FieldErrors, path: &Path<'_>, selector: &Value) {
    let path = path.child("nodeSelectorTerms");
    let terms = selector.list("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(errors, &path.index(i), term, false);
    }
}

fn node_selector_term(errors: &mut FieldErrors, path: &Path<'_>, term: &Value, any_value: bool) {
    for (i, requirement) in term.list("matchExpressions").iter().enumerate() {
        node_requirement(
            errors,
            &path.child("matchExpressions").index(i),
            requirement,
            any_value,
        );
    }
    for (i, requirement) in term.list("matchFields").iter().enumerate() {
        let path = path.child("matchFields");
        let here = path.index(i);
        let values = requirement.list("values");
        match requirement.text("operator") {
            "In" | "NotIn" if values.len() != 1 => errors.required(
                &here.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => errors.invalid(&here.child("operator"), other, "not a valid selector operator"),
        }
        let key = requirement.text("key");
        if key == "metadata.name" {
            for (j, value) in values.iter().enumerate() {
                let value = value.string();
                each(
                    errors,
                    &here.child("values").index(j),
                    value,
                    format::dns1123_subdomain(value),
                );
            }
        } else {
            errors.invalid(&here.child("key"), key, "not a valid field selector key");
        }
    }
}

fn node_requirement(errors: &mut FieldErrors, path: &Path<'_>, requirement: &Value, any_value: bool) {
    let values = requirement.list("values");
    let values_path = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                &values_path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &values_path,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(
                &values_path,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    qualified_name(errors, &path.child("key"), requirement.text("key"));
    if !any_value {
        for (i, value) in values.iter().enumerate() {
            each(
                errors,
                &values_path.index(i),
                value.string(),
                format::label_value(value.string()),
            );
        }
    }
}

fn pod_term(errors: &mut FieldErrors, path: &Path<'_>, term: &Value) {
    label_selector(errors, &path.child("labelSelector"), term.at("labelSelector"));
    label_selector(
        errors,
        &path.child("namespaceSelector"),
        term.at("namespaceSelector"),
    );
    for name in term.list("namespaces").iter().map(Json::string) {
        each(
            errors,
            &path.child("namespace"),
            name,
            format::dns1123_label(name),
        );
    }
    label_keys(errors, path, term);
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    qualified_name(errors, &path.child("topologyKey"), key);
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside a label selector into which they were merged.
fn label_keys(errors: &mut FieldErrors, path: &Path<'_>, term: &Value) {
    let selector = term.at("labelSelector");
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.list(list);
        if !keys.is_empty() && selector.is_null() {
            errors.forbidden(
                &path.child(list),
                "must not be specified when labelSelector is not set",
            );
            continue;
        }
        for (i, key) in keys.iter().enumerate() {
            qualified_name(errors, &path.child(list).index(i), key.string());
        }
    }
    let matched: BTreeMap<&str, usize> = term
        .list("matchLabelKeys")
        .iter()
        .enumerate()
        .map(|(i, k)| (k.string(), i))
        .collect();
    if !matched.is_empty() && !selector.is_null() {
        let mut seen: BTreeSet<&str> = selector.entries("matchLabels").map(|(k, _)| k.as_str()).collect();
        for expression in selector.list("matchExpressions") {
            let key = expression.text("key");
            if let Some(i) = matched.get(key).filter(|_| seen.contains(key)) {
                errors.invalid(
                    &path.index(*i),
                    key,
                    "exists in both matchLabelKeys and labelSelector",
                );
            }
            seen.insert(key);
        }
    }
    for (i, key) in term.list("matchLabelKeys").iter().enumerate() {
        if term.list("mismatchLabelKeys").contains(key) {
            errors.invalid(
                &path.child("matchLabelKeys").index(i),
                key.string(),
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
}

pub(in crate::validate) fn tolerations(errors: &mut FieldErrors, path: &Path<'_>, list: &[Value]) {
    for (i, toleration) in list.iter().enumerate() {
        let here = path.index(i);
        let (key, operator) = (toleration.text("key"), toleration.text("operator"));
        let (value, effect) = (toleration.text("value"), toleration.text("effect"));
        if !key.is_empty() {
            qualified_name(errors, &here.child("key"), key);
        }
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                &here.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            errors.invalid(
                &here.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                let wrong = format::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&here.child("operator"), value, wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    &here.child("operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                errors.not_supported(
                    &here.child("operator"),
                    operator,
                    &["Equal", "Exists", "Lt", "Gt"],
                );
            }
            other => errors.not_supported(&here.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(errors, &here.child("effect"), effect);
        }
    }
}

pub(in crate::validate) fn taint_effect(errors: &mut FieldErrors, path: &Path<'_>, effect: &str) {
    one_of(
        errors,
        path,
        effect,
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
    );
}

pub(super) fn topology_spread(errors: &mut FieldErrors, path: &Path<'_>, constraints: &[Value]) {
    for (i, constraint) in constraints.iter().enumerate() {
        let here = path.index(i);
        positive(
            errors,
            &here.child("maxSkew"),
            constraint.int("maxSkew").unwrap_or(0),
        );
        let (key, action) = (
            constraint.text("topologyKey"),
            constraint.text("whenUnsatisfiable"),
        );
        if key.is_empty() {
            errors.required(&here.child("topologyKey"), "can not be empty");
        }
        one_of(
            errors,
            &here.child("whenUnsatisfiable"),
            action,
            &["DoNotSchedule", "ScheduleAnyway"],
        );
        let repeated = constraints
            .iter()
            .skip(i + 1)
            .any(|c| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action);
        if repeated {
            errors.duplicate(
                &here.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{key}, {action}}}"),
            );
        }
        if let Some(domains) = constraint.int("minDomains") {
            positive(errors, &here.child("minDomains"), domains);
            if action != "DoNotSchedule" {
                errors.invalid(
                    &here.child("minDomains"),
                    domains,
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
                );
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if constraint.has(policy) {
                one_of(
                    errors,
                    &here.child(policy),
                    constraint.text(policy),
                    &["Honor", "Ignore"],
                );
            }
        }
        label_keys(errors, &here, constraint);
        label_selector(
            errors,
            &here.child("labelSelector"),
            constraint.at("labelSelector"),
        );
    }
}

pub(super) fn gates(errors: &mut FieldErrors, path: &Path<'_>, spec: &Value) {
    for (i, gate) in spec.list("readinessGates").iter().enumerate() {
        let path = path.child("readinessGates");
        qualified_name(
            errors,
            &path.index(i).child("conditionType"),
            gate.text("conditionType"),
        );
    }
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.list("schedulingGates").iter().enumerate() {
        let path = path.child("schedulingGates");
        qualified_name(errors, &path.index(i), gate.text("name"));
        if !seen.insert(gate.text("name")) {
            errors.duplicate(&path.index(i), gate.text("name"));
        }
    }
}
