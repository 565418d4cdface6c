//! Roles and their bindings.

use crate::field::{BadValue, FieldErrors, Path, quote};
use crate::json::Json;
use crate::validate::check::{dns_subdomain, each, label_selector, one_of};
use crate::validate::meta::{self, NameRule};
use orch_core::validate as format;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role(errors: &mut FieldErrors, object: &Value, namespaced: bool) {
    meta::create(errors, object, namespaced, NameRule::PathSegment);
    for (i, rule) in object.list("rules").iter().enumerate() {
        let path = Path::new("rules");
        policy_rule(errors, &path.index(i), rule, namespaced);
    }
    let aggregation = object.at("aggregationRule");
    if namespaced || aggregation.is_null() {
        return;
    }
    let path = Path::new("aggregationRule");
    let path = path.child("clusterRoleSelectors");
    let selectors = aggregation.list("clusterRoleSelectors");
    if selectors.is_empty() {
        errors.required(
            &path,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        );
    }
    for (i, selector) in selectors.iter().enumerate() {
        label_selector(errors, &path.index(i), selector);
    }
}

fn policy_rule(errors: &mut FieldErrors, path: &Path<'_>, rule: &Value, namespaced: bool) {
    let empty = |key: &str| rule.list(key).is_empty();
    if empty("verbs") {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if !empty("nonResourceURLs") {
        let (path, urls) = (
            path.child("nonResourceURLs"),
            rule.list("nonResourceURLs").to_vec(),
        );
        if namespaced {
            errors.invalid(
                &path,
                urls.clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
            errors.invalid(
                &path,
                urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if empty("apiGroups") {
        errors.required(
            &path.child("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if empty("resources") {
        errors.required(
            &path.child("resources"),
            "resource rules must supply at least one resource",
        );
    }
}

pub(super) fn update_role(errors: &mut FieldErrors, new: &Value, old: &Value, namespaced: bool) {
    role(errors, new, namespaced);
    meta::update(errors, new, old);
}

pub(super) fn binding(errors: &mut FieldErrors, object: &Value, namespaced: bool) {
    meta::create(errors, object, namespaced, NameRule::PathSegment);
    let (role, path) = (object.at("roleRef"), Path::new("roleRef"));
    one_of(errors, &path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    one_of(errors, &path.child("kind"), role.text("kind"), kinds);
    let name = role.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        each(errors, &path.child("name"), name, format::path_segment_name(name));
    }
    for (i, one) in object.list("subjects").iter().enumerate() {
        let path = Path::new("subjects");
        subject(errors, &path.index(i), one, namespaced);
    }
}

fn subject(errors: &mut FieldErrors, path: &Path<'_>, subject: &Value, namespaced: bool) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                dns_subdomain(errors, &path.child("name"), name);
            }
            one_of(errors, &path.child("apiGroup"), group, &[""]);
            if !namespaced && subject.text("namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => one_of(errors, &path.child("apiGroup"), group, &[GROUP]),
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

pub(super) fn update_binding(errors: &mut FieldErrors, new: &Value, old: &Value, namespaced: bool) {
    binding(errors, new, namespaced);
    meta::update(errors, new, old);
    let role = new.at("roleRef");
    if role != old.at("roleRef") {
        // Shown as upstream's internal form of a reference shows it.
        let shown = format!(
            "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
            quote(role.text("apiGroup")),
            quote(role.text("kind")),
            quote(role.text("name"))
        );
        errors.invalid(
            &Path::new("roleRef"),
            BadValue::Raw(shown),
            "cannot change roleRef",
        );
    }
}
