//! Annotations of pods that mean something, and that they agree with the fields that replaced them.

use super::for_each_container;
use crate::field::{FieldErrors, Path};
use crate::json::Json;
use crate::validate::check::local_descending_path;
use serde_json::Value;

const MIRROR: &str = "kubernetes.io/config.mirror";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(super) fn of_pod(errors: &mut FieldErrors, path: &Path<'_>, pod: &Value) {
    let annotations = pod.dig(&["metadata", "annotations"]);
    if !annotations.is_object() {
        return;
    }
    let spec = pod.at("spec");
    if annotations.has(MIRROR) && spec.text("nodeName").is_empty() {
        errors.invalid(
            &path.key(MIRROR),
            annotations.text(MIRROR),
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    if let Some(cost) = annotations.at(DELETION_COST).as_str() {
        // Plain decimal, without a leading plus or zeros.
        let plain = cost
            .parse::<i32>()
            .is_ok_and(|n| n.to_string() == cost || cost == "0");
        if !plain {
            errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
        }
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        if key == SECCOMP_POD || key.starts_with(SECCOMP) {
            seccomp(errors, &path.child(key), value.string());
        }
    }
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let Some(name) = key.strip_prefix(APPARMOR) else {
            continue;
        };
        let mut found = false;
        for_each_container(path, spec, &mut |_, container| {
            found |= container.text("name") == name;
        });
        if !found {
            errors.invalid(&path.key(key), name, "container not found");
        }
        let profile = value.string();
        let known =
            matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
        if !known {
            errors.invalid(
                &path.key(key),
                profile,
                format!("invalid AppArmor profile name: {}", crate::field::quote(profile)),
            );
        }
    }
}

fn seccomp(errors: &mut FieldErrors, path: &Path<'_>, profile: &str) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => local_descending_path(errors, path, file),
        None => errors.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// Annotations of `new` that an update may not touch.
pub(super) fn update(errors: &mut FieldErrors, path: &Path<'_>, new: &Value, old: &Value) {
    let (now, before) = (
        new.dig(&["metadata", "annotations"]),
        old.dig(&["metadata", "annotations"]),
    );
    for (key, value) in before.as_object().into_iter().flatten() {
        if now.at(key) == value {
            continue;
        }
        if key.starts_with(APPARMOR) {
            errors.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in now.as_object().into_iter().flatten() {
        if before.has(key) {
            continue;
        }
        if key.starts_with(APPARMOR) {
            errors.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
    of_pod(errors, path, new);
}

/// Seccomp and AppArmor annotations must say the same as the fields beside them.
pub(super) fn match_fields(errors: &mut FieldErrors, path: &Path<'_>, pod: &Value) {
    let (annotations, spec) = (pod.dig(&["metadata", "annotations"]), pod.at("spec"));
    if !annotations.is_object() {
        return;
    }
    let context_path = path.child("securityContext");
    let of_pod = spec.at("securityContext");
    if let Some(annotation) = annotations.at(SECCOMP_POD).as_str() {
        agree(
            errors,
            &context_path.child("seccompProfile"),
            "seccomp",
            annotation,
            of_pod.at("seccompProfile"),
        );
    }
    for (prefix, key, what) in [
        (SECCOMP, "seccompProfile", "seccomp"),
        (APPARMOR, "appArmorProfile", "apparmor"),
    ] {
        if what == "apparmor" && spec.at("os").text("name") == "windows" {
            continue;
        }
        for_each_container(path, spec, &mut |path, container| {
            let mut profile = container.at("securityContext").at(key);
            if profile.is_null() && what == "apparmor" {
                profile = of_pod.at(key);
            }
            let name = format!("{prefix}{}", container.text("name"));
            if let Some(annotation) = annotations.at(&name).as_str() {
                agree(
                    errors,
                    &path.child("securityContext").child(key),
                    what,
                    annotation,
                    profile,
                );
            }
        });
    }
}

fn agree(errors: &mut FieldErrors, path: &Path<'_>, what: &str, annotation: &str, profile: &Value) {
    let kind_differs = match profile.text("type") {
        "Unconfined" => annotation != "unconfined",
        "RuntimeDefault" => {
            annotation != "runtime/default" && !(what == "seccomp" && annotation == "docker/default")
        }
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => true,
            Some(file) => {
                if profile.at("localhostProfile").as_str() != Some(file) {
                    errors.forbidden(
                        &path.child("localhostProfile"),
                        format!("{what} profile in annotation and field must match"),
                    );
                }
                false
            }
        },
        _ => false,
    };
    if kind_differs {
        errors.forbidden(
            &path.child("type"),
            format!("{what} type in annotation and field must match"),
        );
    }
}
